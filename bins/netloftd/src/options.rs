//! How an agent is set up.

use std::path::PathBuf;
use std::sync::Arc;

use netloft_client::Client;
use netloft_network::Host;
use netloft_registry::{MemoryStore, Store, StoreOptions};

use crate::HostName;

/// How the agent is set up.
pub struct AgentOptions {
    /// The network wing: the agent owns it, and closes it.
    pub host: Host,
    /// Where instances are registered.
    pub registry: Registry,
    /// What this host is called: part of the id and of the locality of every instance.
    pub host_name: HostName,
    /// Where other processes can open the user namespace that owns the sandboxes, if it is not theirs.
    pub userns: Option<PathBuf>,
}

impl AgentOptions {
    /// This host and this registry, under the name that the kernel knows.
    pub fn new(host: Host, registry: Registry) -> Self {
        Self { host, registry, host_name: HostName::of_this_host(), userns: None }
    }
}

/// Where instances are registered.
pub enum Registry {
    /// In this process.
    Embedded(Arc<dyn Store>),
    /// In another one.
    Remote(Client),
}

impl Registry {
    /// An empty registry in the memory of this process. Must be called within a tokio runtime.
    pub fn embedded() -> Self {
        Self::Embedded(Arc::new(MemoryStore::start(StoreOptions::default())))
    }
}
