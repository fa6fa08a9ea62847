//! The way back: by which link a namespace of several links answers.

use std::net::IpAddr;

use netloft_types::Family;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::{RouteAttribute, RouteHeader, RouteMessage};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use crate::conn::accept_absence;
use crate::inside::{everywhere, route_message};
use crate::observed::{exits, gateway};
use crate::request::{Request, in_netlink};
use crate::{Conn, Error, LinkIndex, Route};

const MAIN: u32 = RouteHeader::RT_TABLE_MAIN as u32;

/// Has what an address of a link is the source of leave by that link, in a namespace whose default route is another's.
///
/// Two rules and a route do it:
///
/// ```text
/// ip rule add from ADDRESS lookup main suppress_prefixlength 0 pref PRIORITY
/// ip rule add from ADDRESS lookup TABLE pref PRIORITY+1
/// ip route add default via GATEWAY dev LINK table TABLE
/// ```
///
/// Where the main table knows more than a default route, it decides as it did: neighbours are reached directly. What it
/// would send by a default route goes to the gateway of this link instead. An answer has the address that was asked, so it
/// leaves by the link that the question came in by. A connection that a program opens has no source before a route is
/// found, and leaves as it did, unless the program binds an address.
///
/// The route goes with the link. The rules do not: see [`Conn::delete_way_back`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WayBack {
    /// The address.
    pub address: IpAddr,
    /// The next hop.
    pub gateway: IpAddr,
    /// The link.
    pub link: LinkIndex,
    /// The table of the route, for this link alone; neither 0 nor one that the kernel has a name for (253 to 255).
    pub table: u32,
    /// Where the first of the rules stands among the others: they are asked in ascending order.
    pub priority: u32,
    /// Who made the rules, a number as in `/etc/iproute2/rt_protos`.
    pub protocol: u8,
}

impl Conn {
    /// Adds the route and the rules of a way back; those that are there already are success.
    pub fn ensure_way_back(&mut self, way: &WayBack) -> Result<(), Error> {
        self.session.batch([way.route()])?;
        // Each rule by itself: of several refusals in one datagram only the first is told.
        for rule in way.rules() {
            let request = Request::add_rule("add rule", &rule.describe(), rule.to_message());
            match self.session.batch([request]) {
                Err(error) if !error.is_exists() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Deletes the rules of the way back from an address, whatever table they lead to; that there are none is success.
    pub fn delete_way_back(&mut self, address: IpAddr, priority: u32, protocol: u8) -> Result<(), Error> {
        for priority in [priority, priority + 1] {
            let rule = SourceRule { address, priority, protocol, table: 0, suppressed: None };
            let request = Request::delete_rule("delete rule", &rule.describe(), rule.to_message());
            accept_absence(self.session.batch([request]))?;
        }
        Ok(())
    }

    /// All ways back of the namespace that are whole, IPv4 first.
    pub fn ways_back(&mut self) -> Result<Vec<WayBack>, Error> {
        let mut found = Vec::new();
        for family in [Family::V4, Family::V6] {
            let rules = self.session.dump(&Request::list_rules(in_netlink(family)))?;
            let rules: Vec<_> = rules.iter().filter_map(SourceRule::from_message).collect();
            let routes = self.route_messages(family)?;
            let ways = rules.iter().filter_map(|rule| rule.way_back(&rules, &routes));
            found.extend(ways);
        }
        Ok(found)
    }
}

impl WayBack {
    fn rules(&self) -> [SourceRule; 2] {
        let Self { address, priority, protocol, table, .. } = *self;
        [
            SourceRule { address, priority, protocol, table: MAIN, suppressed: Some(0) },
            SourceRule { address, priority: priority + 1, protocol, table, suppressed: None },
        ]
    }

    fn route(&self) -> Request {
        let route = Route {
            destination: everywhere(self.gateway),
            gateway: Some(self.gateway),
            link: Some(self.link),
            metric: None,
        };
        let mut message = route_message(&route, self.link);
        message.header.table = RouteHeader::RT_TABLE_UNSPEC;
        message.attributes.push(RouteAttribute::Table(self.table));
        Request::set_route(&format!("default via {} in table {}", self.gateway, self.table), message)
    }
}

/// A rule that leads what has a source to a table, and says nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SourceRule {
    address: IpAddr,
    priority: u32,
    protocol: u8,
    /// 0 is any, for a rule to be deleted.
    table: u32,
    /// How long the prefixes of those routes are, at most, that it passes over.
    suppressed: Option<u32>,
}

impl SourceRule {
    fn to_message(self) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header.family = in_netlink(Family::of(self.address));
        message.header.src_len = full_length(self.address);
        message.header.action = RuleAction::ToTable;
        message.attributes = vec![
            RuleAttribute::Source(self.address),
            RuleAttribute::Priority(self.priority),
            RuleAttribute::Protocol(self.protocol.into()),
        ];
        if self.table != 0 {
            message.attributes.push(RuleAttribute::Table(self.table));
        }
        message.attributes.extend(self.suppressed.map(RuleAttribute::SuppressPrefixLen));
        message
    }

    fn from_message(message: &RouteNetlinkMessage) -> Option<Self> {
        let RouteNetlinkMessage::NewRule(message) = message else { return None };
        let header = &message.header;
        if header.action != RuleAction::ToTable || header.dst_len != 0 || header.tos != 0 {
            return None;
        }
        let (mut address, mut suppressed) = (None, None);
        let (mut priority, mut protocol, mut table) = (0, 0, header.table.into());
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::Source(source) => address = Some(*source),
                RuleAttribute::Priority(number) => priority = *number,
                RuleAttribute::Protocol(number) => protocol = (*number).into(),
                RuleAttribute::Table(number) => table = *number,
                // The kernel says -1 of a rule that passes over nothing.
                RuleAttribute::SuppressPrefixLen(len) => suppressed = (*len != u32::MAX).then_some(*len),
                _ => return None,
            }
        }
        let address = address.filter(|address| header.src_len == full_length(*address))?;
        Some(Self { address, priority, protocol, table, suppressed })
    }

    /// The way back that this is the second rule of, if the first one and the route are there.
    fn way_back(&self, rules: &[Self], routes: &[RouteMessage]) -> Option<WayBack> {
        let priority = self.priority.checked_sub(1).filter(|_| self.suppressed.is_none())?;
        let first = Self { priority, table: MAIN, suppressed: Some(0), ..*self };
        let route = routes.iter().find(|route| is_default_of(route, self.table))?;
        rules.contains(&first).then_some(WayBack {
            address: self.address,
            gateway: gateway(route)?,
            link: *exits(route).first()?,
            table: self.table,
            priority,
            protocol: self.protocol,
        })
    }

    fn describe(&self) -> String {
        format!("{} from {}", self.priority, self.address)
    }
}

fn is_default_of(route: &RouteMessage, table: u32) -> bool {
    route.header.destination_prefix_length == 0 && route.attributes.contains(&RouteAttribute::Table(table))
}

const fn full_length(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}
