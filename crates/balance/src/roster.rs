//! What a picker is built from.

use std::sync::Arc;
use std::time::Duration;

use netloft_types::Instance;

use crate::stats::Fleet;
use crate::{Call, List, Snapshot, Stats};

/// The instances of a snapshot, each with the weight it has for now and with what is measured of it.
///
/// Whatever decides who gets calls, and how many, before a strategy does - locality, health, a slow start -
/// does so by the weights. What is measured goes over from one roster to the one that follows it. Cloning it
/// is cheap. The default has no instances.
#[derive(Debug, Clone)]
pub struct Roster {
    snapshot: Snapshot,
    weights: Arc<[u32]>,
    stats: List<Arc<Stats>>,
    /// The index of each slot of the lists.
    indices: Arc<[u32]>,
    fleet: Arc<Fleet>,
    facts: List<Fact>,
}

/// What is asked of everybody at each change, close together: it is a tenth of what an instance and its statistics lie in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fact {
    pub(crate) is_usable: bool,
    weight: u16,
    /// When it appeared, in nanoseconds.
    pub(crate) since: u64,
}

impl Roster {
    /// Makes the first roster: the instances have the weights they registered with, and nothing is known of
    /// them. `now` is on the clock of the picks to come.
    pub fn new(snapshot: Snapshot, now: Duration) -> Self {
        let nobody = Self {
            snapshot: Snapshot::default(),
            weights: Arc::default(),
            stats: List::default(),
            indices: Arc::default(),
            fleet: Arc::new(Fleet::new()),
            facts: List::default(),
        };
        nobody.follow(snapshot, now)
    }

    /// Makes the roster of the next snapshot. Instances of the same id, address and port keep what is measured
    /// of them; others begin anew. What is known of those who are gone goes with their last call.
    #[must_use]
    pub fn follow(&self, snapshot: Snapshot, now: Duration) -> Self {
        let (before, all) = (self.snapshot.instances(), snapshot.instances());
        let fresh = || Arc::new(Stats::new(now, &self.fleet));
        let stats = self.stats.along(before, all, |slot, instance| {
            let same_slot = before.in_slot(slot).filter(|old| is_same(old, instance));
            let known = same_slot.and(self.stats.in_slot(slot)).or_else(|| self.stats_of(instance));
            let stats = known.map_or_else(fresh, Arc::clone);
            stats.move_to(slot);
            stats
        });
        let facts = self.facts.along(before, all, |slot, instance| Fact {
            is_usable: instance.is_usable(),
            weight: instance.weight.number(),
            since: stats.in_slot(slot).map_or(0, |stats| stats.since_nanos()),
        });
        let weights = facts.iter().map(|fact| fact.weight.into()).collect();
        let indices = if all.is_same(before) { Arc::clone(&self.indices) } else { all.indices() };
        Self { weights, stats, indices, fleet: Arc::clone(&self.fleet), facts, snapshot }
    }

    /// The roster with other weights, in any unit. An instance of weight 0 is never picked, unless all are 0:
    /// then all have weight 1, since a call to somebody is better than to nobody.
    #[must_use]
    pub fn weighed(&self, mut weigh: impl FnMut(&Instance, &Stats) -> u32) -> Self {
        let each = self.snapshot.instances().iter().zip(&self.stats);
        self.with_weights(each.map(|(instance, stats)| weigh(instance, stats)).collect())
    }

    pub(crate) fn with_weights(&self, mut weights: Vec<u32>) -> Self {
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
    pub fn stats(&self) -> &List<Arc<Stats>> {
        &self.stats
    }

    /// What is known of an instance, wherever it was in the snapshot.
    fn stats_of(&self, instance: &Instance) -> Option<&Arc<Stats>> {
        let instances = self.snapshot.instances();
        let order = instances.order();
        let at =
            order.partition_point(|slot| instances.in_slot(*slot).is_some_and(|one| one.id < instance.id));
        let slot = *order.get(at)?;
        instances.in_slot(slot).filter(|old| is_same(old, instance)).and(self.stats.in_slot(slot))
    }

    /// Begins a call to an instance, once it is clear that it gets one.
    ///
    /// # Panics
    ///
    /// If the snapshot has no instance of that index.
    pub fn begin(&self, index: usize, now: Duration) -> Call {
        Call::begin(&self.stats[index], index, now)
    }

    /// What is asked of everybody at each change, in the order of the snapshot.
    pub(crate) fn facts(&self) -> &List<Fact> {
        &self.facts
    }

    pub(crate) fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// Those of a weight who answered a moment ago.
    pub(crate) fn recent(&self, now: u64) -> impl Iterator<Item = (usize, &Stats)> {
        self.fleet.recent(now).filter_map(|slot| {
            let index = self.index_of(slot).filter(|index| self.weights[*index] > 0)?;
            Some((index, &**self.stats.in_slot(slot)?))
        })
    }

    /// The index of who is in a slot of the lists; `None` if nobody is.
    pub(crate) fn index_of(&self, slot: u32) -> Option<usize> {
        self.indices
            .get(slot as usize)
            .map(|index| *index as usize)
            .filter(|index| *index < self.weights.len())
    }

    /// Those who may be picked.
    pub(crate) fn eligible(&self) -> Eligible {
        if !self.weights.contains(&0) {
            return Eligible::All(self.weights.len());
        }
        let eligible = self.weights.iter().zip(0..).filter(|(weight, _)| **weight > 0);
        Eligible::Some(eligible.map(|(_, index)| index).collect())
    }
}

/// The indices of those who may be picked.
#[derive(Debug)]
pub(crate) enum Eligible {
    All(usize),
    Some(Box<[u32]>),
}

impl Eligible {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::All(len) => *len,
            Self::Some(eligible) => eligible.len(),
        }
    }

    /// One of them, by a number below their count.
    pub(crate) fn at(&self, number: usize) -> usize {
        match self {
            Self::All(_) => number,
            Self::Some(eligible) => eligible[number] as usize,
        }
    }

    /// Whose turn it is when each has one after the other.
    pub(crate) fn by_turns(&self, turn: u64) -> Option<usize> {
        let number = turn.checked_rem(self.len() as u64)?;
        usize::try_from(number).ok().map(|number| self.at(number))
    }
}

fn is_same(one: &Instance, other: &Instance) -> bool {
    one.id == other.id && one.address == other.address && one.port == other.port
}

impl Default for Roster {
    fn default() -> Self {
        Self::new(Snapshot::default(), Duration::ZERO)
    }
}
