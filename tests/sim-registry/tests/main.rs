//! The registry simulated: the real server and the real clients of this workspace, with their HTTP/2 and all, in one
//! thread, under a clock and a chance that a seed decides ([`fate`]), on wires that delay, withhold and break ([`wire`]).
//!
//! Nothing of what is simulated knows that it is. In every run every watch must keep the seven promises, no session may
//! end while its client could renew it nor live on without it, clients go on by what they last knew while the registry
//! is away, and in the end all must agree. `NETLOFT_SIM_SEEDS=10000` runs as many seeds, `NETLOFT_SIM_SEED=17` one.
//!
//! The embedded store is not simulated: it writes in a thread of its own, and how two threads take turns no seed decides.
//! Its disk is pretended in its own tests.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking; only `#[test]` functions are exempt by themselves"
)]

mod fate;
mod host;
mod wire;
mod world;

use std::io::{self, Write as _};
use std::process::{Command, ExitCode, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use netloft_tests::harness::{case, run};
use netloft_tests::tell;

/// Tells this program that it is to run one seed.
const SEED: &str = "NETLOFT_SIM_SEED";
/// How many seeds are run otherwise.
const SEEDS: &str = "NETLOFT_SIM_SEEDS";

fn main() -> ExitCode {
    match std::env::var(SEED) {
        Ok(seed) => {
            let outcome = world::run(seed.parse().unwrap());
            let told = writeln!(io::stdout(), "seed {seed}: {outcome:?}");
            if told.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(_) => run(&[case(the_same_seed_is_the_same_story), case(every_promise_holds_in_every_story)]),
    }
}

fn the_same_seed_is_the_same_story() {
    let stories: Vec<String> = (1..=4).map(story).collect();
    for (seed, told) in (1..).zip(&stories) {
        for _ in 0..2 {
            assert_eq!(story(seed), *told, "seed {seed} is not the same twice");
        }
    }
    let others = stories.iter().enumerate().filter(|(at, told)| !stories[..*at].contains(told));
    assert_eq!(others.count(), stories.len(), "different seeds are the same story");
}

fn every_promise_holds_in_every_story() {
    let count: u64 = std::env::var(SEEDS).map_or(100, |text| text.parse().unwrap());
    let (next, sums) = (AtomicU64::new(1), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed > count {
                        return;
                    }
                    let told = story(seed);
                    sums.lock().unwrap_or_else(PoisonError::into_inner).push(told);
                }
            });
        }
    });
    let sums = sums.into_inner().unwrap();
    let total = |field: &str| -> usize { sums.iter().map(|told| number_of(told, field)).sum() };
    for field in ["revisions", "batches", "resets", "resumed", "expired", "crashes", "disturbances", "stale"]
    {
        assert!(total(field) > 0, "no story has any {field}");
    }
    tell(format!(
        "{} seeds: {} events, {} revisions, {} batches, {} resets, {} resumed, {} expired, {} crashes, {} disturbances, {} stale",
        sums.len(),
        total("events"),
        total("revisions"),
        total("batches"),
        total("resets"),
        total("resumed"),
        total("expired"),
        total("crashes"),
        total("disturbances"),
        total("stale"),
    ));
}

/// The number of a field in the printed outcome of a story.
fn number_of(told: &str, field: &str) -> usize {
    let (_, rest) = told.split_once(&format!(" {field}: ")).unwrap();
    rest.split([',', ' ']).next().unwrap().parse().unwrap()
}

/// Runs a seed in a process of its own, in which nothing has happened yet; answers what came of it.
fn story(seed: u64) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let Output { status, stdout, stderr } = command.env(SEED, seed.to_string()).output().unwrap();
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{SEED}={seed}: {status}\n{said}");
    String::from_utf8(stdout).unwrap()
}
