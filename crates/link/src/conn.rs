//! The connection: operations named by intent over one netlink socket.

use std::io;
use std::net::IpAddr;

use netloft_netlink::{Message, attributes};
use netloft_netns::{Enterer, Netns};
use netloft_types::{InterfaceAddr, InterfaceName};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use crate::announce::FrameSocket;
use crate::request::Request;
use crate::session::Session;
use crate::{Error, LinkGroup, LinkIndex, sysctl};

/// A netlink connection to a namespace. Blocking; the kernel answers at once.
pub struct Conn {
    netns: Netns,
    pub(crate) session: Session,
    /// Whether the namespace is as [`Conn::create_sandbox`] left it: IPv6 is off and no interface is configured.
    pub(crate) is_fresh: bool,
    /// For frames of our own making; opened with the first of them.
    pub(crate) frames: Option<FrameSocket>,
}

impl Conn {
    /// Opens a connection that acts in `netns`, whichever thread uses it.
    pub fn open(enterer: &Enterer, netns: &Netns) -> Result<Self, Error> {
        let session = open_in(enterer, netns, Session::open)?;
        Ok(Self { netns: netns.clone(), session, is_fresh: false, frames: None })
    }

    /// Makes the namespace of a sandbox and opens a connection that acts in it, in one visit.
    ///
    /// IPv6 is off in it until [`Conn::configure_inside`] is asked for it: whoever makes sandboxes ahead of need does
    /// not know yet which of them will speak it.
    pub fn create_sandbox(enterer: &Enterer) -> Result<Self, Error> {
        let prepare = || sysctl::disable_ipv6().map(|()| Session::open());
        let made = enterer.create_with(prepare);
        let (netns, prepared) = made.map_err(|source| Error::CreateSandbox { source })?;
        let session = prepared?.map_err(|source| Error::Open { netns: netns.id(), source })?;
        Ok(Self { netns, session, is_fresh: true, frames: None })
    }

    /// The namespace in which it acts.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Deletes a link; that there is none is success.
    ///
    /// The caller waits some 20 ms for the kernel (an RCU barrier). For what can wait, see [`Conn::cut`].
    pub fn delete_link(&mut self, name: &InterfaceName) -> Result<(), Error> {
        let link = LinkUnspec::new_with_name(name.as_str()).build();
        let request = Request::delete_links("delete link", name.as_str(), link);
        accept_absence(self.session.batch([request]))
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
        accept_absence(self.session.batch([request]))
    }

    /// Deletes every link of a group in one act, so that all wait once. That there are none is success.
    pub fn reap(&mut self, corpses: LinkGroup) -> Result<(), Error> {
        let number = corpses.number();
        let link = LinkMessageBuilder::<LinkUnspec>::new().link_group(number).build();
        let object = format!("group {number}");
        let request = Request::delete_links("delete links of", &object, link);
        accept_absence(self.session.batch([request]))
    }

    /// Creates a link and reads its index, in one datagram.
    pub(crate) fn create_link(
        &mut self,
        operation: &'static str,
        name: &InterfaceName,
        link: LinkMessage,
    ) -> Result<Created, Error> {
        // Whatever is to be set on the new link goes into a second datagram, by index: the kernel goes on
        // after a refusal, and what is set by name would then hit the link that had the name before.
        let create = Request::create_link(operation, name.as_str(), link);
        let read = Request::get_link("read link", name.as_str());
        let mut created = None;
        self.session.carry_out([create, read], |message| created = created.or(Created::read(message)))?;
        created.ok_or_else(|| vanished(name))
    }

    /// Runs a job in the namespace, on a thread made for it.
    pub(crate) fn visit<T: Send>(&self, job: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
        self.netns.run(job).map_err(|source| Error::Enter { source })?
    }

    /// Deletes what a failed operation made, and gives back its error.
    pub(crate) fn undo(&mut self, name: &InterfaceName, error: Error) -> Error {
        if let Err(left) = self.delete_link(name) {
            tracing::warn!(link = %name, error = %left, "left behind a link that could not be finished");
        }
        error
    }
}

/// A link that was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Created {
    pub(crate) index: LinkIndex,
    /// That of its other end, in the namespace where that is.
    pub(crate) peer: Option<LinkIndex>,
}

impl Created {
    /// Reads nothing but the indices: of the header (`ifinfomsg`), and of the attribute `IFLA_LINK`.
    fn read(message: &Message<'_>) -> Option<Self> {
        const IFLA_LINK: u16 = 5;
        let (header, rest) = message.payload.split_at_checked(16)?;
        let number = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_ne_bytes);
        let peer = attributes(rest).find_map(|(kind, value)| (kind == IFLA_LINK).then_some(value));
        Some(Self {
            index: LinkIndex::from_number(number(&header[4..8])?)?,
            peer: peer.and_then(number).and_then(LinkIndex::from_number),
        })
    }
}

/// Opens a socket in a namespace.
pub(crate) fn open_in<T: Send + 'static>(
    enterer: &Enterer,
    netns: &Netns,
    open: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let opened = enterer.run(netns, open).map_err(|source| Error::Enter { source })?;
    opened.map_err(|source| Error::Open { netns: netns.id(), source })
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

/// Has a link make no IPv6 address for itself.
pub(crate) fn no_link_local_address() -> LinkAttribute {
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])])
}

pub(crate) fn vanished(name: &InterfaceName) -> Error {
    Error::Vanished { name: name.to_string() }
}

pub(crate) fn accept_absence(outcome: Result<(), Error>) -> Result<(), Error> {
    match outcome {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}
