//! What exists on a host: networks and endpoints.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;

use crate::name::through_text;
use crate::{
    Dns, EndpointId, InstanceId, InterfaceName, Invalid, MacAddr, Mtu, NetworkName, PublishedPort,
    ReadyCount, SandboxName, Segment,
};

/// A network of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Network {
    /// Its name.
    pub name: NetworkName,
    /// What it is made of.
    pub driver: Driver,
    /// Its subnets, each with its gateway.
    pub segments: Vec<Segment>,
    /// The largest packet its links carry; the kernel's 1500 bytes if absent.
    pub mtu: Option<Mtu>,
    /// Whether what its sandboxes send stays on this host.
    pub internal: bool,
    /// Whether its sandboxes may connect to services of the host itself.
    pub host_access: bool,
    /// How many of its endpoints are kept ready.
    #[cfg_attr(feature = "serde", serde(default))]
    pub ready: ReadyCount,
}

impl Network {
    /// Whether it speaks IPv6: only with an IPv6 subnet. Otherwise IPv6 is off in its sandboxes and on its bridge.
    pub fn has_ipv6(&self) -> bool {
        self.segments.iter().any(|segment| !segment.subnet().is_ipv4())
    }

    /// The name of its bridge, if it has one.
    pub fn bridge(&self) -> Option<&InterfaceName> {
        match &self.driver {
            Driver::Bridge { bridge, .. } => Some(bridge),
            Driver::Macvlan { .. } => None,
        }
    }
}

/// What a network is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Driver {
    /// A bridge of its own in the host's namespace, which has the gateways for addresses.
    Bridge {
        /// What it is called.
        bridge: InterfaceName,
        /// Its Ethernet address.
        mac: MacAddr,
    },
    /// Links that share a link of the host.
    Macvlan {
        /// The link of the host.
        parent: InterfaceName,
    },
}

/// A sandbox's attachment to a network.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// The network.
    pub network: NetworkName,
    /// The sandbox.
    pub sandbox: SandboxName,
    /// What the link is called in the sandbox.
    pub interface: InterfaceName,
    /// What the link is called on the host, `nl` and the first 12 digits of the id; none if it has no end there.
    pub host_link: Option<InterfaceName>,
    /// The Ethernet address in the sandbox.
    pub mac: MacAddr,
    /// The addresses, one of each segment of the network, in the same order.
    pub addresses: Vec<InterfaceAddr>,
    /// The next hops of the default routes; none if the sandbox does not leave by this network.
    pub gateways: Vec<IpAddr>,
    /// The ports that answer at the host.
    pub ports: Vec<PublishedPort>,
    /// What the sandbox asks for names.
    pub dns: Dns,
}

/// An endpoint and what else the host agent knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Attachment {
    /// The endpoint.
    #[cfg_attr(feature = "serde", serde(flatten))]
    pub endpoint: Endpoint,
    /// Where other processes of the host can open the sandbox's network namespace.
    pub netns: PathBuf,
    /// Where they can open the user namespace that owns it, if the agent has one of its own.
    pub userns: Option<PathBuf>,
    /// The instance of the service that the sandbox offers, if it offers one.
    pub instance: Option<InstanceId>,
    /// The process that runs in the sandbox, once it is known.
    pub pid: Option<u32>,
}

/// An address of an interface with the length of its on-link prefix, such as `10.89.0.1/24`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "String", try_from = "String"))]
pub struct InterfaceAddr {
    address: IpAddr,
    prefix_len: u8,
}

impl InterfaceAddr {
    /// Makes an interface address; the prefix length is at most 32 for IPv4 and 128 for IPv6.
    pub fn new(address: IpAddr, prefix_len: u8) -> Result<Self, Invalid> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if prefix_len <= bits {
            Ok(Self { address, prefix_len })
        } else {
            Err(Invalid::new(
                "interface address",
                format_args!("{address}/{prefix_len}"),
                "prefix length must be at most 32 for IPv4 and 128 for IPv6",
            ))
        }
    }

    /// The address.
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// The length of the on-link prefix in bits.
    pub const fn prefix_len(self) -> u8 {
        self.prefix_len
    }

    /// The broadcast address: IPv4 only, and not in prefixes of two addresses (RFC 3021) or one.
    pub fn broadcast(self) -> Option<Ipv4Addr> {
        match self.address {
            IpAddr::V4(address) if self.prefix_len < 31 => {
                let host_bits = u32::MAX >> self.prefix_len;
                Some(Ipv4Addr::from_bits(address.to_bits() | host_bits))
            }
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        }
    }
}

impl FromStr for InterfaceAddr {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || {
            let rule = "must be an address, '/' and a prefix length, as in 10.89.0.1/24";
            Invalid::new("interface address", text, rule)
        };
        let (address, prefix_len) = text.split_once('/').ok_or_else(malformed)?;
        Self::new(address.parse().map_err(|_| malformed())?, prefix_len.parse().map_err(|_| malformed())?)
    }
}

through_text!(InterfaceAddr);

impl fmt::Display for InterfaceAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

impl fmt::Debug for InterfaceAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_address_keeps_its_host_bits_and_refuses_long_prefixes() {
        for good in ["10.89.0.1/24", "10.0.0.0/32", "fd00:89::1/64", "0.0.0.0/0"] {
            assert_eq!(good.parse::<InterfaceAddr>().unwrap().to_string(), good);
        }
        for bad in ["10.89.0.1", "10.89.0.1/33", "fd00::1/129", "/24", "a/24", "10.0.0.1/-1"] {
            assert!(bad.parse::<InterfaceAddr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn broadcast_is_the_last_address_and_only_of_ipv4_prefixes_that_have_one() {
        let broadcast = |text: &str| text.parse::<InterfaceAddr>().unwrap().broadcast();
        assert_eq!(broadcast("10.89.0.1/24"), Some([10, 89, 0, 255].into()));
        assert_eq!(broadcast("10.89.0.1/0"), Some([255; 4].into()));
        for without in ["10.89.0.1/31", "10.89.0.1/32", "fd00::1/64"] {
            assert_eq!(broadcast(without), None, "{without}");
        }
    }
}
