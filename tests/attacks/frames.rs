//! Frames and packets that are rare, and that a guard that knows only the common ones lets through.

use std::net::{IpAddr, SocketAddr};

use netloft_tests::attacker::{
    ARP, ArpKind, EXPERIMENTAL, Mac, Wire, arp, contains, datagram, datagram_behind_options,
    datagram_in_fragments, ethernet, igmp_query, tagged,
};
use serde_json::Value;

use crate::neighbours::poisons;
use crate::support::{Ear, FORGED, USUAL, has_forged, output, say};
use crate::world::{Layout, World, only_the_plain_ground_falls_to};

/// Where bridges talk to each other (IEEE 802.1D, section 7.12.3).
const BRIDGES: Mac = [0x01, 0x80, 0xc2, 0, 0, 0];

/// The group of IGMP queries, 224.0.0.1, as Ethernet has it (RFC 1112, section 6.4).
const ALL_SYSTEMS: Mac = [0x01, 0x00, 0x5e, 0, 0, 1];

pub(crate) fn rare_frames_carry_nothing_past_the_guard() {
    only_the_plain_ground_falls_to(
        Layout::V4,
        &[
            ("a forged ARP answer with a priority tag", |world| {
                let forged = tagged(&forged_answer(world), 0);
                poisons(world, world.mallory.gateways[0], &forged)
            }),
            ("a forged ARP answer with two tags", |world| {
                let forged = tagged(&tagged(&forged_answer(world), 0), 0);
                poisons(world, world.mallory.gateways[0], &forged)
            }),
            ("a forged sender with a priority tag", |world| {
                is_heard(world, world.victim.addresses[0], |world, to| {
                    let forged = datagram(SocketAddr::new(world.sibling.addresses[0], 7), to, FORGED);
                    vec![tagged(&world.frame_to(world.victim.mac, &forged), 0)]
                })
            }),
            ("a forged sender in fragments", |world| {
                is_heard(world, world.victim.addresses[0], |world, to| {
                    let (from, to) = ((world.sibling.v4(), 7), (world.victim.v4(), to.port()));
                    let parts = datagram_in_fragments(from, to, FORGED);
                    parts.iter().map(|part| world.frame_to(world.victim.mac, part)).collect()
                })
            }),
            ("a frame of a VLAN", |world| {
                arrives(world, |world| tagged(&unknown(world.victim.mac, world), 100))
            }),
            ("a frame of an unknown protocol", |world| {
                arrives(world, |world| unknown(world.victim.mac, world))
            }),
            ("a frame of an unknown protocol to everybody", |world| {
                arrives(world, |world| unknown([0xff; 6], world))
            }),
            ("a claim to be the root of all bridges", |world| arrives(world, bpdu)),
        ],
    );
}

pub(crate) fn oversized_extension_headers_hide_nothing() {
    only_the_plain_ground_falls_to(
        Layout::Dual,
        &[
            ("a forged sender behind 250 bytes", |world| is_heard_behind_options(world, 1)),
            ("a forged sender behind 1,250 bytes", |world| is_heard_behind_options(world, 5)),
        ],
    );
}

pub(crate) fn a_sandbox_does_not_become_a_router_of_multicast() {
    only_the_plain_ground_falls_to(
        Layout::V4,
        &[("a query for members", |world| {
            let query = igmp_query(world.mallory.v4());
            world.wire.send(&world.frame_to(ALL_SYSTEMS, &query));
            world.knock();
            let bridge = world.ground.bridge("blue");
            let told = output(world.host(), "bridge", &["-json", "-details", "mdb", "show", "dev", &bridge]);
            let told: Value = serde_json::from_str(&told).unwrap();
            let mut routers = told[0]["router"][&bridge].as_array().into_iter().flatten();
            routers.any(|router| router["port"] == *world.mallory.host_link)
        })],
    );
}

/// An ARP answer to the victim: the gateway is at `mallory`.
fn forged_answer(world: &World) -> Vec<u8> {
    let (mallory, victim) = (&world.mallory, &world.victim);
    let forged = arp(ArpKind::Reply, (mallory.mac, mallory.gateway_v4()), (victim.mac, victim.v4()));
    ethernet(victim.mac, mallory.mac, ARP, &forged)
}

fn unknown(to: Mac, world: &World) -> Vec<u8> {
    ethernet(to, world.mallory.mac, EXPERIMENTAL, &[FORGED, &[0; 46][..]].concat())
}

/// A bridge protocol data unit: "I am the root", with the best priority there is (IEEE 802.1D, section 9.3.1).
fn bpdu(world: &World) -> Vec<u8> {
    let root = [&[0, 0], &world.mallory.mac[..]].concat();
    let head = [0x42, 0x42, 3, 0, 0, 0, 0, 0];
    let timers = [0x80, 1, 0, 0, 20, 0, 2, 0, 15, 0];
    let unit = [&head, &root[..], &[0; 4], &root, &timers, FORGED].concat();
    ethernet(BRIDGES, world.mallory.mac, u16::try_from(unit.len()).unwrap(), &unit)
}

/// Whether what is forged in these frames is heard at the victim.
fn is_heard(world: &World, at: IpAddr, frames: impl Fn(&World, SocketAddr) -> Vec<Vec<u8>>) -> bool {
    let ear = Ear::open(&world.victim.netns, at);
    let to = SocketAddr::new(at, ear.port);
    for frame in frames(world, to) {
        world.wire.send(&frame);
    }
    say(&world.mallory.netns, to, USUAL);
    has_forged(&ear.before_usual())
}

fn is_heard_behind_options(world: &World, count: usize) -> bool {
    is_heard(world, world.victim.addresses[1], |world, to| {
        let from = SocketAddr::new(world.sibling.addresses[1], 7);
        vec![world.frame_to(world.victim.mac, &datagram_behind_options(from, to, count, FORGED))]
    })
}

/// Whether a frame arrives at the link of the victim, whatever its kernel would make of it.
fn arrives(world: &World, frame: impl Fn(&World) -> Vec<u8>) -> bool {
    let wire = Wire::open(&world.victim.netns, "eth0");
    world.wire.send(&frame(world));
    say(&world.mallory.netns, SocketAddr::new(world.victim.addresses[0], 9), USUAL);
    wire.frames_before(USUAL).iter().any(|frame| contains(frame, FORGED))
}
