//! Routing-policy rules: what the host does with packets that come in by a link.

use netloft_types::{Family, InterfaceName};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::conn::accept_absence;
use crate::request::{Request, in_netlink};
use crate::{Conn, Error};

/// A rule that prohibits routing whatever comes in by a link, of one family (`ip rule ... iif <link> prohibit`).
///
/// The sender is told so by ICMP. A packet for the host itself is not touched as long as the rule comes after the one
/// that looks it up in the table of local addresses (`local`, priority 0 unless somebody moved it); one that a bridge
/// passes from port to port is not routed at all. The rule goes by the link's name: it outlives the link, and the next
/// link of that name is under it from its first moment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prohibition {
    /// The link.
    pub link: InterfaceName,
    /// The family.
    pub family: Family,
    /// Where the rule stands among the others: they are asked in ascending order.
    pub priority: u32,
    /// Who made it, a number as in `/etc/iproute2/rt_protos`: without it, to delete the rule could hit one of somebody
    /// else that says the same and more.
    pub protocol: u8,
}

impl Conn {
    /// Adds a rule; that there is the same one already, whoever made it, is success.
    pub fn ensure_prohibition(&mut self, rule: &Prohibition) -> Result<(), Error> {
        let request = Request::add_rule("prohibit", &rule.describe(), rule.to_message());
        match self.session.batch([request]) {
            Err(error) if !error.is_exists() => Err(error),
            _ => Ok(()),
        }
    }

    /// Deletes a rule; that there is none is success.
    pub fn delete_prohibition(&mut self, rule: &Prohibition) -> Result<(), Error> {
        let request = Request::delete_rule("no longer prohibit", &rule.describe(), rule.to_message());
        accept_absence(self.session.batch([request]))
    }

    /// All prohibitions of the namespace, IPv4 first, each family in the order in which the kernel asks them. Rules
    /// that say anything more are others' and left out.
    pub fn prohibitions(&mut self) -> Result<Vec<Prohibition>, Error> {
        let mut messages = self.session.dump(&Request::list_rules(AddressFamily::Inet))?;
        messages.extend(self.session.dump(&Request::list_rules(AddressFamily::Inet6))?);
        let read = |message: &_| match message {
            RouteNetlinkMessage::NewRule(rule) => Prohibition::from_message(rule),
            _ => None,
        };
        Ok(messages.iter().filter_map(read).collect())
    }
}

impl Prohibition {
    fn to_message(&self) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header.family = in_netlink(self.family);
        message.header.action = RuleAction::Prohibit;
        message.attributes = vec![
            RuleAttribute::Iifname(self.link.to_string()),
            RuleAttribute::Priority(self.priority),
            RuleAttribute::Protocol(self.protocol.into()),
        ];
        message
    }

    fn from_message(message: &RuleMessage) -> Option<Self> {
        let header = &message.header;
        let family = match header.family {
            AddressFamily::Inet => Family::V4,
            AddressFamily::Inet6 => Family::V6,
            _ => return None,
        };
        if header.action != RuleAction::Prohibit
            || header.src_len != 0
            || header.dst_len != 0
            || header.tos != 0
        {
            return None;
        }
        let (mut link, mut priority, mut protocol) = (None, 0, 0);
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::Iifname(name) => link = name.parse().ok(),
                RuleAttribute::Priority(number) => priority = *number,
                RuleAttribute::Protocol(number) => protocol = (*number).into(),
                // What the kernel tells of every rule.
                RuleAttribute::Table(_) | RuleAttribute::SuppressPrefixLen(_) => {}
                _ => return None,
            }
        }
        Some(Self { link: link?, family, priority, protocol })
    }

    fn describe(&self) -> String {
        format!("{} for what comes in by {}", self.family, self.link)
    }
}
