//! A watch on a namespace: links that go, routes that come.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netloft_netns::{Enterer, Netns};
use netloft_types::Subnet;
use nix::errno::Errno;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::session::notices;
use crate::wire::{RouteSocket, Wire};
use crate::{Error, Link, LinkIndex, Route};

/// Of `linux/rtnetlink.h`: the groups whose notices we hear.
const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_IPV4_ROUTE: u32 = 7;
const RTNLGRP_IPV6_ROUTE: u32 = 11;

/// And the types of those that we tell of.
const RTM_DELLINK: u16 = 17;
const RTM_NEWROUTE: u16 = 24;

/// Hears what happens to links and routes of a namespace, by our own hand too.
///
/// Its descriptor ([`AsFd`]) is readable when there is something to hear. It is no log: whoever starts to watch looks
/// around once afterwards, and again after [`Notice::Missed`].
pub struct Watcher {
    socket: RouteSocket,
    buffer: Vec<u8>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A link was deleted, or moved to another namespace.
    LinkGone {
        /// The index it had.
        index: LinkIndex,
        /// The name it had.
        name: String,
    },
    /// A unicast route was added to the main table, or replaced another.
    RouteAdded {
        /// Where it leads.
        destination: Subnet,
    },
    /// Something happened that could not be heard or understood: look yourself.
    Missed,
}

impl Watcher {
    /// Starts to watch a namespace.
    pub fn open(enterer: &Enterer, netns: &Netns) -> Result<Self, Error> {
        let groups = [RTNLGRP_LINK, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE];
        let types = [RTM_DELLINK, RTM_NEWROUTE];
        let socket = enterer
            .run(netns, move || RouteSocket::listen(&groups, &types))
            .map_err(|source| Error::Enter { source })?
            .map_err(|source| Error::Open { netns: netns.id(), source })?;
        Ok(Self { socket, buffer: Vec::new() })
    }

    /// Takes one datagram and tells its notices, often none; `None` if nothing waits. Never blocks.
    ///
    /// One at a time, so that a storm of changes does not keep the caller: it reads again as long as it likes.
    pub fn read(&mut self) -> Result<Option<Vec<Notice>>, Error> {
        match self.socket.receive(&mut self.buffer) {
            Ok(()) => Ok(Some(notices(&self.buffer).filter_map(|read| notice(read.as_ref().ok())).collect())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            // The kernel found the socket full and threw something away.
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                Ok(Some(vec![Notice::Missed]))
            }
            Err(source) => Err(Error::Watch { source }),
        }
    }
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn notice(message: Option<&RouteNetlinkMessage>) -> Option<Notice> {
    match message {
        None => Some(Notice::Missed),
        // In the bridge's own family the same message says that a port left its bridge.
        Some(RouteNetlinkMessage::DelLink(gone)) if gone.header.interface_family == AddressFamily::Unspec => {
            let link = Link::from_message(gone)?;
            Some(Notice::LinkGone { index: link.index, name: link.name })
        }
        Some(RouteNetlinkMessage::NewRoute(route)) => {
            let Route { destination, .. } = Route::from_message(route)?;
            Some(Notice::RouteAdded { destination })
        }
        Some(_) => None,
    }
}
