//! tower 0.5.3: `src/balance/p2c/service.rs`, `src/load/{pending_requests,peak_ewma}.rs`.

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use rand::seq::index;

use super::listed;
use crate::client::{Client, Ended};
use crate::queue::Queue;

/// Of two that differ, the one with the lower load, and the first if they are equal.
#[derive(Debug)]
struct TwoChoices {
    listed: Vec<usize>,
    rng: SmallRng,
    pending: Vec<u32>,
}

impl TwoChoices {
    fn new(servers: usize, seed: u64) -> Self {
        Self { listed: Vec::new(), rng: SmallRng::seed_from_u64(seed), pending: vec![0; servers] }
    }

    fn pick(&mut self, mut load: impl FnMut(usize, u32) -> f64) -> Option<usize> {
        let server = match self.listed.as_slice() {
            [] => return None,
            [only] => *only,
            listed => {
                let drawn = index::sample(&mut self.rng, listed.len(), 2);
                let [first, other] = [drawn.index(0), drawn.index(1)].map(|place| listed[place]);
                if load(first, self.pending[first]) <= load(other, self.pending[other]) {
                    first
                } else {
                    other
                }
            }
        };
        self.pending[server] += 1;
        Some(server)
    }
}

#[derive(Debug)]
pub(super) struct Pending(TwoChoices);

impl Pending {
    pub(super) fn new(servers: usize, seed: u64) -> Self {
        Self(TwoChoices::new(servers, seed))
    }
}

impl Client for Pending {
    fn follow(&mut self, weights: &[u32], _now: f64) {
        self.0.listed = listed(weights);
    }

    fn call(&mut self, _number: usize, _servers: &[Queue], _now: f64) -> Option<usize> {
        self.0.pick(|_, pending| pending.into())
    }

    fn end(&mut self, ended: &Ended) {
        self.0.pending[ended.server] -= 1;
    }
}

#[derive(Debug)]
pub(super) struct PeakEwma {
    choices: TwoChoices,
    estimates: Vec<Estimate>,
}

/// A round trip in seconds, and when it was updated.
#[derive(Debug, Clone, Copy)]
struct Estimate {
    trip: f64,
    at: f64,
}

const DEFAULT: f64 = 0.030;
const DECAY: f64 = 10.0;

impl Estimate {
    fn update(&mut self, trip: f64, now: f64) -> f64 {
        let kept = (-(now - self.at) / DECAY).exp();
        self.trip = if self.trip < trip { trip } else { self.trip * kept + trip * (1.0 - kept) };
        self.at = now;
        self.trip
    }
}

impl PeakEwma {
    pub(super) fn new(servers: usize, seed: u64) -> Self {
        let estimates = vec![Estimate { trip: DEFAULT, at: 0.0 }; servers];
        Self { choices: TwoChoices::new(servers, seed), estimates }
    }
}

impl Client for PeakEwma {
    fn follow(&mut self, weights: &[u32], now: f64) {
        for server in listed(weights) {
            if self.choices.listed.binary_search(&server).is_err() {
                self.estimates[server] = Estimate { trip: DEFAULT, at: now };
            }
        }
        self.choices.listed = listed(weights);
    }

    fn call(&mut self, _number: usize, _servers: &[Queue], now: f64) -> Option<usize> {
        // A look is an update with a round trip of nothing.
        self.choices.pick(|server, pending| self.estimates[server].update(0.0, now) * f64::from(pending + 1))
    }

    fn end(&mut self, ended: &Ended) {
        self.choices.pending[ended.server] -= 1;
        self.estimates[ended.server].update(ended.latency, ended.now);
    }
}
