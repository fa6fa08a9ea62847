//! What the host receives, forwards and translates.

use std::net::Ipv6Addr;

use super::{ICMP, ICMPV6, IPV4, IPV6, TCP, UDP};
use crate::chain::{
    Chain, Hook, Of, Part, Point, Rule, accept, drop, goto, has_any, has_more_connections_than, is,
    is_between, is_in, is_masked, is_not_in, leave, masquerade, redirect_by, reject_as_prohibited,
    reject_with_reset, remember, rule,
};
use crate::set::Set;
use crate::table::Table;

/// How many connections a sandbox may have open from each of its addresses: new ones beyond that are dropped.
///
/// The kernel tracks as many for the whole host as `net.netfilter.nf_conntrack_max` says, often 262,144; when they are
/// used up the host takes no connection from anybody. What others open to a sandbox does not count.
pub const CONNECTIONS_PER_ADDRESS_MAX: u32 = 16_384;

/// Before connections are tracked (-200), so that what is dropped leaves no trace.
const RAW_PRIORITY: i32 = -300;
/// After connections are tracked, before they are translated.
const MANGLE_PRIORITY: i32 = -150;
const FILTER_PRIORITY: i32 = 0;
/// The usual ones for both translations.
const DESTINATION_NAT_PRIORITY: i32 = -100;
const SOURCE_NAT_PRIORITY: i32 = 100;

/// The type of an address of the host (`RTN_LOCAL`).
const LOCAL: u32 = 2;

const LOOPBACK6: [u8; 16] = Ipv6Addr::LOCALHOST.octets();

/// Bits of the state of a connection (`NF_CT_STATE_BIT`).
const INVALID: u32 = 1;
const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
const NEW: u32 = 8;
/// The bit in its status that says that its destination is translated (`IPS_DST_NAT`).
const DESTINATION_TRANSLATED: u32 = 1 << 5;

/// The chains of the table for IPv4 and IPv6.
pub(super) fn chains() -> Vec<Chain> {
    let filter = |point, priority| Some(Hook { kind: "filter", point, priority });
    let nat = |point, priority| Some(Hook { kind: "nat", point, priority });
    let chain = |name, hook, rules| Chain { table: Table::Inet, name, hook, rules };
    let publish_local = rule([is(Of::DestinationType, &LOCAL.to_ne_bytes()), goto("publications")]);
    vec![
        chain("raw", filter(Point::Prerouting, RAW_PRIORITY), raw()),
        chain("limit", filter(Point::Prerouting, MANGLE_PRIORITY), limit()),
        chain("forward_ours", None, forward_ours()),
        chain("forward", filter(Point::Forward, FILTER_PRIORITY), forward()),
        chain("input_ours", None, input_ours()),
        chain(
            "input",
            filter(Point::Input, FILTER_PRIORITY),
            vec![rule([is_in(Set::Bridges, &[Of::IncomingName]), goto("input_ours")])],
        ),
        chain("publications", None, publications()),
        // Only the host itself speaks to its loopback addresses, and what it says does not come in here.
        chain(
            "nat_prerouting",
            nat(Point::Prerouting, DESTINATION_NAT_PRIORITY),
            vec![
                rule([is(Of::Family, &IPV4), is_loopback4(Of::Ip4Destination), leave()]),
                publish_local.clone(),
            ],
        ),
        // An answer would not arrive; untranslated, the connection is refused at once, and most try IPv4 then.
        chain(
            "nat_output",
            nat(Point::Output, DESTINATION_NAT_PRIORITY),
            vec![rule([is(Of::Family, &IPV6), is(Of::Ip6Destination, &LOOPBACK6), leave()]), publish_local],
        ),
        chain("into_ours", None, into_ours()),
        chain(
            "nat_postrouting",
            nat(Point::Postrouting, SOURCE_NAT_PRIORITY),
            vec![
                rule([is_in(Set::Bridges, &[Of::OutgoingName]), goto("into_ours")]),
                rule([is_in(Set::Egress, &[Of::IncomingName]), masquerade()]),
            ],
        ),
    ]
}

fn is_loopback4(address: Of) -> Part {
    is_masked(address, &[255, 0, 0, 0], &[127, 0, 0, 0])
}

/// Nobody on a bridge speaks to the host's loopback addresses (CVE-2020-8558), and a subnet is reached only over its
/// own bridge, its gateway included. What the host says to itself comes in by `lo`.
fn raw() -> Vec<Rule> {
    let mut loopback = [0; 16];
    loopback[..2].copy_from_slice(b"lo");
    let home4 = [Of::IncomingName, Of::Ip4Destination];
    let home6 = [Of::IncomingName, Of::Ip6Destination];
    let (ipv4, ipv6) = (|| is(Of::Family, &IPV4), || is(Of::Family, &IPV6));
    let from_bridge = || is_in(Set::Bridges, &[Of::IncomingName]);
    vec![
        rule([is(Of::IncomingName, &loopback), leave()]),
        rule([ipv4(), is_loopback4(Of::Ip4Destination), from_bridge(), drop()]),
        rule([ipv6(), is(Of::Ip6Destination, &LOOPBACK6), from_bridge(), drop()]),
        rule([ipv4(), is_in(Set::Subnets4, &[Of::Ip4Destination]), is_not_in(Set::Homes4, &home4), drop()]),
        rule([ipv6(), is_in(Set::Subnets6, &[Of::Ip6Destination]), is_not_in(Set::Homes6, &home6), drop()]),
    ]
}

fn state(bits: u32) -> Part {
    has_any(Of::ConnectionState, &bits.to_ne_bytes())
}

fn is_translated() -> Part {
    has_any(Of::ConnectionStatus, &DESTINATION_TRANSLATED.to_ne_bytes())
}

fn limit() -> Vec<Rule> {
    let limit = |family: &[u8], set, source| {
        rule([
            is_in(Set::Bridges, &[Of::IncomingName]),
            state(NEW),
            is(Of::Family, family),
            has_more_connections_than(CONNECTIONS_PER_ADDRESS_MAX, set, source),
            drop(),
        ])
    };
    vec![limit(&IPV4, Set::Connections4, Of::Ip4Source), limit(&IPV6, Set::Connections6, Of::Ip6Source)]
}

/// What touches none of our bridges is not our business, unless we have to keep the host closed.
///
/// With `br_netfilter` this is also asked of frames that a bridge of others carries from port to port: there both
/// interfaces are the bridge. The kernel cannot compare two registers, so the packet tells a set the one and asks it for
/// both.
fn forward() -> Vec<Rule> {
    let mut bridge = [0; 16];
    bridge[..6].copy_from_slice(b"bridge");
    let itself = [Of::IncomingIndex, Of::IncomingIndex];
    let both = [Of::IncomingIndex, Of::OutgoingIndex];
    vec![
        rule([is_in(Set::Bridges, &[Of::IncomingName]), goto("forward_ours")]),
        rule([is_in(Set::Bridges, &[Of::OutgoingName]), goto("forward_ours")]),
        rule([is_not_in(Set::Closed, &[Of::Family]), leave()]),
        rule([is(Of::IncomingKind, &bridge), remember(Set::Selves, &itself)]),
        rule([is_in(Set::Selves, &both), leave()]),
        rule([drop()]),
    ]
}

/// What is not a part of any connection is refused before egress: it would leave with the address of the sandbox.
fn forward_ours() -> Vec<Rule> {
    vec![
        rule([state(ESTABLISHED_OR_RELATED), accept()]),
        rule([is_in(Set::Within, &[Of::IncomingName, Of::OutgoingName]), accept()]),
        rule([state(INVALID), drop()]),
        rule([is_translated(), accept()]),
        rule([
            is_in(Set::Egress, &[Of::IncomingName]),
            is_not_in(Set::Bridges, &[Of::OutgoingName]),
            accept(),
        ]),
        rule([is_in(Set::Bridges, &[Of::IncomingName]), reject_as_prohibited()]),
        rule([drop()]),
    ]
}

fn input_ours() -> Vec<Rule> {
    const PING: u8 = 8;
    const PING6: u8 = 128;
    let (solicitation, advertisement) = ([135], [136]);
    let dns = 53u16.to_be_bytes();
    let at_bridge = || is(Of::DestinationTypeAtIncoming, &LOCAL.to_ne_bytes());
    let dns_over = |protocol: &[u8]| {
        rule([is(Of::Protocol, protocol), is(Of::DestinationPort, &dns), at_bridge(), accept()])
    };
    vec![
        rule([state(ESTABLISHED_OR_RELATED), accept()]),
        rule([is_in(Set::HostAccess, &[Of::IncomingName]), accept()]),
        rule([is(Of::Protocol, &ICMPV6), is_between(Of::IcmpType, &solicitation, &advertisement), accept()]),
        rule([state(INVALID), drop()]),
        rule([is(Of::Protocol, &ICMP), is(Of::IcmpType, &[PING]), accept()]),
        rule([is(Of::Protocol, &ICMPV6), is(Of::IcmpType, &[PING6]), accept()]),
        dns_over(&UDP),
        dns_over(&TCP),
        rule([is(Of::Protocol, &TCP), reject_with_reset()]),
        rule([reject_as_prohibited()]),
    ]
}

/// From the particular to the general: a single port at one address of the host before a range at all of them.
fn publications() -> Vec<Rule> {
    let by = |family: &[u8], map, things: &[Of]| rule([is(Of::Family, family), redirect_by(map, things)]);
    let any = [Of::Protocol, Of::DestinationPort];
    let at4 = [Of::Ip4Destination, Of::Protocol, Of::DestinationPort];
    let at6 = [Of::Ip6Destination, Of::Protocol, Of::DestinationPort];
    vec![
        by(&IPV4, Set::SingleAt4, &at4),
        by(&IPV6, Set::SingleAt6, &at6),
        by(&IPV4, Set::Single4, &any),
        by(&IPV6, Set::Single6, &any),
        by(&IPV4, Set::RangeAt4, &at4),
        by(&IPV6, Set::RangeAt6, &at6),
        by(&IPV4, Set::Range4, &any),
        by(&IPV6, Set::Range6, &any),
    ]
}

/// A published port sees the address of whoever calls, but for two: the host's loopback addresses, to which a sandbox
/// cannot answer, and sandboxes, whose answer would go past the host that has to translate it.
///
/// Sandboxes are told by their address: of frames that go from port to port the kernel does not say here by which
/// interface they came.
fn into_ours() -> Vec<Rule> {
    let (ipv4, ipv6) = (|| is(Of::Family, &IPV4), || is(Of::Family, &IPV6));
    vec![
        rule([ipv4(), is_loopback4(Of::Ip4Source), masquerade()]),
        rule([ipv4(), is_translated(), is_in(Set::Subnets4, &[Of::Ip4Source]), masquerade()]),
        rule([ipv6(), is_translated(), is_in(Set::Subnets6, &[Of::Ip6Source]), masquerade()]),
    ]
}
