//! Calls stay near as long as those nearby can carry them, and go elsewhere when they cannot.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;

use netloft_balance::{Builtin, Cause, Composition, LocalityOptions, Outcome, OutlierOptions, Reason};
use netloft_client::{Balanced, Registration};
use netloft_types::{Health, Locality, Patch};
use support::*;
use tokio::time::{Duration, sleep, timeout};

fn place(region: &str, zone: &str) -> Locality {
    Locality::new(region, zone, "").unwrap()
}

/// Four in the caller's zone, two in the other zone of its region, two in another cloud.
async fn clouds() -> (Registry, BTreeMap<String, Registration>, Balanced) {
    clouds_with(OutlierOptions::default()).await
}

async fn clouds_with(outlier: OutlierOptions) -> (Registry, BTreeMap<String, Registration>, Balanced) {
    let registry = Registry::start().await;
    let client = registry.client();
    let mut held = BTreeMap::new();
    for (name, region, zone) in [
        ("near-1", "eu", "a"),
        ("near-2", "eu", "a"),
        ("near-3", "eu", "a"),
        ("near-4", "eu", "a"),
        ("region-1", "eu", "b"),
        ("region-2", "eu", "b"),
        ("cloud-1", "us", "a"),
        ("cloud-2", "us", "a"),
    ] {
        let mut instance = instance(name);
        instance.locality = place(region, zone);
        held.insert(name.to_owned(), client.register(instance, long()).await.unwrap());
    }
    let composition = Composition {
        locality: Some(LocalityOptions::at(place("eu", "a"))),
        outlier: Some(outlier),
        slow_start: None,
        ..Composition::default()
    };
    let balanced = client.balance_with(api(), composition, Builtin::Weighted);
    balanced.ready(PATIENCE).await.unwrap();
    (registry, held, balanced)
}

async fn says(registration: &Registration, health: Health) {
    registration.update(Patch { health: Some(health), ..Patch::default() }).await.unwrap();
}

/// Waits until the calls go to these kinds, in percent.
async fn go_to(balanced: &Balanced, expected: &[(&str, usize)]) {
    let shares = || {
        let mut shares = BTreeMap::new();
        for _ in 0..1_000 {
            let name = balanced.pick().map_or_else(|| "nobody".to_owned(), |pick| pick.id.to_string());
            *shares.entry(name.split('-').next().unwrap().to_owned()).or_insert(0) += 1;
        }
        shares
    };
    let is_reached = |shares: &BTreeMap<String, usize>| {
        shares.len() == expected.len()
            && expected.iter().all(|(kind, percent)| {
                shares.get(*kind).is_some_and(|calls| calls.abs_diff(percent * 10) <= 20)
            })
    };
    let reached = timeout(PATIENCE, async {
        while !is_reached(&shares()) {
            sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(reached.await.is_ok(), "{:?}: {:?}", shares(), balanced.explain());
}

#[tokio::test]
async fn calls_leave_a_zone_only_as_far_as_it_cannot_carry_them() {
    let (_registry, held, balanced) = clouds().await;
    go_to(&balanced, &[("near", 100)]).await;
    says(&held["near-1"], Health::Critical).await;
    go_to(&balanced, &[("near", 100)]).await;
    // Half of it works, and carries 70 %.
    says(&held["near-2"], Health::Critical).await;
    go_to(&balanced, &[("near", 70), ("region", 30)]).await;
    let explained = balanced.explain();
    let near = explained.iter().find(|it| it.instance.id == id("near-3")).unwrap();
    assert!(matches!(&*near.verdict.reasons, [Reason::Spill { share }] if (share - 0.7).abs() < 1e-9));
    let cloud = explained.iter().find(|it| it.instance.id == id("cloud-1")).unwrap();
    assert_eq!(*cloud.verdict.reasons, [Reason::Far]);
    says(&held["near-1"], Health::Passing).await;
    go_to(&balanced, &[("near", 100)]).await;
}

#[tokio::test]
async fn another_cloud_takes_over_when_a_whole_region_is_lost_and_gives_back() {
    let (_registry, held, balanced) = clouds().await;
    for (_, registration) in held.iter().filter(|(name, _)| !name.starts_with("cloud")) {
        says(registration, Health::Critical).await;
    }
    go_to(&balanced, &[("cloud", 100)]).await;
    says(&held["region-1"], Health::Passing).await;
    go_to(&balanced, &[("region", 70), ("cloud", 30)]).await;
    for registration in held.values() {
        says(registration, Health::Passing).await;
    }
    go_to(&balanced, &[("near", 100)]).await;
}

#[tokio::test]
async fn when_nobody_works_nobody_is_picked_and_everybody_is_explained() {
    let (_registry, held, balanced) = clouds().await;
    for registration in held.values() {
        says(registration, Health::Critical).await;
    }
    go_to(&balanced, &[("nobody", 100)]).await;
    assert_eq!(balanced.candidates().count(), 0);
    let explained = balanced.explain();
    assert_eq!(explained.len(), held.len());
    let is_unusable = |reason: &Reason| matches!(reason, Reason::Unusable { health: Health::Critical, .. });
    assert!(explained.iter().all(|it| it.verdict.reasons.iter().any(is_unusable)), "{explained:?}");
}

#[tokio::test]
async fn a_client_that_cannot_reach_its_zone_leaves_it_though_the_registry_can() {
    let outlier = OutlierOptions { ejected_percent_max: 100, ..OutlierOptions::default() };
    let (_registry, _held, balanced) = clouds_with(outlier).await;
    go_to(&balanced, &[("near", 100)]).await;
    for _ in 0..20 {
        let pick = balanced.pick().unwrap();
        let outcome = if pick.id.as_str().starts_with("near") { Outcome::Failure } else { Outcome::Success };
        pick.end(outcome);
    }
    go_to(&balanced, &[("region", 100)]).await;
    let explained = balanced.explain();
    let near = explained.iter().find(|it| it.instance.id == id("near-1")).unwrap();
    let is_ejected = |reasons: &[Reason]| {
        matches!(reasons, [Reason::Ejected { cause: Cause::ConsecutiveFailures(_), .. }])
    };
    assert!(is_ejected(&near.verdict.reasons), "{near:?}");
}
