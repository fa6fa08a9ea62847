//! Publishing a port while many are published: this crate, and the `nft` program.
//!
//! Both put one element into the same map, each in a transaction of its own, then take it out again. Needs no privilege
//! and touches nothing outside a private world.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on ends")]

use std::collections::BTreeSet;
use std::process::Command;
use std::slice::from_ref;
use std::time::{Duration, Instant};

use netloft_netns::private::enter_private;
use netloft_netns::{EnterOptions, Enterer, Netns};
use netloft_nft::{Fact, Firewall, Publication};
use netloft_types::PublishedPort;

const ROUNDS: u16 = 1000;
const ROUNDS_OF_NFT: u16 = 20;

fn main() {
    enter_private().unwrap();
    println!(
        "{:<10}{:>14}{:>12}{:>12}{:>12}{:>14}",
        "published", "establish, ms", "put, us", "p99", "delete, us", "nft put, us"
    );
    for published in [0, 1000, 10_000] {
        let enterer = Enterer::new().unwrap();
        let netns = Netns::create().unwrap();
        // With an owner, nft could not change the tables.
        let mut firewall = Firewall::open_unowned(&enterer, &netns).unwrap();
        let facts: BTreeSet<Fact> = (0..published).map(|number| publication(20_000 + number)).collect();
        let established = timed(|| firewall.establish(&facts).unwrap());
        let ports = 1..=ROUNDS;
        let mut put: Vec<_> = ports
            .clone()
            .map(|port| timed(|| firewall.change(from_ref(&publication(port)), &[]).unwrap()))
            .collect();
        let mut delete: Vec<_> =
            ports.map(|port| timed(|| firewall.change(&[], from_ref(&publication(port))).unwrap())).collect();
        let mut nft: Vec<_> = (1..=ROUNDS_OF_NFT).map(|port| timed(|| nft_put(&netns, port))).collect();
        println!(
            "{published:<10}{:>14.1}{:>12.1}{:>12.1}{:>12.1}{:>14.1}",
            micros(established) / 1000.0,
            micros(quantile(&mut put, 50)),
            micros(quantile(&mut put, 99)),
            micros(quantile(&mut delete, 50)),
            micros(quantile(&mut nft, 50)),
        );
    }
}

fn publication(port: u16) -> Fact {
    let port: PublishedPort =
        format!("{port}:80").parse::<netloft_types::PublishSpec>().unwrap().try_into().unwrap();
    Fact::Publication(Publication::new(port, "10.89.0.2".parse().unwrap()).unwrap())
}

fn nft_put(netns: &Netns, port: u16) {
    let element = format!("add element inet netloft single4 {{ tcp . {port} : 10.89.0.2 . 80 }}");
    let mut command = Command::new("nft");
    EnterOptions::new(netns).apply(command.arg(element));
    assert!(command.status().unwrap().success());
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn quantile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[times.len() * percent / 100]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
