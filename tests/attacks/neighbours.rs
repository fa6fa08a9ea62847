//! Attacks on the neighbours on the same network, below and at the level of addresses.

use std::net::{IpAddr, SocketAddr};

use netloft_tests::attacker::{
    ARP, ArpKind, BROADCAST, EXPERIMENTAL, arp, contains, datagram, ethernet, neighbour_advertisement,
};
use netloft_tests::running::until;

use crate::ground::Sandbox;
use crate::support::{Ear, FORGED, USUAL, has_forged, ip, mac_text, output, say, set};
use crate::world::{Layout, World, only_the_plain_ground_falls_to};

pub(crate) fn forged_arp_does_not_move_the_gateway_of_a_neighbour() {
    only_the_plain_ground_falls_to(
        Layout::V4,
        &[
            ("an answer that nobody asked for", |world| {
                let (gateway, victim) = (world.mallory.gateway_v4(), &world.victim);
                let forged = arp(ArpKind::Reply, (world.mallory.mac, gateway), (victim.mac, victim.v4()));
                poisons(world, gateway.into(), &ethernet(victim.mac, world.mallory.mac, ARP, &forged))
            }),
            ("a question in the name of the gateway", |world| {
                let (gateway, victim) = (world.mallory.gateway_v4(), &world.victim);
                let forged = arp(ArpKind::Request, (world.mallory.mac, gateway), ([0; 6], victim.v4()));
                poisons(world, gateway.into(), &ethernet(BROADCAST, world.mallory.mac, ARP, &forged))
            }),
            ("an announcement to all", |world| {
                let (gateway, mac) = (world.mallory.gateway_v4(), world.mallory.mac);
                let forged = arp(ArpKind::Request, (mac, gateway), ([0; 6], gateway));
                poisons(world, gateway.into(), &ethernet(BROADCAST, mac, ARP, &forged))
            }),
            ("an answer in a frame that the gateway seems to send", |world| {
                let (gateway, victim) = (world.mallory.gateway_v4(), &world.victim);
                let forged = arp(ArpKind::Reply, (world.mallory.mac, gateway), (victim.mac, victim.v4()));
                poisons(world, gateway.into(), &ethernet(victim.mac, world.mallory.gateway_mac, ARP, &forged))
            }),
        ],
    );
}

pub(crate) fn forged_neighbour_advertisements_do_not_move_the_gateway_of_a_neighbour() {
    only_the_plain_ground_falls_to(
        Layout::Dual,
        &[("from its own address", |world| {
            let (mallory, victim) = (&world.mallory, &world.victim);
            let forged =
                neighbour_advertisement(mallory.v6(), victim.v6(), mallory.gateway_v6(), mallory.mac);
            poisons(world, mallory.gateway_v6().into(), &world.frame_to(victim.mac, &forged))
        })],
    );
}

pub(crate) fn a_forged_sender_is_not_heard() {
    only_the_plain_ground_falls_to(
        Layout::Dual,
        &[
            ("the IPv4 address of a sibling", |world| {
                speaks_as(world, world.sibling.v4().into(), world.victim.v4().into())
            }),
            ("the IPv4 address of the gateway", |world| {
                speaks_as(world, world.victim.gateway_v4().into(), world.victim.v4().into())
            }),
            ("the IPv6 address of a sibling", |world| {
                speaks_as(world, world.sibling.v6().into(), world.victim.v6().into())
            }),
            ("the IPv6 address of the gateway", |world| {
                speaks_as(world, world.victim.gateway_v6().into(), world.victim.v6().into())
            }),
            ("an IPv4 address of the network that nobody has", |world| {
                speaks_as(world, "10.89.0.200".parse().unwrap(), world.victim.v4().into())
            }),
        ],
    );
}

pub(crate) fn a_forged_ethernet_address_does_not_draw_a_neighbours_frames() {
    only_the_plain_ground_falls_to(
        Layout::V4,
        &[("a frame in the name of the neighbour", |world| {
            let ear = Ear::open(&world.victim.netns, world.victim.addresses[0]);
            let lure = ethernet(world.mallory.gateway_mac, world.victim.mac, EXPERIMENTAL, &[0; 46]);
            world.wire.send(&lure);
            let secret = b"for the victim alone";
            say(&world.sibling.netns, SocketAddr::new(world.victim.addresses[0], ear.port), secret);
            say(&world.sibling.netns, SocketAddr::new(world.mallory.addresses[0], 9), USUAL);
            let stolen = world.wire.frames_before(USUAL).iter().any(|frame| contains(frame, secret));
            // Whoever is robbed takes the way to itself back with the next frame that it sends.
            say(&world.victim.netns, SocketAddr::new(world.sibling.addresses[0], 9), USUAL);
            let heard = ear.so_far().iter().any(|(_, data)| data == secret);
            assert_ne!(stolen, heard, "it goes to one of the two");
            stolen
        })],
    );
}

pub(crate) fn a_flood_of_ethernet_addresses_does_not_fill_the_bridge() {
    const FLOOD: u32 = 20_000;
    /// Of the bridge, of its ports and of multicast, twice for good measure.
    const USUAL_MAX: usize = 64;
    only_the_plain_ground_falls_to(
        Layout::V4,
        &[("20,000 senders", |world| {
            for number in 0..FLOOD {
                let [_, a, b, c] = number.to_be_bytes();
                let frame =
                    ethernet(world.mallory.gateway_mac, [2, 0xff, 0, a, b, c], EXPERIMENTAL, &[0; 46]);
                world.wire.send(&frame);
            }
            world.knock();
            let known = output(world.host(), "bridge", &["fdb", "show", "br", &world.ground.bridge("blue")]);
            let count = known.lines().count();
            assert!(!(USUAL_MAX..FLOOD as usize).contains(&count), "all are learned, or none: {count}");
            count > USUAL_MAX
        })],
    );
}

/// Sends a frame that is to make the victim take `mallory` for this gateway, and tells whether it does.
pub(crate) fn poisons(world: &World, gateway: IpAddr, forged: &[u8]) -> bool {
    let victim = &world.victim;
    // A kernel does not change its mind within a second of having made it up, unless told to.
    for family in ["ipv4", "ipv6"].iter().take(victim.gateways.len()) {
        set(&victim.netns, &format!("{family}/neigh/eth0/locktime"), "0");
    }
    output(&victim.netns, "ip", &["neigh", "flush", "dev", "eth0"]);
    say(&victim.netns, SocketAddr::new(gateway, 9), USUAL);
    let known = || mac_known(victim, gateway);
    let honest = mac_text(victim.gateway_mac);
    until("the victim knows its gateway", || known().as_deref() == Some(&*honest));
    // What it does with a frame can depend on the state of its knowledge, which changes with time.
    (0..5).any(|_| {
        world.wire.send(forged);
        let ear = Ear::open(&victim.netns, victim.addresses[0]);
        say(&world.mallory.netns, SocketAddr::new(victim.addresses[0], ear.port), USUAL);
        ear.before_usual();
        known().as_deref() == Some(&*mac_text(world.mallory.mac))
    })
}

/// Which Ethernet address a sandbox takes a neighbour to have.
fn mac_known(sandbox: &Sandbox, neighbour: IpAddr) -> Option<String> {
    let found = ip(&sandbox.netns, &["neigh", "show", &neighbour.to_string(), "dev", "eth0"]);
    Some(found.first()?["lladdr"].as_str()?.to_owned())
}

/// Sends a datagram with a forged sender, and tells whether it is heard.
fn speaks_as(world: &World, from: IpAddr, to: IpAddr) -> bool {
    let ear = Ear::open(&world.victim.netns, to);
    let to = SocketAddr::new(to, ear.port);
    let forged = datagram(SocketAddr::new(from, 7), to, FORGED);
    world.wire.send(&world.frame_to(world.victim.mac, &forged));
    say(&world.mallory.netns, to, USUAL);
    let heard = ear.before_usual();
    assert!(heard.iter().all(|(sender, _)| *sender == from));
    has_forged(&heard)
}
