//! Compares what readers were told with what writers did.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use netloft_types::{Instance, InstanceId, Query, Revision, Update};

use crate::Snapshot;

/// What really happened, as those know it who made it happen; the store is not asked.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    changes: BTreeMap<Revision, BTreeMap<InstanceId, Option<Arc<Instance>>>>,
}

/// All that one consumer was told: the batches of a watch and of those that resumed it.
#[derive(Debug, Clone)]
pub struct Recording {
    /// What it watched.
    pub query: Query,
    /// What it got.
    pub batches: Vec<Vec<Update>>,
}

/// How a store broke a promise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A watch began with something else than a `Reset`, or a batch was empty.
    #[error("batch {batch} is malformed: empty, or no Reset where one must be")]
    Malformed {
        /// The number of the batch, from 0.
        batch: usize,
    },
    /// Not ordered: a revision went back.
    #[error("revision {at} came after {after}")]
    Unordered {
        /// The revision that came late.
        at: Revision,
        /// The one before it.
        after: Revision,
    },
    /// Not unique: a change came twice.
    #[error("the change of {id} at revision {at} came twice")]
    Repeated {
        /// The revision of the change.
        at: Revision,
        /// The instance.
        id: InstanceId,
    },
    /// Not atomic: a batch holds one part of a revision and not the other.
    #[error("revision {at} was split: {id} is missing")]
    Split {
        /// The revision.
        at: Revision,
        /// An instance that is missing.
        id: InstanceId,
    },
    /// Not reliable: a change never came.
    #[error("the change of {id} at revision {at} never came")]
    Lost {
        /// The revision of the change.
        at: Revision,
        /// The instance.
        id: InstanceId,
    },
    /// Progress was told ahead of data.
    #[error("progress {progress} came before the change of {id} at revision {at}")]
    ProgressAhead {
        /// The progress told.
        progress: Revision,
        /// The revision of the change.
        at: Revision,
        /// The instance.
        id: InstanceId,
    },
    /// The filter is not exact: something came that is not so, or is not selected.
    #[error("the change of {id} at revision {at} is untrue or not selected")]
    Untrue {
        /// The revision told.
        at: Revision,
        /// The instance.
        id: InstanceId,
    },
    /// A `Reset` or a list does not hold exactly what was selected then, in order.
    #[error("the snapshot at revision {at} is wrong: {told:?} instead of {really:?}")]
    WrongSnapshot {
        /// The revision told.
        at: Revision,
        /// The instances told.
        told: Vec<InstanceId>,
        /// Those that there were.
        really: Vec<InstanceId>,
    },
}

impl Truth {
    /// Notes what became of an instance at a revision; `None` if it went.
    pub fn note(&mut self, at: Revision, id: InstanceId, after: Option<Arc<Instance>>) {
        self.changes.entry(at).or_default().insert(id, after);
    }

    /// Takes over what another writer noted.
    pub fn extend(&mut self, other: Self) {
        for (at, deltas) in other.changes {
            self.changes.entry(at).or_default().extend(deltas);
        }
    }

    /// The number of revisions noted.
    pub fn revisions(&self) -> usize {
        self.changes.len()
    }

    /// Checks all that a watch said.
    ///
    /// # Errors
    ///
    /// The first promise that it broke.
    pub fn check(&self, recording: &Recording) -> Result<(), Violation> {
        let mut checker = Checker::new(self, &recording.query);
        let mut batches = recording.batches.iter().enumerate();
        batches.try_for_each(|(number, batch)| checker.check_batch(number, batch))
    }

    /// Checks a list.
    ///
    /// # Errors
    ///
    /// [`Violation::WrongSnapshot`] if it is not what `query` selected at its revision.
    pub fn check_snapshot(&self, query: &Query, snapshot: &Snapshot) -> Result<(), Violation> {
        Checker::new(self, query).check_snapshot(snapshot.at, &snapshot.instances)
    }
}

/// Walks through the truth in step with a recording.
struct Checker<'a> {
    truth: &'a Truth,
    query: &'a Query,
    /// Everything there was at `reached`, selected or not.
    world: BTreeMap<InstanceId, Arc<Instance>>,
    reached: Option<Revision>,
    delivered: BTreeSet<(Revision, InstanceId)>,
}

impl<'a> Checker<'a> {
    fn new(truth: &'a Truth, query: &'a Query) -> Self {
        Self { truth, query, world: BTreeMap::new(), reached: None, delivered: BTreeSet::new() }
    }

    fn check_batch(&mut self, number: usize, batch: &[Update]) -> Result<(), Violation> {
        let malformed = Violation::Malformed { batch: number };
        let Some(end) = batch.last().map(Update::at) else {
            return Err(malformed);
        };
        let mut rest = batch;
        if let [Update::Reset { at, all }, after @ ..] = batch {
            self.check_snapshot(*at, all)?;
            rest = after;
        }
        let Some(start) = self.reached else {
            return Err(malformed);
        };
        let told = self.check_order(start, rest, &malformed)?;
        if end <= start && !rest.is_empty() {
            return Err(Violation::Unordered { at: end, after: start });
        }
        let really = self.advance(end);
        check_content(told, really, rest)
    }

    fn check_snapshot(&mut self, at: Revision, told: &[Arc<Instance>]) -> Result<(), Violation> {
        if let Some(after) = self.reached.filter(|reached| *reached > at) {
            return Err(Violation::Unordered { at, after });
        }
        self.advance(at);
        let selected = self.world.values().filter(|instance| self.query.matches(instance));
        if selected.clone().eq(told) {
            return Ok(());
        }
        let id = |instance: &Arc<Instance>| instance.id.clone();
        Err(Violation::WrongSnapshot {
            at,
            told: told.iter().map(id).collect(),
            really: selected.map(id).collect(),
        })
    }

    /// Checks that revisions only grow and nothing repeats; returns the changes told.
    fn check_order(
        &mut self,
        start: Revision,
        told: &[Update],
        malformed: &Violation,
    ) -> Result<Deltas, Violation> {
        let mut deltas = Deltas::new();
        let mut after = start;
        for update in told {
            let (at, id, instance) = match update {
                Update::Reset { .. } => return Err(malformed.clone()),
                Update::Progress { .. } => continue,
                Update::Put { at, instance } => (*at, instance.id.clone(), Some(Arc::clone(instance))),
                Update::Delete { at, id } => (*at, id.clone(), None),
            };
            if !self.delivered.insert((at, id.clone())) {
                return Err(Violation::Repeated { at, id });
            }
            if at <= start || at < after {
                return Err(Violation::Unordered { at, after });
            }
            after = at;
            deltas.insert((at, id), instance);
        }
        Ok(deltas)
    }

    /// Walks up to `end`, and returns what a watch has to tell of the way.
    fn advance(&mut self, end: Revision) -> Deltas {
        let mut deltas = Deltas::new();
        let after = self.reached.map_or(Bound::Unbounded, Bound::Excluded);
        // A `Reset` may come again at the revision that was reached.
        if self.reached.is_some_and(|reached| reached >= end) {
            return deltas;
        }
        for (at, changed) in self.truth.changes.range((after, Bound::Included(end))) {
            for (id, after) in changed {
                let before = match after {
                    Some(after) => self.world.insert(id.clone(), Arc::clone(after)),
                    None => self.world.remove(id),
                };
                let was_selected = before.is_some_and(|before| self.query.matches(&before));
                let selected = after.clone().filter(|after| self.query.matches(after));
                if was_selected || selected.is_some() {
                    deltas.insert((*at, id.clone()), selected);
                }
            }
        }
        self.reached = Some(end);
        deltas
    }
}

/// What became of instances, as a watch tells it: `None` is a `Delete`.
type Deltas = BTreeMap<(Revision, InstanceId), Option<Arc<Instance>>>;

fn check_content(told: Deltas, mut really: Deltas, batch: &[Update]) -> Result<(), Violation> {
    let mut revisions = BTreeSet::new();
    for ((at, id), instance) in told {
        if really.remove(&(at, id.clone())) != Some(instance) {
            return Err(Violation::Untrue { at, id });
        }
        revisions.insert(at);
    }
    let Some(((at, id), _)) = really.pop_first() else {
        return Ok(());
    };
    if revisions.contains(&at) {
        return Err(Violation::Split { at, id });
    }
    let is_behind = revisions.last().is_none_or(|last| *last < at);
    match batch.last() {
        Some(Update::Progress { at: progress }) if is_behind => {
            Err(Violation::ProgressAhead { progress: *progress, at, id })
        }
        _ => Err(Violation::Lost { at, id }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{instance, instance_id, of};
    use super::*;

    fn at(number: u64) -> Revision {
        Revision::new(number)
    }

    fn put(number: u64, id: &str) -> Update {
        Update::Put { at: at(number), instance: Arc::new(instance(id, "api")) }
    }

    fn delete(number: u64, id: &str) -> Update {
        Update::Delete { at: at(number), id: instance_id(id) }
    }

    fn reset(number: u64, ids: &[&str]) -> Update {
        let all = ids.iter().map(|id| Arc::new(instance(id, "api"))).collect();
        Update::Reset { at: at(number), all }
    }

    fn progress(number: u64) -> Update {
        Update::Progress { at: at(number) }
    }

    /// `a` and `b` of `api` come and go together, `x` of another service in between.
    fn check(batches: &[&[Update]]) -> Result<(), Violation> {
        let mut truth = Truth::default();
        let mut note = |number, id, of: &str, there: bool| {
            truth.note(at(number), instance_id(id), there.then(|| Arc::new(instance(id, of))));
        };
        note(1, "a", "api", true);
        note(2, "b", "api", true);
        note(3, "x", "web", true);
        note(4, "c", "api", true);
        note(5, "a", "api", false);
        note(5, "b", "api", false);
        let batches = batches.iter().map(|batch| batch.to_vec()).collect();
        truth.check(&Recording { query: of("api"), batches })
    }

    #[test]
    fn a_truthful_watch_passes() {
        let end = [delete(5, "a"), delete(5, "b")];
        let steps: [&[Update]; 4] =
            [&[reset(0, &[])], &[put(1, "a")], &[put(2, "b"), progress(3)], &[put(4, "c")]];
        check(&[&steps[..], &[&end]].concat()).unwrap();
        check(&[&[reset(1, &["a"])], &[put(2, "b"), put(4, "c")], &end]).unwrap();
        check(&[&[reset(1, &["a"])], &[reset(4, &["a", "b", "c"])], &end]).unwrap();
        check(&[&[reset(1, &["a"])], &[reset(1, &["a"])], &[reset(5, &["c"])]]).unwrap();
    }

    #[test]
    fn each_broken_promise_is_found_and_named() {
        let start = reset(1, &["a"]);
        let told = |batches: &[&[Update]]| check(&[&[&[start.clone()][..]], batches].concat()).unwrap_err();
        let b = || instance_id("b");

        assert_eq!(check(&[&[put(1, "a")]]).unwrap_err(), Violation::Malformed { batch: 0 });
        assert_eq!(told(&[&[]]), Violation::Malformed { batch: 1 });
        let unordered = told(&[&[put(4, "c"), put(2, "b")]]);
        assert_eq!(unordered, Violation::Unordered { at: at(2), after: at(4) });
        let back = told(&[&[put(2, "b")], &[reset(1, &["a"])]]);
        assert_eq!(back, Violation::Unordered { at: at(1), after: at(2) });
        let stale = told(&[&[put(2, "b"), progress(3)], &[progress(2)]]);
        assert_eq!(stale, Violation::Unordered { at: at(2), after: at(3) });
        let repeated = told(&[&[put(2, "b")], &[put(2, "b"), put(4, "c")]]);
        assert_eq!(repeated, Violation::Repeated { at: at(2), id: b() });
        let split = told(&[&[put(2, "b"), put(4, "c"), delete(5, "a")], &[delete(5, "b")]]);
        assert_eq!(split, Violation::Split { at: at(5), id: b() });
        let lost = told(&[&[put(4, "c")]]);
        assert_eq!(lost, Violation::Lost { at: at(2), id: b() });
        let ahead = told(&[&[progress(3)], &[put(2, "b")]]);
        let (progress, id) = (at(3), b());
        assert_eq!(ahead, Violation::ProgressAhead { progress, at: at(2), id });
    }

    #[test]
    fn an_inexact_filter_and_a_wrong_snapshot_are_found() {
        let untrue = |batch: &[Update]| {
            let error = check(&[&[reset(1, &["a"])], batch]).unwrap_err();
            matches!(error, Violation::Untrue { .. })
        };
        assert!(untrue(&[put(2, "b"), put(3, "x")]), "of another service");
        assert!(untrue(&[delete(2, "b")]), "a delete for a put");
        assert!(untrue(&[put(2, "b"), delete(3, "x")]), "a delete of what was never selected");
        for wrong in [reset(1, &[]), reset(2, &["b", "a"]), reset(2, &["a"]), reset(5, &["a"])] {
            let error = check(&[&[wrong]]).unwrap_err();
            assert!(matches!(error, Violation::WrongSnapshot { .. }), "{error}");
        }
    }
}
