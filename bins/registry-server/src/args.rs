//! What can be set: by flag, by environment, in a file; the first that says something counts.

mod access;

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use netloft_types::Subnet;
use serde::{Deserialize, Deserializer};

pub(crate) use self::access::{AccessFlags, NewToken, TokenCommand, TokenPlace};

/// The Netloft registry: keeps who serves what, and tells everybody who asks
#[derive(Debug, Parser)]
#[command(name = "registry-server", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// A file in TOML with the long names of the options below as keys
    #[arg(long, env = "NETLOFT_REGISTRY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

/// What to do instead of serving.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write what the embedded store holds to a new file; a server may be running on it
    Backup(Transfer),
    /// Put what a backup holds into a directory in which no store is
    Restore(Transfer),
    /// Make, list, rotate and revoke the tokens by which clients of this server are known
    #[command(subcommand)]
    Token(TokenCommand),
}

/// Between which places.
#[derive(Debug, clap::Args)]
pub(crate) struct Transfer {
    /// The directory of the store [default: as for serving]
    #[arg(long, env = "NETLOFT_REGISTRY_DATA_DIR", value_name = "PATH")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The backup. It tells the ids of sessions: keep it where only you read it
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// The options, as far as they are set.
#[derive(Debug, Default, PartialEq, Eq, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Options {
    /// The TCP address to listen on, or none; port 0 takes a free one [default: 127.0.0.1:7400]
    #[arg(long, env = "NETLOFT_REGISTRY_LISTEN", value_name = "ADDRESS")]
    #[serde(deserialize_with = "parsed")]
    pub(crate) listen: Option<OrNone<SocketAddr>>,
    /// The unix socket to listen on, for its owner only, or none [default: /run/netloft/registry.sock as root,
    /// else netloft/registry.sock in `$XDG_RUNTIME_DIR` if that is set]
    #[arg(long, env = "NETLOFT_REGISTRY_UNIX", value_name = "PATH")]
    #[serde(deserialize_with = "parsed")]
    pub(crate) unix: Option<OrNone<PathBuf>>,
    /// Where registrations are kept [default: embedded]
    #[arg(long, env = "NETLOFT_REGISTRY_STORE", value_enum)]
    pub(crate) store: Option<StoreKind>,
    /// The directory of the embedded store, for it alone; made if it is missing [default: /var/lib/netloft/registry as
    /// root, else netloft/registry in `$XDG_STATE_HOME` or ~/.local/state]
    #[arg(long, env = "NETLOFT_REGISTRY_DATA_DIR", value_name = "PATH")]
    pub(crate) data_dir: Option<PathBuf>,
    /// A client URL of the etcd cluster, as in `http://192.0.2.1:2379`; may be repeated, best with every member
    #[arg(
        long = "etcd-endpoint",
        env = "NETLOFT_REGISTRY_ETCD_ENDPOINT",
        value_name = "URL",
        value_delimiter = ','
    )]
    pub(crate) etcd_endpoint: Option<Vec<String>>,
    /// Under which keys of etcd everything is; servers with the same prefix share one registry [default: /netloft/]
    #[arg(long, env = "NETLOFT_REGISTRY_ETCD_PREFIX", value_name = "KEY")]
    pub(crate) etcd_prefix: Option<String>,
    /// How long the other servers wait for one that is gone, in whole seconds [default: 6]
    #[arg(long, env = "NETLOFT_REGISTRY_ETCD_LEASE_S", value_name = "NUMBER")]
    pub(crate) etcd_lease_s: Option<NonZeroU64>,
    /// The certificate of the authority of etcd, in PEM, for https endpoints; no other is believed
    #[arg(long, env = "NETLOFT_REGISTRY_ETCD_CA", value_name = "FILE")]
    pub(crate) etcd_ca: Option<PathBuf>,
    /// The certificate to show etcd, with those above it, in PEM
    #[arg(long, env = "NETLOFT_REGISTRY_ETCD_CERT", value_name = "FILE")]
    pub(crate) etcd_cert: Option<PathBuf>,
    /// The key of that, in PEM
    #[arg(long, env = "NETLOFT_REGISTRY_ETCD_KEY", value_name = "FILE")]
    pub(crate) etcd_key: Option<PathBuf>,
    /// Who this server is to etcd, where its authentication is enabled
    #[arg(long, env = "NETLOFT_REGISTRY_ETCD_USER", value_name = "NAME")]
    pub(crate) etcd_user: Option<String>,
    /// The file that holds the password of that user and nothing else
    #[arg(long, env = "NETLOFT_REGISTRY_ETCD_PASSWORD_FILE", value_name = "FILE")]
    pub(crate) etcd_password_file: Option<PathBuf>,
    /// How much longer than its time to live, in milliseconds, a session lives if nobody renews it after a restart of
    /// the embedded store, or after its server of several was gone [default: 5000]
    #[arg(long, env = "NETLOFT_REGISTRY_GRACE_MS", value_name = "NUMBER")]
    pub(crate) grace_ms: Option<u64>,
    /// The most sessions that may be open [default: 65536]
    #[arg(long, env = "NETLOFT_REGISTRY_SESSIONS_MAX", value_name = "NUMBER")]
    pub(crate) sessions_max: Option<usize>,
    /// The most instances that may be registered [default: 262144]
    #[arg(long, env = "NETLOFT_REGISTRY_INSTANCES_MAX", value_name = "NUMBER")]
    pub(crate) instances_max: Option<usize>,
    /// The most instances that one session may register [default: 4096]
    #[arg(long, env = "NETLOFT_REGISTRY_INSTANCES_PER_SESSION_MAX", value_name = "NUMBER")]
    pub(crate) instances_per_session_max: Option<usize>,
    /// The most watches that may be open [default: 65536]
    #[arg(long, env = "NETLOFT_REGISTRY_WATCHERS_MAX", value_name = "NUMBER")]
    pub(crate) watchers_max: Option<usize>,
    /// Changes that are remembered, for watches to resume from [default: 16384]
    #[arg(long, env = "NETLOFT_REGISTRY_HISTORY_LEN_MAX", value_name = "NUMBER")]
    pub(crate) history_len_max: Option<usize>,
    /// The most connections that are served at a time; more wait [default: 16384]
    #[arg(long, env = "NETLOFT_REGISTRY_CONNECTIONS_MAX", value_name = "NUMBER")]
    pub(crate) connections_max: Option<u32>,
    /// The most connections of one address; more are closed [default: 12288]
    #[arg(long, env = "NETLOFT_REGISTRY_CONNECTIONS_PER_PEER_MAX", value_name = "NUMBER")]
    pub(crate) connections_per_peer_max: Option<u32>,
    /// Subnets that health checks may reach although they are refused by themselves: of loopback, of the link, of this
    /// host [default: none]
    #[arg(long, env = "NETLOFT_REGISTRY_CHECK_ALLOW", value_name = "PREFIX", value_delimiter = ',')]
    pub(crate) check_allow: Option<Vec<Subnet>>,
    /// Subnets that health checks never reach [default: none]
    #[arg(long, env = "NETLOFT_REGISTRY_CHECK_DENY", value_name = "PREFIX", value_delimiter = ',')]
    pub(crate) check_deny: Option<Vec<Subnet>>,
    /// The most health checks under way at a time [default: 256]
    #[arg(long, env = "NETLOFT_REGISTRY_PROBES_MAX", value_name = "NUMBER")]
    pub(crate) probes_max: Option<usize>,
    /// The percentage of a service that must stay usable: if fewer are left by what fails its checks within a minute,
    /// it is not believed; 0 believes everything [default: 50]
    #[arg(
        long,
        env = "NETLOFT_REGISTRY_PANIC_PERCENT",
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u8).range(0..=100)
    )]
    pub(crate) panic_percent: Option<u8>,
    /// How often clients report, in milliseconds, what they have seen of the instances that they call; 0 takes no reports
    /// [default: 10000]
    #[arg(long, env = "NETLOFT_REGISTRY_LOAD_REPORT_INTERVAL_MS", value_name = "NUMBER")]
    pub(crate) load_report_interval_ms: Option<u64>,
    /// Advise clients to call less whom others find slow or failing; if not, reports are only shown [default: true]
    #[arg(
        long,
        env = "NETLOFT_REGISTRY_ADVISE_WEIGHTS",
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub(crate) advise_weights: Option<bool>,
    /// The TCP address at which to answer Prometheus over HTTP: /metrics, /healthz and /readyz; port 0 takes a free one
    /// [default: none]
    #[arg(long, env = "NETLOFT_REGISTRY_METRICS", value_name = "ADDRESS")]
    #[serde(deserialize_with = "parsed")]
    pub(crate) metrics: Option<OrNone<SocketAddr>>,
    /// The least important messages to log, on the standard error [default: info]
    #[arg(long, env = "NETLOFT_REGISTRY_LOG", value_enum, value_name = "LEVEL")]
    pub(crate) log: Option<LogLevel>,
    /// How to log [default: full]
    #[arg(long, env = "NETLOFT_REGISTRY_LOG_FORMAT", value_enum, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    #[command(flatten)]
    pub(crate) access: AccessFlags,
}

/// Where registrations are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StoreKind {
    /// On disk, in a directory of its own: what was answered outlives the process and a cut of power
    #[default]
    Embedded,
    /// In memory: gone with the process, after which clients register again
    Memory,
    /// In an etcd cluster, where several servers share them
    Etcd,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogLevel {
    Off,
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    /// One line each, with the module
    #[default]
    Full,
    /// One short line each
    Compact,
    /// One JSON object each
    Json,
}

/// A value, or the word `none`, which is something else than not being set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OrNone<T> {
    Some(T),
    None,
}

impl<T: FromStr> FromStr for OrNone<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            text => text.parse().map(Self::Some),
        }
    }
}

impl Args {
    /// What is set, by whatever means.
    pub(crate) fn options(self) -> anyhow::Result<Options> {
        let file = self.config.as_deref().map(Options::read).transpose()?;
        Ok(self.options.or(file.unwrap_or_default()))
    }
}

impl Options {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("cannot use {}", path.display()))
    }

    fn or(self, other: Self) -> Self {
        Self {
            listen: self.listen.or(other.listen),
            unix: self.unix.or(other.unix),
            store: self.store.or(other.store),
            data_dir: self.data_dir.or(other.data_dir),
            etcd_endpoint: self.etcd_endpoint.or(other.etcd_endpoint),
            etcd_prefix: self.etcd_prefix.or(other.etcd_prefix),
            etcd_lease_s: self.etcd_lease_s.or(other.etcd_lease_s),
            etcd_ca: self.etcd_ca.or(other.etcd_ca),
            etcd_cert: self.etcd_cert.or(other.etcd_cert),
            etcd_key: self.etcd_key.or(other.etcd_key),
            etcd_user: self.etcd_user.or(other.etcd_user),
            etcd_password_file: self.etcd_password_file.or(other.etcd_password_file),
            grace_ms: self.grace_ms.or(other.grace_ms),
            sessions_max: self.sessions_max.or(other.sessions_max),
            instances_max: self.instances_max.or(other.instances_max),
            instances_per_session_max: self.instances_per_session_max.or(other.instances_per_session_max),
            watchers_max: self.watchers_max.or(other.watchers_max),
            history_len_max: self.history_len_max.or(other.history_len_max),
            connections_max: self.connections_max.or(other.connections_max),
            connections_per_peer_max: self.connections_per_peer_max.or(other.connections_per_peer_max),
            check_allow: self.check_allow.or(other.check_allow),
            check_deny: self.check_deny.or(other.check_deny),
            probes_max: self.probes_max.or(other.probes_max),
            panic_percent: self.panic_percent.or(other.panic_percent),
            load_report_interval_ms: self.load_report_interval_ms.or(other.load_report_interval_ms),
            advise_weights: self.advise_weights.or(other.advise_weights),
            metrics: self.metrics.or(other.metrics),
            log: self.log.or(other.log),
            log_format: self.log_format.or(other.log_format),
            access: self.access.or(other.access),
        }
    }
}

fn parsed<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: std::fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    let refused = |error| serde::de::Error::custom(format!("{text:?}: {error}"));
    text.parse().map(Some).map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Options {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_flag_counts_more_than_the_file_and_the_file_more_than_nothing() {
        let flags = Args::parse_from(["registry-server", "--listen", "127.0.0.1:1", "--log", "warn"]).options;
        let options = flags.or(file("listen = \"127.0.0.1:2\"\ninstances-max = 7"));
        assert_eq!(options.listen, Some(OrNone::Some("127.0.0.1:1".parse().unwrap())));
        assert_eq!((options.instances_max, options.log), (Some(7), Some(LogLevel::Warn)));
        assert_eq!(options.watchers_max, None);
    }

    #[test]
    fn every_option_can_be_set_in_the_file() {
        let options = file(
            r#"
            listen = "none"
            unix = "/tmp/registry.sock"
            store = "memory"
            data-dir = "/tmp/registry"
            etcd-endpoint = ["http://192.0.2.1:2379"]
            etcd-prefix = "/blue/"
            etcd-lease-s = 3
            etcd-ca = "/tmp/ca.pem"
            etcd-cert = "/tmp/cert.pem"
            etcd-key = "/tmp/key.pem"
            etcd-user = "netloft"
            etcd-password-file = "/tmp/password"
            grace-ms = 0
            sessions-max = 1
            instances-max = 2
            instances-per-session-max = 3
            watchers-max = 4
            history-len-max = 5
            metrics = "127.0.0.1:0"
            connections-max = 6
            connections-per-peer-max = 9
            check-allow = ["127.0.0.0/8"]
            check-deny = ["10.0.0.0/8"]
            probes-max = 7
            panic-percent = 8
            load-report-interval-ms = 10
            advise-weights = false
            log = "trace"
            log-format = "compact"

            [access]
            auth = true
            "#,
        );
        let expected = Options {
            listen: Some(OrNone::None),
            unix: Some(OrNone::Some("/tmp/registry.sock".into())),
            store: Some(StoreKind::Memory),
            data_dir: Some("/tmp/registry".into()),
            etcd_endpoint: Some(vec!["http://192.0.2.1:2379".to_owned()]),
            etcd_prefix: Some("/blue/".to_owned()),
            etcd_lease_s: NonZeroU64::new(3),
            etcd_ca: Some("/tmp/ca.pem".into()),
            etcd_cert: Some("/tmp/cert.pem".into()),
            etcd_key: Some("/tmp/key.pem".into()),
            etcd_user: Some("netloft".to_owned()),
            etcd_password_file: Some("/tmp/password".into()),
            grace_ms: Some(0),
            sessions_max: Some(1),
            instances_max: Some(2),
            instances_per_session_max: Some(3),
            watchers_max: Some(4),
            history_len_max: Some(5),
            metrics: Some(OrNone::Some("127.0.0.1:0".parse().unwrap())),
            connections_max: Some(6),
            connections_per_peer_max: Some(9),
            check_allow: Some(vec!["127.0.0.0/8".parse().unwrap()]),
            check_deny: Some(vec!["10.0.0.0/8".parse().unwrap()]),
            probes_max: Some(7),
            panic_percent: Some(8),
            load_report_interval_ms: Some(10),
            advise_weights: Some(false),
            log: Some(LogLevel::Trace),
            log_format: Some(LogFormat::Compact),
            access: AccessFlags { auth: Some(true), ..AccessFlags::default() },
        };
        assert_eq!(options, expected);
    }

    #[test]
    fn a_key_that_is_not_an_option_is_refused_by_name() {
        let error = toml::from_str::<Options>("lisen = \"127.0.0.1:1\"").unwrap_err();
        assert!(error.to_string().contains("unknown field `lisen`"), "{error}");
    }
}
