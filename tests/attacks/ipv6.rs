//! Attacks that IPv6 brings: routers nobody asked for, and a way past networks that do not speak it.

use std::net::{IpAddr, SocketAddr};

use netloft_netns::Netns;
use netloft_tests::attacker::{
    ALL_NODES, Mac, datagram, link_local, router_advertisement, router_advertisement_behind_options,
};
use netloft_tests::running::until;

use crate::support::{Ear, FORGED, USUAL, has_forged, ip, output, say, set};
use crate::world::{Layout, World, frame, only_the_plain_ground_falls_to, passes};

pub(crate) fn a_rogue_router_is_believed_by_nobody() {
    only_the_plain_ground_falls_to(
        Layout::Dual,
        &[
            ("an advertisement to a neighbour", |world| advertises(world, Target::Neighbour, plain)),
            ("an advertisement to the host", |world| advertises(world, Target::Host, plain)),
            ("an advertisement to a neighbour, behind options", |world| {
                advertises(world, Target::Neighbour, behind_options)
            }),
            ("an advertisement to the host, behind options", |world| {
                advertises(world, Target::Host, behind_options)
            }),
        ],
    );
}

pub(crate) fn a_network_without_ipv6_is_no_way_for_it() {
    only_the_plain_ground_falls_to(
        Layout::V4,
        &[
            ("what a neighbour has by itself", |world| {
                let addresses = ip(&world.victim.netns, &["-6", "address", "show", "dev", "eth0"]);
                !addresses.is_empty()
            }),
            ("what the bridge has by itself", |world| {
                let bridge = world.ground.bridge("blue");
                !ip(world.host(), &["-6", "address", "show", "dev", &bridge]).is_empty()
            }),
            // From here on, whoever is attacked has switched IPv6 on.
            ("a datagram to a neighbour", |world| {
                switch_on(&world.victim.netns, "eth0");
                let to = link_local(world.victim.mac);
                is_heard(world, &world.victim.netns, to.into(), world.victim.mac)
            }),
            ("a datagram to all nodes", |world| {
                switch_on(&world.victim.netns, "eth0");
                is_heard(world, &world.victim.netns, ALL_NODES.0.into(), ALL_NODES.1)
            }),
            ("a datagram to the bridge", |world| {
                switch_on(world.host(), &world.ground.bridge("blue"));
                let to = link_local(world.mallory.gateway_mac);
                is_heard(world, world.host(), to.into(), world.mallory.gateway_mac)
            }),
        ],
    );
}

#[derive(Clone, Copy)]
enum Target {
    Neighbour,
    Host,
}

fn plain(world: &World) -> Vec<u8> {
    router_advertisement(link_local(world.mallory.mac), world.mallory.mac)
}

fn behind_options(world: &World) -> Vec<u8> {
    router_advertisement_behind_options(link_local(world.mallory.mac), world.mallory.mac, 4)
}

/// Advertises `mallory` as a router, to somebody whose settings say to believe that; whether it gets a route.
fn advertises(world: &mut World, target: Target, packet: fn(&World) -> Vec<u8>) -> bool {
    let bridge = world.ground.bridge("blue");
    let (netns, link) = match target {
        Target::Neighbour => (&world.victim.netns, "eth0"),
        Target::Host => (world.host(), &*bridge),
    };
    // Also where the host forwards.
    set(netns, &format!("ipv6/conf/{link}/accept_ra"), "2");
    output(netns, "ip", &["-6", "route", "flush", "proto", "ra"]);
    world.wire.send(&world.frame_to(ALL_NODES.1, &packet(world)));
    passes(&world.mallory.netns, &world.victim.netns, world.victim.addresses[1]);
    world.knock();
    let routes = ip(netns, &["-6", "route", "show", "default"]);
    let rogue = link_local(world.mallory.mac).to_string();
    routes.iter().any(|route| route["gateway"] == *rogue)
}

/// Lets a link speak IPv6, if its kernel was told not to, and waits until it has an address.
fn switch_on(netns: &Netns, link: &str) {
    set(netns, &format!("ipv6/conf/{link}/accept_dad"), "0");
    for which in ["all", link] {
        set(netns, &format!("ipv6/conf/{which}/disable_ipv6"), "0");
    }
    set(netns, &format!("ipv6/conf/{link}/addr_gen_mode"), "0");
    let is_ready = || {
        let links = ip(netns, &["-6", "address", "show", "dev", link, "scope", "link"]);
        let addresses = links.iter().filter_map(|link| link["addr_info"].as_array()).flatten();
        addresses.filter(|address| address["tentative"].is_null()).count() > 0
    };
    until("there is a link-local address", is_ready);
}

/// Whether a datagram by IPv6 to this address, in a frame to that one, is heard.
fn is_heard(world: &World, netns: &Netns, to: IpAddr, mac: Mac) -> bool {
    let ear = Ear::open(netns, to);
    let from = SocketAddr::new(link_local(world.mallory.mac).into(), 7);
    let packet = datagram(from, SocketAddr::new(to, ear.port), FORGED);
    world.wire.send(&frame(mac, world.mallory.mac, &packet));
    // To whomever it went: something honest went after it.
    let honest = Ear::open(&world.victim.netns, world.victim.addresses[0]);
    say(&world.mallory.netns, SocketAddr::new(world.victim.addresses[0], honest.port), USUAL);
    honest.before_usual();
    world.knock();
    has_forged(&ear.so_far())
}
