//! The tables, in Markdown.

use netloft_balance::{Builtin, Maglev, RingHash};
use netloft_sim_fleet::score::{Score, mean};
use netloft_sim_fleet::{Player, Scenario, disruption};

/// What every player made of every scenario. The first player is the one that the others are held against.
#[derive(Clone)]
pub(crate) struct Table {
    players: Vec<Player>,
    rows: Vec<(String, Vec<Score>)>,
}

/// Who fails so many more of its calls than the default serves others, and its tail says nothing.
const FAILED_MORE: f64 = 0.01;

impl Table {
    pub(crate) fn play(scenarios: Vec<Scenario>, players: Vec<Player>, seeds: u64) -> Self {
        let row = |scenario: Scenario| {
            let scores = players.iter().map(|player| Score::of(&scenario, player, seeds));
            (scenario.name.clone(), scores.collect())
        };
        Self { rows: scenarios.into_iter().map(row).collect(), players }
    }

    pub(crate) fn joined(tables: &[&Self]) -> Self {
        let players = tables.first().map(|table| table.players.clone()).unwrap_or_default();
        Self { players, rows: tables.iter().flat_map(|table| table.rows.clone()).collect() }
    }

    /// Everything.
    pub(crate) fn print(&self) {
        self.print_tails();
        println!("p50 in ms\n");
        self.print_cells(&|score| format!("{:.0}", score.p50));
        println!("p99.9 in ms\n");
        self.print_cells(&|score| format!("{:.0}", score.p999));
        println!("calls of the busiest server for its capacity, over the mean\n");
        self.print_cells(&|score| format!("{:.2}", score.peak));
        self.print_worst();
    }

    /// The tails alone.
    pub(crate) fn print_tails(&self) {
        println!("p99 in ms (failed calls)\n");
        self.print_cells(&|score| {
            let failed = 1e2 * score.failed;
            let failed = if failed < 0.005 { String::new() } else { format!(" ({failed:.2} %)") };
            format!("{:.0}{failed}", score.p99)
        });
    }

    fn print_cells(&self, cell: &dyn Fn(&Score) -> String) {
        print_head(&self.players.iter().map(Player::name).collect::<Vec<_>>());
        for (name, scores) in &self.rows {
            println!("| {name} | {} |", scores.iter().map(cell).collect::<Vec<_>>().join(" | "));
        }
        println!();
    }

    /// Where the default is worse than others.
    fn print_worst(&self) {
        println!("the default's p99 over that of the best of others, of those that do not fail 1 % more\n");
        let columns = ["over", "the best that asks no server", "over", "the best", "over round robin"];
        print_head(&columns.map(str::to_owned));
        for (name, scores) in &self.rows {
            let best = |is_in: &dyn Fn(&Player) -> bool| self.over_best(scores, is_in);
            let without_asking = best(&|player| !matches!(player, Player::Peer(peer) if peer.asks()));
            let round_robin = best(&|player| *player == Player::Ours(Builtin::RoundRobin));
            let round_robin = round_robin.split(" | ").next().unwrap_or_default();
            println!("| {name} | {without_asking} | {} | {round_robin} |", best(&|_| true));
        }
        println!();
    }

    fn over_best(&self, scores: &[Score], is_in: &dyn Fn(&Player) -> bool) -> String {
        let others = self.players.iter().zip(scores).skip(1);
        let others = others.filter(|(player, score)| {
            **player != Player::Oracle && is_in(player) && score.failed <= scores[0].failed + FAILED_MORE
        });
        let best = others.min_by(|one, other| one.1.p99.total_cmp(&other.1.p99));
        best.map_or_else(
            || "- | nobody".to_owned(),
            |(player, score)| format!("{:.2} | {}", scores[0].p99 / score.p99, player.name()),
        )
    }
}

/// The geometric mean of the p99 of each player over the default's, in each table.
pub(crate) fn print_means(columns: &[(&str, Table)]) {
    print_head(&columns.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>());
    let players = columns.first().map_or(&[][..], |(_, table)| &table.players);
    for (place, player) in players.iter().enumerate() {
        let cells = columns.iter().map(|(_, table)| {
            let ratios = table.rows.iter().map(|(_, scores)| scores[place].p99 / scores[0].p99);
            format!("{:.2}", mean(ratios))
        });
        println!("| {} | {} |", player.name(), cells.collect::<Vec<_>>().join(" | "));
    }
    println!();
}

/// Ring and table beside theory.
pub(crate) fn print_disruption() {
    println!("each over the mean of the keys of one; one of N leaves, or comes\n");
    let columns = ["N", "forced", "needless", "needless in theory", "most keys", "most keys in theory"];
    print_head(&columns.map(str::to_owned));
    let ring = RingHash::default();
    let thousand = ring.with_points(1_000).expect("1,000 is legal");
    for (name, strategy, points) in [
        ("ring, 100 points", Builtin::RingHash(ring), Some(100)),
        ("ring, 1,000 points", Builtin::RingHash(thousand), Some(1_000)),
        ("Maglev, 65,537 places", Builtin::Maglev(Maglev::Small), None),
        ("Maglev, 655,373 places", Builtin::Maglev(Maglev::Large), None),
    ] {
        for count in [10, 100, 1_000] {
            let moved = disruption::moved(strategy, count);
            let needless = if points.is_some() { "0" } else { "more than 0" };
            let peak = disruption::peak_expected(points, count);
            println!(
                "| {name} | {count} | {:.3} | {:.3} | {needless} | {:.3} | {peak:.3} |",
                moved.forced, moved.needless, moved.peak
            );
        }
    }
}

fn print_head(columns: &[String]) {
    println!("| | {} |\n|---{}|", columns.join(" | "), "|---".repeat(columns.len()));
}
