//! The observer in a small world: what it believes, when, and what it never does.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use netloft_health::{Action, BEAT, Cause, MonitorOptions, Observation, PanicOptions, Targets};
use netloft_types::{Health, Instance, Instances, Lifecycle, Patch, Revision, Update};
use proptest::prelude::*;

use self::world::{Manner, World, id, instance, ms, seconds};

const EVERY_SECOND: &str = "tcp,interval=1s,timeout=500ms";

fn world_of(count: u32, seed: u64) -> World {
    let mut world = World::new(seed);
    (0..count).for_each(|number| world.register(instance(number, &[EVERY_SECOND])));
    world.run(seconds(2));
    assert_eq!(world.usable(), usize::try_from(count).unwrap());
    world.amended.clear();
    world
}

/// A sign of life of each of the last ten of thirty.
fn all_beat(world: &mut World) {
    for number in 20..30 {
        world.heartbeat(number, &Observation::pass(""));
    }
}

#[test]
fn the_first_pass_starts_an_instance_at_once_and_not_before() {
    let mut world = World::new(1);
    world.register(instance(0, &["tcp,interval=1h"]));
    world.behaves([0], Manner::Fails);
    world.run(seconds(5));
    assert_eq!((world.get(0).lifecycle, world.get(0).health), (Lifecycle::Starting, Health::Critical));

    world.behaves([0], Manner::Works);
    world.run(seconds(10));
    assert_eq!((world.get(0).lifecycle, world.get(0).health), (Lifecycle::Ready, Health::Passing));
    assert!(matches!(&world.amended[..], [(_, _, Cause::Started)]), "{:?}", world.amended);

    let began = world.now;
    world.register(instance(1, &["tcp,interval=1h"]));
    world.run(seconds(1));
    let (started, ..) = world.amended[1];
    assert!(started <= began + ms(60), "{:?}", started.abs_diff(began));
}

#[test]
fn every_check_has_to_pass_and_one_is_enough_to_fail() {
    let mut world = World::new(2);
    let http = "http:8081/healthz,interval=1s,failures=1";
    world.register(instance(0, &["ttl,interval=3s", http]));
    world.run(seconds(2));
    assert_eq!(world.get(0).lifecycle, Lifecycle::Starting);
    assert_eq!(world.heartbeat(0, &Observation::warn("disk 91 %")), seconds(3));
    world.run(ms(10));
    assert_eq!((world.get(0).lifecycle, world.get(0).health), (Lifecycle::Ready, Health::Warning));

    world.behaves([0], Manner::Fails);
    world.run(ms(1_100));
    assert!(world.is_critical(0));
    let reports = world.monitor.reports(&id(0));
    let found: Vec<_> =
        reports.iter().map(|one| (one.name.as_str(), one.health, one.output.as_str())).collect();
    assert_eq!(found, [("ttl", Health::Warning, "disk 91 %"), ("http", Health::Critical, "it does not")]);
}

#[test]
fn it_takes_the_failures_that_were_asked_for_and_no_more() {
    let mut world = world_of(1, 3);
    world.behaves([0], Manner::Fails);
    let (began, before) = (world.now, world.probes);
    world.run(seconds(5));
    let (critical, _, cause) = &world.amended[0];
    assert!(matches!(cause, Cause::Failed { output, .. } if output.as_str() == "it does not"));
    assert!(*critical <= began + ms(3_050), "{:?}", critical.abs_diff(began));
    assert!(world.probes - before >= 3);
    let age = world.monitor.reports(&id(0))[0].age;
    let really = world.now.abs_diff(*critical);
    assert!(age <= really && age + BEAT >= really, "{age:?}");

    world.behaves([0], Manner::Works);
    world.run(seconds(2));
    assert!(!world.is_critical(0));
    assert_eq!(world.amended.len(), 2);
}

#[test]
fn a_heartbeat_counts_for_its_interval() {
    let mut world = World::new(4);
    world.register(instance(0, &["ttl,interval=10s"]));
    for _ in 0..5 {
        world.heartbeat(0, &Observation::pass(""));
        world.run(ms(9_900));
        assert_eq!(world.usable(), 1);
    }
    world.run(ms(300));
    assert!(world.is_critical(0), "no heartbeat came");
    world.heartbeat(0, &Observation::pass("here again"));
    world.run(ms(10));
    assert_eq!(world.usable(), 1);
    let unknown = world.registry[&id(0)].clone();
    let probing = std::sync::Arc::new(instance(7, &["tcp"]));
    assert!(world.monitor.heartbeat(world.now, &probing, None, &Observation::pass("")).is_err());
    let name = "other".parse().unwrap();
    assert!(world.monitor.heartbeat(world.now, &unknown, Some(&name), &Observation::pass("")).is_err());
}

#[test]
fn what_stays_critical_is_removed_after_the_time_it_asked_for() {
    let mut world = World::new(5);
    world.register(instance(0, &["tcp,interval=1s,remove-after=30s"]));
    world.run(seconds(1));
    world.behaves([0], Manner::Fails);
    world.run(seconds(31));
    assert!(world.is_critical(0));
    world.run(seconds(4));
    assert!(world.registry.is_empty());
    assert!(matches!(world.amended.last(), Some((_, _, Cause::CriticalForTooLong { .. }))));
}

#[test]
fn a_drain_ends_with_its_window_and_one_without_window_does_not() {
    let mut world = world_of(3, 6);
    let window = "30s".parse().unwrap();
    world.update(0, Patch::drain_within(window));
    world.update(1, Patch::drain());
    world.update(2, Patch::drain_within(window));
    assert_eq!(world.usable(), 0);
    world.run(seconds(29));
    assert_eq!(world.registry.len(), 3);
    // Its owner has thought better of it.
    world.update(2, Patch { lifecycle: Some(Lifecycle::Ready), ..Patch::default() });
    world.run(seconds(2));
    assert_eq!(world.registry.keys().collect::<Vec<_>>(), [&id(1), &id(2)]);

    let unchecked =
        Instance { lifecycle: Lifecycle::Draining, drain_window: Some(window), ..instance(3, &[]) };
    world.register(unchecked);
    world.run(seconds(31));
    assert!(!world.registry.contains_key(&id(3)));
    assert_eq!(world.monitor.stats().instances, 2);
}

#[test]
fn an_instance_that_changes_to_and_fro_is_held_critical_and_says_so() {
    let mut world = World::new(7);
    world.register(instance(0, &["tcp,interval=1s,failures=1,jitter=0%,damping=5/1m"]));
    world.behaves([0], Manner::Wavers);
    world.run(seconds(300));
    assert!(world.amended.len() <= 5, "{:?}", world.amended);
    assert!(world.is_critical(0) && world.monitor.reports(&id(0))[0].is_damped);

    world.behaves([0], Manner::Works);
    world.run(seconds(62));
    assert_eq!(world.usable(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// The observer is stopped at any moment, for any time, again and again; its probes under way all seem to have
    /// failed when it goes on, and heartbeats are read only after that.
    #[test]
    fn nothing_that_works_is_thrown_out_by_an_observer_that_was_stopped(
        seed in any::<u64>(),
        stops in prop::collection::vec((0..4_000_u64, 1_001..20_000_u64), 1..12),
        failures in 1..4_u8,
    ) {
        let mut world = World::new(seed);
        world.latency = ms(400);
        let probing = format!("tcp,interval=1s,timeout=500ms,failures={failures},remove-after=5s");
        (0..20).for_each(|number| world.register(instance(number, &[&probing])));
        (20..30).for_each(|number| world.register(instance(number, &["ttl,interval=5s"])));
        all_beat(&mut world);
        world.run(seconds(2));
        prop_assert_eq!(world.usable(), 30);
        world.amended.clear();

        for (before, stopped) in stops {
            all_beat(&mut world);
            world.run(ms(before));
            world.stop(ms(stopped));
            world.run(ms(20));
        }
        prop_assert_eq!(&world.amended, &[]);
        prop_assert_eq!(world.usable(), 30);
    }

    /// And one that was stopped still sees what really died.
    #[test]
    fn what_died_meanwhile_is_noticed_soon_after(seed in any::<u64>(), stopped in 1_001..60_000_u64) {
        let mut world = world_of(10, seed);
        world.stop(ms(stopped));
        world.behaves([3], Manner::Fails);
        world.run(seconds(6));
        prop_assert!(world.is_critical(3));
        prop_assert_eq!(world.usable(), 9);
    }
}

#[test]
fn a_single_death_is_believed_and_the_loss_of_most_is_not() {
    let mut world = world_of(10, 8);
    world.behaves([0], Manner::Fails);
    world.run(seconds(5));
    assert_eq!(world.usable(), 9);
    world.behaves([0], Manner::Works);
    world.run(seconds(120));
    assert_eq!(world.usable(), 10);

    world.behaves(0..6, Manner::Silent);
    world.run(seconds(20));
    assert_eq!(world.usable(), 10, "{:?}", world.amended);
    assert_eq!(world.panics, [("api".parse().unwrap(), true)]);
    assert_eq!(world.monitor.held(&"api".parse().unwrap()), 6);
    assert!(world.monitor.reports(&id(0))[0].is_held);

    // Four of them come back; the two others are dead, and too few to doubt it.
    world.behaves(0..4, Manner::Works);
    world.run(seconds(5));
    assert_eq!(world.panics.last(), Some(&("api".parse().unwrap(), false)));
    world.run(seconds(60));
    assert_eq!(world.usable(), 8);
    assert_eq!(world.monitor.held(&"api".parse().unwrap()), 0);
}

#[test]
fn in_the_end_even_the_loss_of_all_is_believed() {
    let mut world = world_of(10, 9);
    world.behaves(0..10, Manner::Fails);
    world.run(seconds(590));
    assert_eq!(world.usable(), 10);
    world.run(seconds(30));
    assert_eq!(world.usable(), 0);
}

#[test]
fn those_that_die_one_after_another_are_believed_to_the_last() {
    let mut world = world_of(10, 10);
    for number in 0..10 {
        world.behaves([number], Manner::Fails);
        world.run(seconds(70));
        assert_eq!(world.usable(), 9 - usize::try_from(number).unwrap());
    }
    assert_eq!(world.panics, []);
}

#[test]
fn a_small_service_may_lose_all_its_instances() {
    let mut world = world_of(4, 11);
    world.behaves(0..4, Manner::Fails);
    world.run(seconds(5));
    assert_eq!(world.usable(), 0);
}

#[test]
fn what_drains_or_is_maintained_is_no_loss() {
    let mut world = world_of(10, 12);
    (0..6).for_each(|number| world.update(number, Patch::drain()));
    world.behaves(0..6, Manner::Fails);
    world.run(seconds(10));
    assert_eq!((world.usable(), world.panics.len()), (4, 0));
}

#[test]
fn probes_are_bounded_in_all_and_for_each_address() {
    let options = MonitorOptions { probes_max: 8, probes_per_address_max: 2, ..MonitorOptions::default() };
    let mut world = World::with(options, 13);
    world.latency = ms(100);
    for number in 0..200 {
        let same_address =
            Instance { address: "10.9.9.9".parse().unwrap(), ..instance(number, &["tcp,interval=1h"]) };
        world.register(same_address);
    }
    world.run(seconds(5));
    assert_eq!(world.under_way_max, 2);
    (200..400).for_each(|number| world.register(instance(number, &["tcp,interval=1h"])));
    world.run(seconds(10));
    assert_eq!((world.under_way_max, world.usable(), world.monitor.stats().waiting), (8, 400, 0));
}

#[test]
fn after_a_restart_ten_thousand_checks_are_spread_over_their_interval() {
    let mut world = World::new(14);
    let ready = |number| {
        let registered = instance(number, &["tcp,interval=10s"]).registered_over(None);
        std::sync::Arc::new(registered.judged(Health::Passing, true))
    };
    let all: Instances = (0..10_000).map(ready).collect();
    world.registry = all.iter().map(|one| (one.id.clone(), one.clone())).collect();
    world.monitor.apply(world.now, &[Update::Reset { at: Revision::new(1), all }]);
    let began = world.now;
    world.run(seconds(60));

    assert_eq!(world.amended, [], "what works goes on working");
    let mut slots: BTreeMap<u128, usize> = BTreeMap::new();
    for (at, _) in &world.probed {
        *slots.entry(at.abs_diff(began).as_millis() / 100).or_default() += 1;
    }
    let (least, most) = (slots.values().min().unwrap(), slots.values().max().unwrap());
    // One hundred in a tenth of a second on average.
    assert!((50..=100).contains(least) && (100..=200).contains(most), "{least} to {most}");
    let per_second = world.probes / 60;
    assert!((1_000..=1_060).contains(&per_second), "{per_second}");
}

#[test]
fn what_is_taken_over_goes_on_as_it_was_with_all_thresholds_ahead() {
    let mut world = World::new(25);
    for (number, check) in [(0, "tcp,interval=10s,failures=3"), (1, "ttl,interval=10s")] {
        let registered = instance(number, &[check]).registered_over(None);
        let working = std::sync::Arc::new(registered.judged(Health::Passing, true));
        world.registry.insert(working.id.clone(), working.clone());
        world.monitor.take_over(world.now, &working);
    }
    world.behaves([0], Manner::Fails);
    world.run(ms(9_900));
    assert_eq!(world.usable(), 2, "a heartbeat may still come");
    world.run(ms(300));
    assert!(world.is_critical(1) && !world.is_critical(0), "two failures at most");
    world.run(seconds(20));
    assert!(world.is_critical(0));
}

#[test]
fn what_must_not_be_probed_never_is_and_says_why() {
    let targets = Targets { deny: vec!["10.0.0.0/8".parse().unwrap()], ..Targets::default() };
    let mut world = World::with(MonitorOptions { targets, ..MonitorOptions::default() }, 15);
    world.monitor.own_addresses(["192.0.2.1".parse().unwrap()].into());
    let places = ["10.0.0.9", "127.0.0.1", "169.254.169.254", "192.0.2.1", "::1"];
    for (number, address) in (0..).zip(places) {
        let said =
            Instance { address: address.parse().unwrap(), ..instance(number, &["tcp,initial=passing"]) };
        assert!(world.monitor.admit(&said).is_err(), "{address}");
        assert!(
            world.monitor.admit(&Instance { checks: instance(0, &["ttl"]).checks, ..said.clone() }).is_ok()
        );
        world.register(said);
    }
    world.run(seconds(60));
    assert_eq!((world.probes, world.usable()), (0, 0));
    let output = &world.monitor.reports(&id(2))[0].output;
    assert!(output.as_str().starts_with("169.254.169.254 is a link-local address"), "{output}");
}

#[test]
fn with_nobody_to_look_after_it_need_not_be_called_and_misses_nothing() {
    let mut world = World::new(15);
    world.run(seconds(1));
    assert_eq!(world.monitor.next_due(), None);
    // Not called for an hour: no absence, and nobody is doubted for it.
    world.now += Duration::from_hours(1);
    world.register(instance(0, &["tcp,interval=1s"]));
    world.run(seconds(5));
    assert_eq!((world.usable(), world.monitor.stats().discarded), (1, 0));
    assert!(world.monitor.next_due().is_some());
}

#[test]
fn a_change_of_its_owner_meanwhile_is_not_undone() {
    let mut world = world_of(1, 16);
    world.behaves([0], Manner::Fails);
    // The registry takes a change that the monitor has not heard of when it decides.
    let changed = loop {
        match world.monitor.poll(world.now) {
            Some(Action::Amend(amendment)) => break amendment,
            Some(Action::Probe(probe)) => {
                world.monitor.finished(world.now, probe.ticket, Observation::fail("no"));
            }
            Some(other) => panic!("{other:?}"),
            None => world.now = world.monitor.next_due().unwrap(),
        }
    };
    world.monitor.set_back(world.now, &changed.seen.id, netloft_health::Setback::Changed);
    world.update(0, Patch { weight: Some("7".parse().unwrap()), ..Patch::default() });
    world.run(seconds(1));
    assert_eq!((world.get(0).weight.number(), world.get(0).health), (7, Health::Critical));
}

#[test]
fn what_is_gone_is_probed_no_more_and_what_comes_in_its_place_begins_anew() {
    let mut world = world_of(1, 17);
    world.deregister(0);
    world.probed.clear();
    world.run(seconds(10));
    assert_eq!((world.probed.len(), world.monitor.stats().instances), (0, 0));

    world.behaves([0], Manner::Fails);
    world.register(instance(0, &[EVERY_SECOND]));
    world.run(seconds(10));
    assert_eq!(world.get(0).lifecycle, Lifecycle::Starting);
}

#[test]
fn a_threshold_of_zero_believes_everything() {
    let panic = PanicOptions { usable_percent_min: 0, ..PanicOptions::default() };
    let mut world = World::with(MonitorOptions { panic, ..MonitorOptions::default() }, 18);
    (0..10).for_each(|number| world.register(instance(number, &[EVERY_SECOND])));
    world.run(seconds(2));
    world.behaves(0..10, Manner::Fails);
    world.run(Duration::from_secs(5));
    assert_eq!(world.usable(), 0);
}
