//! What a player's callers saw, in few numbers.

use crate::fleet::{Scenario, Server};
use crate::player::Player;
use crate::world::{Seen, play};

/// Each the median over the seeds; times in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Score {
    /// The median of the latencies.
    pub p50: f64,
    /// Their 99th percentile.
    pub p99: f64,
    /// Their 99.9th percentile.
    pub p999: f64,
    /// The share of calls that failed.
    pub failed: f64,
    /// The calls of the busiest server for its capacity, over those of the mean.
    pub peak: f64,
}

impl Score {
    /// Plays a scenario once for each seed.
    pub fn of(scenario: &Scenario, player: &Player, seeds: u64) -> Self {
        let all: Vec<Seen> = (1..=seeds).map(|seed| play(scenario, player, seed)).collect();
        let over_seeds = |of: &dyn Fn(&Seen) -> f64| quantile(&all.iter().map(of).collect::<Vec<_>>(), 0.5);
        let latency = |share| over_seeds(&|seen| quantile(&seen.latencies, share) * 1e3);
        Self {
            p50: latency(0.5),
            p99: latency(0.99),
            p999: latency(0.999),
            failed: over_seeds(&|seen| count(seen.failed) / count(seen.latencies.len())),
            peak: over_seeds(&|seen| peak(scenario, seen)),
        }
    }
}

fn peak(scenario: &Scenario, seen: &Seen) -> f64 {
    let each = seen.calls.iter().zip(&scenario.servers);
    let busiest = each.map(|(calls, server)| count(*calls) / server.capacity()).fold(0.0, f64::max);
    let capacity: f64 = scenario.servers.iter().map(Server::capacity).sum();
    busiest * capacity / count(seen.calls.iter().sum())
}

/// The value below which that share of them is.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut values = values.to_vec();
    let place = (share * count(values.len() - 1)).round() as usize;
    *values.select_nth_unstable_by(place, f64::total_cmp).1
}

/// The geometric mean.
pub fn mean(ratios: impl Iterator<Item = f64>) -> f64 {
    let (sum, len) = ratios.fold((0.0, 0.0), |(sum, len), ratio| (sum + ratio.ln(), len + 1.0));
    (sum / len).exp()
}

#[expect(clippy::cast_precision_loss, reason = "counts are small")]
fn count(number: usize) -> f64 {
    number as f64
}
