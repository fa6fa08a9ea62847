//! What networks are made of: pure planners.
//!
//! A driver turns a network or an endpoint, all of whose names and addresses are decided, into a [`Plan`], and says what
//! the packet filter has to know of it. It touches nothing.

mod bridge;
mod macvlan;

use std::iter;
use std::net::IpAddr;

use netloft_link::Ipv6;
use netloft_nft::Fact;
use netloft_types::{
    Driver as Kind, EndpointId, InterfaceAddr, InterfaceName, MacAddr, Network, NetworkName, Segment,
};

pub(crate) use self::bridge::bridge_name;
use crate::plan::{Inside, Plan, Step, WayBack};
use crate::record::{EndpointRecord, hash};

/// What tells our rules from others: a number that no routing daemon has in `rt_protos` of iproute2.
pub(crate) const PROTOCOL: u8 = 110;

/// Plans networks and endpoints of one kind.
pub(crate) trait Driver {
    /// What has to be done for a network.
    fn plan_network(&self, network: &Network) -> Plan;

    /// What the packet filter has to know of a network.
    fn network_facts(&self, network: &Network) -> Vec<Fact>;

    /// What has to be done for an endpoint, in a sandbox whose namespace is there.
    fn plan_endpoint(&self, network: &Network, endpoint: &EndpointRecord) -> Plan;

    /// What the packet filter has to know of an endpoint.
    fn endpoint_facts(&self, endpoint: &EndpointRecord) -> Vec<Fact>;

    /// The name of an endpoint's link on the host; none if it has no end there.
    fn host_link(&self, endpoint: EndpointId) -> Option<InterfaceName>;

    /// What it cannot do that an endpoint asks for, in words that complete "the driver cannot".
    fn cannot(&self, endpoint: &EndpointRecord) -> Option<&'static str>;
}

/// The driver of a network.
pub(crate) fn of(network: &Network) -> &'static dyn Driver {
    match network.driver {
        Kind::Macvlan { .. } => &macvlan::Macvlan,
        _ => &bridge::Bridge,
    }
}

/// What has to be done for a sandbox before its first endpoint.
pub(crate) fn plan_sandbox(endpoint: &EndpointRecord) -> Plan {
    let sandbox = endpoint.sandbox.clone();
    Plan::new([match &endpoint.netns {
        Some(path) => Step::AdoptNetns { sandbox, path: path.clone() },
        None => Step::CreateNetns { sandbox },
    }])
}

/// The last steps of every endpoint.
fn configure(network: &Network, endpoint: &EndpointRecord) -> impl Iterator<Item = Step> {
    iter::once(configure_inside(network, endpoint)).chain(open_way_back(network, endpoint))
}

/// What an endpoint needs to answer by its own link; nothing if that is the way out of its sandbox.
///
/// A default route without a metric is what an endpoint gets that is alone, and none of IPv4 counts more; of IPv6 one does
/// whose metric is below 1024. Any other endpoint may be outranked by one that is there or that comes later. From an
/// internal network nothing leaves, answers included.
fn open_way_back(network: &Network, endpoint: &EndpointRecord) -> Option<Step> {
    let is_way_out = endpoint.metric.is_none() && !endpoint.gateways.is_empty();
    let addresses = endpoint.addresses.iter().map(|held| held.address());
    let gateways = addresses.zip(network.segments.iter().map(Segment::gateway));
    (!is_way_out && !network.internal).then(|| {
        Step::OpenWayBack(WayBack {
            endpoint: endpoint.id,
            sandbox: endpoint.sandbox.clone(),
            interface: endpoint.interface.clone(),
            gateways: gateways.collect(),
        })
    })
}

fn configure_inside(network: &Network, endpoint: &EndpointRecord) -> Step {
    let is_derived = endpoint.mac == derived_mac(&network.name, endpoint.addresses[0].address());
    Step::ConfigureInside(Inside {
        endpoint: endpoint.id,
        sandbox: endpoint.sandbox.clone(),
        interface: endpoint.interface.clone(),
        mac: endpoint.mac,
        bridge: network.bridge().cloned(),
        addresses: endpoint.addresses.clone(),
        announced: if is_derived { Vec::new() } else { endpoint.addresses.clone() },
        ipv6: ipv6(network),
        gateways: endpoint.gateways.clone(),
        metric: endpoint.metric,
        routes: endpoint.routes.clone(),
        sysctls: endpoint.sysctls.clone(),
    })
}

/// IPv6 is on only with an IPv6 subnet: elsewhere it is off in the sandboxes and on the bridge.
fn ipv6(network: &Network) -> Ipv6 {
    if network.has_ipv6() { Ipv6::On } else { Ipv6::Off }
}

/// An address of a segment as an interface has it.
pub(crate) fn on_link(address: IpAddr, segment: &Segment) -> InterfaceAddr {
    InterfaceAddr::new(address, segment.subnet().prefix_len())
        .expect("a subnet's prefix fits addresses of its family")
}

/// The Ethernet address of an endpoint, if none is chosen: a function of its network and its first address.
///
/// Not of its id: when an address goes to another sandbox, whoever remembers the Ethernet address that went with it
/// is still right. With another one, a neighbour whose entry is stale would talk to nobody for some eight seconds
/// until it asks again. Within an IPv4 network it is unique because the address is.
pub(crate) fn derived_mac(network: &NetworkName, first: IpAddr) -> MacAddr {
    let network = hash(network.as_str().as_bytes());
    let bits = match first {
        IpAddr::V4(address) => (network << 32) | u64::from(address.to_bits()),
        IpAddr::V6(address) => network ^ hash(&address.octets()),
    };
    MacAddr::local(bits)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_address_keeps_its_mac_and_no_other_address_of_the_network_has_it() {
        let network: NetworkName = "blue".parse().unwrap();
        let address = |last: u8| IpAddr::from([10, 89, 0, last]);
        let macs: BTreeSet<MacAddr> = (0..=255).map(|last| derived_mac(&network, address(last))).collect();
        assert_eq!(macs.len(), 256);
        assert_eq!(derived_mac(&network, address(2)), derived_mac(&network, address(2)));
        let other: NetworkName = "green".parse().unwrap();
        assert_ne!(derived_mac(&network, address(2)), derived_mac(&other, address(2)));
    }
}
