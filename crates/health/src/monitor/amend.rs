//! What has to change in the registry.

use std::sync::Arc;
use std::time::Duration;

use netloft_types::{CheckName, Health, Instance, InstanceId, Lifecycle, Output};

use super::Monitor;
use super::agenda::{Item, What};
use super::ward::{Amending, Ward};
use crate::Action;

/// A change to an instance, to be made only if it is still as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amendment {
    /// The instance as the monitor knows it.
    pub seen: Arc<Instance>,
    /// What it becomes; it is removed if absent.
    pub becomes: Option<Arc<Instance>>,
    /// Why.
    pub cause: Cause,
}

/// Why an instance is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// Its checks have passed, so it gets its first calls.
    Started,
    /// A check made it critical.
    Failed {
        /// Which one.
        check: CheckName,
        /// What it said.
        output: Output,
    },
    /// Its checks make it passing or warning.
    Works,
    /// It stays what it was before it failed, because too much of its service fails at once.
    Held,
    /// A check has been critical for too long; it is removed.
    CriticalForTooLong {
        /// Which one.
        check: CheckName,
    },
    /// The window of its draining is over; it is removed.
    Drained,
}

/// Why an amendment was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setback {
    /// The instance is no longer as it was seen; the watch tells, or has told, what it is now.
    Changed,
    /// The instance is gone.
    Gone,
    /// The registry cannot do it now.
    Unavailable,
}

/// How long to wait for the watch to tell what has changed.
const CHANGED_PAUSE: Duration = Duration::from_millis(50);
/// How long to wait for a registry that cannot do it now.
const UNAVAILABLE_PAUSE: Duration = Duration::from_secs(1);

impl Monitor {
    /// Tells that an amendment was not made. One that was made shows in the watch.
    pub fn set_back(&mut self, now: Duration, id: &InstanceId, setback: Setback) {
        self.tick(now);
        let pause = match setback {
            Setback::Gone => return self.forget(id),
            Setback::Changed => CHANGED_PAUSE,
            Setback::Unavailable => UNAVAILABLE_PAUSE,
        };
        let until = self.clock.awake() + pause;
        if let Some(ward) = self.wards.get_mut(id).filter(|ward| ward.amending == Amending::UnderWay) {
            ward.amending = Amending::NotBefore(until);
            let item = Item { instance: id.clone(), generation: ward.generation, what: What::Ward };
            self.schedule(until, item);
        }
    }

    /// Has an instance amended that is not as its checks, or the end of its draining, want it.
    pub(super) fn settle(&mut self, id: &InstanceId) {
        let awake = self.clock.awake();
        let held = self.hold(id);
        let Some(ward) = self.wards.get_mut(id) else { return };
        match ward.amending {
            Amending::UnderWay => return,
            Amending::NotBefore(until) if awake < until => return,
            Amending::NotBefore(_) | Amending::No => {}
        }
        if let Some((becomes, cause)) = wanted(ward, awake, held) {
            ward.amending = Amending::UnderWay;
            let seen = Arc::clone(&ward.instance);
            self.ready.push_back(Action::Amend(Amendment { seen, becomes, cause }));
            return;
        }
        let due = [ward.removal_due().filter(|_| held.is_none()), ward.drain_due()];
        let generation = ward.generation;
        for due in due.into_iter().flatten().filter(|due| *due > awake) {
            self.schedule(due, Item { instance: id.clone(), generation, what: What::Ward });
        }
    }
}

/// What a ward is to become, if it is not that already. One that is `held` stays what it was.
fn wanted(ward: &Ward, awake: Duration, held: Option<Health>) -> Option<(Option<Arc<Instance>>, Cause)> {
    let is_over = |due: Option<Duration>| due.is_some_and(|due| due <= awake);
    if is_over(ward.drain_due()) {
        return Some((None, Cause::Drained));
    }
    let verdict = ward.verdict()?;
    let worst = ward.worst().map(|(check, tracker)| (check.name.clone(), tracker.output().clone()));
    if held.is_none() && is_over(ward.removal_due()) {
        let (check, _) = worst?;
        return Some((None, Cause::CriticalForTooLong { check }));
    }
    let becomes = ward.instance.judged(held.unwrap_or(verdict), ward.has_passed());
    if becomes == *ward.instance {
        return None;
    }
    let starts = becomes.lifecycle == Lifecycle::Ready && ward.instance.lifecycle == Lifecycle::Starting;
    let cause = match worst {
        _ if held.is_some() => Cause::Held,
        Some((check, output)) => Cause::Failed { check, output },
        None if starts => Cause::Started,
        None => Cause::Works,
    };
    Some((Some(Arc::new(becomes)), cause))
}
