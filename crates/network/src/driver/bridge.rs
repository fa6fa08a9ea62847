//! The bridge driver: a network is a bridge on the host, an endpoint is a veth pair.
//!
//! A pure planner: it turns a network or an endpoint, all of whose names and addresses are decided, into a
//! [`Plan`]. A `Driver` trait would have exactly these functions; it waits for the second kind of network.

use std::iter;
use std::net::IpAddr;

use netloft_link::{BridgeSpec, Family, Ipv6, Prohibition};
use netloft_types::{
    EndpointId, InterfaceAddr, InterfaceName, MacAddr, Mtu, Network, NetworkName, SandboxName, Segment,
};

use crate::plan::{Plan, Step, Veth};

/// Where the rules that prohibit forwarding from our bridges stand among the host's.
///
/// After the rule for local addresses, so that sandboxes reach their gateway: it is at 0, or at 100 where Cilium moved
/// it. Before whatever leads packets to a table of routes: the main table at 32766, and what virtual private networks
/// and container networks put in front of it, from 500 upwards. A rule of an administrator that is to let something
/// through has room in between.
const PROHIBITION_PRIORITY: u32 = 110;

/// What tells our rules from others: a number that no routing daemon has in `rt_protos` of iproute2.
const PROTOCOL: u8 = 110;

/// What is decided about an endpoint before the kernel hears of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) id: EndpointId,
    pub(crate) network: NetworkName,
    pub(crate) sandbox: SandboxName,
    pub(crate) interface: InterfaceName,
    pub(crate) mac: MacAddr,
    /// One of each segment of the network, in the same order.
    pub(crate) addresses: Vec<InterfaceAddr>,
}

/// Plans a network.
pub(crate) fn plan_network(network: &Network) -> Plan {
    let gateway = |segment: &Segment| on_link(segment.gateway(), segment);
    let bridge = BridgeSpec {
        name: network.bridge.clone(),
        mac: network.bridge_mac,
        mtu: network.mtu.map(Mtu::bytes),
        alias: format!("netloft:{}", network.name),
        addresses: network.segments.iter().map(gateway).collect(),
    };
    let prohibitions = network.segments.iter().map(|segment| {
        Step::ProhibitForwarding(Prohibition {
            link: network.bridge.clone(),
            family: if segment.subnet().is_ipv4() { Family::V4 } else { Family::V6 },
            priority: PROHIBITION_PRIORITY,
            protocol: PROTOCOL,
        })
    });
    // The bridge first: that its name is free is known when it is there.
    Plan::new(iter::once(Step::CreateBridge(bridge)).chain(prohibitions))
}

/// Plans an endpoint in a sandbox that is new.
pub(crate) fn plan_endpoint(network: &Network, endpoint: &Decided) -> Plan {
    let host_link = host_link(endpoint.id);
    Plan::new([
        Step::CreateNetns { sandbox: endpoint.sandbox.clone() },
        Step::CreateVeth(Veth {
            host_link: host_link.clone(),
            host_mac: host_mac(endpoint.id),
            alias: format!("netloft:{}/{}", network.name, endpoint.id),
            bridge: network.bridge.clone(),
            sandbox: endpoint.sandbox.clone(),
            interface: endpoint.interface.clone(),
            mac: endpoint.mac,
            mtu: network.mtu,
        }),
        Step::ConfigureInside {
            sandbox: endpoint.sandbox.clone(),
            host_link,
            interface: endpoint.interface.clone(),
            addresses: endpoint.addresses.clone(),
            ipv6: ipv6(network),
            gateways: gateways(network),
        },
    ])
}

/// The next hops of the default routes of every sandbox of a network.
pub(crate) fn gateways(network: &Network) -> Vec<IpAddr> {
    network.segments.iter().map(Segment::gateway).collect()
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

/// The name of a network's bridge if none is chosen: `nl-` and the name, where that fits. A longer name is cut and
/// marked with a hash; the `_` before it, which no name has, keeps it apart from the names that fit.
pub(crate) fn bridge_name(network: &NetworkName) -> InterfaceName {
    let name = network.as_str();
    let fitting = format!("nl-{name}");
    let hashed = || format!("nl-{}_{:06x}", &name[..5], hash(name.as_bytes()) & 0xff_ffff);
    fitting
        .parse()
        .or_else(|_| hashed().parse())
        .expect("15 letters, digits, '-' and '_' are a legal interface name")
}

/// The name of the host end of an endpoint's link.
pub(crate) fn host_link(id: EndpointId) -> InterfaceName {
    format!("nl{:012x}", id.number() >> 16).parse().expect("14 letters and digits are a legal interface name")
}

fn host_mac(id: EndpointId) -> MacAddr {
    MacAddr::local(!id.number())
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

/// FNV-1a: short, and the same in every release.
fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::plan::Undo;

    #[test]
    fn an_endpoint_is_cut_off_before_its_namespace_is_dropped() {
        let network = Network {
            name: "blue".parse().unwrap(),
            segments: vec![Segment::new("10.89.0.0/24".parse().unwrap()).unwrap()],
            mtu: None,
            bridge: "nl-blue".parse().unwrap(),
            bridge_mac: MacAddr::local(1),
        };
        let endpoint = Decided {
            id: EndpointId::from_number(7),
            network: network.name.clone(),
            sandbox: "api".parse().unwrap(),
            interface: "eth0".parse().unwrap(),
            mac: MacAddr::local(2),
            addresses: vec!["10.89.0.2/24".parse().unwrap()],
        };
        let plan = plan_endpoint(&network, &endpoint);
        let undos: Vec<Undo> = plan.steps().iter().rev().filter_map(Step::undo).collect();
        assert!(matches!(undos[..], [Undo::CutVeth { .. }, Undo::DropNetns { .. }]), "{undos:?}");
    }

    #[test]
    fn bridge_names_fit_and_differ() {
        let name = |text: &str| bridge_name(&text.parse().unwrap()).as_str().to_owned();
        assert_eq!(name("blue"), "nl-blue");
        assert_eq!(name("twelve-chars"), "nl-twelve-chars");
        let names = BTreeSet::from([name("thirteen-chars-a"), name("thirteen-chars-b"), name("thirt")]);
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(names.iter().any(|name| name.starts_with("nl-thirt_") && name.len() == 15));
    }

    #[test]
    fn host_links_are_named_by_the_first_twelve_digits_of_the_id() {
        let id: EndpointId = "0123456789abcdef".parse().unwrap();
        assert_eq!(host_link(id).as_str(), "nl0123456789ab");
    }

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
