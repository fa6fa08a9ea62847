//! A watch on a namespace: links that go, routes that come.

use std::os::fd::{AsFd, BorrowedFd};

use netloft_netlink::{Heard, Listener, Message, Protocol};
use netloft_netns::{Enterer, Netns};
use netloft_types::Subnet;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::conn::open_in;
use crate::session::parse;
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
pub struct Watcher(Listener);

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
        let listen = || {
            let listener = Listener::open(Protocol::ROUTE)?;
            // One attachment is worth some twenty notices.
            listener.hear_only(&[RTM_DELLINK, RTM_NEWROUTE])?;
            for group in [RTNLGRP_LINK, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE] {
                listener.join(group)?;
            }
            Ok(listener)
        };
        open_in(enterer, netns, listen).map(Self)
    }

    /// Takes one datagram and tells its notices, often none; `None` if nothing waits. Never blocks.
    ///
    /// One at a time, so that a storm of changes does not keep the caller: it reads again as long as it likes.
    pub fn read(&mut self) -> Result<Option<Vec<Notice>>, Error> {
        Ok(match self.0.read().map_err(|source| Error::Watch { source })? {
            Heard::Nothing => None,
            Heard::Lost => Some(vec![Notice::Missed]),
            Heard::Notices(messages) => Some(messages.filter_map(|message| notice(message.ok())).collect()),
        })
    }
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What a message says, if it is worth telling; `None` is one that was cut off.
fn notice(message: Option<Message<'_>>) -> Option<Notice> {
    let understood = message.and_then(|message| parse(&message).ok());
    match &understood {
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
