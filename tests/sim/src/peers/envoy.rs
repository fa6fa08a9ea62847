//! Envoy at 0a31a547: `source/extensions/load_balancing_policies/least_request/least_request_lb.cc`,
//! `.../common/load_balancer_impl.cc`, `source/common/upstream/edf_scheduler.h`.

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::listed;
use crate::client::{Client, Ended};
use crate::queue::Queue;

#[derive(Debug)]
pub(super) struct LeastRequest {
    is_scheduled: bool,
    has_schedule: bool,
    weights: Vec<u32>,
    listed: Vec<usize>,
    active: Vec<u32>,
    schedule: Schedule,
    rng: SmallRng,
}

/// Earliest deadline first. Who has the earliest gets the call, and a new deadline by its weight over its calls
/// in flight at that moment.
#[derive(Debug, Default)]
struct Schedule {
    now: f64,
    /// Of equal deadlines the one that was set first comes first.
    order: u64,
    entries: Vec<(f64, u64, usize)>,
}

impl Schedule {
    fn add(&mut self, server: usize, weight: f64) {
        self.order += 1;
        self.entries.push((self.now + 1.0 / weight, self.order, server));
    }

    fn pop(&mut self) -> Option<usize> {
        let first = (0..self.entries.len()).min_by(|one, other| {
            let [one, other] = [one, other].map(|place| self.entries[*place]);
            one.0.total_cmp(&other.0).then(one.1.cmp(&other.1))
        });
        let (deadline, _, server) = self.entries.swap_remove(first?);
        self.now = deadline;
        Some(server)
    }
}

impl LeastRequest {
    pub(super) fn new(servers: usize, seed: u64, has_schedule: bool) -> Self {
        Self {
            is_scheduled: has_schedule,
            has_schedule,
            weights: Vec::new(),
            listed: Vec::new(),
            active: vec![0; servers],
            schedule: Schedule::default(),
            rng: SmallRng::seed_from_u64(seed),
        }
    }

    fn weight(&self, server: usize) -> f64 {
        f64::from(self.weights[server]) / f64::from(self.active[server] + 1)
    }

    fn scheduled(&mut self) -> Option<usize> {
        let server = self.schedule.pop()?;
        self.schedule.add(server, self.weight(server));
        Some(server)
    }

    /// Of two, which may be the same, the one with fewer calls in flight.
    fn drawn(&mut self) -> usize {
        let mut draw = || self.listed[self.rng.random_range(0..self.listed.len())];
        let [first, other] = [draw(), draw()];
        if self.active[other] < self.active[first] { other } else { first }
    }
}

impl Client for LeastRequest {
    fn follow(&mut self, weights: &[u32], _now: f64) {
        (self.weights, self.listed) = (weights.to_vec(), listed(weights));
        let mut given = self.listed.iter().map(|server| weights[*server]);
        let first = given.next();
        self.is_scheduled = self.has_schedule || given.any(|weight| Some(weight) != first);
        self.schedule = Schedule::default();
        for place in 0..self.listed.len() {
            let server = self.listed[place];
            self.schedule.add(server, self.weight(server));
        }
        // So that not all clients begin with the same.
        for _ in 0..self.rng.random_range(0..=self.listed.len()) {
            self.scheduled();
        }
    }

    fn call(&mut self, _number: usize, _servers: &[Queue], _now: f64) -> Option<usize> {
        if self.listed.is_empty() {
            return None;
        }
        let server = if self.is_scheduled { self.scheduled()? } else { self.drawn() };
        self.active[server] += 1;
        Some(server)
    }

    fn end(&mut self, ended: &Ended) {
        self.active[ended.server] -= 1;
    }
}
