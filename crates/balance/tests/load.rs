//! What instances say of their load, and what is advised of them, in the weights.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking; helpers are not `#[test]` functions")]

#[expect(unreachable_pub, reason = "shared by the test programs")]
mod support;

use std::time::Duration;

use netloft_balance::{Composed, Composer, Composition, LoadOptions, Outcome, Reason, Roster};
use netloft_types::{Advice, Ground, InstanceId, Load};
use proptest::prelude::*;
use support::{roster, snapshot};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn load_alone() -> Composer {
    let load = Some(LoadOptions::default());
    let nothing = Composition { health: None, outlier: None, slow_start: None, ..Composition::default() };
    Composer::new(Composition { load, ..nothing })
}

fn says(roster: &Roster, index: usize, now: Duration, utilization: f64, calls_per_s: f64, failures: f64) {
    let load = Load::new(utilization, calls_per_s, failures).unwrap();
    roster.stats()[index].observe(load, now);
}

fn shares(made: &Composed) -> Vec<f64> {
    made.explain().iter().map(|verdict| verdict.share).collect()
}

fn are_about(shares: &[f64], expected: &[f64]) -> bool {
    shares.len() == expected.len() && shares.iter().zip(expected).all(|(is, it)| (is - it).abs() < 1e-6)
}

fn id(roster: &Roster, index: usize) -> InstanceId {
    roster.snapshot().instances()[index].id.clone()
}

#[test]
fn where_nobody_says_anything_nothing_changes() {
    let (mut composer, roster) = (load_alone(), roster(&[3, 1]));
    roster.begin(0, at(1)).end(at(2), Outcome::Success);
    let made = composer.compose(&roster, at(60));
    assert_eq!(made.roster.weights(), [3, 1], "as they were");
    assert_eq!(made.due, None, "and nobody has to look again");
    assert!(made.explain().iter().all(|verdict| verdict.reasons.is_empty()));
}

#[test]
fn who_can_take_more_gets_more_once_its_reports_are_old_enough_to_be_believed() {
    let (mut composer, roster) = (load_alone(), roster(&[1, 1, 1]));
    // At the same rate one is half as busy as another: it can take twice as much. The third says nothing.
    says(&roster, 0, at(100), 0.4, 100.0, 0.0);
    says(&roster, 1, at(100), 0.8, 100.0, 0.0);
    let new = composer.compose(&roster, at(101));
    assert_eq!((new.roster.weights(), new.due), ([1, 1, 1].as_slice(), Some(at(102))));
    let known = composer.compose(&roster, at(110));
    // 250 and 125 calls per second, of a mean of 187.5; the third has the mean.
    assert!(are_about(&shares(&known), &[4.0 / 9.0, 2.0 / 9.0, 3.0 / 9.0]), "{:?}", known.explain());
    assert_eq!(
        known.explain()[1].to_string(),
        "22.2 % of the calls: it says that it is 80 % busy: 0.7 of its weight"
    );
    assert!(known.explain()[2].reasons.is_empty());
}

#[test]
fn failures_count_against_who_reports_them() {
    let (mut composer, roster) = (load_alone(), roster(&[1, 1]));
    says(&roster, 0, at(0), 0.5, 100.0, 0.0);
    says(&roster, 1, at(0), 0.5, 100.0, 50.0);
    composer.compose(&roster, at(0));
    let made = composer.compose(&roster, at(10));
    // 100 / 0.5 beside 100 / (0.5 + 0.5).
    assert!(are_about(&shares(&made), &[2.0 / 3.0, 1.0 / 3.0]), "{:?}", made.explain());
}

#[test]
fn one_alone_is_compared_with_nobody() {
    let (mut composer, roster) = (load_alone(), roster(&[1, 1]));
    says(&roster, 0, at(0), 0.9, 100.0, 0.0);
    // It says how busy it is, and not what it serves.
    says(&roster, 1, at(0), 0.1, 0.0, 0.0);
    composer.compose(&roster, at(0));
    let made = composer.compose(&roster, at(10));
    assert_eq!(made.roster.weights(), [1, 1]);
}

#[test]
fn who_stops_reporting_has_its_own_weight_again() {
    let (mut composer, roster) = (load_alone(), roster(&[1, 1]));
    says(&roster, 0, at(0), 0.4, 100.0, 0.0);
    says(&roster, 1, at(0), 0.8, 100.0, 0.0);
    composer.compose(&roster, at(0));
    assert_ne!(composer.compose(&roster, at(179)).roster.weights(), [1, 1]);
    assert_eq!(composer.compose(&roster, at(180)).roster.weights(), [1, 1]);
    // And is not believed at once when it begins anew.
    says(&roster, 0, at(200), 0.4, 100.0, 0.0);
    says(&roster, 1, at(200), 0.8, 100.0, 0.0);
    assert_eq!(composer.compose(&roster, at(209)).roster.weights(), [1, 1]);
    assert_ne!(composer.compose(&roster, at(211)).roster.weights(), [1, 1]);
}

#[test]
fn factors_stay_within_a_period_and_for_little_changes() {
    let (mut composer, roster) = (load_alone(), roster(&[1, 1]));
    let tell = |now, second| {
        says(&roster, 0, now, 0.4, 100.0, 0.0);
        says(&roster, 1, now, second, 100.0, 0.0);
    };
    tell(at(0), 0.8);
    composer.compose(&roster, at(0));
    let first = composer.compose(&roster, at(10)).roster;
    tell(at(10), 0.2);
    let within = composer.compose(&roster, at(10) + Duration::from_millis(999)).roster;
    assert_eq!(within.weights(), first.weights());
    let after = composer.compose(&roster, at(11)).roster;
    assert!(after.weights()[0] < after.weights()[1], "{:?}", after.weights());
    tell(at(12), 0.205);
    assert_eq!(composer.compose(&roster, at(12)).roster.weights(), after.weights());
}

#[test]
fn advice_counts_for_who_does_not_speak_for_itself_until_it_is_over() {
    let (mut composer, roster) = (load_alone(), roster(&[1, 1, 1]));
    says(&roster, 0, at(0), 0.4, 100.0, 0.0);
    says(&roster, 1, at(0), 0.4, 100.0, 0.0);
    composer.compose(&roster, at(0));
    let advice = Advice::new(40, Ground::Slow { times: 3.1 }).unwrap();
    composer.advise([0, 2].map(|index| (id(&roster, index), advice)).into(), at(30));
    let made = composer.compose(&roster, at(20));
    assert!(are_about(&shares(&made), &[1.0 / 2.4, 1.0 / 2.4, 0.4 / 2.4]), "{:?}", made.explain());
    assert_eq!(*made.explain()[2].reasons, [Reason::Advised(advice)]);
    assert_eq!(
        made.explain()[2].to_string(),
        "16.7 % of the calls: the registry says: its callers wait 3.1 times as long as for the others: 40 % of its weight"
    );
    assert!(made.due.unwrap() <= at(30));
    assert_eq!(composer.compose(&roster, at(30)).roster.weights(), [1, 1, 1]);
}

#[test]
fn what_an_instance_says_goes_with_it_and_not_to_who_takes_its_place() {
    let roster = Roster::new(snapshot(0..2), at(0));
    assert!(roster.stats()[0].observe(Load::new(0.5, 1.0, 0.0).unwrap(), at(1)), "the first word is news");
    assert!(!roster.stats()[0].observe(Load::new(0.6, 1.0, 0.0).unwrap(), at(2)));
    let followed = roster.follow(snapshot(0..3), at(3));
    assert_eq!(followed.stats()[0].load().unwrap().1, at(2));
    assert_eq!((followed.stats()[1].load(), followed.stats()[2].load()), (None, None));
}

proptest! {
    #[test]
    fn whatever_is_said_nobody_starves_and_nobody_gets_everything(
        said in prop::collection::vec((0.0..1e12_f64, 0.0..1e12_f64, 0.0..1e12_f64), 2..8),
        tiny: bool,
    ) {
        let (mut composer, roster) = (load_alone(), roster(&vec![1; said.len()]));
        let scale = if tiny { 1e-40 } else { 1.0 };
        for (index, (utilization, calls, failures)) in said.iter().enumerate() {
            says(&roster, index, at(0), utilization * scale, *calls, *failures);
        }
        composer.compose(&roster, at(0));
        let made = composer.compose(&roster, at(10));
        let (least, most) = (0.1, 4.0);
        for verdict in made.explain() {
            for reason in &*verdict.reasons {
                let Reason::Load { factor, .. } = reason else { panic!("{reason:?}") };
                prop_assert!((least..=most).contains(factor), "{factor}");
            }
            prop_assert!(verdict.share > 0.0 && verdict.share < 1.0, "{verdict:?}");
        }
        prop_assert!((shares(&made).iter().sum::<f64>() - 1.0).abs() < 1e-9);
    }
}
