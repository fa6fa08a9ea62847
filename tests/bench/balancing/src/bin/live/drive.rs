//! Calls at a rate, whatever becomes of those before.

use std::time::Duration;

use rand::RngExt as _;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::REPLICAS;
use crate::contender::Call;
use crate::fleet::{Event, Fleet};
use crate::replica::{PLACES, WORK};

/// The share of all places that is busy.
const UTILIZATION: f64 = 0.7;
/// What is not counted.
const WARM_UP: Duration = Duration::from_secs(1);

/// What clients saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// Of each call, in seconds.
    pub latencies: Vec<f64>,
    /// When calls that failed began, in seconds after the event.
    pub failures: Vec<f64>,
}

impl Seen {
    /// When the last call began that failed, if it was after the event.
    pub fn last_failure_ms(&self) -> Option<f64> {
        let after = self.failures.iter().copied().filter(|at| *at > 0.0);
        after.reduce(f64::max).map(|at| at * 1e3)
    }
}

pub async fn drive(
    clients: &[Call],
    fleet: &mut Fleet,
    event: Event,
    length: Duration,
) -> anyhow::Result<Seen> {
    let begin = Instant::now();
    let happens = begin + WARM_UP + length / 3;
    let calling = call_all(clients, begin, begin + WARM_UP + length);
    let happening = async {
        sleep_until(happens).await;
        fleet.undergo(event).await
    };
    let (calls, happened) = tokio::join!(calling, happening);
    happened?;
    let mut seen = Seen::default();
    for (due, latency, is_answered) in calls {
        if due < begin + WARM_UP {
            continue;
        }
        seen.latencies.push(latency.as_secs_f64());
        if !is_answered {
            let after = due.saturating_duration_since(happens).as_secs_f64();
            seen.failures.push(after);
        }
    }
    Ok(seen)
}

/// When each call was due, how long it took from then, and whether it was answered.
async fn call_all(clients: &[Call], begin: Instant, end: Instant) -> Vec<(Instant, Duration, bool)> {
    let rate = UTILIZATION * (REPLICAS * PLACES) as f64 / WORK.as_secs_f64();
    let mut calls = JoinSet::new();
    let mut due = begin;
    let mut turn = 0;
    while due < end {
        sleep_until(due).await;
        // The clock of the runtime ticks in milliseconds: all that are due by now.
        while due <= Instant::now() && due < end {
            let (call, at) = (clients[turn % clients.len()].clone(), due);
            calls.spawn(async move {
                let is_answered = call().await;
                (at, at.elapsed(), is_answered)
            });
            turn += 1;
            due += Duration::from_secs_f64(-(1.0 - rand::rng().random::<f64>()).ln() / rate);
        }
    }
    calls.join_all().await
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
pub fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.sort_by(f64::total_cmp);
    values[(share * (values.len() - 1) as f64).round() as usize]
}
