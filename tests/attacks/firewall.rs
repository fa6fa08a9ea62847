//! What others do to the firewall of the host, and what a sandbox does to its memory.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use netloft_netns::{EnterOptions, Netns};
use netloft_tests::attacker::datagram;
use netloft_tests::programs::tool;

use crate::guarded::FLOWS_MAX;
use crate::support::{Ear, FORGED, USUAL, feed, has_forged, output, say, setting};
use crate::world::{
    LAN_HOST, LAN_NEIGHBOUR, Layout, PUBLISHED, World, only_the_plain_ground_falls_to, ours_withstands,
    published_at,
};

/// Within what time ours is to be as it was after somebody threw it away.
const RESTORED: Duration = Duration::from_secs(1);

/// A table of somebody else.
const THEIRS: &str = "table inet theirs {
	chain input {
		type filter hook input priority filter; policy accept;
		ip saddr 198.51.100.7 drop
	}
}
";

pub(crate) fn no_hole_opens_when_somebody_flushes_the_firewall() {
    only_the_plain_ground_falls_to(
        Layout::V4,
        &[
            ("nft flush ruleset", |world| gets_through_during(world, "flush ruleset")),
            ("a reload of a firewall", |world| {
                gets_through_during(world, &format!("flush ruleset\n{THEIRS}"))
            }),
        ],
    );
}

pub(crate) fn published_ports_are_back_within_a_second_after_a_flush() {
    ours_withstands(
        Layout::V4,
        &[("nft flush ruleset", |world| {
            world.check_published_port();
            let ear = Ear::open_at(&world.victim.netns, published_at());
            feed(world.host(), "nft", &["-f", "-"], "flush ruleset");
            let flushed = Instant::now();
            while flushed.elapsed() < RESTORED {
                say(&world.lan, SocketAddr::new(LAN_HOST[0], PUBLISHED.0), FORGED);
                // What was sent too early is lost; that something came shows that the port is back.
                if has_forged(&ear.so_far()) {
                    return false;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            true
        })],
    );
}

pub(crate) fn tables_of_others_stay_as_they_are() {
    ours_withstands(
        Layout::V4,
        &[("a table changes", |world| {
            feed(world.host(), "nft", &["-f", "-"], THEIRS);
            let list = |world: &World| output(world.host(), "nft", &["list", "table", "inet", "theirs"]);
            let before = list(world);
            assert_eq!(before, THEIRS);
            let web = world.ground.attach("blue", "web", &["8083:80/tcp"]);
            world.check_published_port();
            world.ground.detach(&web);
            list(world) != before
        })],
    );
}

pub(crate) fn a_sandbox_does_not_fill_the_memory_of_connections() {
    /// More than one sandbox may, and less than the whole host can: 262,144 by default.
    const FLOWS: u16 = 40_000;
    const FIRST: u16 = 1024;
    only_the_plain_ground_falls_to(
        Layout::V4,
        &[("flows to the LAN", |world| {
            let known = || setting(world.host(), "netfilter/nf_conntrack_count").parse::<u32>().unwrap();
            let from = world.mallory.addresses[0];
            for port in FIRST..FIRST + FLOWS {
                let to = SocketAddr::new(LAN_NEIGHBOUR[0], port);
                world.send_to_gateway(&datagram(SocketAddr::new(from, 7), to, FORGED));
            }
            world.knock();
            let count = known();
            // Somebody else's are still remembered: the LAN answers to where it was asked from.
            let ear = Ear::open(&world.lan, LAN_NEIGHBOUR[0]);
            say(&world.stranger.netns, SocketAddr::new(LAN_NEIGHBOUR[0], ear.port), USUAL);
            ear.before_usual();
            // The attacker has used up its own; usual traffic of its own passes again when they are forgotten.
            output(world.host(), "conntrack", &["-D", "-s", &from.to_string()]);
            count > FLOWS_MAX
        })],
    );
}

/// Whether anything forged gets to the victim, or across the border of its network, while somebody changes the
/// firewall, and until what is published answers again.
fn gets_through_during(world: &mut World, change: &str) -> bool {
    let (victim, stranger) = (&world.victim, &world.stranger);
    let ears =
        [Ear::open(&victim.netns, victim.addresses[0]), Ear::open(&stranger.netns, stranger.addresses[0])];
    let attack = || {
        let forged =
            |from, to, ear: &Ear| datagram(SocketAddr::new(from, 7), SocketAddr::new(to, ear.port), FORGED);
        let as_sibling = forged(world.sibling.addresses[0], victim.addresses[0], &ears[0]);
        world.wire.send(&world.frame_to(victim.mac, &as_sibling));
        world.send_to_gateway(&forged(world.mallory.addresses[0], stranger.addresses[0], &ears[1]));
        ears.iter().any(|ear| has_forged(&ear.so_far()))
    };
    let mut changing = start(world.host(), change);
    let began = Instant::now();
    let mut got_through = false;
    while changing.try_wait().unwrap().is_none() || began.elapsed() < RESTORED {
        got_through |= attack();
        if got_through {
            break;
        }
    }
    assert!(changing.wait().unwrap().success(), "{change}");
    // What was under way has arrived when something honest has.
    world.knock();
    got_through | attack()
}

/// Starts to change a firewall.
fn start(netns: &Netns, change: &str) -> Child {
    let mut command = Command::new(tool("nft"));
    EnterOptions::new(netns).apply(command.arg(change).stdin(Stdio::null()));
    command.spawn().unwrap()
}
