//! Attacks on the host itself, from a sandbox.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use netloft_tests::attacker::{datagram, datagram_in_fragments};

use crate::support::{Ear, FORGED, has_forged, set};
use crate::world::{LAN_HOST, LAN_LINK, Layout, World, only_the_plain_ground_falls_to};

/// How long a connection may take: it takes none at all, or is refused by silence.
const SHORT: Duration = Duration::from_millis(300);

pub(crate) fn services_on_loopback_are_out_of_reach_whatever_the_host_routes() {
    only_the_plain_ground_falls_to(
        Layout::V4,
        &[
            ("a service at 127.0.0.1", |world| {
                let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
                let ear = Ear::open_at(world.host(), loopback);
                hears_from_sandbox(world, &ear, loopback.ip())
            }),
            ("a service at 127.0.0.2", |world| {
                let loopback = SocketAddr::from(([127, 0, 0, 2], 0));
                let ear = Ear::open_at(world.host(), loopback);
                hears_from_sandbox(world, &ear, loopback.ip())
            }),
        ],
    );
}

pub(crate) fn services_of_the_host_are_out_of_reach_at_every_address() {
    only_the_plain_ground_falls_to(
        Layout::Dual,
        &[
            ("at the gateway", |world| is_heard_at(world, world.mallory.gateways[0])),
            ("at the gateway, by IPv6", |world| is_heard_at(world, world.mallory.gateways[1])),
            ("at the gateway, in fragments", |world| {
                let (from, to) = (world.mallory.v4(), world.mallory.gateway_v4());
                let ear = Ear::open(world.host(), to.into());
                for part in datagram_in_fragments((from, 7), (to, ear.port), FORGED) {
                    world.send_to_gateway(&part);
                }
                world.knock();
                has_forged(&ear.so_far())
            }),
            ("at its address in the LAN", |world| is_heard_at(world, LAN_HOST[0])),
            ("at its address in the LAN, by IPv6", |world| is_heard_at(world, LAN_HOST[1])),
            ("by a connection to the gateway", |world| accepts_at(world, world.mallory.gateways[0])),
            ("by a connection to the gateway, by IPv6", |world| accepts_at(world, world.mallory.gateways[1])),
        ],
    );
}

/// Whether a service that listens at every address of the host hears a datagram to this one.
fn is_heard_at(world: &World, address: IpAddr) -> bool {
    let ear = Ear::open(world.host(), address);
    hears_from_sandbox(world, &ear, address)
}

fn hears_from_sandbox(world: &World, ear: &Ear, address: IpAddr) -> bool {
    route_loopback(world);
    let (from, _) = world.mallory.like(address);
    let to = SocketAddr::new(address, ear.port);
    world.send_to_gateway(&datagram(SocketAddr::new(from, 7), to, FORGED));
    world.knock();
    has_forged(&ear.so_far())
}

/// What some programs of a host ask for, so that ports published at 127.0.0.1 work.
pub(crate) fn route_loopback(world: &World) {
    for link in ["all", &world.ground.bridge("blue"), LAN_LINK] {
        set(world.host(), &format!("ipv4/conf/{link}/route_localnet"), "1");
    }
}

/// Whether a connection to a service of the host at this address comes about.
fn accepts_at(world: &World, address: IpAddr) -> bool {
    let listener = world.host().run(|| TcpListener::bind(SocketAddr::new(address, 0)).unwrap()).unwrap();
    let to = listener.local_addr().unwrap();
    let connected = world.mallory.netns.run(|| TcpStream::connect_timeout(&to, SHORT).is_ok()).unwrap();
    world.knock();
    listener.set_nonblocking(true).unwrap();
    let accepted = listener.accept().is_ok();
    assert_eq!(connected, accepted, "both sides know");
    accepted
}
