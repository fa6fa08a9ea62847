//! What the kernel has: its links, addresses and routes, in our vocabulary.

use std::net::IpAddr;

use netloft_types::{InterfaceAddr, MacAddr, Subnet};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::{LinkGroup, LinkIndex, Route};

/// A link as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: LinkIndex,
    /// Its name, as text: links of others need not follow our rules.
    pub name: String,
    /// What it is.
    pub kind: LinkKind,
    /// Its Ethernet address, if it has one.
    pub mac: Option<MacAddr>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it is administratively up (`IFF_UP`).
    pub is_up: bool,
    /// The bridge it is a port of.
    pub master: Option<LinkIndex>,
    /// The index of its peer, for a veth; in the namespace of the peer.
    pub peer: Option<LinkIndex>,
    /// The namespace of its peer, for a veth; absent if that is its own, or out of reach.
    pub peer_netns: Option<NetnsNumber>,
    /// The note on it.
    pub alias: Option<String>,
    /// Its group; absent if it is in the default group.
    pub group: Option<LinkGroup>,
}

/// The kernel's number for a namespace, as seen from another one: the same namespace has other numbers elsewhere.
/// [`Conn::number_of`](crate::Conn::number_of) tells that of a namespace at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetnsNumber(u32);

/// What a link is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkKind {
    /// A bridge.
    Bridge,
    /// One end of a veth pair.
    Veth,
    /// A macvlan link.
    Macvlan,
    /// What packets on their way in are led through, to be limited.
    Ifb,
    /// A kind we do not make, by the kernel's name for it.
    Other(String),
    /// No kind: the loopback interface and hardware.
    Unknown,
}

/// A link address that a bridge knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwardingEntry {
    /// The address.
    pub mac: MacAddr,
    /// The port behind which it is; the bridge itself for its own addresses.
    pub port: LinkIndex,
    /// How the bridge knows it.
    pub origin: Origin,
}

/// How a bridge knows a link address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// It is the bridge's own or that of a port: frames to it are for the host.
    Own,
    /// It was set.
    Set,
    /// It was learned from a frame.
    Learned,
}

/// An address as the kernel has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The link that holds it.
    pub link: LinkIndex,
    /// The address and its prefix.
    pub address: InterfaceAddr,
}

impl Link {
    /// Reads a link from a message of the kernel; `None` if it has no index or name, which no link lacks.
    pub(crate) fn from_message(message: &LinkMessage) -> Option<Self> {
        let mut link = Self {
            index: LinkIndex::from_number(message.header.index)?,
            name: String::new(),
            kind: LinkKind::Unknown,
            mac: None,
            mtu: 0,
            is_up: message.header.flags.contains(LinkFlags::Up),
            master: None,
            peer: None,
            peer_netns: None,
            alias: None,
            group: None,
        };
        let (mut lower, mut lower_netns) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::LinkInfo(infos) => link.kind = LinkKind::from_infos(infos),
                LinkAttribute::Address(bytes) => link.mac = mac(bytes),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Controller(index) => link.master = LinkIndex::from_number(*index),
                LinkAttribute::Link(index) => lower = LinkIndex::from_number(*index),
                LinkAttribute::LinkNetNsId(number) => lower_netns = netns_number(*number),
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
                LinkAttribute::Group(group) => {
                    link.group = (*group).try_into().ok().map(LinkGroup::new);
                }
                _ => {}
            }
        }
        if link.kind == LinkKind::Veth {
            (link.peer, link.peer_netns) = (lower, lower_netns);
        }
        (!link.name.is_empty()).then_some(link)
    }
}

impl LinkKind {
    fn from_infos(infos: &[LinkInfo]) -> Self {
        let kind = infos.iter().find_map(|info| match info {
            LinkInfo::Kind(kind) => Some(kind),
            _ => None,
        });
        match kind {
            None => Self::Unknown,
            Some(InfoKind::Bridge) => Self::Bridge,
            Some(InfoKind::Veth) => Self::Veth,
            Some(InfoKind::MacVlan) => Self::Macvlan,
            Some(InfoKind::Ifb) => Self::Ifb,
            Some(other) => Self::Other(other.to_string()),
        }
    }
}

/// The MAC address of an Ethernet link. The loopback interface says it has one, of six zeros.
fn mac(bytes: &[u8]) -> Option<MacAddr> {
    <[u8; 6]>::try_from(bytes).ok()?.try_into().ok()
}

impl Address {
    /// Reads an address from a message of the kernel; `None` if it is of a family we do not know.
    pub(crate) fn from_message(message: &AddressMessage) -> Option<Self> {
        let (mut local, mut address) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(ip) => local = Some(*ip),
                AddressAttribute::Address(ip) => address = Some(*ip),
                _ => {}
            }
        }
        // On a point-to-point link IFA_ADDRESS is the other side; IPv6 sends no IFA_LOCAL otherwise.
        let ip = local.or(address)?;
        Some(Self {
            link: LinkIndex::from_number(message.header.index)?,
            address: InterfaceAddr::new(ip, message.header.prefix_len).ok()?,
        })
    }
}

impl Route {
    /// Reads a route from a message of the kernel; `None` unless it is a unicast route of the main table.
    pub(crate) fn from_message(message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        if header.table != RouteHeader::RT_TABLE_MAIN || header.kind != RouteType::Unicast {
            return None;
        }
        let mut first = match header.address_family {
            AddressFamily::Inet => IpAddr::from([0; 4]),
            AddressFamily::Inet6 => IpAddr::from([0; 16]),
            _ => return None,
        };
        let (mut link, mut metric) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(address) => first = ip(address)?,
                RouteAttribute::Oif(index) => link = LinkIndex::from_number(*index),
                RouteAttribute::Priority(number) => metric = Some(*number),
                _ => {}
            }
        }
        let destination = Subnet::new(first, header.destination_prefix_length).ok()?;
        Some(Self { destination, gateway: gateway(message), link, metric })
    }
}

/// Whether it is a default route of the main table.
pub(crate) fn is_default(message: &RouteMessage) -> bool {
    Route::from_message(message).is_some_and(|route| route.destination.prefix_len() == 0)
}

/// The next hop of a route that has one.
pub(crate) fn gateway(message: &RouteMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        _ => None,
    })
}

/// The links by which a route leaves: that of each next hop.
pub(crate) fn exits(message: &RouteMessage) -> Vec<LinkIndex> {
    let numbers = message.attributes.iter().flat_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => vec![*index],
        RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
        _ => Vec::new(),
    });
    numbers.filter_map(LinkIndex::from_number).collect()
}

impl ForwardingEntry {
    /// Reads an entry from a message of the kernel; `None` if it is not of a bridge.
    pub(crate) fn from_message(message: &NeighbourMessage) -> Option<Self> {
        let header = &message.header;
        let mac = message.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => mac(bytes),
            _ => None,
        });
        let origin = match header.state {
            NeighbourState::Permanent => Origin::Own,
            NeighbourState::Noarp => Origin::Set,
            _ => Origin::Learned,
        };
        (header.family == AddressFamily::Bridge).then_some(Self {
            mac: mac?,
            port: LinkIndex::from_number(header.ifindex)?,
            origin,
        })
    }
}

/// Reads the number of a namespace; `None` if it has none, which is said with a negative one.
pub(crate) fn netns_number(number: i32) -> Option<NetnsNumber> {
    number.try_into().ok().map(NetnsNumber)
}

/// Reads a link from a message that may be of something else.
pub(crate) fn read_link(message: &RouteNetlinkMessage) -> Option<Link> {
    match message {
        RouteNetlinkMessage::NewLink(link) => Link::from_message(link),
        _ => None,
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}
