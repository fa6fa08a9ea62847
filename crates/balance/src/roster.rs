//! What a picker is built from.

use std::sync::Arc;
use std::time::Duration;

use netloft_types::Instance;

use crate::number::place;
use crate::stats::Fleet;
use crate::{Call, Snapshot, Stats};

/// The instances of a snapshot, each with the weight it has for now and with what is measured of it.
///
/// Whatever decides who gets calls, and how many, before a strategy does - locality, health, a slow start -
/// does so by the weights. What is measured goes over from one roster to the one that follows it. Cloning it
/// is cheap. The default has no instances.
#[derive(Debug, Clone)]
pub struct Roster {
    snapshot: Snapshot,
    weights: Arc<[u32]>,
    stats: Arc<[Arc<Stats>]>,
    fleet: Arc<Fleet>,
}

impl Roster {
    /// Makes the first roster: the instances have the weights they registered with, and nothing is known of
    /// them. `now` is on the clock of the picks to come.
    pub fn new(snapshot: Snapshot, now: Duration) -> Self {
        let nobody = Self {
            snapshot: Snapshot::default(),
            weights: Arc::default(),
            stats: Arc::default(),
            fleet: Arc::new(Fleet::new()),
        };
        nobody.follow(snapshot, now)
    }

    /// Makes the roster of the next snapshot. Instances of the same id, address and port keep what is measured
    /// of them; others begin anew. What is known of those who are gone goes with their last call.
    #[must_use]
    pub fn follow(&self, snapshot: Snapshot, now: Duration) -> Self {
        let known = self.snapshot.instances().iter().zip(self.stats.iter());
        let mut known = known.peekable();
        let stats = snapshot.instances().iter().zip(0..).map(|(instance, index)| {
            while known.next_if(|(old, _)| old.id < instance.id).is_some() {}
            let same = known.next_if(|(old, _)| {
                old.id == instance.id && old.address == instance.address && old.port == instance.port
            });
            let fresh = || Arc::new(Stats::new(now, &self.fleet));
            let stats = same.map_or_else(fresh, |(_, stats)| Arc::clone(stats));
            stats.move_to(place(index));
            stats
        });
        let stats = stats.collect();
        let weights = snapshot.instances().iter().map(|instance| instance.weight.number().into());
        Self { weights: weights.collect(), stats, fleet: Arc::clone(&self.fleet), snapshot }
    }

    /// The roster with other weights, in any unit. An instance of weight 0 is never picked, unless all are 0:
    /// then all have weight 1, since a call to somebody is better than to nobody.
    #[must_use]
    pub fn weighed(&self, mut weigh: impl FnMut(&Instance, &Stats) -> u32) -> Self {
        let each = self.snapshot.instances().iter().zip(self.stats.iter());
        let mut weights: Vec<u32> = each.map(|(instance, stats)| weigh(instance, stats)).collect();
        if weights.iter().all(|weight| *weight == 0) {
            weights.fill(1);
        }
        Self { weights: weights.into(), ..self.clone() }
    }

    /// The instances.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The weight of each instance, in the order of the snapshot. Not all are 0.
    pub fn weights(&self) -> &[u32] {
        &self.weights
    }

    /// What is measured of each instance, in the order of the snapshot.
    pub fn stats(&self) -> &[Arc<Stats>] {
        &self.stats
    }

    /// Begins a call to an instance, once it is clear that it gets one.
    ///
    /// # Panics
    ///
    /// If the snapshot has no instance of that index.
    pub fn begin(&self, index: usize, now: Duration) -> Call {
        Call::begin(&self.stats[index], index, now)
    }

    pub(crate) fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// The indices of those who may be picked.
    pub(crate) fn eligible(&self) -> Box<[u32]> {
        let eligible = self.weights.iter().zip(0..).filter(|(weight, _)| **weight > 0);
        eligible.map(|(_, index)| index).collect()
    }
}

impl Default for Roster {
    fn default() -> Self {
        Self::new(Snapshot::default(), Duration::ZERO)
    }
}
