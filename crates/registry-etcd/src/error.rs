//! Why a store in etcd cannot be opened.

use std::io;
use std::path::{Path, PathBuf};

use netloft_registry::ClusterFault;

use crate::cache::Broken;

/// Why a store in etcd cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// An endpoint is no URL.
    #[error("etcd endpoint {endpoint:?} is not a URL such as http://192.0.2.1:2379")]
    Endpoint {
        /// The endpoint.
        endpoint: String,
        /// What is wrong with it.
        #[source]
        source: tonic::transport::Error,
    },
    /// There is no endpoint.
    #[error("no etcd endpoint is given")]
    NoEndpoint,
    /// The prefix of keys does not begin and end with a slash.
    #[error("etcd prefix {prefix:?} must begin and end with a slash")]
    Prefix {
        /// The prefix.
        prefix: String,
    },
    /// An endpoint is over TLS, and nobody is named who certifies etcd.
    #[error("etcd endpoint {endpoint:?} is over TLS, which takes the authority of its certificate")]
    NoAuthority {
        /// The endpoint.
        endpoint: String,
    },
    /// An endpoint is not over TLS, although there is an authority or a certificate for that.
    #[error(
        "etcd endpoint {endpoint:?} is not over TLS, although its authority is given: it must begin with https://"
    )]
    NotTls {
        /// The endpoint.
        endpoint: String,
    },
    /// A password would be sent in clear text over a network.
    #[error("the password for etcd would be sent to {endpoint:?} in clear text: use https://")]
    OpenPassword {
        /// The endpoint.
        endpoint: String,
    },
    /// A file with which this server proves who it is, or learns whom to believe, is of no use.
    #[error("cannot make use of the credentials for etcd")]
    Credentials {
        /// Which one, and why.
        #[source]
        source: CredentialError,
    },
    /// Etcd does not let this server in, or not to the keys below the prefix.
    #[error("etcd refuses this server")]
    Refused {
        /// What it said.
        #[source]
        fault: ClusterFault,
    },
    /// No endpoint answers, or the cluster has no majority.
    #[error("etcd does not answer")]
    Away {
        /// What was tried last, and how it failed.
        #[source]
        fault: ClusterFault,
    },
    /// What is below the prefix was not written by this release of a registry.
    #[error("what etcd has below {prefix} is no registry of this release")]
    Contents {
        /// The prefix.
        prefix: String,
        /// What is wrong with it.
        #[source]
        source: ContentsError,
    },
    /// No thread could be started.
    #[error("cannot start a thread for the store in etcd")]
    Thread {
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// What is wrong with what is in etcd.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct ContentsError(#[from] Broken);

/// What is wrong with a file of credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There is no certificate in it.
    #[error("there is no certificate in {}", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// There is no password in it.
    #[error("there is no password in {}", path.display())]
    NoPassword {
        /// The file.
        path: PathBuf,
    },
    /// The authority cannot be used.
    #[error("{} is damaged", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: tonic::transport::Error,
    },
    /// A certificate and a key cannot be used together.
    #[error("{} and {} are not a certificate and its key", certificate.display(), key.display())]
    Identity {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What is wrong with them.
        #[source]
        source: tonic::transport::Error,
    },
    /// TLS cannot be spoken to the endpoint.
    #[error("cannot speak TLS")]
    Tls {
        /// Why not.
        #[source]
        source: tonic::transport::Error,
    },
}

impl CredentialError {
    /// The file it is about.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Read { path, .. }
            | Self::NoCertificate { path }
            | Self::NoPassword { path }
            | Self::Unusable { path, .. }
            | Self::Identity { certificate: path, .. } => Some(path),
            Self::Tls { .. } => None,
        }
    }
}

impl OpenError {
    /// Whether it may succeed later, without anybody changing anything here.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Away { .. })
    }
}
