//! Scenarios that nothing was tuned on: drawn at random, by a seed that was fixed first.

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::fleet::{Scenario, Server, Trouble, Work, plain};

/// How many there are.
pub const COUNT: u64 = 40;

/// Decides which scenarios these are. Another would decide for others.
const SEED: u64 = 2024;

/// All of them.
pub fn all() -> Vec<Scenario> {
    (1..=COUNT).map(|number| draw(number, &mut SmallRng::seed_from_u64(SEED << 32 | number))).collect()
}

fn draw(number: u64, rng: &mut SmallRng) -> Scenario {
    let count = whole(rng, 4.0, 30.0);
    let cores = pick(rng, [1.0, 1.0, 2.0, 4.0]);
    let (shape, mut servers) = shape(rng, count, cores);
    let trouble = trouble(rng, &mut servers);
    let (kinds, work) = work(rng);
    let clients = whole(rng, 1.0, 300.0);
    let utilization = 0.3 + 0.55 * rng.random::<f64>();
    let name = format!(
        "{number}: {count} of {cores} cores, {shape}, {trouble}, {kinds}{:.0} ms, {clients} clients, \
         u {utilization:.2}",
        work.mean() * 1e3
    );
    Scenario::with_work(name, servers.clone(), utilization * part_left(&servers), work).with_clients(clients)
}

/// The part of the capacity at the start that trouble leaves to work with.
fn part_left(servers: &[Server]) -> f64 {
    let there = servers.iter().filter(|server| server.from <= 0.0);
    let left = there.clone().map(|server| match server.trouble {
        _ if server.failing > 0.0 => 0.0,
        Trouble::Antagonist => server.capacity() * 2.0 / 3.0,
        _ => server.capacity(),
    });
    left.sum::<f64>() / there.map(Server::capacity).sum::<f64>()
}

fn shape(rng: &mut SmallRng, count: usize, cores: f64) -> (&'static str, Vec<Server>) {
    let mut servers = vec![plain(cores); count];
    let shape = pick(rng, ["alike", "alike", "two speeds", "many speeds", "sized and weighed"]);
    for server in &mut servers {
        match shape {
            "two speeds" => server.speed = pick(rng, [1.0, 2.0]),
            "many speeds" => server.speed = between(rng, 0.5, 2.0),
            "sized and weighed" => {
                server.weight = pick(rng, [1, 2, 3]);
                server.cores = cores * f64::from(server.weight);
            }
            _ => {}
        }
    }
    (shape, servers)
}

const TROUBLES: [&str; 10] = [
    "sound",
    "sound",
    "antagonists",
    "some antagonists",
    "pauses",
    "one slow",
    "one fails",
    "one silent",
    "some lost",
    "one joins",
];

fn trouble(rng: &mut SmallRng, servers: &mut [Server]) -> &'static str {
    let trouble = pick(rng, TROUBLES);
    let quarter = servers.len() / 4;
    let all = servers.len();
    let mut befalls = |count: usize, trouble: Trouble| {
        for server in &mut servers[..count] {
            server.trouble = trouble;
        }
    };
    match trouble {
        "antagonists" => befalls(all, Trouble::Antagonist),
        "some antagonists" => befalls(quarter, Trouble::Antagonist),
        "pauses" => befalls(all, Trouble::Pauses),
        "one slow" => servers[0].speed *= between(rng, 0.05, 0.4),
        "one fails" => servers[0].failing = between(rng, 0.1, 1.0),
        "one silent" => befalls(1, Trouble::Silent { at: between(rng, 5.0, 30.0) }),
        "some lost" => {
            let at = between(rng, 5.0, 15.0);
            befalls(quarter, Trouble::Lost { at, until: at + 12.0 });
        }
        "one joins" => {
            befalls(1, Trouble::Cold);
            servers[0].from = between(rng, 4.0, 15.0);
        }
        _ => {}
    }
    trouble
}

fn work(rng: &mut SmallRng) -> (&'static str, Work) {
    let mean = between(rng, 0.015, 0.06);
    let has_two_kinds = rng.random::<f64>() < 0.3;
    if has_two_kinds { ("two kinds, ", Work::Two(mean / 2.0, mean * 5.5)) } else { ("", Work::One(mean)) }
}

/// As likely in each factor of two.
fn between(rng: &mut SmallRng, low: f64, high: f64) -> f64 {
    low * (high / low).powf(rng.random::<f64>())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small numbers above 0")]
fn whole(rng: &mut SmallRng, low: f64, high: f64) -> usize {
    between(rng, low, high).round() as usize
}

fn pick<T: Copy, const N: usize>(rng: &mut SmallRng, from: [T; N]) -> T {
    *from.choose(rng).expect("there are some")
}
