//! An endpoint as this process holds it.

use std::path::PathBuf;

use netloft_netns::Netns;
use netloft_types::{Endpoint, Network};

use crate::bridge::{self, Decided};
use crate::kernel::SandboxNetns;

/// An endpoint of this host, with the namespace of its sandbox.
///
/// It holds the sandbox's namespace open: after a detach the namespace lives on, cut off, until the last clone of
/// this value is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attached {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The sandbox's namespace, for this process.
    pub netns: Netns,
    /// Where other processes can open the sandbox's namespace, while the sandbox is attached.
    pub netns_path: PathBuf,
}

impl Attached {
    pub(crate) fn new(network: &Network, decided: &Decided, netns: SandboxNetns) -> Self {
        let endpoint = Endpoint {
            id: decided.id,
            network: network.name.clone(),
            sandbox: decided.sandbox.clone(),
            interface: decided.interface.clone(),
            host_link: bridge::host_link(decided.id),
            mac: decided.mac,
            addresses: decided.addresses.clone(),
            gateways: bridge::gateways(network),
        };
        Self { endpoint, netns: netns.handle, netns_path: netns.path }
    }
}
