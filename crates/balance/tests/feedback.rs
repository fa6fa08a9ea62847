//! What is learned from calls, who it belongs to, and that nothing is lost or made up.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use netloft_balance::{
    Builtin, Call, Caller, Context, Key, Outcome, Picker, Roster, Snapshot, Strategy as _,
};
use netloft_types::Revision;
use proptest::prelude::*;
use proptest::sample::Index;

use support::{roster, snapshot};

#[expect(unreachable_pub, reason = "shared by the test programs")]
mod support;

proptest! {
    #[test]
    fn calls_are_counted_where_they_belong_over_any_change(steps in prop::collection::vec(step(), 0..60)) {
        let mut roster = Roster::default();
        // By number: the port, and who it is: an instance that comes again, or elsewhere, is another one.
        let mut there: BTreeMap<u32, (u32, usize)> = BTreeMap::new();
        let mut born = 0;
        let mut calls: Vec<(Call, usize)> = Vec::new();
        for step in steps {
            match step {
                Step::Change(ports) => {
                    let mut identity = |number: &u32, port: u32| {
                        let same = there.get(number).filter(|(before, _)| *before == port);
                        born += 1;
                        (port, same.map_or(born, |(_, identity)| *identity))
                    };
                    there = ports.iter().map(|(number, port)| (*number, identity(number, *port))).collect();
                    roster = roster.follow(listening(&ports), MS);
                }
                Step::Begin(any) if !there.is_empty() => {
                    let index = any.index(there.len());
                    let (_, identity) = there.values().nth(index).unwrap();
                    calls.push((roster.begin(index, MS), *identity));
                }
                Step::End(any, outcome) if !calls.is_empty() => {
                    let (call, _) = calls.swap_remove(any.index(calls.len()));
                    if let Some(outcome) = outcome {
                        call.end(2 * MS, outcome);
                    }
                }
                Step::Begin(_) | Step::End(..) => {}
            }
            for (stats, (_, identity)) in roster.stats().iter().zip(there.values()) {
                let expected = calls.iter().filter(|(_, whose)| whose == identity).count();
                prop_assert_eq!(stats.in_flight() as usize, expected);
            }
        }
    }
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_call_is_in_flight_until_it_ends_or_is_dropped_even_by_a_panic() {
    let roster = roster(&[1, 1]);
    let stats = &roster.stats()[1];
    let [ended, dropped, lost] = [1, 2, 3].map(|_| roster.begin(1, MS));
    assert_eq!((stats.in_flight(), ended.index()), (3, 1));
    ended.end(2 * MS, Outcome::Success);
    assert_eq!(stats.in_flight(), 2);
    drop(dropped);
    assert_eq!(stats.in_flight(), 1);
    let panicked = catch_unwind(AssertUnwindSafe(move || {
        let _lost = lost;
        panic!("a task dies");
    }));
    assert!(panicked.is_err());
    assert_eq!(stats.in_flight(), 0);
    assert_eq!(roster.stats()[0].in_flight(), 0, "the other one had none");
}

#[test]
fn a_call_that_is_given_up_teaches_nothing() {
    let roster = roster(&[1]);
    let stats = &roster.stats()[0];
    roster.begin(0, MS).end(11 * MS, Outcome::Success);
    let known = || {
        let averages = (stats.latency(20 * MS), stats.failure_share(20 * MS).to_bits());
        (averages, stats.counts(), stats.spent())
    };
    let before = known();
    drop(roster.begin(0, 12 * MS));
    assert_eq!(known(), before);
}

#[test]
fn a_latency_is_believed_at_once_when_it_is_bad_and_slowly_when_it_is_good() {
    let roster = roster(&[1]);
    let stats = &roster.stats()[0];
    assert_eq!(stats.latency(MS), None);
    roster.begin(0, Duration::ZERO).end(10 * MS, Outcome::Success);
    assert!(close(stats.latency(10 * MS).unwrap(), 10 * MS));
    roster.begin(0, Duration::ZERO).end(100 * MS, Outcome::Failure);
    assert!(close(stats.latency(100 * MS).unwrap(), 100 * MS));
    // A time constant later, 1/e of the bad one is left.
    let (begun, later) = (10_090 * MS, 10_100 * MS);
    roster.begin(0, begun).end(later, Outcome::Success);
    assert!(close(
        stats.latency(later).unwrap(),
        Duration::from_secs_f64(0.1 / 1f64.exp() + 0.01 * (1.0 - 1.0 / 1f64.exp()))
    ));
}

#[test]
fn failures_add_up_and_half_of_them_is_forgotten_in_half_a_minute() {
    let roster = roster(&[1]);
    let stats = &roster.stats()[0];
    for _ in 0..200 {
        roster.begin(0, MS).end(MS, Outcome::Failure);
    }
    assert!(stats.failure_share(MS) > 0.99);
    let half = stats.failure_share(MS + Duration::from_secs(30));
    assert!((half - 0.5).abs() < 0.01, "{half}");
    for _ in 0..200 {
        roster.begin(0, MS).end(MS, Outcome::Success);
    }
    assert!(stats.failure_share(MS) < 0.01);
}

#[test]
fn those_who_stay_keep_what_is_known_and_others_begin_anew() {
    let before = Roster::new(snapshot([1, 2, 3]), MS);
    let moved = listening(&BTreeMap::from([(2, 80), (3, 81), (4, 80)]));
    let after = before.follow(moved, 9 * MS);
    assert!(Arc::ptr_eq(&after.stats()[0], &before.stats()[1]), "2 stays");
    assert!(!Arc::ptr_eq(&after.stats()[1], &before.stats()[2]), "3 is elsewhere");
    let since = after.stats().iter().map(|stats| stats.since());
    assert_eq!(since.collect::<Vec<_>>(), [MS, 9 * MS, 9 * MS]);
}

#[test]
fn what_is_known_of_the_gone_goes_with_their_last_call() {
    let before = Roster::new(snapshot([1, 2]), MS);
    let call = before.begin(0, MS);
    let gone = Arc::downgrade(&before.stats()[0]);
    let after = before.follow(snapshot([2]), MS);
    drop(before);
    assert_eq!(gone.upgrade().unwrap().in_flight(), 1);
    call.end(2 * MS, Outcome::Success);
    assert!(gone.upgrade().is_none());
    assert_eq!(after.stats().len(), 1);
}

#[test]
fn calls_move_between_threads_and_outlive_pickers() {
    fn is_free<T: Send + Sync + 'static>() {}
    is_free::<Call>();
    is_free::<Roster>();
    is_free::<Box<dyn Picker>>();
    is_free::<Builtin>();
}

#[test]
fn the_adaptive_one_leaves_who_fails_and_comes_back_when_that_is_long_ago() {
    let picker = Builtin::Adaptive.picker(roster(&[1, 1]));
    let mut caller = Caller::seeded(21);
    let mut share = |now: Duration| {
        let picks = (0..1_000).map(|_| picker.pick(&mut caller, &Context::at(now)).unwrap());
        picks.filter(|pick| *pick == 0).count()
    };
    assert!((400..600).contains(&share(MS)), "nothing is known");
    for (index, outcome) in [(0, Outcome::Failure), (1, Outcome::Success)].repeat(8) {
        picker.roster().begin(index, MS).end(11 * MS, outcome);
    }
    assert_eq!(share(12 * MS), 0);
    assert_eq!(share(Duration::from_secs(10)), 0);
    assert!((400..600).contains(&share(Duration::from_mins(5))));
}

#[test]
fn the_adaptive_one_prefers_the_faster_and_the_less_busy() {
    let picker = Builtin::Adaptive.picker(roster(&[1, 1]));
    let mut caller = Caller::seeded(22);
    for (index, latency) in [(0, 10), (1, 20)].repeat(50) {
        picker.roster().begin(index, MS).end(MS + latency * MS, Outcome::Success);
    }
    let context = Context::at(30 * MS);
    assert!((0..100).all(|_| picker.pick(&mut caller, &context) == Some(0)));
    let busy = picker.roster().begin(0, context.now);
    assert!(
        (0..100).all(|_| picker.pick(&mut caller, &context) == Some(1)),
        "10 ms by 2 squared beats 20 ms"
    );
    drop(busy);
}

#[test]
fn churn_while_threads_pick_loses_no_call() {
    for strategy in Builtin::ALL {
        let first = Roster::new(snapshot(0..50), Duration::ZERO);
        let current: RwLock<Arc<dyn Picker>> = RwLock::new(Arc::from(strategy.picker(first.clone())));
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for seed in 0..3 {
                let (current, is_over) = (&current, &is_over);
                scope.spawn(move || call_until(is_over, current, seed));
            }
            for round in 0..60_u32 {
                // The first ten stay, of the others some come and some go.
                let numbers = (0..50).filter(|number| *number < 10 || (number + round) % 3 > 0);
                let now = MS * round;
                let roster = current.read().unwrap().roster().follow(snapshot(numbers), now);
                *current.write().unwrap() = Arc::from(strategy.picker(roster));
            }
            is_over.store(true, Ordering::Relaxed);
        });
        let last = current.read().unwrap().roster().clone();
        assert!(Arc::ptr_eq(&last.stats()[0], &first.stats()[0]));
        for stats in first.stats().iter().chain(last.stats()) {
            assert_eq!(stats.in_flight(), 0, "{strategy}");
        }
    }
}

/// Keeps a few calls in flight, and ends them in every way.
fn call_until(is_over: &AtomicBool, current: &RwLock<Arc<dyn Picker>>, seed: u64) {
    let mut caller = Caller::seeded(seed);
    let mut under_way = Vec::new();
    let mut count = 0_u32;
    while count < 2_000 || !is_over.load(Ordering::Relaxed) {
        count += 1;
        let now = MS * count;
        let picker = Arc::clone(&current.read().unwrap());
        let context = Context::at(now).with_key(Key::hashed(caller.draw()));
        let index = picker.pick(&mut caller, &context).unwrap();
        under_way.push(picker.roster().begin(index, now));
        if under_way.len() == 8 {
            let call = under_way.swap_remove(caller.below(8).unwrap());
            match count % 3 {
                0 => drop(call),
                1 => call.end(now, Outcome::Success),
                _ => call.end(now, Outcome::Failure),
            }
        }
    }
}

/// What happens to a roster and its calls.
#[derive(Debug, Clone)]
enum Step {
    /// The instances now, by number, with their ports.
    Change(BTreeMap<u32, u32>),
    Begin(Index),
    /// Without an outcome, the call is dropped.
    End(Index, Option<Outcome>),
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![Just(None), Just(Some(Outcome::Success)), Just(Some(Outcome::Failure))];
    prop_oneof![
        1 => prop::collection::btree_map(0_u32..8, 80_u32..82, 0..8).prop_map(Step::Change),
        4 => any::<Index>().prop_map(Step::Begin),
        2 => (any::<Index>(), outcome).prop_map(|(any, outcome)| Step::End(any, outcome)),
    ]
}

fn listening(ports: &BTreeMap<u32, u32>) -> Snapshot {
    let mut instances = snapshot(ports.keys().copied()).instances().iter().cloned().collect::<Vec<_>>();
    for (instance, port) in instances.iter_mut().zip(ports.values()) {
        Arc::make_mut(instance).port = (*port).try_into().unwrap();
    }
    Snapshot::new(Revision::new(2), instances)
}

fn close(one: Duration, other: Duration) -> bool {
    one.abs_diff(other) < other / 1_000
}
