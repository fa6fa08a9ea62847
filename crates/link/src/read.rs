//! What the namespace has, asked of the kernel.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd};

use netloft_netns::Netns;
use netloft_types::{Family, InterfaceName};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::nsid::NsidAttribute;
use rtnetlink::packet_route::route::RouteMessage;

use crate::observed::{exits, is_default, netns_number, read_link};
use crate::request::{Request, in_netlink};
use crate::{Address, Conn, Error, ForwardingEntry, Link, LinkIndex, NetnsNumber, Route};

impl Conn {
    /// All links of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let messages = self.session.dump(&Request::list_links())?;
        Ok(messages.iter().filter_map(read_link).collect())
    }

    /// The link of a name; `None` if there is none.
    pub fn link(&mut self, name: &InterfaceName) -> Result<Option<Link>, Error> {
        match self.session.ask([Request::get_link("read link", name.as_str())]) {
            Ok(messages) => Ok(messages.iter().find_map(read_link)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How many ports a bridge has; none if there is no such bridge. Takes some 12 us a port.
    pub fn ports_of(&mut self, bridge: LinkIndex) -> Result<usize, Error> {
        self.session.count(&Request::list_ports(bridge))
    }

    /// The link addresses that a bridge knows, and where.
    pub fn forwarding_entries(&mut self, bridge: LinkIndex) -> Result<Vec<ForwardingEntry>, Error> {
        let messages = self.session.dump(&Request::list_forwarding_entries(bridge))?;
        let read = |message: &_| match message {
            RouteNetlinkMessage::NewNeighbour(entry) => ForwardingEntry::from_message(entry),
            _ => None,
        };
        Ok(messages.iter().filter_map(read).collect())
    }

    /// The kernel's number for another namespace, as [`Link::peer_netns`] tells it; `None` if no link of this
    /// namespace leads there.
    pub fn number_of(&mut self, other: &Netns) -> Result<Option<NetnsNumber>, Error> {
        let request = Request::get_netns_number(&other.id().to_string(), other.as_fd().as_raw_fd());
        let answers = self.session.ask([request])?;
        Ok(answers.iter().find_map(|message| match message {
            RouteNetlinkMessage::NewNsId(told) => {
                told.attributes.iter().find_map(|attribute| match attribute {
                    NsidAttribute::Id(number) => netns_number(*number),
                    _ => None,
                })
            }
            _ => None,
        }))
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
        let mut messages = self.route_messages(Family::V4)?;
        messages.extend(self.route_messages(Family::V6)?);
        Ok(messages.iter().filter_map(Route::from_message).collect())
    }

    /// The MTU, in bytes, of the link by which a default route leaves; of several the smallest. `None` if there is no
    /// default route.
    pub fn outgoing_mtu(&mut self, family: Family) -> Result<Option<u32>, Error> {
        let messages = self.route_messages(family)?;
        let exits: BTreeSet<_> = messages.iter().filter(|it| is_default(it)).flat_map(exits).collect();
        if exits.is_empty() {
            return Ok(None);
        }
        let links = self.links()?;
        Ok(links.iter().filter(|link| exits.contains(&link.index)).map(|link| link.mtu).min())
    }

    pub(crate) fn route_messages(&mut self, family: Family) -> Result<Vec<RouteMessage>, Error> {
        let messages = self.session.dump(&Request::list_routes(in_netlink(family)))?;
        Ok(messages
            .into_iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewRoute(route) => Some(route),
                _ => None,
            })
            .collect())
    }
}
