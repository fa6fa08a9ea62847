//! Who gets calls, and how many, before a strategy decides.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking; helpers are not `#[test]` functions")]

use std::sync::Arc;
use std::time::Duration;

use netloft_balance::{
    Cause, Composer, Composition, HealthOptions, Key, LocalityOptions, Outcome, OutlierOptions, Reason,
    Roster, SlowStartOptions, Snapshot, SubsetOptions,
};
use netloft_types::{Health, Instance, Lifecycle, Locality, Revision};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn instance(number: usize) -> Instance {
    let address = std::net::Ipv4Addr::new(10, 0, 0, 2).into();
    let id = format!("api-{number:05}").parse().unwrap();
    Instance::new(id, "api".parse().unwrap(), address, "80".parse().unwrap())
}

fn roster(count: usize, change: impl Fn(usize, &mut Instance)) -> Roster {
    let instances = (0..count).map(|number| {
        let mut instance = instance(number);
        change(number, &mut instance);
        Arc::new(instance)
    });
    Roster::new(Snapshot::new(Revision::new(1), instances), Duration::ZERO)
}

fn same(_: usize, _: &mut Instance) {}

fn composed(composition: Composition, roster: &Roster, now: Duration) -> netloft_balance::Composed {
    Composer::new(composition).compose(roster, now)
}

fn calls(roster: &Roster, index: usize, count: usize, outcome: Outcome) {
    for _ in 0..count {
        roster.begin(index, at(1)).end(at(1), outcome);
    }
}

fn is_about(share: f64, expected: f64) -> bool {
    (share - expected).abs() < 1e-6
}

#[test]
fn who_has_nothing_against_them_keep_their_small_weights() {
    let roster = roster(3, |number, instance| instance.weight = (number + 1).to_string().parse().unwrap());
    let composed = composed(Composition::default(), &roster, at(60));
    assert_eq!(composed.roster.weights(), [1, 2, 3]);
    assert!(composed.explain().iter().all(|verdict| verdict.reasons.is_empty()));
    assert_eq!(composed.explain()[2].to_string(), "50.0 % of the calls");
}

#[test]
fn nobody_at_all_is_composed_to_nobody() {
    let nobody = Roster::default();
    let everything = Composition {
        locality: Some(LocalityOptions::at(Locality::default())),
        subset: Some(SubsetOptions { size: 3, caller: Key::of("me") }),
        ..Composition::default()
    };
    assert!(composed(everything, &nobody, at(1)).explain().is_empty());
}

#[test]
fn who_does_not_work_or_wants_no_calls_gets_none() {
    let roster = roster(6, |number, instance| match number {
        0 => instance.health = Health::Critical,
        1 => instance.lifecycle = Lifecycle::Draining,
        2 => instance.maintenance = Some("new disk".parse().unwrap()),
        3 => instance.health = Health::Warning,
        _ => {}
    });
    let composed = composed(Composition::default(), &roster, at(60));
    assert_eq!(composed.roster.weights(), [0, 0, 0, 1, 1, 1]);
    let said = |index: usize| composed.explain()[index].to_string();
    assert_eq!(said(0), "0.0 % of the calls: it is critical");
    assert_eq!(said(1), "0.0 % of the calls: it is draining");
    assert_eq!(said(2), "0.0 % of the calls: an operator keeps it out of use");
}

#[test]
fn when_nobody_works_nobody_gets_calls_unless_that_is_not_believed() {
    let sick = roster(3, |_, instance| instance.health = Health::Critical);
    let health =
        |panic_percent| Composition { health: Some(HealthOptions { panic_percent }), ..Composition::NONE };
    let believed = composed(health(0), &sick, at(60));
    assert!(believed.is_closed() && believed.explain().iter().all(|verdict| verdict.share <= 0.0));
    assert!(!composed(health(50), &sick, at(60)).is_closed());
    assert!(!composed(Composition::NONE, &sick, at(60)).is_closed());
}

#[test]
fn when_too_few_work_that_is_not_believed_but_who_wants_no_calls_still_gets_none() {
    let sick = |number: usize, instance: &mut Instance| {
        if number < 3 {
            instance.health = Health::Critical;
        }
        if number == 4 {
            instance.lifecycle = Lifecycle::Draining;
        }
    };
    let health =
        |panic_percent| Composition { health: Some(HealthOptions { panic_percent }), ..Composition::NONE };
    let roster = roster(5, sick);
    let panicking = composed(health(50), &roster, at(60));
    assert_eq!(panicking.roster.weights(), [1, 1, 1, 1, 0]);
    assert_eq!(*panicking.explain()[0].reasons, [Reason::Panic]);
    assert_eq!(composed(health(25), &roster, at(60)).roster.weights(), [0, 0, 0, 1, 0]);
}

fn in_zones(usable_near: usize) -> Roster {
    roster(20, move |number, instance| {
        let (region, zone) = match number {
            0..10 => ("eu", "a"),
            10..15 => ("eu", "b"),
            _ => ("us", "a"),
        };
        instance.locality = Locality::new(region, zone, "").unwrap();
        if (usable_near..10).contains(&number) {
            instance.health = Health::Critical;
        }
    })
}

fn here() -> LocalityOptions {
    LocalityOptions::at(Locality::new("eu", "a", "").unwrap())
}

fn near() -> Composition {
    Composition { locality: Some(here()), ..Composition::default() }
}

fn shares(roster: &Roster) -> [f64; 3] {
    let composed = composed(near(), roster, at(60));
    let sum = |from: usize, to: usize| composed.explain()[from..to].iter().map(|it| it.share).sum();
    [sum(0, 10), sum(10, 15), sum(15, 20)]
}

#[test]
fn those_nearby_get_all_calls_as_long_as_they_can_carry_them() {
    for usable in [8, 9, 10] {
        let composed = composed(near(), &in_zones(usable), at(60));
        assert_eq!(composed.roster.weights().iter().sum::<u32>(), u32::try_from(usable).unwrap());
        assert_eq!(*composed.explain()[12].reasons, [Reason::Far]);
    }
}

#[test]
fn what_they_cannot_carry_goes_to_the_next_near() {
    let [zone, region, elsewhere] = shares(&in_zones(6));
    assert!(is_about(zone, 0.84) && is_about(region, 0.16) && elsewhere == 0.0, "{zone} {region}");
    let [zone, region, elsewhere] = shares(&in_zones(0));
    assert!(zone == 0.0 && is_about(region, 1.0) && elsewhere == 0.0, "{zone} {region}");
}

#[test]
fn who_is_near_and_gets_no_calls_is_told_the_true_reason() {
    let unusable = Reason::Unusable { health: Health::Critical, lifecycle: Lifecycle::Ready };
    let lost = composed(near(), &in_zones(0), at(60));
    assert_eq!(*lost.explain()[0].reasons, [unusable], "not that nearer ones can carry them");
    // Two work, and three are wanted.
    let locality = LocalityOptions { instances_min: 3, ..here() };
    let roster = in_zones(2);
    let thin = composed(Composition { locality: Some(locality), ..Composition::default() }, &roster, at(60));
    let reasons = |reason: Reason| thin.explain().iter().filter(|it| *it.reasons == [reason]).count();
    assert_eq!((reasons(Reason::TooFewNear), reasons(unusable), reasons(Reason::Far)), (2, 8, 5));
    assert_eq!(thin.roster.weights().iter().sum::<u32>(), 5, "the next zone has them all");
}

#[test]
fn a_caller_without_a_place_and_one_in_another_region_use_everybody() {
    for own in [Locality::default(), Locality::new("asia", "a", "").unwrap()] {
        let composition = Composition { locality: Some(LocalityOptions::at(own)), ..Composition::default() };
        let composed = composed(composition, &in_zones(10), at(60));
        assert_eq!(composed.roster.weights(), [1; 20]);
    }
}

#[test]
fn who_fails_again_and_again_is_ejected_at_once_and_taken_back_later() {
    let roster = roster(10, same);
    let mut state = Composer::new(Composition::default());
    calls(&roster, 3, 4, Outcome::Failure);
    assert_eq!(state.compose(&roster, at(60)).roster.weights(), [1; 10]);
    calls(&roster, 3, 1, Outcome::Failure);
    let composed = state.compose(&roster, at(61));
    assert_eq!(composed.roster.weights()[3], 0);
    let until = at(91);
    assert_eq!(
        *composed.explain()[3].reasons,
        [Reason::Ejected { cause: Cause::ConsecutiveFailures(5), until }]
    );
    assert!(composed.due.is_some_and(|due| due <= until));
    assert_eq!(state.compose(&roster, at(90)).roster.weights()[3], 0);
    // Its old failures do not count again; five new ones do, and for twice as long.
    assert_eq!(state.compose(&roster, at(91)).roster.weights()[3], 1);
    calls(&roster, 3, 5, Outcome::Failure);
    assert_eq!(state.compose(&roster, at(92)).roster.weights()[3], 0);
    assert_eq!(state.compose(&roster, at(150)).roster.weights()[3], 0);
    assert_eq!(state.compose(&roster, at(152)).roster.weights()[3], 1);
}

#[test]
fn who_is_ejected_stays_so_while_others_come_and_go() {
    let first = roster(200, same);
    let mut state = Composer::new(Composition::default());
    let failing = first.snapshot().instances()[150].id.clone();
    calls(&first, 150, 5, Outcome::Failure);
    assert_eq!(state.compose(&first, at(60)).roster.weights()[150], 0);
    let mut current = first;
    for (step, count) in [(61, 201), (62, 160), (63, 155), (64, 400)] {
        // Made anew each time, so that everybody may lie elsewhere.
        let all = (0..count)
            .filter(|number| *number > 20 || step % 2 == 0)
            .map(|number| Arc::new(instance(number)));
        current = current.follow(Snapshot::new(Revision::new(2), all), at(0));
        let composed = state.compose(&current, at(step));
        let is_ejected = |(index, weight): (usize, &u32)| {
            (*weight == 0).then(|| composed.roster.snapshot().instances()[index].id.clone())
        };
        let ejected: Vec<_> = composed.roster.weights().iter().enumerate().filter_map(is_ejected).collect();
        assert_eq!(ejected, std::slice::from_ref(&failing), "at {step} s, of {count}");
    }
}

#[test]
fn a_success_in_between_keeps_it_in() {
    let roster = roster(10, same);
    let mut state = Composer::new(Composition::default());
    for _ in 0..9 {
        calls(&roster, 3, 4, Outcome::Failure);
        calls(&roster, 3, 1, Outcome::Success);
    }
    assert_eq!(state.compose(&roster, at(60)).roster.weights(), [1; 10]);
}

#[test]
fn not_more_are_ejected_than_allowed_and_one_always_stays() {
    let all_fail = |count: usize| {
        let roster = roster(count, same);
        (0..count).for_each(|index| calls(&roster, index, 9, Outcome::Failure));
        let composed = composed(Composition::default(), &roster, at(60));
        let ejected = composed.roster.weights().iter().filter(|weight| **weight == 0).count();
        let spared = composed.explain().iter().flat_map(|verdict| verdict.reasons.iter());
        let spared = spared.filter(|reason| matches!(reason, Reason::NotEjected { .. })).count();
        assert_eq!(ejected + spared, count);
        ejected
    };
    assert_eq!([1, 2, 10, 30].map(all_fail), [0, 1, 1, 3]);
}

#[test]
fn who_succeeds_far_less_often_than_others_is_ejected() {
    let roster = roster(20, same);
    let mut state = Composer::new(Composition::default());
    state.compose(&roster, at(60));
    for index in 0..20 {
        let failing = if index == 7 { 40 } else { 1 };
        for _ in 0..failing {
            // Never five in a row.
            calls(&roster, index, 1, Outcome::Failure);
            calls(&roster, index, 1, Outcome::Success);
        }
        calls(&roster, index, 98 - failing, Outcome::Success);
    }
    assert_eq!(state.compose(&roster, at(69)).roster.weights(), [1; 20]);
    let composed = state.compose(&roster, at(70));
    assert_eq!(composed.roster.weights().iter().sum::<u32>(), 19);
    let reasons = &composed.explain()[7].reasons;
    assert!(matches!(**reasons, [Reason::Ejected { cause: Cause::SuccessRate { .. }, .. }]), "{reasons:?}");
}

#[test]
fn a_new_one_gets_more_and_more_calls() {
    let before = roster(3, same);
    let all = (0..4).map(|number| Arc::new(instance(number)));
    let roster = before.follow(Snapshot::new(Revision::new(2), all), at(100));
    let mut state = Composer::new(Composition::default());
    let mut part = |now: Duration| {
        let composed = state.compose(&roster, now);
        composed.explain()[3].share / composed.explain()[0].share
    };
    let parts = [at(100), at(105), at(108), at(110)].map(&mut part);
    assert!(
        parts.iter().zip([0.1, 0.5, 0.8, 1.0]).all(|(part, expected)| is_about(*part, expected)),
        "{parts:?}"
    );
    assert_eq!(state.compose(&roster, at(105)).due, Some(at(106)));
}

#[test]
fn when_all_are_new_nobody_waits() {
    let composed = composed(Composition::default(), &roster(3, same), at(2));
    assert_eq!(composed.roster.weights(), [1; 3]);
}

#[test]
fn warming_up_goes_as_it_is_told_to() {
    let before = roster(1, same);
    let all = (0..2).map(|number| Arc::new(instance(number)));
    let roster = before.follow(Snapshot::new(Revision::new(2), all), at(100));
    let slow_start = SlowStartOptions { window: at(100), aggression: 2.0, part_min: 0.3 };
    let mut state = Composer::new(Composition { slow_start: Some(slow_start), ..Composition::NONE });
    for (now, part) in [(101, 0.3), (125, 0.5), (181, 0.9)] {
        let composed = state.compose(&roster, at(now));
        assert_eq!(*composed.explain()[1].reasons, [Reason::SlowStart { part }]);
    }
}

fn subset(caller: &str) -> Composition {
    Composition { subset: Some(SubsetOptions { size: 20, caller: Key::of(caller) }), ..Composition::NONE }
}

fn used(roster: &Roster) -> Vec<usize> {
    (0..roster.weights().len()).filter(|index| roster.weights()[*index] > 0).collect()
}

#[test]
fn a_caller_uses_a_few_always_the_same_and_callers_together_use_all_alike() {
    let roster = roster(200, same);
    let mut counts = [0_u32; 200];
    for caller in 0..500 {
        let name = format!("caller-{caller}");
        let mine = used(&composed(subset(&name), &roster, at(1)).roster);
        assert_eq!(mine.len(), 20);
        assert_eq!(mine, used(&composed(subset(&name), &roster, at(99)).roster));
        for index in mine {
            counts[index] += 1;
        }
    }
    // 50 on average; the deviation of a fair draw is 6.7.
    assert!(counts.iter().all(|count| (23..=77).contains(count)), "{counts:?}");
}

#[test]
fn when_one_of_a_subset_goes_one_other_takes_its_place() {
    let whole = roster(200, same);
    let mine = used(&composed(subset("me"), &whole, at(1)).roster);
    let gone = mine[5];
    let ill = roster(200, |number, instance| {
        if number == gone {
            instance.health = Health::Critical;
        }
    });
    let composition = Composition { health: Some(HealthOptions::default()), ..subset("me") };
    let now = used(&composed(composition, &ill, at(1)).roster);
    assert_eq!(now.len(), 20);
    assert_eq!(mine.iter().filter(|index| now.contains(index)).count(), 19);
}

#[test]
fn a_part_that_is_left_out_does_nothing() {
    let roster = in_zones(0);
    (0..20).for_each(|index| calls(&roster, index, 99, Outcome::Failure));
    assert_eq!(composed(Composition::NONE, &roster, at(1)).roster.weights(), [1; 20]);
    let lenient = OutlierOptions {
        consecutive_failures: 0,
        success_rate_deviations: None,
        failure_percent: None,
        ..OutlierOptions::default()
    };
    let composition = Composition { outlier: Some(lenient), ..Composition::NONE };
    assert!(!composed(composition, &roster, at(1)).roster.weights().contains(&0));
}

#[test]
fn ten_thousand_are_composed() {
    let mut state = Composer::new(near());
    let composed = state.compose(&roster(10_000, same), at(60));
    assert_eq!(composed.roster.weights().len(), 10_000);
}

#[test]
fn a_zone_whose_calls_all_fail_is_left_as_far_as_may_be_ejected_and_come_back_to() {
    let place = |number: usize, instance: &mut Instance| {
        instance.locality = Locality::new("eu", if number < 4 { "a" } else { "b" }, "").unwrap();
    };
    let roster = roster(8, place);
    let with = |ejected_percent_max| {
        let outlier = OutlierOptions { ejected_percent_max, ..OutlierOptions::default() };
        Composer::new(Composition { outlier: Some(outlier), ..near() })
    };
    let (mut bold, mut shy) = (with(100), with(10));
    assert_eq!(bold.compose(&roster, at(1)).roster.weights(), [1, 1, 1, 1, 0, 0, 0, 0]);
    (0..4).for_each(|index| calls(&roster, index, 5, Outcome::Failure));
    let left = bold.compose(&roster, at(2));
    assert_eq!(left.roster.weights(), [0, 0, 0, 0, 1, 1, 1, 1]);
    assert_eq!(left.due, Some(at(11)), "rates are compared again");
    // One of four may be ejected, and the others carry all.
    let shares: Vec<f64> = shy.compose(&roster, at(2)).explain().iter().map(|it| it.share).collect();
    assert!(is_about(shares[..4].iter().sum(), 1.0), "{shares:?}");
    assert_eq!(shares.iter().filter(|share| **share > 0.0).count(), 3);
    // 30 s later it is tried again.
    assert_eq!(bold.compose(&roster, at(33)).roster.weights(), [1, 1, 1, 1, 0, 0, 0, 0]);
}
