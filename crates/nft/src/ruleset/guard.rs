//! What may come in by a guarded port of a bridge.

use super::{ICMPV6, UDP};
use crate::chain::{
    Chain, Hook, Of, Point, Rule, accept, drop, goto, has_any, is, is_between, is_in, is_not, is_not_in,
    is_readable, rule,
};
use crate::set::Set;
use crate::table::Table;

/// Before anything else that looks at frames on a bridge, `br_netfilter` included (priority 0).
const GUARD_PRIORITY: i32 = -400;

/// The chains of the bridge table.
pub(super) fn chains() -> Vec<Chain> {
    let chain = |name, hook, rules| Chain { table: Table::Bridge, name, hook, rules };
    let at = |point| Some(Hook { kind: "filter", point, priority: GUARD_PRIORITY });
    vec![
        chain("arp", None, guard_arp()),
        chain("icmpv6", None, guard_icmpv6()),
        chain("ipv4", None, guard_ipv4()),
        chain("ipv6", None, guard_ipv6()),
        chain("guarded", None, guarded()),
        chain(
            "prerouting",
            at(Point::Prerouting),
            vec![rule([is_in(Set::Ports, &[Of::IncomingName]), goto("guarded")])],
        ),
        chain("forward", at(Point::Forward), guard_forward()),
    ]
}

/// The source is known, or the frame is gone; so is what is neither IP nor ARP, such as what carries a VLAN tag.
fn guarded() -> Vec<Rule> {
    let source4 = [Of::IncomingName, Of::EtherSource, Of::Ip4Source];
    let source6 = [Of::IncomingName, Of::EtherSource, Of::Ip6Source];
    vec![
        rule([is(Of::EtherType, &[0x08, 0x00]), is_in(Set::Sources4, &source4), goto("ipv4")]),
        rule([is(Of::EtherType, &[0x86, 0xdd]), is_in(Set::Sources6, &source6), goto("ipv6")]),
        rule([
            is(Of::EtherType, &[0x08, 0x06]),
            is_in(Set::Macs, &[Of::IncomingName, Of::EtherSource]),
            goto("arp"),
        ]),
        rule([drop()]),
    ]
}

/// A port in hairpin mode, without which a sandbox does not reach its own published ports where `br_netfilter` is on,
/// gives back what is for all of them too; the sandbox would take its own probes for those of a rival.
fn guard_forward() -> Vec<Rule> {
    const FOR_MANY: [u8; 1] = [1];
    let both = [Of::IncomingName, Of::OutgoingName];
    vec![rule([has_any(Of::EtherDestination, &FOR_MANY), is_in(Set::Mirrors, &both), drop()])]
}

/// Of Ethernet and IPv4, asked or answered in the sandbox's own name; or a probe without an address, for its own
/// (RFC 5227, section 2.1.1).
fn guard_arp() -> Vec<Rule> {
    let ethernet_ipv4 = [0x00, 0x01, 0x08, 0x00, 6, 4];
    let (request, reply) = ([0, 1], [0, 2]);
    let sender = [Of::IncomingName, Of::ArpSenderMac, Of::ArpSender];
    let target = [Of::IncomingName, Of::ArpSenderMac, Of::ArpTarget];
    vec![
        rule([is_not(Of::ArpFormat, &ethernet_ipv4), drop()]),
        rule([is_between(Of::ArpOperation, &request, &reply), is_in(Set::Sources4, &sender), accept()]),
        rule([
            is(Of::ArpOperation, &request),
            is(Of::ArpSender, &[0; 4]),
            is_in(Set::Sources4, &target),
            accept(),
        ]),
        rule([drop()]),
    ]
}

fn guard_ipv4() -> Vec<Rule> {
    let dhcp_server = 67u16.to_be_bytes();
    vec![rule([is(Of::Protocol, &UDP), is(Of::SourcePort, &dhcp_server), drop()]), rule([accept()])]
}

/// A packet whose last header cannot be found is dropped: nobody could say what it is.
fn guard_ipv6() -> Vec<Rule> {
    let dhcp_server = 547u16.to_be_bytes();
    vec![
        rule([is(Of::Protocol, &ICMPV6), goto("icmpv6")]),
        rule([is(Of::Ip6Source, &[0; 16]), drop()]),
        rule([is(Of::Protocol, &UDP), is(Of::SourcePort, &dhcp_server), drop()]),
        rule([is_readable(Of::Protocol), accept()]),
        rule([drop()]),
    ]
}

/// No advertisement of routers, no redirect, no neighbour's name but its own, and no neighbour discovery in fragments
/// (RFC 6980). A first fragment without its own header is dropped (RFC 7112); then the others are harmless.
fn guard_icmpv6() -> Vec<Rule> {
    const NEIGHBOUR_SOLICITATION: u8 = 135;
    const LISTENER_REPORT: u8 = 143;
    let (router_advertisement, neighbour_advertisement, redirect) = ([134], [136], [137]);
    let without_address = |kind| rule([is(Of::Ip6Source, &[0; 16]), is(Of::IcmpType, &[kind]), accept()]);
    let target = [Of::IncomingName, Of::EtherSource, Of::NeighbourTarget];
    vec![
        rule([has_any(Of::FragmentOffset, &[0xff, 0xf8]), accept()]),
        rule([is(Of::HasFragmentHeader, &[1]), is_between(Of::IcmpType, &[133], &[137]), drop()]),
        without_address(NEIGHBOUR_SOLICITATION),
        without_address(LISTENER_REPORT),
        rule([is(Of::Ip6Source, &[0; 16]), drop()]),
        rule([is(Of::IcmpType, &router_advertisement), drop()]),
        rule([is(Of::IcmpType, &redirect), drop()]),
        rule([is(Of::IcmpType, &neighbour_advertisement), is_not_in(Set::Sources6, &target), drop()]),
        rule([is_readable(Of::IcmpType), accept()]),
        rule([drop()]),
    ]
}
