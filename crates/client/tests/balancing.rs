//! What calls say when they end decides who gets the next ones.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use netloft_balance::{Builtin, Cause, Composition, Key, Outcome, OutlierOptions, Reason, SlowStartOptions};
use netloft_client::{Balanced, Registration};
use support::*;
use tokio::time::{sleep, timeout};

async fn with(
    names: &[&str],
    composition: Composition,
    strategy: Builtin,
) -> (Registry, Vec<Registration>, Balanced) {
    let registry = Registry::start().await;
    let client = registry.client();
    let mut registrations = Vec::new();
    for name in names {
        registrations.push(client.register(instance(name), long()).await.unwrap());
    }
    let balanced = client.balance_with(api(), composition, strategy);
    balanced.ready(PATIENCE).await.unwrap();
    (registry, registrations, balanced)
}

/// Waits until what `said` looks for is said of an instance.
async fn is_said(balanced: &Balanced, name: &str, said: impl Fn(&[Reason]) -> bool) {
    let look =
        || balanced.explain().into_iter().any(|it| it.instance.id == id(name) && said(&it.verdict.reasons));
    let reached = timeout(PATIENCE, async {
        while !look() {
            sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(reached.await.is_ok(), "{:?}", balanced.explain());
}

fn ejected(reasons: &[Reason]) -> bool {
    matches!(reasons, [Reason::Ejected { cause: Cause::ConsecutiveFailures(_), .. }])
}

#[tokio::test]
async fn who_fails_is_ejected_with_a_reason_and_taken_back() {
    let outlier = OutlierOptions { base_ejection: Duration::from_secs(1), ..OutlierOptions::default() };
    let composition = Composition { outlier: Some(outlier), ..Composition::default() };
    let (_registry, _held, balanced) = with(&["a", "b", "c"], composition, Builtin::RoundRobin).await;
    for _ in 0..15 {
        let pick = balanced.pick().unwrap();
        let outcome = if pick.id == id("b") { Outcome::Failure } else { Outcome::Success };
        pick.end(outcome);
    }
    is_said(&balanced, "b", ejected).await;
    let others = (0..30).map(|_| balanced.pick().unwrap().id.to_string()).collect::<Vec<_>>();
    assert!(!others.contains(&"b".to_owned()), "{others:?}");
    is_said(&balanced, "b", <[Reason]>::is_empty).await;
    assert!((0..3).any(|_| balanced.pick().unwrap().id == id("b")));
}

#[tokio::test]
async fn a_call_is_in_flight_until_it_ends_or_is_dropped() {
    let (_registry, _held, balanced) = with(&["a"], Composition::default(), Builtin::default()).await;
    let seen = || {
        let explained = balanced.explain();
        (explained[0].in_flight, explained[0].latency.is_some(), explained[0].failure_share > 0.0)
    };
    let (first, second) = (balanced.pick().unwrap(), balanced.pick().unwrap());
    assert_eq!(seen(), (2, false, false));
    drop(first);
    assert_eq!(seen(), (1, false, false), "nothing is learned of a call that was given up");
    second.end(Outcome::Failure);
    assert_eq!(seen(), (0, true, true));
}

#[tokio::test]
async fn who_comes_later_starts_slowly() {
    let slow_start = SlowStartOptions { window: Duration::from_secs(2), ..SlowStartOptions::default() };
    let composition = Composition { slow_start: Some(slow_start), ..Composition::default() };
    let (registry, _held, balanced) = with(&["a"], composition, Builtin::Weighted).await;
    sleep(Duration::from_millis(2_100)).await;
    let _later = registry.client().register(instance("b"), long()).await.unwrap();
    is_said(&balanced, "b", |reasons| matches!(reasons, [Reason::SlowStart { part }] if *part < 1.0)).await;
    is_said(&balanced, "b", <[Reason]>::is_empty).await;
}

#[tokio::test]
async fn calls_of_one_key_go_to_one_instance_while_it_is_there() {
    let names = ["a", "b", "c", "d"];
    let ring = "ring-hash".parse().unwrap();
    let (_registry, _held, balanced) = with(&names, Composition::default(), ring).await;
    let key = Key::of("user-42");
    let first = balanced.pick_for(key).unwrap().id.clone();
    assert!((0..20).all(|_| balanced.pick_for(key).unwrap().id == first));
    let tried: Vec<_> = balanced.candidates_for(key).map(|pick| pick.id.clone()).collect();
    assert_eq!((tried.len(), &tried[0]), (4, &first));
}
