//! What callers ask for: bridges, veth pairs, the inside of a sandbox.

use std::fmt;
use std::net::IpAddr;

use netloft_netns::Netns;
use netloft_types::{InterfaceAddr, InterfaceName, MacAddr, Subnet};

use crate::LinkIndex;

/// A bridge to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeSpec {
    /// Its name.
    pub name: InterfaceName,
    /// Its MAC address, pinned: a bridge without one takes that of its lowest port, and changes as they come
    /// and go.
    pub mac: MacAddr,
    /// Its MTU in bytes; the kernel's 1500 if absent.
    pub mtu: Option<u32>,
    /// A note on the link, at most 255 bytes (`IFALIASZ`): marks whose it is.
    pub alias: String,
    /// The addresses of the host on it.
    pub addresses: Vec<InterfaceAddr>,
}

/// A veth pair to make: one end in a bridge of the connection's namespace, the other born in the sandbox.
#[derive(Debug, Clone)]
pub struct VethSpec {
    /// The name of the host end; unique, so that a new pair never meets the remains of an old one.
    pub host_name: InterfaceName,
    /// The MAC address of the host end; random if absent.
    pub host_mac: Option<MacAddr>,
    /// The bridge that the host end joins.
    pub bridge: LinkIndex,
    /// A note on the host end, at most 255 bytes (`IFALIASZ`): marks whose it is.
    pub alias: String,
    /// The MTU of both ends in bytes; the kernel's 1500 if absent.
    pub mtu: Option<u32>,
    /// Where the peer is born.
    pub peer_netns: Netns,
    /// The final name of the peer.
    pub peer_name: InterfaceName,
    /// The MAC address of the peer.
    pub peer_mac: MacAddr,
}

/// A veth pair that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Veth {
    /// The host end, in the namespace of the connection.
    pub host: LinkIndex,
    /// The peer, in its own namespace.
    pub peer: LinkIndex,
}

/// How an interface inside a sandbox is to be configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InsideSpec {
    /// The interface, as [`Veth::peer`] tells it.
    pub link: LinkIndex,
    /// Its name.
    pub name: InterfaceName,
    /// Its addresses.
    pub addresses: Vec<InterfaceAddr>,
    /// Gateways of the default routes: at most one of each family.
    pub gateways: Vec<IpAddr>,
    /// Further routes through the interface.
    pub routes: Vec<Route>,
    /// Whether the sandbox speaks IPv6.
    pub ipv6: Ipv6,
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Whether a sandbox speaks IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv6 {
    /// IPv6 is switched off in the whole namespace before the interface is up: no link-local address, hence
    /// no way around IPv4 rules (CVE-2024-32473) and no multicast chatter.
    Off,
    /// IPv6 is on; router advertisements are not accepted (CVE-2020-13401).
    On,
}

/// A route of the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where it leads; a prefix of length 0 is the default route.
    pub destination: Subnet,
    /// The next hop; absent if the destination is on-link.
    pub gateway: Option<IpAddr>,
    /// The link it leaves by. Absent for routes that have none, such as `unreachable`; ignored in an
    /// [`InsideSpec`], whose routes all leave by its own link.
    pub link: Option<LinkIndex>,
}
