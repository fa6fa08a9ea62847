//! One check against a model too dumb to be wrong: thresholds are exact, and damping keeps its word.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::num::NonZeroU8;
use std::time::Duration;

use netloft_health::{Observation, Outcome, Tracker};
use netloft_types::{Check, Damping, Health, Output};
use proptest::prelude::*;

/// What the whole history up to each result adds up to, looked at anew each time.
fn model(check: &Check, initial: Health, outcomes: &[Outcome]) -> Vec<Health> {
    let last = |end: usize, count: NonZeroU8| {
        let count = usize::from(count.get());
        (end >= count).then(|| &outcomes[end - count..end])
    };
    let is_failure = |outcome: &Outcome| *outcome == Outcome::Fail;
    let mut health = initial;
    let after = |end: usize| {
        let said = if outcomes[end - 1] == Outcome::Warn { Health::Warning } else { Health::Passing };
        let passes = last(end, check.passes).is_some_and(|last| !last.iter().any(is_failure));
        if last(end, check.failures).is_some_and(|last| last.iter().all(is_failure)) {
            health = Health::Critical;
        } else if !is_failure(&outcomes[end - 1]) && (passes || health != Health::Critical) {
            health = said;
        }
        health
    };
    (1..=outcomes.len()).map(after).collect()
}

fn outcomes() -> impl Strategy<Value = Vec<Outcome>> {
    // Runs, so that thresholds are reached.
    let outcome = prop::sample::select(vec![Outcome::Pass, Outcome::Warn, Outcome::Fail]);
    let runs = prop::collection::vec((outcome, 1..6_usize), 1..40);
    runs.prop_map(|runs| runs.into_iter().flat_map(|(outcome, len)| vec![outcome; len]).collect())
}

fn observation(outcome: Outcome) -> Observation {
    Observation { outcome, output: Output::default() }
}

fn number(number: u8) -> NonZeroU8 {
    NonZeroU8::new(number).unwrap()
}

fn seconds(number: usize) -> Duration {
    Duration::from_secs(number as u64)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn thresholds_are_exact(passes in 1..5_u8, failures in 1..5_u8, outcomes in outcomes(), good in any::<bool>()) {
        let check = Check { passes: number(passes), failures: number(failures), damping: None, ..Check::tcp() };
        let initial = if good { Health::Passing } else { Health::Critical };
        let mut tracker = Tracker::new(initial, Duration::ZERO);
        let mut since = Duration::ZERO;
        for (at, (outcome, expected)) in outcomes.iter().zip(model(&check, initial, &outcomes)).enumerate() {
            let before = tracker.health();
            let is_changed = tracker.record(&check, seconds(at), observation(*outcome));
            prop_assert_eq!(tracker.health(), expected);
            prop_assert_eq!(is_changed, before != expected);
            since = if is_changed { seconds(at) } else { since };
            prop_assert_eq!(tracker.since(), since);
        }
    }

    #[test]
    fn what_stays_below_the_thresholds_changes_nothing(
        failures in 2..6_u8,
        runs in prop::collection::vec((1..4_usize, 1..5_u8), 1..60),
    ) {
        let check = Check { failures: number(failures), ..Check::tcp() };
        let mut tracker = Tracker::new(Health::Passing, Duration::ZERO);
        let mut at = 0;
        for (good, bad) in runs {
            let bad = usize::from(bad.min(failures - 1));
            for outcome in [vec![Outcome::Pass; good], vec![Outcome::Fail; bad]].concat() {
                at += 1;
                prop_assert!(!tracker.record(&check, seconds(at), observation(outcome)));
                prop_assert_eq!(tracker.health(), Health::Passing);
            }
        }
    }

    #[test]
    fn however_it_changes_to_and_fro_few_changes_are_seen(
        changes in 2..6_u8,
        within in 10..100_usize,
        outcomes in outcomes(),
    ) {
        let damping = Damping { changes: number(changes), within: seconds(within).try_into().unwrap() };
        let check = Check { failures: number(1), damping: Some(damping), ..Check::tcp() };
        let mut tracker = Tracker::new(Health::Critical, Duration::ZERO);
        let mut seen: Vec<usize> = Vec::new();
        let mut last_failure = 0;
        for (at, outcome) in outcomes.iter().enumerate() {
            let (was_critical, was_damped) = (tracker.health() == Health::Critical, tracker.is_damped());
            tracker.record(&check, seconds(at), observation(*outcome));
            last_failure = if *outcome == Outcome::Fail { at } else { last_failure };
            if was_critical != (tracker.health() == Health::Critical) {
                seen.push(at);
                prop_assert!(!was_damped || at - last_failure >= within, "ended {} after a failure", at - last_failure);
            }
            let recent = seen.iter().filter(|change| at - **change <= within).count();
            prop_assert!(recent <= usize::from(changes), "{recent} changes within {within} s");
        }
        // Whatever happened, it ends once all is well for long enough.
        tracker.record(&check, seconds(outcomes.len() + within), observation(Outcome::Pass));
        prop_assert_eq!(tracker.health(), Health::Passing);
    }
}

#[test]
fn an_instance_that_says_it_is_broken_is_believed_at_once() {
    let check: Check = "ttl,failures=3,initial=passing".parse().unwrap();
    let mut tracker = Tracker::new(Health::Passing, Duration::ZERO);
    assert!(tracker.record(&check, seconds(1), Observation::fail("out of disk")));
    assert_eq!((tracker.health(), tracker.output().as_str()), (Health::Critical, "out of disk"));
}
