//! How well one could do.

use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;

use crate::client::{Client, Ended};
use crate::queue::Queue;

/// Knows of every server how many calls it has, how fast it is and whether it would fail, at this moment, and
/// takes the one that would be done first.
#[derive(Debug)]
pub(crate) struct Oracle {
    listed: Vec<usize>,
    rng: SmallRng,
}

impl Oracle {
    pub(crate) fn new(seed: u64) -> Self {
        Self { listed: Vec::new(), rng: SmallRng::seed_from_u64(seed) }
    }
}

impl Client for Oracle {
    fn follow(&mut self, weights: &[u32], _now: f64) {
        self.listed = (0..weights.len()).filter(|server| weights[*server] > 0).collect();
    }

    fn call(&mut self, _number: usize, servers: &[Queue], _now: f64) -> Option<usize> {
        let best = self.listed.iter().map(|server| servers[*server].delay()).fold(f64::INFINITY, f64::min);
        let is_best = |server: &usize| servers[*server].delay() <= best;
        let best: Vec<usize> = self.listed.iter().copied().filter(is_best).collect();
        best.choose(&mut self.rng).copied()
    }

    fn end(&mut self, _ended: &Ended) {}
}
