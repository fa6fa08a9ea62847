//! What callers ask for: bridges, links of sandboxes, their inside, their limits.

use std::net::IpAddr;

use netloft_netns::Netns;
use netloft_types::{InterfaceAddr, InterfaceName, MacAddr, Subnet};

use crate::{LinkIndex, Rate, Sysctl};

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
    /// Whether the bridge passes nothing between this port and other isolated ones: only the host is left to talk to.
    pub isolated: bool,
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

/// A macvlan link to make, in the namespace of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MacvlanSpec {
    /// The link of the host on whose network the sandbox is to be: Ethernet, up, and not a bridge's port.
    pub parent: InterfaceName,
    /// Its final name in the sandbox.
    pub name: InterfaceName,
    /// Its MAC address.
    pub mac: MacAddr,
    /// Its MTU in bytes, at most the parent's; the parent's if absent.
    pub mtu: Option<u32>,
}

/// Limits for what passes through a veth pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapeSpec {
    /// The host end of the pair.
    pub link: LinkIndex,
    /// The name of the host end.
    pub name: InterfaceName,
    /// The name of the ifb, which is made if there is a limit for what comes from the sandbox.
    pub ifb: InterfaceName,
    /// A note on the ifb, at most 255 bytes (`IFALIASZ`): marks whose it is.
    pub alias: String,
    /// The limit for what goes to the sandbox; none if absent.
    pub to_sandbox: Option<Rate>,
    /// The limit for what comes from the sandbox; none if absent.
    pub from_sandbox: Option<Rate>,
}

/// How an interface inside a sandbox is to be configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InsideSpec {
    /// The interface, as [`Veth::peer`] or [`Conn::create_macvlan`](crate::Conn::create_macvlan) tells it.
    pub link: LinkIndex,
    /// Its name.
    pub name: InterfaceName,
    /// Its addresses.
    pub addresses: Vec<InterfaceAddr>,
    /// Gateways of the default routes: at most one of each family.
    pub gateways: Vec<IpAddr>,
    /// The metric of the default routes: of several interfaces that have one, the lowest wins. The kernel's default,
    /// 0 for IPv4 and 1024 for IPv6, if absent.
    pub gateway_metric: Option<u32>,
    /// Further routes through the interface.
    pub routes: Vec<Route>,
    /// Whether the sandbox speaks IPv6 on the interface.
    pub ipv6: Ipv6,
    /// Further settings of the namespace. Those that would undo one of ours do not.
    pub sysctls: Vec<Sysctl>,
}

/// Whether a sandbox speaks IPv6 on an interface. The first interface of a sandbox decides for the whole namespace,
/// and for the interfaces that the sandbox makes itself; a later one for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv6 {
    /// IPv6 is switched off before the interface is up: no link-local address, hence no way around IPv4 rules
    /// (CVE-2024-32473) and no multicast chatter.
    Off,
    /// IPv6 is on; router advertisements are not accepted (CVE-2020-13401).
    On,
}

/// Whether something is switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// It is not.
    Off,
    /// It is.
    On,
}

impl Switch {
    /// As the kernel's settings spell it.
    pub(crate) const fn digit(self) -> &'static str {
        match self {
            Self::Off => "0",
            Self::On => "1",
        }
    }
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
    /// Of several routes to one destination the lowest metric wins. The kernel's default if absent.
    pub metric: Option<u32>,
}
