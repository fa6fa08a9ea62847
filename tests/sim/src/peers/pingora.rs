//! pingora-load-balancing 0.9.1: `src/selection/{weighted,algorithms}.rs`.

use std::cmp::Reverse;

use super::listed;
use crate::client::{Client, Ended};
use crate::queue::Queue;

/// As many places in a row for each as its weight says, the heaviest first, and a counter that begins with 0.
#[derive(Debug, Default)]
pub(super) struct RoundRobin {
    places: Vec<usize>,
    turn: usize,
}

impl Client for RoundRobin {
    fn follow(&mut self, weights: &[u32], _now: f64) {
        let mut listed = listed(weights);
        listed.sort_by_key(|server| Reverse(weights[*server]));
        self.places =
            listed.into_iter().flat_map(|server| (0..weights[server]).map(move |_| server)).collect();
        self.turn = 0;
    }

    fn call(&mut self, _number: usize, _servers: &[Queue], _now: f64) -> Option<usize> {
        let place = self.turn.checked_rem(self.places.len())?;
        self.turn += 1;
        Some(self.places[place])
    }

    fn end(&mut self, _ended: &Ended) {}
}
