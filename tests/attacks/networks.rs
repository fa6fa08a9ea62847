//! Attacks across the border of a network.

use std::net::{IpAddr, SocketAddr};

use netloft_tests::attacker::{Wire, contains, datagram, echo_mark, echo_request};

use crate::ground::{Reach, Sandbox};
use crate::support::{Ear, FORGED, USUAL, has_forged, say};
use crate::world::{LAN_NEIGHBOUR, Layout, World, frame, knock, only_the_plain_ground_falls_to, passes};

pub(crate) fn another_network_is_out_of_reach_on_a_host_that_forwards() {
    only_the_plain_ground_falls_to(
        Layout::Dual,
        &[
            ("a sandbox there", |world| reaches_stranger(world, 0)),
            ("a sandbox there, by IPv6", |world| reaches_stranger(world, 1)),
            ("its gateway", |world| is_answered_by(world, world.stranger.gateways[0])),
            ("its gateway, by IPv6", |world| is_answered_by(world, world.stranger.gateways[1])),
            ("a service of the host at its gateway", |world| {
                let to = world.stranger.gateways[0];
                let ear = Ear::open(world.host(), to);
                let from = SocketAddr::new(world.mallory.addresses[0], 7);
                world.send_to_gateway(&datagram(from, SocketAddr::new(to, ear.port), FORGED));
                world.knock();
                has_forged(&ear.so_far())
            }),
        ],
    );
}

pub(crate) fn nothing_leaves_an_internal_network() {
    only_the_plain_ground_falls_to(
        Layout::Dual,
        &[
            ("a query for a name", |world| {
                leaves_internal(world, |from| {
                    let to = SocketAddr::new(LAN_NEIGHBOUR[0], 53);
                    datagram(SocketAddr::new(from.v4().into(), 5353), to, &dns_query())
                })
            }),
            ("any datagram, by IPv6", |world| {
                leaves_internal(world, |from| {
                    let to = SocketAddr::new(LAN_NEIGHBOUR[1], 7);
                    datagram(SocketAddr::new(from.v6().into(), 7), to, b"stolen.example")
                })
            }),
            ("an echo request", |world| {
                leaves_internal(world, |from| echo_request(from.v4().into(), LAN_NEIGHBOUR[0], 0x0bad))
            }),
            ("a datagram in the name of a sandbox that may", |world| {
                let named = world.stranger.v4();
                leaves_internal(world, |_| {
                    let to = SocketAddr::new(LAN_NEIGHBOUR[0], 7);
                    datagram(SocketAddr::new(named.into(), 7), to, b"stolen.example")
                })
            }),
        ],
    );
}

/// Whether a sandbox of the other network hears `mallory`.
fn reaches_stranger(world: &World, family: usize) -> bool {
    let to = world.stranger.addresses[family];
    let ear = Ear::open(&world.stranger.netns, to);
    let to = SocketAddr::new(to, ear.port);
    world.send_to_gateway(&datagram(SocketAddr::new(world.mallory.addresses[family], 7), to, FORGED));
    world.knock();
    say(world.host(), to, USUAL);
    has_forged(&ear.before_usual())
}

/// Whether an address of the host answers to an echo request of `mallory`.
fn is_answered_by(world: &World, address: IpAddr) -> bool {
    const NUMBER: u16 = 0x0bad;
    let (from, gateway) = world.mallory.like(address);
    // The way back has to be known for the answer to come in turn.
    passes(world.host(), &world.mallory.netns, from);
    assert!(address != gateway, "its own gateway may answer");
    world.send_to_gateway(&echo_request(from, address, NUMBER));
    world.knock().iter().any(|frame| contains(frame, &echo_mark(NUMBER)))
}

/// Whether a packet from a sandbox of an internal network is seen in the LAN.
fn leaves_internal(world: &mut World, packet: impl Fn(&Sandbox) -> Vec<u8>) -> bool {
    let insider = world.in_vault();
    let (inside, lan) = (Wire::open(&insider.netns, "eth0"), Wire::open(&world.lan, "eth0"));
    // The host knows its neighbour, and lets somebody of another network out.
    for neighbour in LAN_NEIGHBOUR {
        say(&world.stranger.netns, SocketAddr::new(neighbour, 9), USUAL);
        lan.frames_before(USUAL);
    }
    inside.send(&frame(insider.gateway_mac, insider.mac, &packet(&insider)));
    knock(&inside, &insider);
    say(world.host(), SocketAddr::new(LAN_NEIGHBOUR[0], 9), USUAL);
    let seen = lan.frames_before(USUAL);
    seen.iter().any(|frame| contains(frame, b"stolen") || contains(frame, &echo_mark(0x0bad)))
}

impl World {
    /// A sandbox in an internal network, which is made when it is first asked for.
    fn in_vault(&mut self) -> Sandbox {
        if self.insider.is_none() {
            self.ground.create_network("vault", &["10.91.0.0/24", "fd00:91::/64"], Reach::Internal);
            self.insider = Some(self.ground.attach("vault", "insider", &[]));
        }
        self.insider.clone().unwrap()
    }
}

/// A query for the address of `stolen.example` (RFC 1035, section 4.1).
fn dns_query() -> Vec<u8> {
    let header = [0x4e, 0x4c, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    [&header[..], b"\x06stolen\x07example\0", &[0, 1, 0, 1]].concat()
}
