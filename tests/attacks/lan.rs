//! Attacks from the neighbour in the LAN.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use netloft_tests::attacker::{Wire, datagram, echo_mark, echo_request};

use crate::ground::Sandbox;
use crate::host::route_loopback;
use crate::support::{Ear, FORGED, Heard, USUAL, has_forged, mac_of, output, say};
use crate::world::{
    LAN_HOST, LAN_LINK, LAN_NEIGHBOUR, Layout, PUBLISHED, World, frame, only_the_plain_ground_falls_to,
    published_at,
};

pub(crate) fn a_port_that_is_not_published_is_out_of_reach_for_the_lan() {
    only_the_plain_ground_falls_to(
        Layout::Dual,
        &[
            ("by a route to the network", |world| reaches_unpublished(world, 0)),
            ("by a route to the network, by IPv6", |world| reaches_unpublished(world, 1)),
            ("the published port, past the host's own address", |world| {
                let ear = Ear::open_at(&world.victim.netns, published_at());
                route_to_network(world);
                say(&world.lan, SocketAddr::new(world.victim.addresses[0], ear.port), FORGED);
                has_forged(&after_published(world, &ear))
            }),
        ],
    );
}

pub(crate) fn a_port_published_on_loopback_answers_the_host_alone() {
    only_the_plain_ground_falls_to(
        Layout::V4,
        &[
            ("a frame from the LAN to 127.0.0.1", |world| {
                let lan = Wire::open(&world.lan, "eth0");
                let host_mac = mac_of(world.host(), LAN_LINK);
                let mac = mac_of(&world.lan, "eth0");
                from_loopback_port(world, |_, to| {
                    let forged = datagram(SocketAddr::new(LAN_NEIGHBOUR[0], 7), to, FORGED);
                    lan.send(&frame(host_mac, mac, &forged));
                    lan.send(&frame(host_mac, mac, &echo_request(LAN_NEIGHBOUR[0], LAN_HOST[0], 0x600d)));
                    lan.frames_before(&echo_mark(0x600d));
                })
            }),
            ("a frame from a sandbox to 127.0.0.1", |world| {
                from_loopback_port(world, |world, to| {
                    let from = SocketAddr::new(world.mallory.addresses[0], 7);
                    world.send_to_gateway(&datagram(from, to, FORGED));
                    world.knock();
                })
            }),
        ],
    );
}

/// Whether the LAN reaches a port of the victim that is not published.
fn reaches_unpublished(world: &mut World, family: usize) -> bool {
    let to = world.victim.addresses[family];
    let (ear, published) =
        (Ear::open(&world.victim.netns, to), Ear::open_at(&world.victim.netns, published_at()));
    route_to_network(world);
    say(&world.lan, SocketAddr::new(to, ear.port), FORGED);
    after_published(world, &published);
    has_forged(&ear.so_far())
}

/// What is heard at the published port before something honest that comes by it from the LAN.
fn after_published(world: &World, ear: &Ear) -> Vec<Heard> {
    say(&world.lan, SocketAddr::new(LAN_HOST[0], PUBLISHED.0), USUAL);
    ear.before_usual()
}

/// Makes the LAN neighbour send to our networks by the host, as anybody there can.
fn route_to_network(world: &World) {
    for (family, subnet) in [("-4", "10.89.0.0/24"), ("-6", "fd00:89::/64")] {
        let via = LAN_HOST[usize::from(family == "-6")].to_string();
        output(&world.lan, "ip", &[family, "route", "replace", subnet, "via", &via]);
    }
}

/// Whether what `send` sends to a port that is published at 127.0.0.1 is heard there. The host is.
fn from_loopback_port(world: &mut World, send: impl FnOnce(&World, SocketAddr)) -> bool {
    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const PORT: u16 = 8081;
    let web: Sandbox = world.ground.attach("blue", "web", &["127.0.0.1:8081:7001/udp"]);
    route_loopback(world);
    let ear = Ear::open_at(&web.netns, (Ipv4Addr::UNSPECIFIED, 7001).into());
    say(&world.lan, SocketAddr::new(LAN_HOST[0], PORT), FORGED);
    world.check_published_port();
    assert!(!has_forged(&ear.so_far()), "it is not published there");
    send(world, SocketAddr::new(LOOPBACK, PORT));
    say(world.host(), SocketAddr::new(LOOPBACK, PORT), USUAL);
    let is_heard = has_forged(&ear.before_usual());
    world.ground.detach(&web);
    is_heard
}
