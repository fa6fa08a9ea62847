//! One instance that is looked after.

use std::sync::Arc;
use std::time::Duration;

use netloft_types::{Check, CheckKind, CheckName, CheckReport, Health, Instance, Lifecycle};
use rand::RngExt as _;
use rand::rngs::SmallRng;

use super::{STARTING_PAUSE_MAX, STARTING_PAUSE_MIN};
use crate::{Observation, Tracker};

/// An instance, and how its checks stand. All times are awake times.
#[derive(Debug)]
pub(super) struct Ward {
    /// As it is registered, as far as is known.
    pub(super) instance: Arc<Instance>,
    /// Tells it from what had its id before.
    pub(super) generation: u64,
    /// One for each check, in their order.
    watched: Vec<Watched>,
    /// Since when it drains.
    pub(super) drains_since: Option<Duration>,
    /// How it came to be critical, while it is.
    pub(super) fall: Option<Fall>,
    /// Since when an amendment is under way, or until when none is to be tried.
    pub(super) amending: Amending,
}

#[derive(Debug)]
struct Watched {
    tracker: Tracker,
    /// Of a ttl check: until when it was told that all is well.
    told_until: Option<Duration>,
    /// Probes so far.
    probes: u32,
}

/// That the checks went from usable to critical.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fall {
    pub(super) at: Duration,
    /// What it was before.
    pub(super) from: Health,
    /// Since when it is registered as what it was before all the same.
    pub(super) held_since: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Amending {
    No,
    /// The watch will tell, or it will be set back.
    UnderWay,
    NotBefore(Duration),
}

impl Ward {
    pub(super) fn new(instance: &Arc<Instance>, generation: u64, awake: Duration) -> Self {
        let watch = |check: &Check| Watched {
            tracker: Tracker::new(instance.health, awake),
            told_until: (check.kind == CheckKind::Ttl).then(|| awake + check.interval.length()),
            probes: 0,
        };
        let mut ward = Self {
            watched: instance.checks.iter().map(watch).collect(),
            instance: Arc::clone(instance),
            generation,
            drains_since: None,
            fall: None,
            amending: Amending::No,
        };
        ward.is_now(instance, awake);
        ward
    }

    /// Takes note of what the watch says.
    pub(super) fn is_now(&mut self, instance: &Arc<Instance>, awake: Duration) {
        self.instance = Arc::clone(instance);
        self.amending = Amending::No;
        let drains = instance.lifecycle == Lifecycle::Draining;
        self.drains_since = drains.then(|| self.drains_since.unwrap_or(awake));
    }

    /// The worst that one of the checks says; `None` without checks.
    pub(super) fn verdict(&self) -> Option<Health> {
        self.watched.iter().map(|watched| watched.tracker.health()).max()
    }

    pub(super) fn has_passed(&self) -> bool {
        self.watched.iter().all(|watched| watched.tracker.has_passed())
    }

    pub(super) fn is_held(&self) -> bool {
        self.fall.is_some_and(|fall| fall.held_since.is_some())
    }

    /// The check that is critical the longest, and since when.
    pub(super) fn worst(&self) -> Option<(&Check, &Tracker)> {
        let pairs = self.instance.checks.iter().zip(&self.watched);
        let critical = pairs.filter(|(_, watched)| watched.tracker.health() == Health::Critical);
        let pairs = critical.map(|(check, watched)| (check, &watched.tracker));
        pairs.min_by_key(|(_, tracker)| tracker.since())
    }

    /// When the instance is to be removed, if nothing changes until then.
    pub(super) fn removal_due(&self) -> Option<Duration> {
        let pairs = self.instance.checks.iter().zip(&self.watched);
        let critical = pairs.filter(|(_, watched)| watched.tracker.health() == Health::Critical);
        critical
            .filter_map(|(check, watched)| Some(watched.tracker.since() + check.remove_after?.length()))
            .min()
    }

    /// When the window of its draining ends.
    pub(super) fn drain_due(&self) -> Option<Duration> {
        Some(self.drains_since? + self.instance.drain_window?.length())
    }

    /// Takes note of the result of a check. Answers whether anything about the instance may change by it.
    pub(super) fn record(&mut self, index: usize, awake: Duration, observation: Observation) -> bool {
        let (before, had_passed) = (self.verdict(), self.has_passed());
        let check = self.instance.checks.as_slice().get(index);
        let (Some(check), Some(watched)) = (check, self.watched.get_mut(index)) else { return false };
        watched.probes = watched.probes.saturating_add(1);
        let is_changed = watched.tracker.record(check, awake, observation);
        self.note_fall(before, awake);
        is_changed || had_passed != self.has_passed()
    }

    fn note_fall(&mut self, before: Option<Health>, awake: Duration) {
        match (before, self.verdict()) {
            (_, Some(Health::Passing | Health::Warning) | None) => self.fall = None,
            (Some(from @ (Health::Passing | Health::Warning)), Some(Health::Critical)) => {
                self.fall = Some(Fall { at: awake, from, held_since: None });
            }
            (_, Some(Health::Critical)) => {}
        }
    }

    /// Takes in a sign of life; answers for how long it counts and whether anything may change by it, or that there is
    /// no such check.
    pub(super) fn heartbeat(
        &mut self,
        name: Option<&CheckName>,
        awake: Duration,
        observation: &Observation,
    ) -> Option<(Duration, bool)> {
        let checks = self.instance.checks.clone();
        let is_meant =
            |check: &Check| check.kind == CheckKind::Ttl && name.is_none_or(|name| check.name == *name);
        let mut counts_for: Option<Duration> = None;
        let mut is_news = false;
        for (index, check) in checks.iter().enumerate().filter(|(_, check)| is_meant(check)) {
            let interval = check.interval.length();
            is_news |= self.record(index, awake, observation.clone());
            if let Some(watched) = self.watched.get_mut(index) {
                watched.told_until = Some(awake + interval);
            }
            counts_for = Some(counts_for.map_or(interval, |shortest| shortest.min(interval)));
        }
        counts_for.map(|counts_for| (counts_for, is_news))
    }

    /// Until when a ttl check was told that all is well; `None` for one that probes.
    pub(super) fn told_until(&self, index: usize) -> Option<Duration> {
        self.watched.get(index)?.told_until
    }

    /// Takes note that no heartbeat came in time; answers when to look again.
    pub(super) fn miss_heartbeat(&mut self, index: usize, awake: Duration) -> Duration {
        let interval = self.instance.checks.as_slice().get(index).map(|check| check.interval.length());
        let interval = interval.unwrap_or_default();
        self.record(index, awake, Observation::fail(&format!("no heartbeat within {interval:?}")));
        interval
    }

    /// How long after the beginning of a probe of a check the next one begins.
    pub(super) fn pause(&self, index: usize, rng: &mut SmallRng) -> Duration {
        let (Some(check), Some(watched)) =
            (self.instance.checks.as_slice().get(index), self.watched.get(index))
        else {
            return STARTING_PAUSE_MAX;
        };
        let interval = check.interval.length();
        let is_starting = self.instance.lifecycle == Lifecycle::Starting && !watched.tracker.has_passed();
        let pause = if is_starting {
            interval.min(STARTING_PAUSE_MAX).min(STARTING_PAUSE_MIN * (1 << watched.probes.min(8)))
        } else {
            interval
        };
        pause.saturating_sub(check.jitter.of(pause).mul_f64(rng.random_range(0.0..1.0)))
    }

    pub(super) fn reports(&self, awake: Duration) -> Vec<CheckReport> {
        let pairs = self.instance.checks.iter().zip(&self.watched);
        let report = |(check, Watched { tracker, .. }): (&Check, &Watched)| CheckReport {
            name: check.name.clone(),
            health: tracker.health(),
            age: awake.saturating_sub(tracker.since()),
            failures: tracker.failures(),
            output: tracker.output().clone(),
            is_damped: tracker.is_damped(),
            is_held: self.is_held(),
        };
        pairs.map(report).collect()
    }
}
