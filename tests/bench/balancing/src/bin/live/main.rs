//! What a client sees of a real service in trouble: ours and others, each the same.
//!
//! `cargo run --release --manifest-path tests/bench/balancing/Cargo.toml --bin live -- [SECONDS] [ROUNDS]`
//!
//! Each scenario has eight replicas, processes of their own that serve gRPC, each with four places and calls of 10 ms on average
//! (exponential; they wait and do not compute, so the machine is not what is measured). Four clients in one process send calls
//! as a Poisson process at 70 % of what the replicas can do, and wait a second for an answer. The latency is from when a call
//! should have been sent. Nobody is told of what happens to a replica, except that another one has come.

#![expect(clippy::print_stdout, reason = "the table is the result")]

mod ads;
mod contender;
mod drive;
mod fleet;
mod replica;

use std::time::Duration;

use contender::Contender;
use drive::Seen;
use fleet::Event;
use replica::Nature;

/// Replicas that are there from the beginning.
const REPLICAS: usize = 8;

#[derive(Debug, Clone, Copy)]
struct Scenario {
    name: &'static str,
    /// That of the first replica; the others are ordinary.
    first: Nature,
    /// What happens after a third of the time.
    event: Event,
}

const SCENARIOS: [Scenario; 8] = [
    Scenario { name: "all alike", first: Nature::ORDINARY, event: Event::None },
    Scenario {
        name: "one at a tenth of its speed",
        first: Nature { speed: 0.1, ..Nature::ORDINARY },
        event: Event::None,
    },
    Scenario {
        name: "one fails at once",
        first: Nature { failing: 1.0, ..Nature::ORDINARY },
        event: Event::None,
    },
    Scenario {
        name: "one fails 30 %",
        first: Nature { failing: 0.3, ..Nature::ORDINARY },
        event: Event::None,
    },
    Scenario { name: "a cold one joins", first: Nature::ORDINARY, event: Event::Join },
    Scenario { name: "one stands still for a second", first: Nature::ORDINARY, event: Event::Stop },
    Scenario { name: "one is killed", first: Nature::ORDINARY, event: Event::Kill },
    Scenario { name: "one was never there", first: Nature::ABSENT, event: Event::None },
];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if arguments.first().is_some_and(|argument| argument == "replica") {
        return runtime.block_on(replica::serve(&arguments[1..]));
    }
    let mut numbers = arguments.iter().filter_map(|argument| argument.parse().ok());
    let seconds = Duration::from_secs(numbers.next().unwrap_or(6));
    let rounds = numbers.next().unwrap_or(3);
    let only = arguments.iter().find(|argument| argument.parse::<u64>().is_err());
    runtime.block_on(compare(seconds, rounds, only))
}

async fn compare(seconds: Duration, rounds: u64, only: Option<&String>) -> anyhow::Result<()> {
    println!("failed of calls / p50 / p99 / p99.9 in ms; {seconds:?}, the median of {rounds} rounds\n");
    println!("| | {} |", Contender::ALL.map(|one| one.to_string()).join(" | "));
    println!("|---{}|", "|---".repeat(Contender::ALL.len()));
    for scenario in SCENARIOS.iter().filter(|one| only.is_none_or(|only| one.name.contains(only.as_str()))) {
        let mut seen = Contender::ALL.map(|_| Vec::new());
        for _ in 0..rounds {
            for (contender, seen) in Contender::ALL.into_iter().zip(&mut seen) {
                seen.push(play(scenario, contender, seconds).await?);
            }
        }
        println!("| {} | {} |", scenario.name, seen.map(|seen| cell(&seen)).join(" | "));
    }
    Ok(())
}

async fn play(scenario: &Scenario, contender: Contender, seconds: Duration) -> anyhow::Result<Seen> {
    let mut fleet = fleet::Fleet::start(scenario.first).await?;
    let clients = contender::connect(contender, &fleet).await?;
    let seen = drive::drive(&clients, &mut fleet, scenario.event, seconds).await?;
    drop(clients);
    fleet.stop().await;
    Ok(seen)
}

fn cell(rounds: &[Seen]) -> String {
    let middle = |of: &dyn Fn(&Seen) -> f64| drive::quantile(rounds.iter().map(of).collect(), 0.5);
    let ms = |share: f64| middle(&|seen| drive::quantile(seen.latencies.clone(), share) * 1e3);
    let failed = middle(&|seen| 1e2 * seen.failures.len() as f64 / seen.latencies.len() as f64);
    let last = middle(&|seen| seen.last_failure_ms().unwrap_or(0.0));
    let last = if last > 0.0 { format!(", the last after {last:.0} ms") } else { String::new() };
    format!("{failed:.2} % / {:.0} / {:.0} / {:.0}{last}", ms(0.5), ms(0.99), ms(0.999))
}
