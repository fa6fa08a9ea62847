//! gRPC proposal A58, as in grpc-go at 3eb01450: `balancer/weightedroundrobin/{balancer,scheduler}.go`.

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use super::listed;
use crate::client::{Client, Ended};
use crate::queue::Queue;

/// Weights from what servers report with each answer: calls in a second for each bit of utilization, of which
/// errors count as more.
#[derive(Debug)]
pub(super) struct Weighted {
    reported: Vec<Reported>,
    listed: Vec<usize>,
    /// Of those listed, up to [`STRIDE_MAX`]; empty for plain round robin.
    strides: Vec<u64>,
    updated: f64,
    turn: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Reported {
    weight: f64,
    at: f64,
    /// Since when there are reports without a gap.
    since: Option<f64>,
}

const BLACKOUT: f64 = 10.0;
const EXPIRATION: f64 = 180.0;
const UPDATE: f64 = 1.0;
const ERROR_PENALTY: f64 = 1.0;
const STRIDE_MAX: u64 = u16::MAX as u64;

impl Weighted {
    pub(super) fn new(servers: usize, seed: u64) -> Self {
        let turn = SmallRng::seed_from_u64(seed).next_u32().into();
        let reported = vec![Reported::default(); servers];
        Self { reported, listed: Vec::new(), strides: Vec::new(), updated: 0.0, turn }
    }

    fn update(&mut self, now: f64) {
        self.updated = now;
        for reported in &mut self.reported {
            if now - reported.at >= EXPIRATION {
                reported.since = None;
            }
        }
        let weight = |server: &usize| {
            let Reported { weight, since, .. } = self.reported[*server];
            if since.is_some_and(|since| now - since >= BLACKOUT) { weight } else { 0.0 }
        };
        let weights: Vec<f64> = self.listed.iter().map(weight).collect();
        let known = weights.iter().copied().filter(|weight| *weight > 0.0);
        let (count, sum) = known.clone().fold((0.0, 0.0), |(count, sum), weight| (count + 1.0, sum + weight));
        let max = known.fold(0.0, f64::max);
        self.strides.clear();
        if count < 2.0 {
            return;
        }
        let stride = |weight: &f64| {
            let weight = if *weight > 0.0 { *weight } else { sum / count };
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "to the maximum")]
            let stride = (weight / max * 65_535.0).round() as u64;
            stride
        };
        self.strides.extend(weights.iter().map(stride));
    }
}

impl Client for Weighted {
    fn follow(&mut self, weights: &[u32], now: f64) {
        for (reported, weight) in self.reported.iter_mut().zip(weights) {
            if *weight == 0 {
                *reported = Reported::default();
            }
        }
        self.listed = listed(weights);
        self.update(now);
    }

    fn call(&mut self, _number: usize, _servers: &[Queue], now: f64) -> Option<usize> {
        if now - self.updated >= UPDATE {
            self.update(now);
        }
        let count = self.listed.len() as u64;
        loop {
            let place = usize::try_from(self.turn.checked_rem(count)?).ok()?;
            let (generation, turn) = (self.turn / count, self.turn % count);
            self.turn += 1;
            let stride = self.strides.get(place).copied().unwrap_or(STRIDE_MAX);
            // Each is skipped in as many generations as its stride is short of the longest.
            if (stride * generation + turn * (STRIDE_MAX / 2)) % STRIDE_MAX >= STRIDE_MAX - stride {
                return Some(self.listed[place]);
            }
        }
    }

    fn end(&mut self, ended: &Ended) {
        let report = ended.report;
        let penalty = if report.qps > 0.0 { report.eps / report.qps * ERROR_PENALTY } else { 0.0 };
        let utilization = report.utilization + penalty;
        // A call that could not be made brings no report.
        if !ended.is_success || report.qps <= 0.0 || utilization <= 0.0 {
            return;
        }
        let reported = &mut self.reported[ended.server];
        reported.weight = report.qps / utilization;
        reported.at = ended.now;
        reported.since.get_or_insert(ended.now);
    }
}
