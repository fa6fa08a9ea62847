//! Snapshots from updates, against a dumb model; and a picker from outside this crate.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use netloft_balance::{Builtin, Caller, Context, Picker, Roster, Snapshot, Strategy as _};
use netloft_types::{Instance, InstanceId, Revision, Update};
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_snapshot_is_what_its_updates_say(
        batches in prop::collection::vec(prop::collection::vec(step(), 0..8), 0..20),
    ) {
        let mut snapshot = Snapshot::default();
        let mut model: BTreeMap<InstanceId, Arc<Instance>> = BTreeMap::new();
        let mut at = Revision::ZERO;
        for steps in batches {
            let mut batch = Vec::new();
            for step in steps {
                at = at.next();
                batch.push(step.record(at, &mut model));
            }
            let before = snapshot.clone();
            let after = snapshot.apply(&batch);
            prop_assert_eq!(&snapshot, &before, "the old one stays for those who hold it");
            snapshot = after;
            prop_assert_eq!(snapshot.at(), at);
            prop_assert!(snapshot.instances().iter().eq(model.values()));
        }
    }
}

#[test]
fn progress_moves_the_revision_and_shares_the_set() {
    let before = Snapshot::new(Revision::new(1), [instance(1, 80), instance(2, 80)]);
    let at = Revision::new(9);
    let after = before.apply(&[Update::Progress { at }]);
    assert_eq!(after.at(), at);
    assert!(before.instances().is_same(after.instances()));
}

#[test]
fn a_change_of_one_leaves_the_others_where_they_are() {
    let before = Snapshot::new(Revision::new(1), (0..10_000).map(|number| instance(number, 80)));
    let at = Revision::new(2);
    let put = Update::Put { at, instance: instance(10_000, 80) };
    let gone = Update::Delete { at, id: instance(7, 80).id.clone() };
    let after = before.apply(&[put, gone]);
    assert_eq!(after.instances().len(), 10_000);
    let counted_again = after.instances().iter().filter(|one| Arc::strong_count(one) > 1).count();
    assert!((1..200).contains(&counted_again), "{counted_again}: two blocks are copied, the others shared");
}

#[test]
fn a_reset_that_changes_nothing_shares_the_set() {
    let before = Snapshot::new(Revision::new(1), [instance(1, 80), instance(2, 80)]);
    let at = Revision::new(9);
    let after =
        before.apply(&[Update::Reset { at, all: [instance(1, 80), instance(2, 80)].into_iter().collect() }]);
    assert_eq!(after.at(), at);
    assert!(before.instances().is_same(after.instances()));
}

#[test]
fn what_is_measured_stays_when_most_go_and_the_others_move_together() {
    let all = |count: u32| (0..count).map(|number| instance(number, 80)).collect();
    let many = Snapshot::default().apply(&[Update::Reset { at: Revision::new(1), all: all(1_000) }]);
    let before = Roster::new(many.clone(), Duration::ZERO);
    let few = many.apply(&[Update::Reset { at: Revision::new(2), all: all(10) }]);
    let after = before.follow(few, Duration::from_secs(1));
    assert_eq!(after.stats().len(), 10);
    for (instance, stats) in after.snapshot().instances().iter().zip(after.stats()) {
        let place = before.snapshot().instances().iter().position(|one| one.id == instance.id).unwrap();
        assert!(Arc::ptr_eq(stats, &before.stats()[place]), "{}", instance.id);
        assert_eq!(stats.since(), Duration::ZERO);
    }
}

#[test]
fn an_unsorted_list_with_a_repeated_id_becomes_a_set_in_order_of_id() {
    let snapshot = Snapshot::new(Revision::new(1), [instance(2, 80), instance(1, 80), instance(2, 81)]);
    assert_eq!(*snapshot.instances(), [instance(1, 80), instance(2, 81)]);
}

#[test]
fn a_picker_keeps_its_snapshot_while_a_new_one_is_made() {
    let old = Snapshot::new(Revision::new(1), [instance(1, 80), instance(2, 80)]);
    let picker = Builtin::RoundRobin.picker(Roster::new(old.clone(), Duration::ZERO));
    let gone = Update::Delete { at: Revision::new(2), id: instance(2, 80).id.clone() };
    let new = old.apply(&[gone]);
    assert_eq!(*new.instances(), [instance(1, 80)]);
    let mut caller = Caller::seeded(1);
    let picks =
        [picker.pick(&mut caller, &Context::default()), picker.pick(&mut caller, &Context::default())];
    assert_ne!(picks[0], picks[1], "both are still there for its users");
    assert_eq!(picker.roster().snapshot(), &old);
}

#[test]
fn one_picker_serves_many_threads() {
    let all = (0..8).map(|number| instance(number, 80));
    let roster = Roster::new(Snapshot::new(Revision::new(1), all), Duration::ZERO);
    let picker: Arc<dyn Picker> = Arc::from(Builtin::Weighted.picker(roster));
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let picker = Arc::clone(&picker);
            scope.spawn(move || {
                let mut caller = Caller::seeded(seed);
                let mut counts = [0; 8];
                for _ in 0..8_000 {
                    counts[picker.pick(&mut caller, &Context::default()).unwrap()] += 1;
                }
                assert_eq!(counts, [1_000; 8], "exact for each caller, whatever the others do");
            });
        }
    });
}

#[test]
fn a_strategy_from_outside_gets_fallback_for_free() {
    /// Always the first: a primary and its spares.
    #[derive(Debug)]
    struct First(Roster);

    impl Picker for First {
        fn roster(&self) -> &Roster {
            &self.0
        }

        fn pick(&self, _caller: &mut Caller, _context: &Context) -> Option<usize> {
            (!self.0.weights().is_empty()).then_some(0)
        }
    }

    let picker = First(Roster::new(
        Snapshot::new(Revision::new(1), [instance(1, 80), instance(2, 80)]),
        Duration::ZERO,
    ));
    let mut caller = Caller::seeded(1);
    assert_eq!(picker.pick_untried(&mut caller, &Context::default(), &[]), Some(0));
    assert_eq!(picker.pick_untried(&mut caller, &Context::default(), &[0]), Some(1));
    assert_eq!(picker.pick_untried(&mut caller, &Context::default(), &[1, 0]), None);
}

/// One update to come, before it has its revision.
#[derive(Debug, Clone)]
enum Step {
    Reset(Vec<u32>),
    Put(u32, u32),
    Delete(u32),
    Progress,
}

impl Step {
    /// Does to the model what the update says, and makes the update.
    fn record(self, at: Revision, model: &mut BTreeMap<InstanceId, Arc<Instance>>) -> Update {
        match self {
            Self::Reset(numbers) => {
                let fresh = numbers.into_iter().map(|number| instance(number, 80));
                *model = fresh.map(|one| (one.id.clone(), one)).collect();
                let all = model.values().cloned().collect();
                Update::Reset { at, all }
            }
            Self::Put(number, port) => {
                let instance = instance(number, port);
                model.insert(instance.id.clone(), Arc::clone(&instance));
                Update::Put { at, instance }
            }
            Self::Delete(number) => {
                let id = instance(number, 80).id.clone();
                model.remove(&id);
                Update::Delete { at, id }
            }
            Self::Progress => Update::Progress { at },
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => prop::collection::vec(0_u32..12, 0..8).prop_map(Step::Reset),
        6 => (0_u32..12, 80_u32..83).prop_map(|(number, port)| Step::Put(number, port)),
        3 => (0_u32..12).prop_map(Step::Delete),
        1 => Just(Step::Progress),
    ]
}

fn instance(number: u32, port: u32) -> Arc<Instance> {
    Arc::new(Instance::new(
        format!("api-{number}").parse().unwrap(),
        "api".parse().unwrap(),
        Ipv4Addr::from_bits((10 << 24) + number).into(),
        port.try_into().unwrap(),
    ))
}
