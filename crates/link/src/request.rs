//! One request to the kernel: the message, and how to speak of it when it fails.

use std::os::fd::RawFd;

use netloft_netlink::{CREATE, EXCLUSIVE, REPLACE, Subject};
use netloft_types::Family;
use rtnetlink::LinkUnspec;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourMessage};
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::rule::RuleMessage;
use rtnetlink::packet_route::tc::TcMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::LinkIndex;

/// A message, and what it does to what.
pub(crate) struct Request {
    pub(crate) subject: Subject,
    pub(crate) flags: u16,
    pub(crate) message: RouteNetlinkMessage,
}

/// Makes something new, or fails with `EEXIST`.
const NEW: u16 = CREATE | EXCLUSIVE;

impl Request {
    pub(crate) fn create_link(operation: &'static str, object: &str, link: LinkMessage) -> Self {
        Self::new(operation, object, NEW, RouteNetlinkMessage::NewLink(link))
    }

    pub(crate) fn set_link(operation: &'static str, object: &str, link: LinkMessage) -> Self {
        Self::new(operation, object, 0, RouteNetlinkMessage::SetLink(link))
    }

    /// Sets what only this message of the two that change a link can set: the settings of a bridge's port.
    pub(crate) fn change_link(operation: &'static str, object: &str, link: LinkMessage) -> Self {
        Self::new(operation, object, 0, RouteNetlinkMessage::NewLink(link))
    }

    pub(crate) fn delete_links(operation: &'static str, object: &str, link: LinkMessage) -> Self {
        Self::new(operation, object, 0, RouteNetlinkMessage::DelLink(link))
    }

    /// Asks for one link by name.
    pub(crate) fn get_link(operation: &'static str, name: &str) -> Self {
        let mut link = LinkUnspec::new_with_name(name).build();
        link.attributes.push(without_statistics());
        Self::new(operation, name, 0, RouteNetlinkMessage::GetLink(link))
    }

    /// Asks for one link by index.
    pub(crate) fn get_link_at(operation: &'static str, object: &str, index: LinkIndex) -> Self {
        let mut link = LinkUnspec::new_with_index(index.number()).build();
        link.attributes.push(without_statistics());
        Self::new(operation, object, 0, RouteNetlinkMessage::GetLink(link))
    }

    pub(crate) fn add_address(object: &str, address: AddressMessage) -> Self {
        let message = RouteNetlinkMessage::NewAddress(address);
        Self::new("add address", object, NEW, message)
    }

    pub(crate) fn add_route(object: &str, route: RouteMessage) -> Self {
        let message = RouteNetlinkMessage::NewRoute(route);
        Self::new("add route", object, NEW, message)
    }

    /// Adds a route in place of the one that leads there from the same table.
    pub(crate) fn set_route(object: &str, route: RouteMessage) -> Self {
        let message = RouteNetlinkMessage::NewRoute(route);
        Self::new("set route", object, CREATE | REPLACE, message)
    }

    pub(crate) fn add_neighbour(operation: &'static str, object: &str, entry: NeighbourMessage) -> Self {
        Self::new(operation, object, NEW, RouteNetlinkMessage::NewNeighbour(entry))
    }

    /// Changes an entry that is there.
    pub(crate) fn change_neighbour(operation: &'static str, object: &str, entry: NeighbourMessage) -> Self {
        Self::new(operation, object, REPLACE, RouteNetlinkMessage::NewNeighbour(entry))
    }

    pub(crate) fn add_qdisc(operation: &'static str, object: &str, qdisc: TcMessage) -> Self {
        Self::new(operation, object, NEW, RouteNetlinkMessage::NewQueueDiscipline(qdisc))
    }

    pub(crate) fn add_filter(operation: &'static str, object: &str, filter: TcMessage) -> Self {
        Self::new(operation, object, NEW, RouteNetlinkMessage::NewTrafficFilter(filter))
    }

    /// Asks for all links.
    pub(crate) fn list_links() -> Self {
        let mut link = LinkMessage::default();
        link.attributes.push(without_statistics());
        Self::new("list", "links", 0, RouteNetlinkMessage::GetLink(link))
    }

    /// Asks for the ports of a bridge.
    pub(crate) fn list_ports(bridge: LinkIndex) -> Self {
        let mut link = LinkMessage::default();
        link.attributes = vec![LinkAttribute::Controller(bridge.number()), without_statistics()];
        Self::new("list ports of", &format!("bridge {bridge}"), 0, RouteNetlinkMessage::GetLink(link))
    }

    /// Asks for all link addresses that a bridge knows.
    pub(crate) fn list_forwarding_entries(bridge: LinkIndex) -> Self {
        let mut entry = NeighbourMessage::default();
        entry.header.family = AddressFamily::Bridge;
        entry.attributes.push(NeighbourAttribute::Controller(bridge.number()));
        let message = RouteNetlinkMessage::GetNeighbour(entry);
        Self::new("list addresses known to", &format!("bridge {bridge}"), 0, message)
    }

    /// Asks for the kernel's number for a namespace.
    pub(crate) fn get_netns_number(object: &str, netns: RawFd) -> Self {
        let mut message = NsidMessage::default();
        message.attributes.push(NsidAttribute::Fd(netns.cast_unsigned()));
        Self::new("read number of", object, 0, RouteNetlinkMessage::GetNsId(message))
    }

    /// Asks for all addresses.
    pub(crate) fn list_addresses() -> Self {
        let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        Self::new("list", "addresses", 0, message)
    }

    /// Asks for all routes of a family. Not of a table: a namespace that has no route yet has no table
    /// either, and the kernel calls that an error.
    pub(crate) fn list_routes(family: AddressFamily) -> Self {
        let mut route = RouteMessage::default();
        route.header.address_family = family;
        Self::new("list", "routes", 0, RouteNetlinkMessage::GetRoute(route))
    }

    pub(crate) fn add_rule(operation: &'static str, object: &str, rule: RuleMessage) -> Self {
        Self::new(operation, object, NEW, RouteNetlinkMessage::NewRule(rule))
    }

    pub(crate) fn delete_rule(operation: &'static str, object: &str, rule: RuleMessage) -> Self {
        Self::new(operation, object, 0, RouteNetlinkMessage::DelRule(rule))
    }

    /// Asks for all rules of a family.
    pub(crate) fn list_rules(family: AddressFamily) -> Self {
        let mut rule = RuleMessage::default();
        rule.header.family = family;
        Self::new("list", "rules", 0, RouteNetlinkMessage::GetRule(rule))
    }

    fn new(operation: &'static str, object: &str, flags: u16, message: RouteNetlinkMessage) -> Self {
        Self { subject: Subject::new(operation, object.to_owned()), flags, message }
    }
}

/// Leaves out the packet counters, two thirds of the bytes of a link.
fn without_statistics() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

/// A family as netlink spells it.
pub(crate) const fn in_netlink(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}
