//! What chains and rules are made of.

use netloft_types::Family;

use crate::expr::{self, Cmp, Ct, Expr, Goes, Header, Locality, Meta, Register, Verdict};
use crate::set::{Field, Set, family_number};
use crate::table::Table;

/// A chain of a table, and its rules.
pub(crate) struct Chain {
    pub(crate) table: Table,
    pub(crate) name: &'static str,
    /// Where packets enter it; none if only other chains send them there.
    pub(crate) hook: Option<Hook>,
    pub(crate) rules: Vec<Rule>,
}

/// Where packets enter a chain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hook {
    /// `filter` or `nat`.
    pub(crate) kind: &'static str,
    pub(crate) point: Point,
    /// Lower ones come first.
    pub(crate) priority: i32,
}

/// A point on the way of a packet (`NF_INET_*`; the same numbers in `NF_BR_*`).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Point {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// What packets it is about, and what becomes of them.
pub(crate) type Rule = Vec<Expr>;

/// Part of a rule.
pub(crate) type Part = Vec<Expr>;

pub(crate) fn rule(parts: impl IntoIterator<Item = Part>) -> Rule {
    parts.into_iter().flatten().collect()
}

/// Something about a packet that can be compared or looked up.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Of {
    IncomingName,
    OutgoingName,
    IncomingIndex,
    OutgoingIndex,
    IncomingKind,
    Family,
    Protocol,
    /// The first byte: it tells whether a frame is for one or for many.
    EtherDestination,
    EtherSource,
    EtherType,
    ArpFormat,
    ArpOperation,
    ArpSenderMac,
    ArpSender,
    ArpTarget,
    Ip4Source,
    Ip4Destination,
    Ip6Source,
    Ip6Destination,
    SourcePort,
    DestinationPort,
    IcmpType,
    NeighbourTarget,
    HasFragmentHeader,
    FragmentOffset,
    ConnectionState,
    ConnectionStatus,
    DestinationType,
    DestinationTypeAtIncoming,
}

impl Of {
    fn load(self, into: Register) -> Expr {
        use Header::{Link, Network, Transport};
        let bytes = |header, offset, len| expr::payload(header, offset, len, into);
        match self {
            Self::IncomingName => expr::meta(Meta::IncomingName, into),
            Self::OutgoingName => expr::meta(Meta::OutgoingName, into),
            Self::IncomingIndex => expr::meta(Meta::IncomingIndex, into),
            Self::OutgoingIndex => expr::meta(Meta::OutgoingIndex, into),
            Self::IncomingKind => expr::meta(Meta::IncomingKind, into),
            Self::Family => expr::meta(Meta::Family, into),
            Self::Protocol => expr::meta(Meta::Protocol, into),
            Self::EtherDestination => bytes(Link, 0, 1),
            Self::EtherSource => bytes(Link, 6, 6),
            Self::EtherType => bytes(Link, 12, 2),
            Self::ArpFormat => bytes(Network, 0, 6),
            Self::ArpOperation => bytes(Network, 6, 2),
            Self::ArpSenderMac => bytes(Network, 8, 6),
            Self::ArpSender => bytes(Network, 14, 4),
            Self::ArpTarget => bytes(Network, 24, 4),
            Self::Ip4Source => bytes(Network, 12, 4),
            Self::Ip4Destination => bytes(Network, 16, 4),
            Self::Ip6Source => bytes(Network, 8, 16),
            Self::Ip6Destination => bytes(Network, 24, 16),
            Self::SourcePort => bytes(Transport, 0, 2),
            Self::DestinationPort => bytes(Transport, 2, 2),
            Self::IcmpType => bytes(Transport, 0, 1),
            Self::NeighbourTarget => bytes(Transport, 8, 16),
            Self::HasFragmentHeader => expr::has_fragment_header(into),
            Self::FragmentOffset => expr::fragment_offset(into),
            Self::ConnectionState => expr::ct(Ct::State, into),
            Self::ConnectionStatus => expr::ct(Ct::Status, into),
            Self::DestinationType => expr::fib_destination_type(Locality::Anywhere, into),
            Self::DestinationTypeAtIncoming => expr::fib_destination_type(Locality::AtIncoming, into),
        }
    }

    /// How many registers it fills.
    const fn registers(self) -> u32 {
        match self {
            Self::IncomingName
            | Self::OutgoingName
            | Self::IncomingKind
            | Self::Ip6Source
            | Self::Ip6Destination
            | Self::NeighbourTarget => 4,
            Self::EtherSource | Self::ArpSenderMac | Self::ArpFormat => 2,
            _ => 1,
        }
    }
}

const FIRST: Register = Register(0);

/// Loads things one behind the other.
fn load(things: &[Of]) -> Part {
    let mut next = FIRST;
    let place = |thing: &Of| {
        let expr = thing.load(next);
        next = Register(next.0 + thing.registers());
        expr
    };
    things.iter().map(place).collect()
}

fn compare(thing: Of, how: Cmp, value: &[u8]) -> Part {
    vec![thing.load(FIRST), expr::cmp(FIRST, how, value)]
}

pub(crate) fn is(thing: Of, value: &[u8]) -> Part {
    compare(thing, Cmp::Equal, value)
}

pub(crate) fn is_not(thing: Of, value: &[u8]) -> Part {
    compare(thing, Cmp::NotEqual, value)
}

/// Whether it lies between two values, both included.
pub(crate) fn is_between(thing: Of, first: &[u8], last: &[u8]) -> Part {
    [compare(thing, Cmp::AtLeast, first), vec![expr::cmp(FIRST, Cmp::AtMost, last)]].concat()
}

/// Whether the packet has it at all.
pub(crate) fn is_readable(thing: Of) -> Part {
    compare(thing, Cmp::AtLeast, &[0])
}

/// Whether its bits under a mask are so.
pub(crate) fn is_masked(thing: Of, bits: &[u8], value: &[u8]) -> Part {
    vec![thing.load(FIRST), expr::mask(FIRST, bits), expr::cmp(FIRST, Cmp::Equal, value)]
}

/// Whether any of its bits under a mask is set.
pub(crate) fn has_any(thing: Of, bits: &[u8]) -> Part {
    let none = vec![0; bits.len()];
    vec![thing.load(FIRST), expr::mask(FIRST, bits), expr::cmp(FIRST, Cmp::NotEqual, &none)]
}

/// Whether a set has the key made of these things.
pub(crate) fn is_in(set: Set, things: &[Of]) -> Part {
    look_up(set, things, Goes::OnIfThere)
}

pub(crate) fn is_not_in(set: Set, things: &[Of]) -> Part {
    look_up(set, things, Goes::OnIfAbsent)
}

fn look_up(set: Set, things: &[Of], goes: Goes) -> Part {
    let mut part = load(things);
    part.push(expr::lookup(set.name(), FIRST, goes));
    part
}

/// Adds the key made of these things to a set.
pub(crate) fn remember(set: Set, things: &[Of]) -> Part {
    let mut part = load(things);
    part.push(expr::remember(set.name(), FIRST));
    part
}

/// Whether the source of this connection has more than so many.
pub(crate) fn has_more_connections_than(max: u32, set: Set, source: Of) -> Part {
    vec![source.load(FIRST), expr::more_connections_than(max, set.name(), FIRST)]
}

/// Sends the connection to the address, and the port if there is one, that a map has for these things.
pub(crate) fn redirect_by(map: Set, things: &[Of]) -> Part {
    let mut exprs = load(things);
    exprs.push(expr::map(map.name(), FIRST, FIRST));
    let (family, registers) = match map.spec().data[0] {
        Field::Ip4 => (Family::V4, 1),
        _ => (Family::V6, 4),
    };
    let port = (map.spec().data.len() > 1).then_some(Register(registers));
    exprs.push(expr::dnat(family_number(family), FIRST, port));
    exprs
}

pub(crate) fn accept() -> Part {
    vec![expr::verdict(Verdict::Accept)]
}

pub(crate) fn drop() -> Part {
    vec![expr::verdict(Verdict::Drop)]
}

/// Back to the chain that sent the packet here; in a chain with a hook, on to the next table.
pub(crate) fn leave() -> Part {
    vec![expr::verdict(Verdict::Return)]
}

pub(crate) fn goto(chain: &'static str) -> Part {
    vec![expr::verdict(Verdict::Goto(chain))]
}

pub(crate) fn masquerade() -> Part {
    vec![expr::masquerade()]
}

pub(crate) fn reject_with_reset() -> Part {
    vec![expr::reject_with_reset()]
}

pub(crate) fn reject_as_prohibited() -> Part {
    vec![expr::reject_as_prohibited()]
}
