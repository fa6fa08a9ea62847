//! What decides who gets calls, and how many, before a strategy does.
//!
//! A fixed order of parts, each data that can be left out, and each a step from weights to weights: first where an
//! instance is, then whether it works as the registry says, then whether it works as the caller has seen, then how much
//! it can take, then how long it has been there, then which of too many this caller uses. A strategy sees only the
//! weights that are left. Each part says of each instance what it did, so that [`Composed::explain`] can tell why somebody
//! gets calls and somebody else does not.

mod explain;
mod health;
mod load;
mod locality;
mod outlier;
mod slow_start;
mod subset;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use netloft_types::{Advice, InstanceId};

pub use self::explain::{Cause, Reason, Verdict};
pub use self::health::HealthOptions;
pub use self::load::LoadOptions;
pub use self::locality::LocalityOptions;
pub use self::outlier::OutlierOptions;
pub use self::slow_start::SlowStartOptions;
pub use self::subset::SubsetOptions;

use self::load::Loads;
use self::locality::Spill;
use self::outlier::Ejections;
use crate::Roster;

/// The parts, in their order. One that is `None` is left out.
///
/// The default has those that need nothing to be said: health, outliers, load and a slow start. Where no load is reported and
/// nothing advised, that part does nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Composition {
    /// Those nearby first, and others when they cannot carry it.
    pub locality: Option<LocalityOptions>,
    /// Those that are usable, unless too few are.
    pub health: Option<HealthOptions>,
    /// Not those whose calls fail while those of others do not.
    pub outlier: Option<OutlierOptions>,
    /// More for those who say that they can take more, less for those who are slow to others.
    pub load: Option<LoadOptions>,
    /// Those that have just come get few calls at first.
    pub slow_start: Option<SlowStartOptions>,
    /// A few of many.
    pub subset: Option<SubsetOptions>,
}

impl Composition {
    /// No part at all: a strategy sees the weights of the registry.
    pub const NONE: Self =
        Self { locality: None, health: None, outlier: None, load: None, slow_start: None, subset: None };
}

impl Default for Composition {
    fn default() -> Self {
        Self {
            locality: None,
            health: Some(HealthOptions::default()),
            outlier: Some(OutlierOptions::default()),
            load: Some(LoadOptions::default()),
            slow_start: Some(SlowStartOptions::default()),
            subset: None,
        }
    }
}

/// Composes rosters for one line of snapshots; it remembers who was ejected, and what was advised.
#[derive(Debug)]
pub struct Composer {
    composition: Composition,
    ejections: Ejections,
    loads: Loads,
}

/// A roster whose weights the parts have decided.
#[derive(Debug, Clone)]
pub struct Composed {
    /// What a strategy builds its picker from.
    pub roster: Roster,
    decided: Arc<Decided>,
    is_closed: bool,
    /// When it should be composed again though nothing was told: a slow start goes on, an ejection ends.
    pub due: Option<Duration>,
}

/// What the parts have said, of which nothing is made until somebody asks.
#[derive(Debug)]
struct Decided {
    weights: Vec<f64>,
    /// In order of the index.
    reasons: Vec<(usize, Reason)>,
    verdicts: OnceLock<Box<[Verdict]>>,
}

impl Composer {
    /// Composes by `composition` from now on.
    pub fn new(composition: Composition) -> Self {
        Self { composition, ejections: Ejections::default(), loads: Loads::default() }
    }

    /// Goes by what the registry advises, until the time given, and no more by what it advised before. It counts from the next
    /// composition on, for instances that report no load of their own.
    pub fn advise(&mut self, advice: BTreeMap<InstanceId, Advice>, until: Duration) {
        self.loads.advise(advice, until);
    }

    /// Decides the weights of a roster at the time `now`, on the clock of its calls, from those it has, which are the
    /// registry's when it was made or follows another. Do so when the snapshot changes, and at
    /// the time that [`Composed::due`] says. Takes O(n log n).
    pub fn compose(&mut self, roster: &Roster, now: Duration) -> Composed {
        let Composition { locality, health, outlier, load, slow_start, subset } = &self.composition;
        let mut draft = Draft::of(roster, now);
        let is_usable = health::usable(roster);
        if let Some(outlier) = outlier {
            self.ejections.judge(outlier, &mut draft, &is_usable);
        }
        let nearer = locality.as_ref().map(|locality| {
            let reachable = outlier.as_ref().map(|_| self.ejections.reachable(&is_usable));
            locality.apply(&mut draft, reachable.as_ref().unwrap_or(&is_usable))
        });
        if let Some(health) = health {
            health.apply(&mut draft, &is_usable);
        }
        if outlier.is_some() {
            self.ejections.apply(&mut draft);
        }
        locality::close(&nearer.unwrap_or_default(), &mut draft);
        if let Some(load) = load {
            self.loads.apply(load, &mut draft);
        }
        if let Some(slow_start) = slow_start {
            slow_start.apply(&mut draft);
        }
        if let Some(subset) = subset {
            subset.apply(&mut draft);
        }
        draft.finish()
    }
}

impl Composed {
    /// Whether nobody gets calls, because nobody works or wants any. The weights of the roster then mean nothing.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Why each instance gets calls or none, in the order of the snapshot.
    pub fn explain(&self) -> &[Verdict] {
        self.decided.verdicts.get_or_init(|| self.decided.verdicts())
    }
}

impl Decided {
    fn verdicts(&self) -> Box<[Verdict]> {
        let total: f64 = self.weights.iter().sum();
        let mut rest = &*self.reasons;
        let verdict = |(index, weight): (usize, &f64)| {
            let (own, others) = rest.split_at(rest.partition_point(|reason| reason.0 == index));
            rest = others;
            let share = if total > 0.0 { weight / total } else { 0.0 };
            Verdict { share, reasons: own.iter().map(|(_, reason)| *reason).collect() }
        };
        self.weights.iter().enumerate().map(verdict).collect()
    }
}

/// Weights on their way through the parts.
struct Draft<'a> {
    roster: &'a Roster,
    now: Duration,
    /// Relative to one another; 0 gets no calls.
    weights: Vec<f64>,
    /// What was done to whom, in the order of the parts.
    reasons: Vec<(usize, Reason)>,
    spill: Option<Spill>,
    due: Option<Duration>,
}

impl<'a> Draft<'a> {
    fn of(roster: &'a Roster, now: Duration) -> Self {
        let weights = roster.weights().iter().copied().map(f64::from).collect();
        Self { roster, now, weights, reasons: Vec::new(), spill: None, due: None }
    }

    /// Those that still get calls.
    fn left(&self) -> Vec<usize> {
        (0..self.weights.len()).filter(|index| self.weights[*index] > 0.0).collect()
    }

    fn leave_out(&mut self, index: usize, reason: Reason) {
        self.weights[index] = 0.0;
        self.explain(index, reason);
    }

    fn explain(&mut self, index: usize, reason: Reason) {
        self.reasons.push((index, reason));
    }

    fn look_again_at(&mut self, due: Duration) {
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    fn finish(mut self) -> Composed {
        if let Some(spill) = &self.spill {
            spill.apply(&mut self.weights);
        }
        let roster = self.roster.with_weights(scaled(&self.weights));
        // Of one instance, they stay in the order of the parts.
        self.reasons.sort_by_key(|reason| reason.0);
        let Self { weights, reasons, due, .. } = self;
        let is_closed = weights.iter().all(|weight| *weight <= 0.0);
        let decided = Arc::new(Decided { weights, reasons, verdicts: OnceLock::new() });
        Composed { roster, decided, is_closed, due }
    }
}

/// What the sum of weights is brought to if they are not whole numbers: a share is right to a billionth, and there is room
/// for one instance that has it all.
const SUM: f64 = 1e9;

/// Whole numbers stay as they are, since by small ones turns are exact. Who gets any calls keeps some.
fn scaled(weights: &[f64]) -> Vec<u32> {
    let is_whole =
        weights.iter().all(|weight| *weight <= f64::from(whole(*weight)) && *weight <= f64::from(u16::MAX));
    let total: f64 = weights.iter().sum();
    let factor = if is_whole || total <= 0.0 { 1.0 } else { SUM / total };
    let scale = |weight: &f64| if *weight > 0.0 { whole(weight * factor + 0.5).max(1) } else { 0 };
    weights.iter().map(scale).collect()
}

/// What is before the point. `f64::trunc` and its like are calls on processors that are 15 years old, and so on all.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 0 and SUM")]
fn whole(number: f64) -> u32 {
    number as u32
}
