//! Prints what every strategy, ours and others', does for its callers in every scenario.
//!
//! `cargo run --release -p netloft-sim-fleet`, with `-- SEEDS` to play each scenario more or less often than three
//! times. Figures are medians over the seeds.

#![expect(clippy::print_stdout, reason = "the tables are the result")]

mod tables;

use netloft_balance::Builtin;
use netloft_sim_fleet::{Peer, Player, Scenario, drawn, scenarios};

use tables::Table;

fn main() {
    let seeds = std::env::args().nth(1).and_then(|seeds| seeds.parse().ok()).unwrap_or(3);
    let players = players();
    let groups = scenarios::all();
    let tuned: Vec<(&str, Table)> = groups
        .into_iter()
        .map(|group| (group.name, Table::play(group.scenarios, players.clone(), seeds)))
        .collect();
    println!("## The scenarios it was made by\n");
    let all = Table::joined(&tuned.iter().map(|(_, table)| table).collect::<Vec<_>>());
    all.print();
    let drawn = Table::play(drawn::all(), players, seeds);
    println!("## Scenarios nothing was tuned on\n");
    drawn.print();
    println!("## p99 over the default's: geometric means\n");
    let mut columns = tuned;
    columns.extend([("all of these", all), ("not tuned on", drawn)]);
    tables::print_means(&columns);
    println!("## With and without a composition\n");
    Table::play(composed_scenarios(), composed_players(), seeds).print_tails();
    println!("## Keys that move when one leaves\n");
    tables::print_disruption();
}

/// The default first.
fn players() -> Vec<Player> {
    let peers = Peer::ALL.map(Player::Peer);
    Player::ours().into_iter().chain(peers).chain([Player::Oracle]).collect()
}

fn composed_players() -> Vec<Player> {
    let default = Builtin::default();
    let least_request = Builtin::LeastRequest(netloft_balance::LeastRequest::default());
    let mut players = vec![Player::Ours(default)];
    players.extend(Player::composed(default));
    players.push(Player::Ours(least_request));
    players.extend(Player::composed(least_request).into_iter().take(1));
    players.extend(Peer::ALL.map(Player::Ejecting));
    players
}

/// Those in which somebody fails or is new.
fn composed_scenarios() -> Vec<Scenario> {
    let all = scenarios::all().into_iter().flat_map(|group| group.scenarios);
    all.filter(|scenario| ["fails", "joins", "dies", "lost"].iter().any(|word| scenario.name.contains(word)))
        .collect()
}
