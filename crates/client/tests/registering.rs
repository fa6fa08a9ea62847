//! A registered instance is found, as it is, for exactly as long as its guard lives.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use netloft_client::{Client, RegisterOptions};
use netloft_registry::EXPIRY_DELAY_MAX;
use netloft_types::{Lifecycle, Patch, Query, Update, Weight};
use support::*;
use tokio::time::{Instant, timeout};

#[tokio::test]
async fn an_instance_is_found_from_registering_to_closing() {
    let registry = Registry::start().await;
    let client = registry.client();
    let registration = client.register(instance("a"), long()).await.unwrap();

    assert_eq!(registration.id(), &id("a"));
    assert_eq!(resolved(&client).await, ["a"]);
    assert_eq!(client.get(&id("a")).await.unwrap(), instance("a"));
    let services = client.services().await.unwrap();
    assert_eq!((services.len(), services[0].instances, services[0].usable), (1, 1, 1));

    registration.close().await.unwrap();
    assert!(resolved(&client).await.is_empty());
    assert!(client.services().await.unwrap().is_empty());
    assert!(client.get(&id("a")).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_unix_socket_serves_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.sock");
    let registry = Registry::serve_unix(&path).await;
    let client = registry.client();
    let _registration = client.register(instance("a"), long()).await.unwrap();
    assert_eq!(resolved(&client).await, ["a"]);
}

#[tokio::test]
async fn dropping_the_guard_removes_the_instance_long_before_its_time_to_live() {
    let registry = Registry::start().await;
    let client = registry.client();
    let registration = client.register(instance("a"), long()).await.unwrap();
    let mut discovery = client.discover(api());
    becomes(&mut discovery, &["a"]).await;

    drop(registration);
    becomes(&mut discovery, &[]).await;
}

#[tokio::test]
async fn changes_are_made_and_a_draining_instance_leaves_the_default_lookup() {
    let registry = Registry::start().await;
    let client = registry.client();
    let registration = client.register(instance("a"), long()).await.unwrap();

    let weight = Weight::try_from(7).unwrap();
    registration.update(Patch { weight: Some(weight), ..Patch::default() }).await.unwrap();
    assert_eq!(client.get(&id("a")).await.unwrap().weight, weight);

    registration.drain().await.unwrap();
    assert!(resolved(&client).await.is_empty());
    let drained = client.get(&id("a")).await.unwrap();
    assert_eq!((drained.lifecycle, drained.weight), (Lifecycle::Draining, weight));
}

#[tokio::test]
async fn an_id_held_by_another_client_is_a_conflict() {
    let registry = Registry::start().await;
    let _registration = registry.client().register(instance("a"), long()).await.unwrap();
    let error = registry.client().register(instance("a"), long()).await.unwrap_err();
    assert!(error.is_conflict() && !error.is_retryable(), "{error:?}");
}

#[tokio::test]
async fn registering_again_replaces_and_the_guard_of_before_lets_go() {
    let registry = Registry::start().await;
    let client = registry.client();
    let first = client.register(instance("a"), long()).await.unwrap();
    let mut heavier = instance("a");
    heavier.weight = Weight::try_from(9).unwrap();
    let second = client.register(heavier.clone(), long()).await.unwrap();
    // Another time to live is another session, to which the one before must give way.
    let third = client.register(heavier.clone(), short()).await.unwrap();

    for superseded in [&first, &second] {
        let error = superseded.drain().await.unwrap_err();
        assert!(matches!(error, netloft_client::Error::Superseded { .. }), "{error:?}");
    }
    first.close().await.unwrap();
    drop(second);
    assert_eq!(client.get(&id("a")).await.unwrap(), heavier);
    third.close().await.unwrap();
    assert!(client.get(&id("a")).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_killed_client_is_gone_after_its_time_to_live_and_not_before() {
    // Twice the shortest, so that a busy machine does not make the renewals late.
    let ttl = 2 * short().ttl;
    let options = RegisterOptions { ttl };
    let registry = Registry::start().await;
    let mut watch = registry.client().watch(&Query::everything(), None).await.unwrap();
    watch.next().await.unwrap();

    // A runtime that vanishes takes its tasks and connections with it, as a killed process does.
    let target = registry.target.parse().unwrap();
    let doomed = tokio::task::spawn_blocking(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let client = Client::connect(target);
            let registration = client.register(instance("a"), options).await.unwrap();
            // Longer than the time to live, which is renewed meanwhile.
            tokio::time::sleep(ttl * 2).await;
            std::mem::forget(registration);
        });
        runtime.shutdown_background();
    });
    let put = timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
    assert!(matches!(put[..], [Update::Put { .. }]), "{put:?}");
    let early = timeout(ttl * 3 / 2, watch.next()).await;
    assert!(early.is_err(), "expired although renewed: {early:?}");

    doomed.await.unwrap();
    let killed = Instant::now();
    let delete = timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
    assert!(matches!(delete[..], [Update::Delete { .. }]), "{delete:?}");
    // The last renewal was at most an interval, a third of the time to live, before the end.
    let lived = killed.elapsed();
    assert!(lived >= ttl / 2, "expired after {lived:?}");
    assert!(lived <= ttl + EXPIRY_DELAY_MAX + Duration::from_secs(5), "expired after {lived:?}");
}

#[tokio::test]
async fn an_unreachable_registry_is_told_with_its_cause() {
    let registry = Registry::start().await;
    let client = registry.client();
    let (address, _) = registry.stop().await;
    let error = client.register(instance("a"), long()).await.unwrap_err();
    assert!(error.is_unavailable() && error.is_retryable(), "{error:?}");
    let mut chain = vec![error.to_string()];
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        chain.push(error.to_string());
        cause = error.source();
    }
    assert!(chain[0].contains(&format!("http://{address}")), "{chain:?}");
    assert!(chain.last().unwrap().contains("refused"), "{chain:?}");
    for pair in chain.windows(2) {
        assert_ne!(pair[0], pair[1], "{chain:?}");
    }
}
