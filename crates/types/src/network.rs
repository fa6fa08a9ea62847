//! Networks that are wanted: their driver, their subnets.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::limits::READY_COUNT_MAX;
use crate::{InterfaceName, Invalid, NetworkName, Subnet};

/// A network that is wanted.
///
/// ```
/// use netloft_types::{NetworkSpec, Segment};
///
/// let spec = NetworkSpec {
///     segments: vec![Segment::new("10.89.0.0/24".parse()?)?, Segment::new("fd00:89::/64".parse()?)?],
///     ..NetworkSpec::new("blue".parse()?)
/// };
/// assert_eq!(spec.segments[0].gateway().to_string(), "10.89.0.1");
/// # Ok::<(), netloft_types::Invalid>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Unique on the host.
    pub name: NetworkName,
    /// What it is made of.
    pub driver: DriverSpec,
    /// Its subnets, at most one of each family. If there are none, one IPv4 /24 is carved from the default
    /// pools of the host.
    pub segments: Vec<Segment>,
    /// Whether it gets an IPv6 subnet if none is among `segments`: a /64 of the host's unique local prefix (RFC 4193).
    pub ipv6: bool,
    /// The largest packet its links carry; that of the link by which the host's default route leaves if absent.
    pub mtu: Option<Mtu>,
    /// Whether what its sandboxes send stays on this host.
    pub internal: bool,
    /// Whether its sandboxes may connect to services of the host itself.
    pub host_access: bool,
    /// How many endpoints are kept ready for sandboxes that ask for nothing in particular. Only a bridge has any.
    pub ready: ReadyCount,
}

impl NetworkSpec {
    /// A network of which nothing but the name is chosen: a bridge, with a way out, closed towards the host, with nothing
    /// kept ready.
    pub fn new(name: NetworkName) -> Self {
        Self {
            name,
            driver: DriverSpec::default(),
            segments: Vec::new(),
            ipv6: false,
            mtu: None,
            internal: false,
            host_access: false,
            ready: ReadyCount::NONE,
        }
    }
}

/// What a network is to be made of.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DriverSpec {
    /// A bridge of its own on the host, with a veth pair for each endpoint.
    Bridge {
        /// The name of the bridge; derived from the name of the network if absent.
        bridge: Option<InterfaceName>,
    },
    /// Links that share a link of the host, so that sandboxes are neighbours of the machines on it.
    Macvlan {
        /// The link of the host.
        parent: InterfaceName,
    },
}

impl Default for DriverSpec {
    fn default() -> Self {
        Self::Bridge { bridge: None }
    }
}

/// A subnet of a network together with the gateway in it: the address of the network's bridge.
///
/// The gateway is one of the subnet's addresses for hosts: in IPv4 neither the first nor the last (RFC 1122,
/// section 3.2.1.3), in IPv6 not the first (RFC 4291, section 2.6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "UncheckedSegment"))]
pub struct Segment {
    subnet: Subnet,
    gateway: IpAddr,
}

#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
struct UncheckedSegment {
    subnet: Subnet,
    gateway: IpAddr,
}

#[cfg(feature = "serde")]
impl TryFrom<UncheckedSegment> for Segment {
    type Error = Invalid;

    fn try_from(unchecked: UncheckedSegment) -> Result<Self, Self::Error> {
        Self::with_gateway(unchecked.subnet, unchecked.gateway)
    }
}

impl Segment {
    /// A subnet whose gateway is its first address for hosts.
    ///
    /// # Errors
    ///
    /// If the subnet is too small to hold a gateway and one endpoint, or lies where no host may have an
    /// address: loopback, link-local, multicast, reserved.
    pub fn new(subnet: Subnet) -> Result<Self, Invalid> {
        Self::with_gateway(subnet, next(subnet.first()))
    }

    /// A subnet whose gateway is chosen.
    ///
    /// # Errors
    ///
    /// As [`Segment::new`], and if the gateway is not one of the subnet's addresses for hosts.
    pub fn with_gateway(subnet: Subnet, gateway: IpAddr) -> Result<Self, Invalid> {
        let smallest = if subnet.is_ipv4() { 30 } else { 126 };
        if subnet.prefix_len() > smallest {
            let rule =
                format!("prefix length must be at most {smallest} to leave room for a gateway and endpoints");
            return Err(Invalid::new("subnet", subnet, rule));
        }
        if let Some(kind) = unusable(subnet) {
            let rule = format!("overlaps the {kind} addresses, which no host can use");
            return Err(Invalid::new("subnet", subnet, rule));
        }
        let is_broadcast = subnet.is_ipv4() && gateway == subnet.last();
        if !subnet.contains(gateway) || gateway == subnet.first() || is_broadcast {
            let rule = format!("must be one of the addresses for hosts in {subnet}");
            return Err(Invalid::new("gateway", gateway, rule));
        }
        Ok(Self { subnet, gateway })
    }

    /// Makes a segment of each subnet, with the gateway among `gateways` that lies in it, or else the first
    /// address for hosts.
    ///
    /// # Errors
    ///
    /// As [`Segment::with_gateway`], and if a gateway lies in none of the subnets.
    pub fn pair(subnets: Vec<Subnet>, mut gateways: Vec<IpAddr>) -> Result<Vec<Self>, Invalid> {
        let mut segments = Vec::with_capacity(subnets.len());
        for subnet in subnets {
            let chosen = gateways.iter().position(|gateway| subnet.contains(*gateway));
            segments.push(match chosen {
                Some(index) => Self::with_gateway(subnet, gateways.swap_remove(index))?,
                None => Self::new(subnet)?,
            });
        }
        match gateways.first() {
            None => Ok(segments),
            Some(stray) => Err(Invalid::new(
                "gateway",
                stray,
                "must lie in a subnet of the network; each subnet has one",
            )),
        }
    }

    /// The subnet.
    pub fn subnet(&self) -> Subnet {
        self.subnet
    }

    /// The address of the network's bridge in it.
    pub fn gateway(&self) -> IpAddr {
        self.gateway
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} via {}", self.subnet, self.gateway)
    }
}

fn next(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() | 1).into(),
        IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() | 1).into(),
    }
}

/// Where no host may have an address (RFC 6890).
const UNUSABLE: [(&str, IpAddr, u8); 7] = [
    ("\"this network\"", IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8),
    ("loopback", IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
    ("link-local", IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    ("multicast or reserved", IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 3),
    ("loopback or reserved", IpAddr::V6(Ipv6Addr::UNSPECIFIED), 8),
    ("link-local", IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
    ("multicast", IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8),
];

fn unusable(subnet: Subnet) -> Option<&'static str> {
    let overlaps =
        |first, prefix_len| Subnet::new(first, prefix_len).is_ok_and(|range| range.overlaps(&subnet));
    UNUSABLE.iter().find(|(_, first, prefix_len)| overlaps(*first, *prefix_len)).map(|(kind, ..)| *kind)
}

/// The largest packet a link carries, in bytes: 1280 to 65535.
///
/// Below 1280 the kernel switches IPv6 off on the link without a word (RFC 8200, section 5); above 65535 it
/// refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "u32", try_from = "u32"))]
pub struct Mtu(u32);

const MTU_RULE: &str = "must be a number of bytes from 1280 to 65535";

impl Mtu {
    /// The number of bytes.
    pub const fn bytes(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Mtu {
    type Error = Invalid;

    fn try_from(bytes: u32) -> Result<Self, Self::Error> {
        if (1280..=65_535).contains(&bytes) {
            Ok(Self(bytes))
        } else {
            Err(Invalid::new("MTU", bytes, MTU_RULE))
        }
    }
}

impl From<Mtu> for u32 {
    fn from(mtu: Mtu) -> Self {
        mtu.bytes()
    }
}

impl FromStr for Mtu {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || Invalid::new("MTU", text, MTU_RULE);
        let bytes: u32 = text.parse().map_err(|_| refused())?;
        Self::try_from(bytes)
    }
}

impl fmt::Display for Mtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// How many endpoints of a network are kept ready, made before anybody asks for them: 0 to 1,000. None by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "u32", try_from = "u32"))]
pub struct ReadyCount(u32);

impl ReadyCount {
    /// None: whatever is asked for is made on the spot.
    pub const NONE: Self = Self(0);

    /// The number of endpoints.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for ReadyCount {
    type Error = Invalid;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        if number <= READY_COUNT_MAX { Ok(Self(number)) } else { Err(invalid_ready_count(number)) }
    }
}

impl From<ReadyCount> for u32 {
    fn from(count: ReadyCount) -> Self {
        count.number()
    }
}

impl FromStr for ReadyCount {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number: u32 = text.parse().map_err(|_| invalid_ready_count(text))?;
        Self::try_from(number)
    }
}

impl fmt::Display for ReadyCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

fn invalid_ready_count(value: impl fmt::Display) -> Invalid {
    Invalid::new("ready", value, format!("must be a number of endpoints from 0 to {READY_COUNT_MAX}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_is_the_first_address_for_hosts_unless_chosen() {
        let segment = |text: &str| Segment::new(text.parse().unwrap()).unwrap();
        assert_eq!(segment("10.89.0.0/24").gateway(), "10.89.0.1".parse::<IpAddr>().unwrap());
        assert_eq!(segment("fd00:89::/64").gateway(), "fd00:89::1".parse::<IpAddr>().unwrap());
        let chosen = with_gateway("10.89.0.0/24", "10.89.0.254").unwrap();
        assert_eq!(chosen.to_string(), "10.89.0.0/24 via 10.89.0.254");
    }

    #[test]
    fn a_gateway_that_is_no_host_of_the_subnet_is_refused() {
        for (subnet, gateway) in [
            ("10.89.0.0/24", "10.89.1.1"),
            ("10.89.0.0/24", "10.89.0.0"),
            ("10.89.0.0/24", "10.89.0.255"),
            ("10.89.0.0/24", "fd00::1"),
            ("fd00:89::/64", "fd00:89::"),
        ] {
            let error = with_gateway(subnet, gateway).unwrap_err();
            assert_eq!(error.field(), "gateway", "{subnet} {gateway}");
        }
    }

    #[test]
    fn gateways_find_their_subnets() {
        let subnets = || vec!["10.89.0.0/24".parse().unwrap(), "fd00:89::/64".parse().unwrap()];
        let segments = Segment::pair(subnets(), vec!["fd00:89::9".parse().unwrap()]).unwrap();
        assert_eq!(segments[0].gateway(), "10.89.0.1".parse::<IpAddr>().unwrap());
        assert_eq!(segments[1].gateway(), "fd00:89::9".parse::<IpAddr>().unwrap());
        let stray = Segment::pair(subnets(), vec!["10.90.0.1".parse().unwrap()]).unwrap_err();
        assert_eq!(stray.field(), "gateway");
    }

    #[test]
    fn a_subnet_where_no_endpoint_can_live_is_refused() {
        for bad in [
            "10.0.0.0/31",
            "fd00::/127",
            "0.0.0.0/0",
            "127.5.0.0/24",
            "169.254.9.0/24",
            "239.0.0.0/24",
            "::/64",
            "fe80::/64",
            "ff02::/64",
        ] {
            let error = Segment::new(bad.parse().unwrap()).unwrap_err();
            assert_eq!(error.field(), "subnet", "{bad}");
        }
    }

    #[test]
    fn an_mtu_that_would_switch_ipv6_off_is_refused() {
        assert_eq!("1280".parse::<Mtu>().unwrap().bytes(), 1280);
        for bad in ["1279", "65536", "", "-1", "9k"] {
            assert!(bad.parse::<Mtu>().is_err(), "{bad}");
        }
    }

    #[test]
    fn more_is_not_kept_ready_than_a_bridge_can_have() {
        assert_eq!("1000".parse::<ReadyCount>().unwrap().number(), 1_000);
        assert_eq!("0".parse::<ReadyCount>().unwrap(), ReadyCount::NONE);
        for bad in ["1001", "-1", "", "many"] {
            assert_eq!(bad.parse::<ReadyCount>().unwrap_err().field(), "ready", "{bad}");
        }
    }

    fn with_gateway(subnet: &str, gateway: &str) -> Result<Segment, Invalid> {
        Segment::with_gateway(subnet.parse().unwrap(), gateway.parse().unwrap())
    }
}
