//! What is remembered of networks and endpoints: in memory, and in the journal.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use netloft_ipam::Tenant;
use netloft_types::{
    Bandwidth, Dns, Endpoint, EndpointId, InterfaceAddr, InterfaceName, MacAddr, Network, NetworkName,
    PublishedPort, RouteSpec, SandboxName,
};
use serde::{Deserialize, Serialize};

use crate::driver;

/// How far something has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Phase {
    /// It is about to be made: what is found of it after a crash is taken away, for nobody was told of it.
    Intended,
    /// It was made whole, and whoever asked for it is told.
    Made,
    /// It is being taken away.
    Leaving,
}

/// A network, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NetworkRecord {
    pub(crate) network: Network,
    pub(crate) phase: Phase,
}

/// Everything that is decided about an endpoint before the kernel hears of it. A plan is a function of this and of the
/// network, so what has to be undone one day is known from this alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndpointRecord {
    pub(crate) id: EndpointId,
    pub(crate) network: NetworkName,
    pub(crate) sandbox: SandboxName,
    /// The sandbox's namespace, if somebody else made it.
    pub(crate) netns: Option<PathBuf>,
    pub(crate) interface: InterfaceName,
    pub(crate) mac: MacAddr,
    /// One of each segment of the network, in the same order.
    pub(crate) addresses: Vec<InterfaceAddr>,
    /// The next hops of its default routes.
    pub(crate) gateways: Vec<IpAddr>,
    /// The metric of the default routes.
    pub(crate) metric: Option<u32>,
    pub(crate) routes: Vec<RouteSpec>,
    pub(crate) ports: Vec<PublishedPort>,
    pub(crate) bandwidth: Bandwidth,
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) dns: Dns,
    pub(crate) phase: Phase,
    /// What whoever embeds this crate wants to remember of it.
    pub(crate) note: Option<String>,
}

impl EndpointRecord {
    /// The endpoint as it is told to others.
    pub(crate) fn endpoint(&self, network: &Network) -> Endpoint {
        Endpoint {
            id: self.id,
            network: self.network.clone(),
            sandbox: self.sandbox.clone(),
            interface: self.interface.clone(),
            host_link: driver::of(network).host_link(self.id),
            mac: self.mac,
            addresses: self.addresses.clone(),
            gateways: self.gateways.clone(),
            ports: self.ports.clone(),
            dns: self.dns.clone(),
        }
    }
}

/// An address that rests after its release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RestRecord {
    pub(crate) network: NetworkName,
    pub(crate) address: IpAddr,
    /// Whose it was; see [`tenant`].
    pub(crate) tenant: u64,
    /// Milliseconds since 1970.
    pub(crate) until: u64,
}

/// Whom an address belongs to beyond the life of an endpoint: whoever has this sandbox's name.
pub(crate) fn tenant(sandbox: &SandboxName) -> Tenant {
    Tenant::from_number(hash(sandbox.as_str().as_bytes()))
}

/// FNV-1a: short, and the same in every release.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
