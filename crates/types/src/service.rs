//! What the host agent is asked for beyond the network: the service that a sandbox offers.

use crate::{Check, Checks, Metadata, Port, ServiceName, Tags, Weight};

/// The service that a sandbox offers, from which its instance is made once its address is known.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ServiceSpec {
    /// The name under which it is found.
    pub name: ServiceName,
    /// Where it listens, on every address of the sandbox.
    pub port: Port,
    /// Its share of the calls.
    pub weight: Weight,
    /// Words to select it by.
    pub tags: Tags,
    /// Facts about it.
    pub metadata: Metadata,
    /// How it earns its first call, and shows that it works from then on; without any it is ready as soon as its
    /// process runs.
    #[cfg_attr(feature = "serde", serde(default))]
    pub checks: Checks,
}

impl ServiceSpec {
    /// A service of which nothing more is chosen: weight 1, no tags, checked by connecting to its port.
    pub fn new(name: ServiceName, port: Port) -> Self {
        Self {
            name,
            port,
            weight: Weight::default(),
            tags: Tags::default(),
            metadata: Metadata::default(),
            checks: Check::tcp().into(),
        }
    }
}

/// What keeps an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// The process that asked for it: the endpoint is detached when that process is gone.
    Caller,
    /// Nothing but the agent: the endpoint stays until it is detached or the agent stops.
    UntilDetached,
}
