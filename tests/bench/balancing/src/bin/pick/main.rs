//! What a pick, a whole call and a change of the set cost, beside other crates.
//!
//! `cargo run --release --manifest-path tests/bench/balancing/Cargo.toml --bin pick [-- --quick]`. Everything takes turns in
//! rounds of 2 ms, of which the fastest counts, with warm caches. In one row everybody does the same.

mod change;
mod measure;
mod ours;
mod rivals;

use loadwise::strategy::{PowerOfTwoChoices, Random, RoundRobin};
use netloft_balance::{Builtin, LeastRequest, Maglev, RingHash};
use pingora_load_balancing::selection;

use crate::measure::{Cost, Work, measure};
use crate::ours::{call, floor, pick, roster};
use crate::rivals::{
    loadwise, pingora, pingora_iterator, tower_peak_ewma, tower_pending, volo_random, volo_ring,
};

const COUNTS: [u32; 5] = [3, 10, 100, 1_000, 10_000];

/// What ours is to be below, in nanoseconds.
#[derive(Clone, Copy)]
enum Goal {
    None,
    Floors(f64),
    Nanos(f64),
}

/// What is done, by whom; ours is the first.
struct Row {
    what: &'static str,
    goal: Goal,
    who: Vec<(&'static str, Work)>,
}

fn main() {
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let rounds = if is_quick { 7 } else { 21 };
    let mut costs: Vec<Vec<Vec<Cost>>> = Vec::new();
    for count in COUNTS {
        let rows = rows(count);
        let works: Vec<&Work> = rows.iter().flat_map(|row| row.who.iter().map(|(_, work)| work)).collect();
        let mut measured = measure(&works, rounds).into_iter();
        costs.push(rows.iter().map(|row| measured.by_ref().take(row.who.len()).collect()).collect());
    }
    print(&costs);
    judge(&costs);
    change::print(if is_quick { 10 } else { 30 });
}

fn rows(count: u32) -> Vec<Row> {
    let ours = |strategy| pick(strategy, roster(count, false));
    let weighted = |strategy| pick(strategy, roster(count, true));
    let whole = |strategy| call(strategy, roster(count, false));
    let row = |what, goal, who| Row { what, goal, who };
    let least = Builtin::LeastRequest(LeastRequest::default());
    vec![
        row("floor", Goal::None, vec![("version-checked snapshot, cursor", floor(count))]),
        row(
            "round robin",
            Goal::Floors(2.0),
            vec![
                ("netloft", ours(Builtin::RoundRobin)),
                ("pingora, select", pingora::<selection::RoundRobin>(count, false)),
                ("pingora, iterator", pingora_iterator::<selection::RoundRobin>(count, false)),
                ("loadwise", loadwise(RoundRobin::new(), count)),
            ],
        ),
        row(
            "random",
            Goal::Floors(2.0),
            vec![
                ("netloft", ours(Builtin::Random)),
                ("pingora, select", pingora::<selection::Random>(count, false)),
                ("pingora, iterator", pingora_iterator::<selection::Random>(count, false)),
                ("loadwise", loadwise(Random::new(), count)),
            ],
        ),
        row(
            "weighted, by turns",
            Goal::Nanos(8.0),
            vec![
                ("netloft", weighted(Builtin::Weighted)),
                ("pingora, select", pingora::<selection::RoundRobin>(count, true)),
                ("pingora, iterator", pingora_iterator::<selection::RoundRobin>(count, true)),
            ],
        ),
        row(
            "weighted random",
            Goal::Nanos(8.0),
            vec![
                ("netloft", weighted(Builtin::WeightedRandom)),
                ("volo", volo_random(count, true)),
                ("pingora, iterator", pingora_iterator::<selection::Random>(count, true)),
            ],
        ),
        row("Maglev", Goal::Nanos(10.0), vec![("netloft", ours(Builtin::Maglev(Maglev::Small)))]),
        row(
            "ring hash",
            Goal::Nanos(25.0),
            vec![
                ("netloft", ours(Builtin::RingHash(RingHash::default().without_bound()))),
                ("pingora, select", pingora::<selection::Consistent>(count, false)),
                ("pingora, iterator", pingora_iterator::<selection::Consistent>(count, false)),
                ("volo", volo_ring(count)),
            ],
        ),
        row(
            "ring hash, bounded loads",
            Goal::Nanos(25.0),
            vec![("netloft", ours(Builtin::RingHash(RingHash::default())))],
        ),
        row(
            "least request of two",
            Goal::None,
            vec![("netloft", ours(least)), ("loadwise", loadwise(PowerOfTwoChoices::new(), count))],
        ),
        row("adaptive", Goal::None, vec![("netloft", ours(Builtin::Adaptive))]),
        row("call: round robin", Goal::None, vec![("netloft", whole(Builtin::RoundRobin))]),
        row(
            "call: ring hash, bounded loads",
            Goal::None,
            vec![("netloft", whole(Builtin::RingHash(RingHash::default())))],
        ),
        row(
            "call: least request of two",
            Goal::None,
            vec![("netloft", whole(least)), ("tower, pending requests", tower_pending(count))],
        ),
        row(
            "call: peak-EWMA",
            Goal::None,
            vec![("netloft", whole(Builtin::PeakEwma)), ("tower, peak-EWMA", tower_peak_ewma(count))],
        ),
        row("call: adaptive", Goal::Nanos(150.0), vec![("netloft", whole(Builtin::Adaptive))]),
    ]
}

/// One line for each, one column for each count.
fn print(costs: &[Vec<Vec<Cost>>]) {
    println!("ns, by one thread / by each of two at once\n");
    let counts: Vec<String> = COUNTS.map(|count| count.to_string()).to_vec();
    println!("| | | {} |", counts.join(" | "));
    println!("|---|---|{}", "---|".repeat(COUNTS.len()));
    for (index, row) in rows(COUNTS[0]).iter().enumerate() {
        for (number, (who, _)) in row.who.iter().enumerate() {
            let cells: Vec<String> = costs.iter().map(|rows| cell(rows[index][number])).collect();
            println!("| {} | {who} | {} |", if number == 0 { row.what } else { "" }, cells.join(" | "));
        }
    }
}

fn cell(Cost([one, two]): Cost) -> String {
    format!("{} / {}", digits(one), digits(two))
}

/// Short, and a dash for what could not be measured.
pub fn digits(number: f64) -> String {
    if number.is_nan() {
        return "-".to_owned();
    }
    if number < 20.0 { format!("{number:.1}") } else { format!("{number:.0}") }
}

/// Says of each of ours whether it is below its goal, how much the count and a second thread slow it down, and how much
/// faster it is than the fastest other.
fn judge(costs: &[Vec<Vec<Cost>>]) {
    println!(
        "\nThe fastest other beside ours, where it is closest: of those that see changes, and of those that do not.\n"
    );
    println!("| | goal, ns | worst, ns | 10,000 beside 3 | second thread | fastest other | fastest part |");
    println!("|---|---|---|---|---|---|---|");
    for (index, row) in rows(COUNTS[0]).iter().enumerate().skip(1) {
        let ours: Vec<Cost> = costs.iter().map(|rows| rows[index][0]).collect();
        let goals: Vec<Option<f64>> = costs.iter().map(|rows| row.goal.nanos(rows[0][0])).collect();
        let worst = ours.iter().map(|cost| cost.0[0]).fold(0.0, f64::max);
        let is_met = ours.iter().zip(&goals).all(|(cost, goal)| goal.is_none_or(|goal| cost.0[0] <= goal));
        let goal = match goals[0] {
            Some(goal) => format!("{} {}", digits(goal), if is_met { "met" } else { "MISSED" }),
            None => String::new(),
        };
        let growth = ours[ours.len() - 1].0[0] / ours[0].0[0];
        let slowed = ours.iter().map(|cost| cost.0[1] / cost.0[0]).fold(0.0, f64::max);
        let names: Vec<&str> = row.who.iter().map(|(who, _)| *who).collect();
        let [wholes, parts] = [false, true].map(|part| {
            let least =
                costs.iter().filter_map(|rows| advantage(&rows[index], &names, part)).reduce(f64::min);
            least.map_or_else(String::new, |times| format!("{times:.1}x"))
        });
        let (what, worst) = (row.what, digits(worst));
        println!("| {what} | {goal} | {worst} | {growth:.1}x | {slowed:.1}x | {wholes} | {parts} |");
    }
}

impl Goal {
    fn nanos(self, floor: Cost) -> Option<f64> {
        match self {
            Self::None => None,
            Self::Floors(times) => Some(times * floor.0[0]),
            Self::Nanos(nanos) => Some(nanos),
        }
    }
}

/// How many times what the first one takes the fastest of the others does, of those that are a part of a balancer, or of the
/// whole ones.
fn advantage(costs: &[Cost], names: &[&str], part: bool) -> Option<f64> {
    let others = costs.iter().zip(names).skip(1).filter(|(_, name)| is_part(name) == part);
    others.map(|(cost, _)| cost.0[0] / costs[0].0[0]).reduce(f64::min)
}

/// Whether somebody picks from a set that never changes: an iterator of pingora's, and loadwise, which is given a slice.
fn is_part(name: &str) -> bool {
    name.ends_with("iterator") || name == "loadwise"
}
