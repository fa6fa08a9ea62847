//! Why a store in etcd cannot be opened.

use std::io;

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

impl OpenError {
    /// Whether it may succeed later, without anybody changing anything here.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Away { .. })
    }
}
