//! What many clients report becomes advice: bounded, calm, and forgotten with those who gave it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking; helpers are not `#[test]` functions")]

#[expect(dead_code, unreachable_pub, reason = "shared by the test programs")]
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use netloft_balance::{Adviser, AdviserOptions};
use netloft_types::{Ground, Instance, InstanceId, InstanceLoad, LoadReport, Reporter, Seen};
use proptest::prelude::*;
use support::snapshot;

/// One instance as one client sees it: how many calls succeed and fail, and how long they take.
#[derive(Debug, Clone, Copy)]
struct View {
    successes: u64,
    failures: u64,
    latency_ms: f64,
}

fn fast() -> View {
    View { successes: 100, failures: 0, latency_ms: 10.0 }
}

fn slow() -> View {
    View { latency_ms: 30.0, ..fast() }
}

fn failing() -> View {
    View { failures: 50, ..fast() }
}

/// A service, its clients, and the one who advises them.
struct World {
    adviser: Adviser,
    instances: Vec<Arc<Instance>>,
    now: Duration,
}

const INTERVAL: Duration = Duration::from_secs(10);

impl World {
    fn of(count: u32) -> Self {
        let instances: Vec<_> = snapshot(0..count).instances().iter().cloned().collect();
        let adviser = Adviser::new(AdviserOptions::default(), Duration::ZERO);
        Self { adviser, instances, now: Duration::ZERO }
    }

    fn id(&self, index: usize) -> InstanceId {
        self.instances[index].id.clone()
    }

    /// An interval passes, in which each client sees this.
    fn pass(&mut self, clients: &[&[View]]) {
        self.now += INTERVAL;
        for (reporter, views) in (1..).zip(clients) {
            self.report(reporter, views);
        }
        self.adviser.decide(&self.instances, self.now);
    }

    fn report(&mut self, reporter: u64, views: &[View]) {
        let seen = views.iter().enumerate().map(|(index, view)| {
            let total = Duration::from_secs_f64(
                view.latency_ms / 1e3 * u32::try_from(view.successes).map_or(0.0, f64::from),
            );
            let seen = Seen {
                successes: view.successes,
                failures: view.failures,
                latency: total,
                ..Seen::default()
            };
            (self.id(index), seen)
        });
        let reporter = Reporter::try_from(reporter).unwrap();
        let report = LoadReport { reporter, service: "api".parse().unwrap(), seen: seen.collect() };
        self.adviser.report(report, &self.instances, self.now);
    }

    /// The percentage of its weight that each has.
    fn percents(&self) -> Vec<u8> {
        let advice: BTreeMap<_, _> = self.adviser.advice().collect();
        self.instances.iter().map(|one| advice.get(&one.id).map_or(100, |advice| advice.percent())).collect()
    }

    fn percent(&self, index: usize) -> u8 {
        self.percents()[index]
    }
}

#[test]
fn who_is_slow_to_most_of_its_clients_gets_less_and_the_reason_is_said() {
    let mut world = World::of(4);
    let views = [slow(), fast(), fast(), fast()];
    world.pass(&[&views, &views]);
    assert_eq!(world.percents(), [100; 4], "once may be chance");
    world.pass(&[&views, &views]);
    assert_eq!(world.percents(), [80, 100, 100, 100]);
    let load = world.adviser.load(&world.id(0));
    assert_eq!((load.reporters, load.latency), (2, Some(Duration::from_millis(30))));
    assert!((load.calls_per_s - 20.0).abs() < 1e-9, "{load:?}");
    let ground = load.advice.unwrap().ground();
    assert!(matches!(ground, Ground::Slow { times } if (times - 3.0).abs() < 1e-6), "{ground:?}");
    for _ in 0..20 {
        let before = world.percent(0);
        world.pass(&[&views, &views]);
        assert!(f64::from(world.percent(0)) >= f64::from(before) * 0.8 - 1.0, "by a fifth at a time");
    }
    assert_eq!(world.percents(), [20, 100, 100, 100], "and never nothing");
}

#[test]
fn who_fails_while_others_do_not_gets_less() {
    let mut world = World::of(3);
    for _ in 0..3 {
        world.pass(&[&[failing(), fast(), fast()]]);
    }
    assert_eq!(world.percents(), [64, 100, 100]);
    let ground = world.adviser.load(&world.id(0)).advice.unwrap().ground();
    assert!(matches!(ground, Ground::Failing { share } if (share - 1.0 / 3.0).abs() < 1e-6), "{ground:?}");

    let mut world = World::of(3);
    for _ in 0..5 {
        world.pass(&[&[failing(); 3]]);
    }
    assert_eq!(world.percents(), [100; 3], "all alike is nobody's fault");
}

#[test]
fn who_is_well_again_is_let_back_in_by_steps_of_a_tenth() {
    let mut world = World::of(4);
    let sick = [slow(), fast(), fast(), fast()];
    for _ in 0..5 {
        world.pass(&[&sick]);
    }
    let mut before = world.percent(0);
    assert!(before < 50);
    let mut passed = 0;
    while world.percent(0) < 100 {
        world.pass(&[&[fast(); 4]]);
        let percent = world.percent(0);
        assert!(
            percent >= before && f64::from(percent) <= f64::from(before) * 1.1 + 1.0,
            "{before} {percent}"
        );
        if (before + 1..100).contains(&percent) {
            assert_eq!(world.adviser.load(&world.id(0)).advice.unwrap().ground(), Ground::Recovering);
        }
        (before, passed) = (percent, passed + 1);
        assert!(passed < 20, "{before}");
    }
}

#[test]
fn one_client_starves_nobody_that_others_find_well() {
    let liar =
        [View { successes: 1_000_000, failures: 900_000, latency_ms: 100_000.0 }, fast(), fast(), fast()];
    let honest = [fast(); 4];
    let mut world = World::of(4);
    for _ in 0..20 {
        world.pass(&[&liar, &honest]);
        assert_eq!(world.percents(), [100; 4]);
    }
    // A majority is believed.
    for _ in 0..3 {
        world.pass(&[&liar, &liar, &honest]);
    }
    assert!(world.percent(0) < 100);
}

#[test]
fn too_few_siblings_or_calls_say_nothing() {
    let mut world = World::of(2);
    for _ in 0..5 {
        world.pass(&[&[slow(), fast()]]);
    }
    assert_eq!(world.percents(), [100; 2]);

    let mut world = World::of(4);
    let few = |view: View| View { successes: 19, ..view };
    for _ in 0..5 {
        world.pass(&[&[few(slow()), few(fast()), few(fast()), few(fast())]]);
    }
    assert_eq!(world.percents(), [100; 4]);
    // Of many clients together, they are enough.
    let views = [few(slow()), few(fast()), few(fast()), few(fast())];
    for _ in 0..3 {
        world.pass(&[&views, &views]);
    }
    assert!(world.percent(0) < 100);
}

#[test]
fn a_client_is_slow_by_itself_and_that_is_nobody_elses_fault() {
    let mut world = World::of(4);
    let far = [View { latency_ms: 500.0, ..fast() }; 4];
    // It calls the first most, and all others the rest.
    let near = [View { successes: 1, ..fast() }, fast(), fast(), fast()];
    for _ in 0..5 {
        world.pass(&[&far, &near]);
    }
    assert_eq!(world.percents(), [100; 4]);
}

#[test]
fn who_is_silent_is_forgotten_and_so_is_what_they_said() {
    let mut world = World::of(4);
    let sick = [slow(), fast(), fast(), fast()];
    for _ in 0..4 {
        world.pass(&[&sick]);
    }
    assert_eq!(world.adviser.size(), [1, 4]);
    assert!(world.percent(0) < 100);
    world.now += INTERVAL * 3;
    assert!(world.adviser.is_stale(world.now));
    world.adviser.decide(&world.instances, world.now);
    assert_eq!((world.adviser.size(), world.percents()), ([0, 0], vec![100; 4]));

    // One of two goes: its vote goes, too.
    for _ in 0..4 {
        world.pass(&[&[fast(); 4], &sick]);
    }
    assert_eq!(world.percents(), [100; 4], "half is not a majority");
    for _ in 0..6 {
        world.now += INTERVAL;
        world.report(2, &sick);
        world.adviser.decide(&world.instances, world.now);
    }
    assert_eq!(world.adviser.size(), [1, 4]);
    assert!(world.percent(0) < 100);
    // An instance that is gone is, too; and what is not there is never kept.
    world.instances.remove(0);
    world.pass(&[&[], &sick[1..]]);
    assert_eq!((world.adviser.advice().count(), world.adviser.size()), (0, [1, 3]));
    let gone = World::of(1).id(0);
    assert_eq!(world.adviser.load(&gone), InstanceLoad::unknown(gone));
}

/// Servers whose latency grows with their load, under calls that are shared by the weights advised.
fn play(speeds: &[f64], busy: f64, intervals: usize, advised: bool) -> (Vec<Vec<u8>>, f64) {
    let mut world = World::of(u32::try_from(speeds.len()).unwrap());
    let calls = busy * speeds.iter().sum::<f64>();
    let (mut history, mut waited) = (Vec::new(), 0.0);
    for _ in 0..intervals {
        let percents = world.percents();
        let weights: Vec<f64> =
            percents.iter().map(|percent| if advised { f64::from(*percent) } else { 1.0 }).collect();
        let sum: f64 = weights.iter().sum();
        let views: Vec<View> = speeds
            .iter()
            .zip(&weights)
            .map(|(speed, weight)| {
                let (share, free) = (weight / sum, (1.0 - calls * weight / sum / speed).max(0.02));
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some thousand")]
                let successes = (share * 10_000.0) as u64;
                // As many wait in a queue of one server (M/M/1).
                View { successes, failures: 0, latency_ms: 10.0 / speed / free }
            })
            .collect();
        waited +=
            weights.iter().zip(&views).map(|(weight, view)| weight / sum * view.latency_ms).sum::<f64>();
        world.pass(&[&views, &views]);
        history.push(percents);
    }
    (history, waited)
}

/// How often an instance changes its direction.
fn turns(history: &[Vec<u8>], index: usize) -> usize {
    let steps = history.windows(2).map(|two| i16::from(two[1][index]) - i16::from(two[0][index]));
    let moves: Vec<i16> = steps.filter(|step| *step != 0).map(i16::signum).collect();
    moves.windows(2).filter(|two| two[0] != two[1]).count()
}

#[test]
fn a_rise_that_had_to_be_taken_back_is_tried_later_each_time() {
    let mut world = World::of(4);
    let mut history = Vec::new();
    for _ in 0..200 {
        let first = if world.percent(0) > 50 { slow() } else { fast() };
        world.pass(&[&[first, fast(), fast(), fast()]]);
        history.push(world.percents());
    }
    // Each try is a turn up and a turn down: at first every few intervals, then every 16 and more.
    assert!(turns(&history[..50], 0) > 6, "{history:?}");
    assert!(turns(&history[100..], 0) <= 2 * 100 / 16, "{history:?}");
}

#[test]
fn what_is_slow_one_by_one_does_not_become_the_rule_together() {
    let speeds = [1.0, 0.5, 0.7, 0.7, 1.0];
    let (history, waited) = play(&speeds, 0.838, 120, true);
    let (_, waited_without) = play(&speeds, 0.838, 120, false);
    assert!(waited < waited_without / 3.0, "{waited} with advice, {waited_without} without");
    assert!(history[10..].windows(2).all(|two| two[0] == two[1]), "{history:?}");
}

proptest! {
    /// Where a majority is well; a majority that is slow is the rule here.
    #[test]
    fn the_loop_comes_to_rest_and_serves_better_than_without(
        slow in prop::collection::vec(0.2..0.9_f64, 0..5),
        more in 1..4_usize,
        busy in 0.1..0.85_f64,
    ) {
        let speeds = [vec![1.0; slow.len().max(1) + more], slow].concat();
        let (history, waited) = play(&speeds, busy, 400, true);
        let (_, waited_without) = play(&speeds, busy, 400, false);
        prop_assert!(waited <= waited_without * 1.02, "{waited} with advice, {waited_without} without");
        for index in 0..speeds.len() {
            // A rise is tried every 16 intervals or more, and may be taken back.
            let turns = turns(&history[200..], index);
            prop_assert!(turns <= 2 * 200 / 16, "{turns} of {index}: {:?}", &history[200..]);
        }
        prop_assert!(history.iter().flatten().all(|percent| (20..=100).contains(percent)));
    }

    #[test]
    fn equals_are_left_alone(count in 3..10_usize, busy in 0.1..0.9_f64) {
        let (history, _) = play(&vec![1.0; count], busy, 50, true);
        prop_assert!(history.iter().flatten().all(|percent| *percent == 100));
    }

    #[test]
    fn whatever_is_reported_weights_stay_within_bounds(
        rounds in prop::collection::vec(
            prop::collection::vec((0..4_usize, 0..1_000_000_000_u64, 0..1_000_000_000_u64, 0.0..1e15_f64), 0..12), 1..30),
    ) {
        let mut world = World::of(4);
        for round in rounds {
            world.now += INTERVAL;
            for (reporter, (index, successes, failures, us)) in (1..).zip(round) {
                let latency = Duration::from_secs_f64(us / 1e6);
                let seen = Seen { successes, failures, latency, in_flight: u32::MAX, utilization: None };
                let stranger = "stranger".parse().unwrap();
                let seen = [(world.id(index), seen), (world.id(0), seen), (stranger, seen)].into();
                let reporter = Reporter::try_from(reporter % 5 + 1).unwrap();
                let report = LoadReport { reporter, service: "api".parse().unwrap(), seen };
                world.adviser.report(report, &world.instances, world.now);
            }
            let before = world.percents();
            world.adviser.decide(&world.instances, world.now);
            for (before, after) in before.iter().zip(world.percents()) {
                prop_assert!((20..=100).contains(&after));
                let (least, most) = (f64::from(*before) * 0.8 - 1.0, f64::from(*before) * 1.1 + 1.0);
                prop_assert!((least..=most).contains(&f64::from(after)) , "{before} to {after}");
            }
            for instance in &world.instances {
                let load = world.adviser.load(&instance.id);
                prop_assert!(load.calls_per_s.is_finite() && (0.0..=1.0).contains(&load.failure_share));
            }
        }
    }
}
