//! What exists: networks and endpoints.

use std::net::IpAddr;
use std::path::PathBuf;

use netloft_link::{InterfaceAddr, Ipv6};
use netloft_netns::Netns;
use netloft_types::{EndpointId, InterfaceName, MacAddr, NetworkName, SandboxName};

use crate::bridge::{self, Decided};
use crate::kernel::SandboxNetns;
use crate::spec::{Mtu, Segment};

/// A network of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Network {
    /// Its name.
    pub name: NetworkName,
    /// Its subnets, each with its gateway.
    pub segments: Vec<Segment>,
    /// The largest packet its links carry; the kernel's 1500 bytes if absent.
    pub mtu: Option<Mtu>,
    /// Its bridge, which has the gateways for addresses.
    pub bridge: InterfaceName,
    /// The Ethernet address of the bridge.
    pub bridge_mac: MacAddr,
}

impl Network {
    /// Whether it speaks IPv6: only with an IPv6 subnet. Otherwise IPv6 is off in its sandboxes and on its bridge.
    pub(crate) fn ipv6(&self) -> Ipv6 {
        if self.segments.iter().any(|segment| !segment.subnet().is_ipv4()) { Ipv6::On } else { Ipv6::Off }
    }
}

/// A sandbox's attachment to a network.
///
/// It holds the sandbox's namespace open: after a detach the namespace lives on, cut off, until the last clone of
/// this value is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// The network.
    pub network: NetworkName,
    /// The sandbox.
    pub sandbox: SandboxName,
    /// What the link is called in the sandbox.
    pub interface: InterfaceName,
    /// What the link is called on the host: `nl` and the first 12 digits of the id.
    pub host_link: InterfaceName,
    /// The Ethernet address in the sandbox.
    pub mac: MacAddr,
    /// The addresses, one of each segment of the network, in the same order.
    pub addresses: Vec<InterfaceAddr>,
    /// The next hops of the default routes, one for each address.
    pub gateways: Vec<IpAddr>,
    /// The sandbox's namespace, for this process.
    pub netns: Netns,
    /// Where other processes can open the sandbox's namespace, while the sandbox is attached.
    pub netns_path: PathBuf,
}

impl Endpoint {
    pub(crate) fn new(network: &Network, decided: &Decided, netns: SandboxNetns) -> Self {
        Self {
            id: decided.id,
            network: network.name.clone(),
            sandbox: decided.sandbox.clone(),
            interface: decided.interface.clone(),
            host_link: bridge::host_link(decided.id),
            mac: decided.mac,
            addresses: decided.addresses.clone(),
            gateways: bridge::gateways(network),
            netns: netns.handle,
            netns_path: netns.path,
        }
    }
}
