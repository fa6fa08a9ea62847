//! Prequal: Wydrowski, Kleinberg, Rumble and Archer, Load is not what you should balance, NSDI 2024.
//!
//! As in section 4: probes are asynchronous, so those sent with a call serve the calls after it; each may be used a
//! few times, and none for longer than a second; the oldest and the worst leave the pool by turns. Not so: they cost
//! servers nothing and come at once; the pool is smaller for small fleets; and who fails fast is not held back, for
//! which the paper gives no rule.

use std::cmp::Ordering;
use std::collections::VecDeque;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use rand::seq::index;

use super::listed;
use crate::client::{Client, Ended};
use crate::queue::Queue;

#[derive(Debug)]
pub(super) struct Prequal {
    listed: Vec<usize>,
    /// The oldest first.
    pool: VecDeque<Probe>,
    /// The calls in flight that the last probes told of.
    told: VecDeque<usize>,
    removes_worst: bool,
    /// Who has more calls in flight than this share of those that were probed is hot.
    cold: f64,
    rng: SmallRng,
}

/// What a server answered.
#[derive(Debug, Clone, Copy)]
struct Probe {
    server: usize,
    in_flight: usize,
    latency: f64,
    at: f64,
    /// How often it may still be used.
    uses: f64,
}

/// The share of those that were probed that is cold: 2^-0.25.
pub(super) const COLD: f64 = 0.84;

const POOL: usize = 16;
const PROBES: usize = 3;
const REMOVED: usize = 1;
const AGE_MAX: f64 = 1.0;
/// With fewer, a server is drawn.
const POOL_MIN: usize = 2;
/// How many answers tell who is hot.
const TOLD: usize = 128;

impl Prequal {
    pub(super) fn new(cold: f64, seed: u64) -> Self {
        Self {
            listed: Vec::new(),
            pool: VecDeque::new(),
            told: VecDeque::new(),
            removes_worst: false,
            cold,
            rng: SmallRng::seed_from_u64(seed),
        }
    }

    /// From how many calls in flight a server is hot.
    fn hot(&self) -> usize {
        let mut told: Vec<usize> = self.told.iter().copied().collect();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a place among few"
        )]
        let place = ((told.len() as f64 * self.cold) as usize).min(told.len() - 1);
        *told.select_nth_unstable(place).1
    }

    /// Hot after cold; among the cold by latency, among the hot by calls in flight.
    fn rank(probe: &Probe, hot: usize) -> (bool, f64) {
        let is_hot = probe.in_flight > hot;
        #[expect(clippy::cast_precision_loss, reason = "a few calls")]
        let cost = if is_hot { probe.in_flight as f64 } else { probe.latency };
        (is_hot, cost)
    }

    fn order(&self, hot: usize, one: usize, other: usize) -> Ordering {
        let [one, other] = [one, other].map(|place| Self::rank(&self.pool[place], hot));
        one.0.cmp(&other.0).then(one.1.total_cmp(&other.1))
    }

    fn pick(&mut self, now: f64) -> Option<usize> {
        self.pool.retain(|probe| now - probe.at < AGE_MAX && probe.uses > 0.0);
        if self.pool.len() < POOL_MIN.min(pool(self.listed.len())) {
            let drawn = index::sample(&mut self.rng, self.listed.len(), 1);
            return Some(self.listed[drawn.index(0)]);
        }
        let hot = self.hot();
        let best = (0..self.pool.len()).min_by(|one, other| self.order(hot, *one, *other))?;
        let probe = &mut self.pool[best];
        let server = probe.server;
        probe.uses -= 1.0;
        // It has one more now, whatever it told.
        probe.in_flight += 1;
        for _ in 0..REMOVED {
            let worst = (0..self.pool.len()).max_by(|one, other| self.order(hot, *one, *other));
            self.pool.remove(if self.removes_worst { worst? } else { 0 });
            self.removes_worst = !self.removes_worst;
        }
        Some(server)
    }

    fn probe(&mut self, servers: &[Queue], now: f64) {
        let count = self.listed.len();
        let uses = uses(count);
        let drawn = index::sample(&mut self.rng, count, PROBES.min(count));
        for place in drawn {
            let server = self.listed[place];
            if servers[server].is_lost {
                continue;
            }
            let (in_flight, latency) = (servers[server].len(), servers[server].expected(now));
            self.told.push_back(in_flight);
            if self.told.len() > TOLD {
                self.told.pop_front();
            }
            self.pool.retain(|probe| probe.server != server);
            self.pool.push_back(Probe { server, in_flight, latency, at: now, uses });
            if self.pool.len() > pool(count) {
                self.pool.pop_front();
            }
        }
    }
}

/// The paper's 16 are for fleets of 100. With half of the servers a probe has an end in the smaller ones, too.
fn pool(servers: usize) -> usize {
    POOL.min(servers / 2).max(1)
}

/// How often a probe is used: equation 1 of the paper.
#[expect(clippy::cast_precision_loss, reason = "a fleet is small")]
fn uses(servers: usize) -> f64 {
    let gained = (1.0 - pool(servers) as f64 / servers as f64) * PROBES as f64 - REMOVED as f64;
    (2.0 / gained).max(1.0).ceil()
}

impl Client for Prequal {
    fn follow(&mut self, weights: &[u32], _now: f64) {
        self.listed = listed(weights);
        self.pool.retain(|probe| weights[probe.server] > 0);
    }

    fn call(&mut self, _number: usize, servers: &[Queue], now: f64) -> Option<usize> {
        if self.listed.is_empty() {
            return None;
        }
        let server = self.pick(now);
        self.probe(servers, now);
        server
    }

    fn end(&mut self, _ended: &Ended) {}
}
