//! What can be set about who may do what.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use netloft_access::{Scope, TokenName};
use netloft_types::Subnet;
use serde::Deserialize;

/// The options about access, as far as they are set; in the file they are the table `[access]`.
#[derive(Debug, Default, PartialEq, Eq, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct AccessFlags {
    /// Let nobody do anything that a policy or a token does not say [default: whether one of the options below is set, or
    /// there is a file of tokens]
    #[arg(
        long,
        env = "NETLOFT_REGISTRY_AUTH",
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub(crate) auth: Option<bool>,
    /// A file in TOML that says what those may do who have certificates; read again when it changes
    #[arg(long, env = "NETLOFT_REGISTRY_POLICY", value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// The file of tokens, kept by `registry-server token`; read again when it changes [default: tokens in the data
    /// directory]
    #[arg(long, env = "NETLOFT_REGISTRY_TOKENS", value_name = "FILE")]
    pub(crate) tokens: Option<PathBuf>,
    /// The file of the key by which sessions are told whose they are; made if it is missing. Servers that share a registry
    /// in etcd need the same one [default: session-key in the data directory]
    #[arg(long, env = "NETLOFT_REGISTRY_SESSION_KEY", value_name = "FILE")]
    pub(crate) session_key: Option<PathBuf>,
    /// The server's certificate in PEM, with those above it: speak TLS; read again when it changes
    #[arg(long, env = "NETLOFT_REGISTRY_TLS_CERT", value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The key of the certificate, in PEM
    #[arg(long, env = "NETLOFT_REGISTRY_TLS_KEY", value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,
    /// The authority, in PEM, whose certificates of clients are believed; read again when it changes
    #[arg(long, env = "NETLOFT_REGISTRY_TLS_CLIENT_CA", value_name = "FILE")]
    pub(crate) tls_client_ca: Option<PathBuf>,
    /// Refuse connections without a certificate, also those that would have a token
    #[arg(
        long,
        env = "NETLOFT_REGISTRY_TLS_REQUIRE_CLIENT_CERT",
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub(crate) tls_require_client_cert: Option<bool>,
    /// Refuse instances whose id does not begin with their service, as in `api/1` or `api@host`: so nobody can take, or find
    /// out by trying, an id that is used for a service that is not theirs
    #[arg(
        long,
        env = "NETLOFT_REGISTRY_STRICT_IDS",
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub(crate) strict_ids: Option<bool>,
    /// Where to write what was done and refused, a line of JSON each: a file, or stderr [default: nowhere]
    #[arg(long, env = "NETLOFT_REGISTRY_AUDIT_LOG", value_name = "FILE")]
    pub(crate) audit_log: Option<PathBuf>,
    /// Write lookups and watches there, too
    #[arg(
        long,
        env = "NETLOFT_REGISTRY_AUDIT_READS",
        num_args = 0..=1,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub(crate) audit_reads: Option<bool>,
    /// The most sessions of one identity [default: 4096]
    #[arg(long, env = "NETLOFT_REGISTRY_IDENTITY_SESSIONS_MAX", value_name = "NUMBER")]
    pub(crate) identity_sessions_max: Option<usize>,
    /// The most instances of one identity [default: 16384]
    #[arg(long, env = "NETLOFT_REGISTRY_IDENTITY_INSTANCES_MAX", value_name = "NUMBER")]
    pub(crate) identity_instances_max: Option<usize>,
    /// The most watches and streams of renewals of one identity [default: 8192]
    #[arg(long, env = "NETLOFT_REGISTRY_IDENTITY_STREAMS_MAX", value_name = "NUMBER")]
    pub(crate) identity_streams_max: Option<usize>,
    /// The most calls a second of one identity; five times as many at once [default: 2000]
    #[arg(long, env = "NETLOFT_REGISTRY_IDENTITY_CALLS_PER_SECOND", value_name = "NUMBER")]
    pub(crate) identity_calls_per_second: Option<u32>,
    /// The most instances that one identity may take out of service a second; ten times as many at once [default: 100]
    #[arg(long, env = "NETLOFT_REGISTRY_IDENTITY_REMOVALS_PER_SECOND", value_name = "NUMBER")]
    pub(crate) identity_removals_per_second: Option<u32>,
}

impl AccessFlags {
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            auth: self.auth.or(other.auth),
            policy: self.policy.or(other.policy),
            tokens: self.tokens.or(other.tokens),
            session_key: self.session_key.or(other.session_key),
            tls_cert: self.tls_cert.or(other.tls_cert),
            tls_key: self.tls_key.or(other.tls_key),
            tls_client_ca: self.tls_client_ca.or(other.tls_client_ca),
            tls_require_client_cert: self.tls_require_client_cert.or(other.tls_require_client_cert),
            strict_ids: self.strict_ids.or(other.strict_ids),
            audit_log: self.audit_log.or(other.audit_log),
            audit_reads: self.audit_reads.or(other.audit_reads),
            identity_sessions_max: self.identity_sessions_max.or(other.identity_sessions_max),
            identity_instances_max: self.identity_instances_max.or(other.identity_instances_max),
            identity_streams_max: self.identity_streams_max.or(other.identity_streams_max),
            identity_calls_per_second: self.identity_calls_per_second.or(other.identity_calls_per_second),
            identity_removals_per_second: self
                .identity_removals_per_second
                .or(other.identity_removals_per_second),
        }
    }
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token, and print it: this once
    Create(NewToken),
    /// List the tokens, without what is secret
    List(TokenPlace),
    /// Make another token of the same name, scopes and addresses, and print it
    Rotate {
        /// The name
        name: TokenName,
        /// For how long the one of before goes on counting, as in `1h`
        #[arg(long, value_parser = humantime::parse_duration, default_value = "1h", value_name = "TIME")]
        keep: Duration,
        #[command(flatten)]
        place: TokenPlace,
    },
    /// Have a token count for nothing; what its bearer is in the middle of ends within a second
    Revoke {
        /// The name
        name: TokenName,
        #[command(flatten)]
        place: TokenPlace,
    },
}

/// A token to be.
#[derive(Debug, clap::Args)]
pub(crate) struct NewToken {
    /// What the token is called, in the list and in the audit log
    #[arg(long)]
    pub(crate) name: TokenName,
    /// What its bearer may do, as in `api-*:read,register`; may be repeated
    #[arg(long = "scope", required = true, value_name = "PATTERN:RIGHTS")]
    pub(crate) scopes: Vec<Scope>,
    /// Where its bearer may register instances; may be repeated [default: the address it speaks from]
    #[arg(long = "address", value_name = "PREFIX")]
    pub(crate) addresses: Vec<Subnet>,
    /// For how long it counts, as in `30d` [default: until it is revoked]
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(crate) expires: Option<Duration>,
    #[command(flatten)]
    pub(crate) place: TokenPlace,
}

/// Where tokens are kept.
#[derive(Debug, clap::Args)]
pub(crate) struct TokenPlace {
    /// The file of tokens [default: tokens in the data directory]
    #[arg(long, env = "NETLOFT_REGISTRY_TOKENS", value_name = "FILE")]
    pub(crate) tokens: Option<PathBuf>,
    /// The data directory of the server [default: as for serving]
    #[arg(long, env = "NETLOFT_REGISTRY_DATA_DIR", value_name = "PATH")]
    pub(crate) data_dir: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_about_access_can_be_set_in_the_file() {
        let text = r#"
            auth = true
            policy = "/etc/policy.toml"
            tokens = "/tmp/tokens"
            session-key = "/tmp/session-key"
            tls-cert = "/tmp/cert.pem"
            tls-key = "/tmp/key.pem"
            tls-client-ca = "/tmp/ca.pem"
            tls-require-client-cert = true
            strict-ids = true
            audit-log = "/tmp/audit.log"
            audit-reads = true
            identity-sessions-max = 1
            identity-instances-max = 2
            identity-streams-max = 3
            identity-calls-per-second = 4
            identity-removals-per-second = 5
        "#;
        let expected = AccessFlags {
            auth: Some(true),
            policy: Some("/etc/policy.toml".into()),
            tokens: Some("/tmp/tokens".into()),
            session_key: Some("/tmp/session-key".into()),
            tls_cert: Some("/tmp/cert.pem".into()),
            tls_key: Some("/tmp/key.pem".into()),
            tls_client_ca: Some("/tmp/ca.pem".into()),
            tls_require_client_cert: Some(true),
            strict_ids: Some(true),
            audit_log: Some("/tmp/audit.log".into()),
            audit_reads: Some(true),
            identity_sessions_max: Some(1),
            identity_instances_max: Some(2),
            identity_streams_max: Some(3),
            identity_calls_per_second: Some(4),
            identity_removals_per_second: Some(5),
        };
        assert_eq!(toml::from_str::<AccessFlags>(text).unwrap(), expected);
        assert!(toml::from_str::<AccessFlags>("polcy = \"x\"").is_err());
    }
}
