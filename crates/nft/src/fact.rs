//! What the firewall is told: public values, each of which becomes a few elements of sets.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netloft_types::{Family, InterfaceName, Invalid, MacAddr, Port, PortRange, PublishedPort, Subnet};

use crate::set::{Element, Key, Set};

/// Something that is true of the host, and that the firewall enforces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fact {
    /// A network's bridge.
    Bridge(Bridge),
    /// What may be sent from a port.
    Guard(Guard),
    /// Ports of a sandbox that answer at the host.
    Publication(Publication),
    /// The host forwards nothing of this family but what touches a bridge of ours.
    ///
    /// For a host that forwards only since we switched it on: it must not become a router between the others. What
    /// bridges of others carry from port to port is not forwarded and goes on.
    ClosedToStrangers(Family),
}

/// A network's bridge and what its sandboxes may do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bridge {
    /// Its name.
    pub name: InterfaceName,
    /// The subnets of its network: nobody reaches an address in them but over this bridge, from the host itself, or
    /// through a publication.
    pub subnets: Vec<Subnet>,
    /// Whether its sandboxes may open connections to the world beyond the host, behind the host's address.
    pub egress: bool,
    /// Whether its sandboxes may use whatever the host offers. If not, it answers them pings and, at the addresses of
    /// the bridge, DNS.
    pub host_access: bool,
}

/// What may be sent from a port of a bridge: the host end of an endpoint's link.
///
/// Frames with any other source are dropped before anybody sees them, as are those that only a router or a server of
/// DHCP would send. Without an IPv6 address nothing of IPv6 passes; with one, the link-local address that is made of the
/// MAC address passes too (RFC 4291, appendix A).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Guard {
    /// The port.
    pub port: InterfaceName,
    /// The Ethernet address of the sandbox.
    pub mac: MacAddr,
    /// The addresses of the sandbox.
    pub addresses: Vec<IpAddr>,
}

/// Ports of a sandbox that answer at the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Publication {
    port: PublishedPort,
    to: IpAddr,
}

impl Publication {
    /// Publishes ports of the sandbox that has the address `to`. An unspecified host address (`0.0.0.0`, `::`) means what
    /// an absent one does: all addresses of the host of the family of `to`, other than `::1`.
    ///
    /// # Errors
    ///
    /// If the host address is not of the family of `to`: the kernel does not translate between them. If it is `::1`: the
    /// kernel takes no packet for it from a link, and so no answer of a sandbox, translated or not. There is no
    /// `route_localnet` in IPv6.
    pub fn new(mut port: PublishedPort, to: IpAddr) -> Result<Self, Invalid> {
        if port.address.is_some_and(|address| address.is_ipv4() != to.is_ipv4()) {
            let rule = format!("must have a host address of the same IP version as {to}");
            return Err(Invalid::new("published port", port, rule));
        }
        if port.address.is_some_and(|address| address.is_ipv6() && address.is_loopback()) {
            let rule =
                "cannot be at ::1, where no answer of a sandbox arrives; use another address of the host";
            return Err(Invalid::new("published port", port, rule));
        }
        port.address = port.address.filter(|address| !address.is_unspecified());
        Ok(Self { port, to })
    }

    /// The ports, at the host and in the sandbox.
    pub fn port(&self) -> PublishedPort {
        self.port
    }

    /// The address of the sandbox.
    pub fn to(&self) -> IpAddr {
        self.to
    }

    /// A single port, and each of a range that is shifted (`8000-8009:9000-9009`), is an element of a hash: the kernel
    /// has no way to add to a port. A range of equal numbers is one element however long it is.
    fn elements(&self) -> Vec<(Set, Element)> {
        let PublishedPort { protocol, address, host, ports } = self.port;
        let (single, range) = match (self.to, address) {
            (IpAddr::V4(_), None) => (Set::Single4, Set::Range4),
            (IpAddr::V6(_), None) => (Set::Single6, Set::Range6),
            (IpAddr::V4(_), Some(_)) => (Set::SingleAt4, Set::RangeAt4),
            (IpAddr::V6(_), Some(_)) => (Set::SingleAt6, Set::RangeAt6),
        };
        let key = |port: Port| {
            let key = address.map_or_else(Key::default, |address| Key::default().ip(address));
            key.protocol(protocol).port(port)
        };
        let to = Key::default().ip(self.to);
        if host == ports && host.count() > 1 {
            return vec![(range, Element::of(key(host.first())).through(key(host.last())).to(to))];
        }
        let pairs = in_order(host).zip(in_order(ports));
        pairs.map(|(at, inside)| (single, Element::of(key(at)).to(to.clone().port(inside)))).collect()
    }
}

impl Fact {
    /// The elements that stand for it.
    pub(crate) fn elements(&self) -> Vec<(Set, Element)> {
        match self {
            Self::Bridge(bridge) => bridge.elements(),
            Self::Guard(guard) => guard.elements(),
            Self::Publication(publication) => publication.elements(),
            Self::ClosedToStrangers(family) => {
                vec![(Set::Closed, Element::of(Key::default().family(*family)))]
            }
        }
    }
}

impl Bridge {
    fn elements(&self) -> Vec<(Set, Element)> {
        let name = || Key::default().interface(&self.name);
        let mut elements = vec![
            (Set::Bridges, Element::of(name())),
            (Set::Within, Element::of(name().interface(&self.name))),
        ];
        if self.egress {
            elements.push((Set::Egress, Element::of(name())));
        }
        if self.host_access {
            elements.push((Set::HostAccess, Element::of(name())));
        }
        for subnet in &self.subnets {
            let (subnets, homes) =
                if subnet.is_ipv4() { (Set::Subnets4, Set::Homes4) } else { (Set::Subnets6, Set::Homes6) };
            elements.push((subnets, Element::of(Key::default().ip(subnet.first()))));
            elements.extend(next(subnet.last()).map(|end| (subnets, Element::end(Key::default().ip(end)))));
            elements.push((homes, Element::of(name().ip(subnet.first())).through(name().ip(subnet.last()))));
        }
        elements
    }
}

impl Guard {
    fn elements(&self) -> Vec<(Set, Element)> {
        let port = || Key::default().interface(&self.port);
        let source = |address| Element::of(port().mac(self.mac).ip(address));
        let mut elements = vec![
            (Set::Ports, Element::of(port())),
            (Set::Macs, Element::of(port().mac(self.mac))),
            (Set::Mirrors, Element::of(port().interface(&self.port))),
        ];
        for address in &self.addresses {
            let set = if address.is_ipv4() { Set::Sources4 } else { Set::Sources6 };
            elements.push((set, source(*address)));
        }
        if self.addresses.iter().any(IpAddr::is_ipv6) {
            elements.push((Set::Sources6, source(link_local(self.mac).into())));
            // Without an address yet, as in duplicate detection; a rule says of what.
            elements.push((Set::Sources6, source(Ipv6Addr::UNSPECIFIED.into())));
        }
        elements
    }
}

/// The link-local address that is made of a MAC address (RFC 4291, appendix A).
fn link_local(mac: MacAddr) -> Ipv6Addr {
    let mut bytes = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 0];
    bytes[8..11].copy_from_slice(&mac.bytes()[..3]);
    bytes[13..].copy_from_slice(&mac.bytes()[3..]);
    bytes[8] ^= 0b10;
    bytes.into()
}

fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => Some(Ipv4Addr::from_bits(address.to_bits().checked_add(1)?).into()),
        IpAddr::V6(address) => Some(Ipv6Addr::from_bits(address.to_bits().checked_add(1)?).into()),
    }
}

fn in_order(range: PortRange) -> impl Iterator<Item = Port> {
    let numbers = range.first().number()..=range.last().number();
    numbers.filter_map(|number| Port::try_from(u32::from(number)).ok())
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bridge(bridge) => write!(f, "bridge {}", bridge.name),
            Self::Guard(guard) => write!(f, "guard of port {}", guard.port),
            Self::Publication(publication) => publication.fmt(f),
            Self::ClosedToStrangers(family) => write!(f, "refusal to forward {family} for others"),
        }
    }
}

impl fmt::Display for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "published port {} of {}", self.port, self.to)
    }
}

#[cfg(test)]
mod tests {
    use netloft_types::PublishSpec;

    use super::*;
    use crate::set::{describe, fields_len};

    #[test]
    fn every_element_fits_its_set() {
        for fact in facts() {
            for (set, element) in fact.elements() {
                let spec = set.spec();
                assert_eq!(element.key.len(), fields_len(spec.key), "{set:?}");
                assert_eq!(element.data.len(), fields_len(spec.data), "{set:?}");
                assert!([0, element.key.len()].contains(&element.last_key.len()), "{set:?}");
            }
        }
    }

    #[test]
    fn a_range_of_equal_numbers_is_one_element_and_a_shifted_one_is_one_each() {
        let count = |port: &str| publication(port, "10.89.0.2").elements().len();
        assert_eq!(
            (count("80"), count("8080:80"), count("1-65535"), count("8000-8009:9000-9009")),
            (1, 1, 1, 10)
        );
    }

    #[test]
    fn a_host_address_that_cannot_work_is_refused_and_an_unspecified_one_is_any() {
        let port = |text: &str| text.parse::<PublishSpec>().unwrap().try_into().unwrap();
        let (to4, to6): (IpAddr, IpAddr) = ("10.89.0.2".parse().unwrap(), "fd00:89::2".parse().unwrap());
        for (bad, to) in [("[fd00::1]:80:80", to4), ("127.0.0.1:80:80", to6), ("[::1]:80:80", to6)] {
            assert_eq!(Publication::new(port(bad), to).unwrap_err().field(), "published port", "{bad}");
        }
        let any = Publication::new(port("0.0.0.0:80:80"), to4).unwrap();
        assert_eq!(any, Publication::new(port("80:80"), to4).unwrap());
    }

    #[test]
    fn a_guard_without_ipv6_addresses_lets_no_ipv6_through() {
        let guard = |addresses: &[&str]| Guard {
            port: "nl0".parse().unwrap(),
            mac: "02:42:0a:00:00:02".parse().unwrap(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        };
        let sources6 = |guard: Guard| {
            let elements = guard.elements().into_iter().filter(|(set, _)| *set == Set::Sources6);
            elements.map(|(set, element)| describe(set.spec().key, &element.key)).collect::<Vec<_>>()
        };
        assert!(sources6(guard(&["10.89.0.2"])).is_empty());
        let expected = ["fd00::2", "fe80::42:aff:fe00:2", "::"];
        let expected = expected.map(|address| format!("nl0 . 02:42:0a:00:00:02 . {address}"));
        assert_eq!(sources6(guard(&["fd00::2"])), expected);
    }

    #[test]
    fn the_last_subnet_of_all_has_no_end() {
        let bridge = |subnet: &str| Bridge {
            name: "nl-blue".parse().unwrap(),
            subnets: vec![subnet.parse().unwrap()],
            egress: false,
            host_access: false,
        };
        let ends = |bridge: Bridge| bridge.elements().iter().filter(|(_, element)| !element.begins).count();
        assert_eq!((ends(bridge("10.89.0.0/24")), ends(bridge("255.255.255.0/24"))), (1, 0));
    }

    fn facts() -> Vec<Fact> {
        let publications = ["80", "80-89", "8000-8001:9000-9001"].map(|port| publication(port, "10.89.0.2"));
        let at = ["[fd00::1]:80:80", "[fd00::1]:80-89:80-89/udp"].map(|port| publication(port, "fd00:89::2"));
        let mut facts: Vec<_> = publications.into_iter().chain(at).map(Fact::Publication).collect();
        facts.push(Fact::ClosedToStrangers(Family::V4));
        facts.push(Fact::Bridge(Bridge {
            name: "nl-blue".parse().unwrap(),
            subnets: vec!["10.89.0.0/24".parse().unwrap(), "fd00:89::/64".parse().unwrap()],
            egress: true,
            host_access: true,
        }));
        facts.push(Fact::Guard(Guard {
            port: "nl0".parse().unwrap(),
            mac: "02:42:0a:00:00:02".parse().unwrap(),
            addresses: vec!["10.89.0.2".parse().unwrap(), "fd00:89::2".parse().unwrap()],
        }));
        facts
    }

    fn publication(port: &str, to: &str) -> Publication {
        let mut spec: PublishSpec = port.parse().unwrap();
        spec.host = spec.host.or(Some(spec.ports));
        Publication::new(spec.try_into().unwrap(), to.parse().unwrap()).unwrap()
    }
}
