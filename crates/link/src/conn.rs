//! The connection: operations named by intent over one netlink socket.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use netloft_netns::{Enterer, Netns};
use netloft_types::{InterfaceAddr, InterfaceName};
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, BridgeStpState, In6AddrGenMode, InfoData, InfoVeth, LinkAttribute, LinkMessage,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth};

use crate::request::Request;
use crate::session::Session;
use crate::wire::RouteSocket;
use crate::{Address, BridgeSpec, Error, Ipv6, Link, LinkGroup, LinkIndex, Route, Veth, VethSpec, sysctl};

/// A netlink connection to a namespace. Blocking; the kernel answers at once.
pub struct Conn {
    netns: Netns,
    pub(crate) session: Session<RouteSocket>,
    /// What we know of IPv6 in the namespace as a whole; `None` in one that somebody else made.
    pub(crate) ipv6: Option<Ipv6>,
}

impl Conn {
    /// Opens a connection that acts in `netns`, whichever thread uses it.
    pub fn open(enterer: &Enterer, netns: &Netns) -> Result<Self, Error> {
        let socket = enterer
            .run(netns, RouteSocket::open)
            .map_err(|source| Error::Enter { source })?
            .map_err(|source| Error::Open { netns: netns.id(), source })?;
        Ok(Self { netns: netns.clone(), session: Session::new(socket), ipv6: None })
    }

    /// Makes the namespace of a sandbox and opens a connection that acts in it, in one visit.
    ///
    /// IPv6 is off in it until [`Conn::configure_inside`] is asked for it: whoever makes sandboxes ahead of need does
    /// not know yet which of them will speak it.
    pub fn create_sandbox(enterer: &Enterer) -> Result<Self, Error> {
        let prepare = || sysctl::disable_ipv6().map(|()| RouteSocket::open());
        let made = enterer.create_with(prepare);
        let (netns, prepared) = made.map_err(|source| Error::CreateSandbox { source })?;
        let socket = prepared?.map_err(|source| Error::Open { netns: netns.id(), source })?;
        Ok(Self { netns, session: Session::new(socket), ipv6: Some(Ipv6::Off) })
    }

    /// The namespace in which it acts.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Makes a bridge and brings it up, in two datagrams.
    ///
    /// Its MAC address is pinned. It speaks no spanning tree and has no forward delay, because nothing else
    /// is plugged into it; it does not snoop multicast, because without a querier that only costs memory.
    /// Its IPv6 addresses skip duplicate detection. If it has none, IPv6 is off on it; in any case the host
    /// takes no routes from what is plugged in (CVE-2020-13401 names the attack).
    ///
    /// # Errors
    ///
    /// `is_exists()` if the name is taken. Whatever fails, no bridge is left behind.
    pub fn create_bridge(&mut self, spec: &BridgeSpec) -> Result<LinkIndex, Error> {
        let mut builder = LinkMessageBuilder::<LinkBridge>::new(spec.name.as_str())
            .address(spec.mac.bytes().to_vec())
            .stp_state(BridgeStpState::Disabled)
            .forward_delay(0)
            .mcast_snooping(false);
        if let Some(mtu) = spec.mtu {
            builder = builder.mtu(mtu);
        }
        let made = self.create_link("create bridge", &spec.name, builder.build())?;
        self.finish_bridge(spec, made.index).map_err(|error| self.undo(&spec.name, error))?;
        Ok(made.index)
    }

    /// Makes a veth pair in place, in two datagrams: nothing is moved or renamed.
    ///
    /// The host end is up and in its bridge; the peer is down, because the kernel refuses to raise it before
    /// its other end exists ([`Conn::configure_inside`] does). Both ends have one queue: to make the kernel count
    /// them is to wait for it (an RCU grace period). The host end makes no IPv6 address for itself, since a
    /// bridge port never uses one but would announce it to everyone.
    ///
    /// # Errors
    ///
    /// `is_exists()` if either name is taken; `is_bridge_full()` if the bridge has 1,023 ports. Whatever
    /// fails, no pair is left behind.
    pub fn create_veth(&mut self, spec: &VethSpec) -> Result<Veth, Error> {
        let made = self.create_link("create veth pair", &spec.host_name, veth_message(spec))?;
        let pair = made.peer.map(|peer| Veth { host: made.index, peer });
        let marked = LinkUnspec::new_with_index(made.index.number())
            .alias(&spec.alias)
            .append_extra_attribute(no_link_local_address())
            .build();
        // Not in the message that creates the link: the kernel takes both attributes only of links that exist.
        let mark = Request::set_link("mark", spec.host_name.as_str(), marked);
        self.session
            .batch(vec![mark])
            .and_then(|_| pair.ok_or_else(|| vanished(&spec.host_name)))
            .map_err(|error| self.undo(&spec.host_name, error))
    }

    /// Deletes a link; that there is none is success.
    ///
    /// The caller waits some 20 ms for the kernel (an RCU barrier). For what can wait, see [`Conn::cut`].
    pub fn delete_link(&mut self, name: &InterfaceName) -> Result<(), Error> {
        let link = LinkUnspec::new_with_name(name.as_str()).build();
        let request = Request::delete_links("delete link", name.as_str(), link);
        accept_absence(self.session.batch(vec![request]))
    }

    /// Cuts off a link, in one message: down, out of its bridge, in group `corpses`. That there is none is
    /// success.
    ///
    /// No packet passes any more. The remains are for [`Conn::reap`], also by another process later: the
    /// group marks them.
    pub fn cut(&mut self, name: &InterfaceName, corpses: LinkGroup) -> Result<(), Error> {
        let link = LinkUnspec::new_with_name(name.as_str())
            .down()
            .nocontroller()
            .link_group(corpses.number())
            .build();
        let request = Request::set_link("cut off", name.as_str(), link);
        accept_absence(self.session.batch(vec![request]))
    }

    /// Deletes every link of a group in one act, so that all wait once. That there are none is success.
    pub fn reap(&mut self, corpses: LinkGroup) -> Result<(), Error> {
        let number = corpses.number();
        let link = LinkMessageBuilder::<LinkUnspec>::new().link_group(number).build();
        let object = format!("group {number}");
        let request = Request::delete_links("delete links of", &object, link);
        accept_absence(self.session.batch(vec![request]))
    }

    /// All links of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let messages = self.session.dump(&Request::list_links())?;
        Ok(messages.iter().filter_map(read_link).collect())
    }

    /// The link of a name; `None` if there is none.
    pub fn link(&mut self, name: &InterfaceName) -> Result<Option<Link>, Error> {
        match self.session.batch(vec![Request::get_link("read link", name.as_str())]) {
            Ok(messages) => Ok(messages.iter().find_map(read_link)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All addresses of the namespace.
    pub fn addresses(&mut self) -> Result<Vec<Address>, Error> {
        let messages = self.session.dump(&Request::list_addresses())?;
        let read = |message: &_| match message {
            RouteNetlinkMessage::NewAddress(address) => Address::from_message(address),
            _ => None,
        };
        Ok(messages.iter().filter_map(read).collect())
    }

    /// The unicast routes of the main table, IPv4 first. Of a route with several next hops the destination
    /// is told, not the hops.
    pub fn routes(&mut self) -> Result<Vec<Route>, Error> {
        let mut messages = self.session.dump(&Request::list_routes(AddressFamily::Inet))?;
        messages.extend(self.session.dump(&Request::list_routes(AddressFamily::Inet6))?);
        let read = |message: &_| match message {
            RouteNetlinkMessage::NewRoute(route) => Route::from_message(route),
            _ => None,
        };
        Ok(messages.iter().filter_map(read).collect())
    }

    /// Creates a link and reads it back, in one datagram.
    fn create_link(
        &mut self,
        operation: &'static str,
        name: &InterfaceName,
        link: LinkMessage,
    ) -> Result<Link, Error> {
        // Whatever is to be set on the new link goes into a second datagram, by index: the kernel goes on
        // after a refusal, and what is set by name would then hit the link that had the name before.
        let create = Request::create_link(operation, name.as_str(), link);
        let read = Request::get_link("read link", name.as_str());
        let answers = self.session.batch(vec![create, read])?;
        answers.iter().find_map(read_link).ok_or_else(|| vanished(name))
    }

    fn finish_bridge(&mut self, spec: &BridgeSpec, index: LinkIndex) -> Result<(), Error> {
        self.shield_host(spec)?;
        let name = spec.name.as_str();
        let up = LinkUnspec::new_with_index(index.number()).alias(&spec.alias).up().build();
        let mut requests = vec![Request::set_link("set up", name, up)];
        let addresses = spec.addresses.iter();
        requests.extend(addresses.map(|address| add_address(*address, index, name)));
        self.session.batch(requests)?;
        Ok(())
    }

    /// Keeps the host from being configured by what is plugged into its bridge.
    fn shield_host(&self, spec: &BridgeSpec) -> Result<(), Error> {
        let speaks_ipv6 = spec.addresses.iter().any(|it| it.address().is_ipv6());
        let shield = || {
            if speaks_ipv6 {
                sysctl::refuse_router_advertisements(spec.name.as_str())
            } else {
                sysctl::disable_ipv6_on(spec.name.as_str())
            }
        };
        self.netns.run(shield).map_err(|source| Error::Enter { source })?
    }

    /// Deletes what a failed operation made, and gives back its error.
    fn undo(&mut self, name: &InterfaceName, error: Error) -> Error {
        if let Err(left) = self.delete_link(name) {
            tracing::warn!(link = %name, error = %left, "left behind a link that could not be finished");
        }
        error
    }
}

/// Adds an address to a link; an IPv6 one without duplicate detection.
pub(crate) fn add_address(address: InterfaceAddr, link: LinkIndex, name: &str) -> Request {
    let ip = address.address();
    let mut message = AddressMessage::default();
    message.header.prefix_len = address.prefix_len();
    message.header.index = link.number();
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    if let Some(broadcast) = address.broadcast() {
        message.attributes.push(AddressAttribute::Broadcast(broadcast));
    }
    message.header.family = match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => {
            message.header.flags = AddressHeaderFlags::Nodad;
            AddressFamily::Inet6
        }
    };
    Request::add_address(&format!("{address} to {name}"), message)
}

fn veth_message(spec: &VethSpec) -> LinkMessage {
    let mut peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(spec.peer_name.as_str())
        .address(spec.peer_mac.bytes().to_vec())
        .setns_by_fd(spec.peer_netns.as_fd().as_raw_fd());
    let mut host = LinkMessageBuilder::<LinkVeth>::new(spec.host_name.as_str(), "")
        .controller(spec.bridge.number())
        .up();
    if let Some(mac) = spec.host_mac {
        host = host.address(mac.bytes().to_vec());
    }
    if let Some(mtu) = spec.mtu {
        host = host.mtu(mtu);
        peer = peer.mtu(mtu);
    }
    for queues in [LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)] {
        host = host.append_extra_attribute(queues.clone());
        peer = peer.append_extra_attribute(queues);
    }
    host.set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build()))).build()
}

fn no_link_local_address() -> LinkAttribute {
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])])
}

fn read_link(message: &RouteNetlinkMessage) -> Option<Link> {
    match message {
        RouteNetlinkMessage::NewLink(link) => Link::from_message(link),
        _ => None,
    }
}

fn vanished(name: &InterfaceName) -> Error {
    Error::Vanished { name: name.to_string() }
}

pub(crate) fn accept_absence(answer: Result<Vec<RouteNetlinkMessage>, Error>) -> Result<(), Error> {
    match answer {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}
