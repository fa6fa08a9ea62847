//! What can be set: by flag, by environment, in a file; the first that says something counts.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;
use clap::{Args, Parser};
use netloft_client::Targets;
use netloft_types::Subnet;
use netloftd::HostName;
use serde::{Deserialize, Deserializer};
use tracing::Level;

/// The Netloft host agent: owns this host's networks, and registers what it attaches.
#[derive(Debug, Parser)]
#[command(name = "netloftd", version)]
pub(crate) struct Cli {
    /// A file in TOML with the long names of the options below as keys
    #[arg(long, env = "NETLOFTD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// The options, as far as they are set.
#[derive(Debug, Default, PartialEq, Eq, Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Settings {
    /// The unix socket to listen on, for its owner only [default: /run/netloft/netloftd.sock as root, or else
    /// netloft/netloftd.sock in `$XDG_RUNTIME_DIR`]
    #[arg(long, env = "NETLOFTD_SOCKET", value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// A registry elsewhere, as in `https://registry.example:7400`; of several servers, all of them, separated by commas
    /// [default: one in this process]
    #[arg(long, env = "NETLOFTD_REGISTRY", value_name = "TARGET")]
    #[serde(deserialize_with = "parsed")]
    pub(crate) registry: Option<Targets>,
    /// A file with the token that the registry elsewhere knows this host by; read again when it changes
    #[arg(long, env = "NETLOFTD_REGISTRY_TOKEN_FILE", value_name = "FILE")]
    pub(crate) registry_token_file: Option<PathBuf>,
    /// The authority, in PEM, that has certified the registry elsewhere
    #[arg(long, env = "NETLOFTD_REGISTRY_TLS_CA", value_name = "FILE")]
    pub(crate) registry_tls_ca: Option<PathBuf>,
    /// This host's certificate, in PEM; read for each connection
    #[arg(long, env = "NETLOFTD_REGISTRY_TLS_CERT", value_name = "FILE")]
    pub(crate) registry_tls_cert: Option<PathBuf>,
    /// The key of this host's certificate, in PEM
    #[arg(long, env = "NETLOFTD_REGISTRY_TLS_KEY", value_name = "FILE")]
    pub(crate) registry_tls_key: Option<PathBuf>,
    /// Where the network namespaces of sandboxes are kept by name [default: netns beside the socket as root;
    /// else they are reached through this process]
    #[arg(long, env = "NETLOFTD_NETNS_DIR", value_name = "DIR")]
    pub(crate) netns_dir: Option<PathBuf>,
    /// Where is remembered what was made, so that it outlives this process; `none` to remember nothing and take
    /// everything away in the end [default: /var/lib/netloft as root, else none]
    #[arg(long, env = "NETLOFTD_STATE_DIR", value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// How long an address rests after its release before another sandbox gets it, in seconds [default: 130]
    #[arg(long, env = "NETLOFTD_REST", value_name = "SECONDS")]
    pub(crate) rest: Option<u64>,
    /// While a firewall of the host drops what nobody let in, ports that are published at no address in particular
    /// answer to the host alone
    #[arg(long, env = "NETLOFTD_RESPECT_FIREWALL", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) respect_firewall: Option<bool>,
    /// Where subnets come from for networks that name none; may be repeated [default: 10.80.0.0/12]
    #[arg(long = "pool", env = "NETLOFTD_POOLS", value_name = "PREFIX", value_delimiter = ',')]
    pub(crate) pools: Option<Vec<Subnet>>,
    /// What this host is called: part of the id of every instance, at most 63 characters [default: the name
    /// the kernel knows]
    #[arg(long, env = "NETLOFTD_HOST_NAME", value_name = "NAME")]
    pub(crate) host_name: Option<HostName>,
    /// Work in network and user namespaces made for this process: needs no privilege, and touches nothing of
    /// this host
    #[arg(long, env = "NETLOFTD_PRIVATE", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) private: Option<bool>,
    /// What to log: error, warn, info, debug or trace [default: info]
    #[arg(long, env = "NETLOFTD_LOG", value_name = "LEVEL")]
    #[serde(deserialize_with = "parsed")]
    pub(crate) log: Option<Level>,
}

impl Cli {
    /// What is set, by whatever means.
    pub(crate) fn settings(self) -> anyhow::Result<Settings> {
        let file = self.config.as_deref().map(Settings::read).transpose()?;
        Ok(self.settings.or(file.unwrap_or_default()))
    }
}

impl Settings {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("cannot use {}", path.display()))
    }

    fn or(self, other: Self) -> Self {
        Self {
            socket: self.socket.or(other.socket),
            registry: self.registry.or(other.registry),
            registry_token_file: self.registry_token_file.or(other.registry_token_file),
            registry_tls_ca: self.registry_tls_ca.or(other.registry_tls_ca),
            registry_tls_cert: self.registry_tls_cert.or(other.registry_tls_cert),
            registry_tls_key: self.registry_tls_key.or(other.registry_tls_key),
            netns_dir: self.netns_dir.or(other.netns_dir),
            state_dir: self.state_dir.or(other.state_dir),
            rest: self.rest.or(other.rest),
            respect_firewall: self.respect_firewall.or(other.respect_firewall),
            pools: self.pools.or(other.pools),
            host_name: self.host_name.or(other.host_name),
            private: self.private.or(other.private),
            log: self.log.or(other.log),
        }
    }
}

fn parsed<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: std::fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_counts_more_than_the_file() {
        let flags = Cli::parse_from(["netloftd", "--socket", "/a", "--pool", "10.1.0.0/16"]).settings;
        let file: Settings =
            toml::from_str("socket = \"/b\"\nhost-name = \"b\"\npools = [\"10.2.0.0/16\"]").unwrap();
        let settings = flags.or(file);
        assert_eq!(settings.socket.as_deref(), Some(Path::new("/a")));
        assert_eq!(settings.host_name, Some("b".parse().unwrap()));
        assert_eq!(settings.pools, Some(vec!["10.1.0.0/16".parse().unwrap()]));
    }

    #[test]
    fn mistakes_in_the_file_are_named() {
        for (text, complaint) in [
            ("colour = \"red\"", "unknown field `colour`"),
            ("registry = \"ftp://x\"", "target \"ftp://x\""),
            ("pools = [\"10.0.0.1/8\"]", "did you mean 10.0.0.0/8?"),
            ("host-name = \"a b\"", "host name \"a b\""),
            ("log = \"loud\"", "log"),
        ] {
            let error = toml::from_str::<Settings>(text).unwrap_err().to_string();
            assert!(error.contains(complaint), "{error}");
        }
    }
}
