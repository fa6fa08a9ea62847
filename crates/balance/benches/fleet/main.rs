//! Every strategy in every trouble: what clients of a simulated fleet see.
//!
//! `cargo bench -p netloft-balance --bench fleet` prints for each scenario and strategy the median and the 99th
//! percentile of the latency in milliseconds, each the median over the seeds, and the share of failed calls.
//! Calls that fail or time out (5 s) are among the latencies. `-- SECONDS SEEDS` plays more or less.

#![expect(clippy::print_stdout, reason = "the table is the result")]
#![expect(clippy::cast_precision_loss, reason = "counts are small")]
#![expect(unreachable_pub, reason = "the tests include the simulator too")]

use netloft_balance::{Builtin, LeastRequest, Strategy};

use sim::{Scenario, Seen, Server, Trouble};

mod sim;

fn main() {
    // `cargo test --benches` runs this too, without this argument.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let mut numbers = std::env::args().filter_map(|argument| argument.parse::<u32>().ok());
    let seconds = numbers.next().unwrap_or(60);
    let seeds = numbers.next().unwrap_or(5);
    let names: Vec<String> = strategies().iter().map(ToString::to_string).collect();
    println!("p50 / p99 in ms (failed), {seconds} s, {seeds} seeds\n\n| | {} |", names.join(" | "));
    println!("|---{}|", "|---".repeat(names.len()));
    for scenario in scenarios(f64::from(seconds)) {
        let cells = strategies().map(|strategy| cell(&scenario, &strategy, seeds));
        println!("| {} | {} |", scenario.name, cells.join(" | "));
    }
}

/// Those that need no key; with random keys, the others are random.
fn strategies() -> [Builtin; 7] {
    [
        Builtin::Random,
        Builtin::RoundRobin,
        Builtin::Weighted,
        Builtin::LeastRequest(LeastRequest::default()),
        Builtin::LeastRequestFullScan,
        Builtin::PeakEwma,
        Builtin::Adaptive,
    ]
}

fn cell(scenario: &Scenario, strategy: &dyn Strategy, seeds: u32) -> String {
    let played: Vec<Seen> = (1..=seeds).map(|seed| sim::play(scenario, strategy, seed.into())).collect();
    let over_seeds = |share: f64| median(played.iter().map(|seen| quantile(&seen.latencies, share) * 1e3));
    let failed = median(played.iter().map(|seen| 1e2 * seen.failed as f64 / seen.latencies.len() as f64));
    let failed = if failed < 0.005 { String::new() } else { format!(" ({failed:.2} %)") };
    format!("{:.0} / {:.0}{failed}", over_seeds(0.5), over_seeds(0.99))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    quantile(&values.collect::<Vec<_>>(), 0.5)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut values = values.to_vec();
    let place = (share * (values.len() - 1) as f64).round() as usize;
    let (_, value, _) = values.select_nth_unstable_by(place, f64::total_cmp);
    *value
}

const PLAIN: Server =
    Server { cores: 4.0, speed: 1.0, weight: 1, failing: 0.0, trouble: Trouble::None, from: 0.0 };

/// The mean work of a call.
const WORK: f64 = 0.015;

fn scenarios(seconds: f64) -> Vec<Scenario> {
    let first = |server: Server| {
        let mut servers = vec![PLAIN; 20];
        servers[0] = server;
        servers
    };
    let faster = |index: u32| Server { speed: f64::from(index % 2 + 1), ..PLAIN };
    let sized = |index: u32| Server { cores: f64::from(2 << (index % 3)), weight: 1 << (index % 3), ..PLAIN };
    let with = |trouble: Trouble| vec![Server { trouble, ..PLAIN }; 20];
    let mut joined = vec![PLAIN; 20];
    joined.push(Server { from: 5.0, trouble: Trouble::Cold, ..PLAIN });
    let plain = |name, servers, utilization| scenario(name, servers, utilization, seconds);
    let mut all = vec![
        plain("50 alike, u 0.8", vec![PLAIN; 50], 0.8),
        plain("50 alike, u 0.3", vec![PLAIN; 50], 0.3),
        plain("3 alike, u 0.8", vec![PLAIN; 3], 0.8),
        plain("speeds 1 and 2, u 0.8", (0..20).map(faster).collect(), 0.8),
        plain("cores and weights 1, 2, 4, u 0.8", (0..21).map(sized).collect(), 0.8),
        plain("antagonists, u 0.75", with(Trouble::Antagonist), 0.75 * 2.0 / 3.0),
        plain("antagonists, u 0.9", with(Trouble::Antagonist), 0.9 * 2.0 / 3.0),
        plain("one of 20 at a tenth, u 0.6", first(Server { speed: 0.1, ..PLAIN }), 0.6),
        plain("one of 20 fails, u 0.6", first(Server { failing: 1.0, ..PLAIN }), 0.6),
        plain("one of 20 fails, u 0.01", first(Server { failing: 1.0, ..PLAIN }), 0.01),
        plain("one of 20 fails 30 %, u 0.6", first(Server { failing: 0.3, ..PLAIN }), 0.6),
        plain("a cold one joins 20, u 0.8", joined, 0.8),
        plain("pauses, u 0.6", with(Trouble::Pauses), 0.6),
    ];
    let mut bimodal = plain("5 and 100 ms, u 0.7", vec![PLAIN; 20], 0.7);
    bimodal.rate *= WORK / (0.9 * 0.005 + 0.1 * 0.1);
    (bimodal.work, bimodal.heavy_work) = (0.005, Some(0.1));
    all.push(bimodal);
    for (name, clients) in [
        ("20 alike, one client, u 0.8", 1),
        ("20 alike, 100 clients, u 0.8", 100),
        ("20 alike, 1,000 clients, u 0.8", 1_000),
    ] {
        all.push(Scenario { clients, ..plain(name, vec![PLAIN; 20], 0.8) });
    }
    all
}

/// Calls at such a rate that they keep that share of all cores busy.
fn scenario(name: &'static str, servers: Vec<Server>, utilization: f64, seconds: f64) -> Scenario {
    let there = servers.iter().filter(|server| server.from <= 0.0);
    let capacity: f64 = there.map(|server| server.cores * server.speed).sum();
    let rate = utilization * capacity / WORK;
    Scenario { name, servers, clients: 10, rate, work: WORK, heavy_work: None, seconds }
}
