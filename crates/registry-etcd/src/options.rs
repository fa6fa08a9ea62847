//! What can be chosen about a store in etcd.

use std::time::Duration;

use netloft_registry::StoreOptions;

/// What can be chosen about a store in etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdOptions {
    /// What every store takes. Every server keeps to its own limits as of what it knows, so several together may go
    /// beyond one by what is under way.
    pub store: StoreOptions,
    /// Under which keys everything is; it begins and ends with a slash. Servers of the same prefix share one registry.
    /// The default is `/netloft/`.
    pub prefix: String,
    /// How long after the end of a server, or its last contact with etcd, the others notice: the time to live of its one
    /// lease, in whole seconds. The default of 6 seconds outlasts the election of a leader.
    pub lease_ttl: Duration,
    /// How much longer than its time to live a session lives whose server is gone, or could not be asked for a while.
    ///
    /// The default of 5 seconds is the longest pause of a client between two attempts to connect.
    pub grace: Duration,
}

impl Default for EtcdOptions {
    fn default() -> Self {
        Self {
            store: StoreOptions::default(),
            prefix: "/netloft/".to_owned(),
            lease_ttl: Duration::from_secs(6),
            grace: Duration::from_secs(5),
        }
    }
}
