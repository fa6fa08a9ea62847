//! The bridge driver: a network is a bridge on the host, an endpoint is a veth pair.

use std::iter;
use std::net::{IpAddr, Ipv6Addr};

use netloft_link::{BridgeSpec, Prohibition};
use netloft_nft::{Fact, Guard, Publication};
use netloft_types::{
    Driver as Kind, EndpointId, Family, InterfaceAddr, InterfaceName, MacAddr, Mtu, Network, NetworkName,
    PublishedPort, Segment,
};

use super::{Driver, PROTOCOL, configure, ipv6, on_link};
use crate::plan::{Plan, Step, Veth};
use crate::record::{EndpointRecord, hash};

/// Where the rules that prohibit forwarding from the bridges of internal networks stand among the host's.
///
/// After the rule for local addresses, so that sandboxes reach their gateway: it is at 0, or at 100 where Cilium moved
/// it. Before whatever leads packets to a table of routes: the main table at 32766, and what virtual private networks
/// and container networks put in front of it, from 500 upwards. A rule of an administrator that is to let something
/// through has room in between.
pub(crate) const PROHIBITION_PRIORITY: u32 = 110;

pub(super) struct Bridge;

impl Driver for Bridge {
    fn plan_network(&self, network: &Network) -> Plan {
        let (name, mac) = bridge(network);
        let gateway = |segment: &Segment| on_link(segment.gateway(), segment);
        let create = Step::CreateBridge(BridgeSpec {
            name: name.clone(),
            mac,
            mtu: network.mtu.map(Mtu::bytes),
            alias: format!("netloft:{}", network.name),
            addresses: network.segments.iter().map(gateway).collect(),
        });
        let segments = network.segments.iter().filter(|_| network.internal);
        let prohibitions = segments.map(|segment| {
            Step::ProhibitForwarding(Prohibition {
                link: name.clone(),
                family: Family::of(segment.subnet().first()),
                priority: PROHIBITION_PRIORITY,
                protocol: PROTOCOL,
            })
        });
        let admit = Step::Admit { facts: self.network_facts(network) };
        // The bridge first: that its name is free is known when it is there. Nothing is plugged into it yet.
        Plan::new(iter::once(create).chain(prohibitions).chain([admit]))
    }

    fn network_facts(&self, network: &Network) -> Vec<Fact> {
        vec![Fact::Bridge(netloft_nft::Bridge {
            name: bridge(network).0,
            subnets: network.segments.iter().map(Segment::subnet).collect(),
            egress: !network.internal,
            host_access: network.host_access,
        })]
    }

    fn plan_endpoint(&self, network: &Network, endpoint: &EndpointRecord) -> Plan {
        let host_link = host_link(endpoint.id);
        let admit = Step::Admit { facts: self.endpoint_facts(endpoint) };
        let create = Step::CreateVeth(Veth {
            endpoint: endpoint.id,
            host_link: host_link.clone(),
            host_mac: host_mac(endpoint.id),
            alias: format!("netloft:{}/{}", network.name, endpoint.id),
            bridge: bridge(network).0,
            sandbox: endpoint.sandbox.clone(),
            interface: endpoint.interface.clone(),
            mac: endpoint.mac,
            mtu: network.mtu,
            ipv6: ipv6(network),
        });
        let bandwidth = endpoint.bandwidth;
        let limit = bandwidth.is_limited().then_some(Step::Limit { host_link, bandwidth });
        // The guard stands before there is anything to guard.
        Plan::new([admit, create].into_iter().chain(limit).chain(configure(network, endpoint)))
    }

    fn endpoint_facts(&self, endpoint: &EndpointRecord) -> Vec<Fact> {
        let guard = Fact::Guard(Guard {
            port: host_link(endpoint.id),
            mac: endpoint.mac,
            addresses: endpoint.addresses.iter().map(|held| held.address()).collect(),
        });
        let published = |port: &PublishedPort| {
            let targets = endpoint.addresses.iter().map(|held| held.address());
            // One at an address of the host goes to that of the sandbox of the same family.
            targets
                .filter_map(|to| Publication::new(*port, to).ok())
                .map(Fact::Publication)
                .collect::<Vec<_>>()
        };
        iter::once(guard).chain(endpoint.ports.iter().flat_map(published)).collect()
    }

    fn host_link(&self, endpoint: EndpointId) -> Option<InterfaceName> {
        Some(host_link(endpoint))
    }

    fn cannot(&self, endpoint: &EndpointRecord) -> Option<&'static str> {
        let has_family = |address: IpAddr| {
            endpoint
                .addresses
                .iter()
                .any(|held: &InterfaceAddr| held.address().is_ipv4() == address.is_ipv4())
        };
        let is_loopback_v6 = |port: &PublishedPort| port.address == Some(Ipv6Addr::LOCALHOST.into());
        if endpoint.ports.iter().any(is_loopback_v6) {
            return Some(
                "publish at ::1, whose answers the kernel drops: choose 127.0.0.1 or another address",
            );
        }
        let is_stray = |port: &PublishedPort| port.address.is_some_and(|address| !has_family(address));
        endpoint.ports.iter().any(is_stray).then_some(
            "publish at an address of a family that the network has no subnet of: choose another address",
        )
    }
}

/// The name and the Ethernet address of a network's bridge.
fn bridge(network: &Network) -> (InterfaceName, MacAddr) {
    match &network.driver {
        Kind::Bridge { bridge, mac } => (bridge.clone(), *mac),
        _ => unreachable!("a network is planned by the driver it is made of"),
    }
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
fn host_link(id: EndpointId) -> InterfaceName {
    format!("nl{:012x}", id.number() >> 16).parse().expect("14 letters and digits are a legal interface name")
}

fn host_mac(id: EndpointId) -> MacAddr {
    MacAddr::local(!id.number())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

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
}
