//! What a registry is told of who asks, and who has certified it.

use std::path::PathBuf;

use clap::Args;
use netloft_client::{Credentials, TlsIdentity, TokenSource};

/// Options of every command that talks to a registry.
#[derive(Debug, Clone, Args)]
pub(crate) struct CredentialOptions {
    /// A file with the token that the registry knows you by; the token itself can be in `NETLOFT_TOKEN`
    #[arg(long, global = true, env = "NETLOFT_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The authority, in PEM, that has certified the registry
    #[arg(long, global = true, env = "NETLOFT_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Your own certificate, in PEM
    #[arg(long, global = true, env = "NETLOFT_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of your certificate, in PEM
    #[arg(long, global = true, env = "NETLOFT_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl CredentialOptions {
    pub(crate) fn credentials(&self) -> Credentials {
        let Self { token_file, tls_ca, tls_cert, tls_key } = self.clone();
        // Not a flag: everybody on a host can read the arguments of a process.
        let token = std::env::var("NETLOFT_TOKEN").ok();
        let pair = tls_cert.zip(tls_key);
        Credentials {
            token: token_file.map(TokenSource::File).or(token.map(TokenSource::Text)),
            tls_ca,
            tls_identity: pair.map(|(certificate, key)| TlsIdentity { certificate, key }),
        }
    }
}
