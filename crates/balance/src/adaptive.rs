//! To who is cheapest of a few: two drawn by weight, and those who answered a moment ago.
//!
//! Power of two choices (Mitzenmacher 2001) finds somebody better than a random one; it does not find who is
//! idle. A client knows that of nobody for sure, but an instance that answered a moment ago is as good a bet as
//! there is (the idea of Join-the-Idle-Queue: Lu et al. 2011, without asking servers to report). And what an
//! instance costs is more than its calls in flight: how long it takes for each of them, and how often it
//! fails.

use crate::number::{float, nanos};
use crate::sampler::Sampler;
use crate::{Caller, Context, Picker, Roster, Stats};

/// What each instance's calls in flight are multiplied by: the mean weight over its own.
#[derive(Debug)]
pub(crate) struct Scales(Box<[f32]>);

impl Scales {
    pub(crate) fn new(roster: &Roster) -> Self {
        let eligible = roster.weights().iter().filter(|weight| **weight > 0);
        let total: u64 = eligible.clone().copied().map(u64::from).sum();
        let mean = float(total) / float(eligible.count().max(1) as u64);
        Self(roster.weights().iter().map(|weight| mean / float(u64::from(*weight))).collect())
    }

    /// The calls in flight that an instance would have, if it had the mean weight. Infinite for weight 0.
    fn load(&self, index: usize, stats: &Stats) -> f32 {
        let load = float(stats.in_flight().into());
        // Zero times infinity is no number.
        if load > 0.0 { load * self.0[index] } else { 0.0 }
    }
}

/// The picker of [`Builtin::PeakEwma`](crate::Builtin::PeakEwma).
#[derive(Debug)]
pub(crate) struct PeakEwma {
    scales: Scales,
    sampler: Sampler,
    roster: Roster,
}

impl PeakEwma {
    pub(crate) fn new(roster: Roster) -> Self {
        Self { scales: Scales::new(&roster), sampler: Sampler::new(roster.weights()), roster }
    }
}

/// What a call costs at an instance that has not answered yet, in nanoseconds: more than any latency.
const PENALTY_NS: f32 = 1e15;

impl Picker for PeakEwma {
    fn roster(&self) -> &Roster {
        &self.roster
    }

    fn pick(&self, caller: &mut Caller, context: &Context) -> Option<usize> {
        let first = self.sampler.draw(caller)?;
        let other = self.sampler.draw_other(caller, first);
        let now = nanos(context.now);
        let cost = |index: usize| {
            let stats = &self.roster.stats()[index];
            let load = self.scales.load(index, stats);
            // Who never answered costs nothing until it has calls, and more than anybody then (finagle).
            let latency = stats.peak(now);
            if latency > 0.0 { latency * (load + 1.0) } else { PENALTY_NS * load }
        };
        Some(if cost(other) < cost(first) { other } else { first })
    }
}

/// How much more one costs that always fails.
const FAILURE_COST: f32 = 50.0;

/// What the other drawn has to cost less than, of the cost of the first, so that the weights decide among equals and
/// not what was last seen of each. An average of 16 samples whose deviation is their mean is off by a sixth, and so
/// two of them differ by a quarter; this is a deviation and a half.
const MARGIN: f32 = 0.65;

/// The picker of [`Builtin::Adaptive`](crate::Builtin::Adaptive).
#[derive(Debug)]
pub(crate) struct Memory {
    scales: Scales,
    sampler: Sampler,
    roster: Roster,
}

impl Memory {
    pub(crate) fn new(roster: Roster) -> Self {
        roster.fleet().keep_answers();
        let (scales, sampler) = (Scales::new(&roster), Sampler::new(roster.weights()));
        Self { scales, sampler, roster }
    }

    fn cost(&self, index: usize, stats: &Stats, now: u64, mean: f32) -> f32 {
        let load = self.scales.load(index, stats) + 1.0;
        let (slot, failures) = stats.slot_and_failures(now, mean);
        slot.max(1.0) * load * load * (1.0 + FAILURE_COST * failures)
    }
}

impl Picker for Memory {
    fn roster(&self) -> &Roster {
        &self.roster
    }

    fn pick(&self, caller: &mut Caller, context: &Context) -> Option<usize> {
        let now = nanos(context.now);
        let first = self.sampler.draw(caller)?;
        let other = self.sampler.draw_other(caller, first);
        let mean = self.roster.fleet().slot();
        let stats = self.roster.stats();
        let costs = [first, other].map(|index| self.cost(index, &stats[index], now, mean));
        let mut best = if costs[1] < costs[0] * MARGIN { (other, costs[1]) } else { (first, costs[0]) };
        for (index, stats) in self.roster.recent(now) {
            let cost = self.cost(index, stats, now, mean);
            if cost < best.1 {
                best = (index, cost);
            }
        }
        Some(best.0)
    }
}
