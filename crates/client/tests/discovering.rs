//! What is discovered follows the registry, and outlasts it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use netloft_balance::Builtin;
use netloft_types::{Patch, Update, Weight};
use support::*;
use tokio::time::timeout;

#[tokio::test]
async fn a_watch_resumes_after_the_revision_it_got_to() {
    let registry = Registry::start().await;
    let client = registry.client();
    let mut watch = client.watch(&api(), None).await.unwrap();
    let first = watch.next().await.unwrap();
    assert!(matches!(&first[..], [Update::Reset { all, .. }] if all.is_empty()), "{first:?}");
    let after = first[0].at();
    drop(watch);

    let a = client.register(instance("a"), long()).await.unwrap();
    let b = client.register(instance("b"), long()).await.unwrap();
    a.close().await.unwrap();
    let mut resumed = client.watch(&api(), Some(after)).await.unwrap();
    let missed = resumed.next().await.unwrap();
    let kinds: Vec<_> = missed.iter().map(kind).collect();
    assert_eq!(kinds, ["put a", "put b", "delete a"]);
    b.close().await.unwrap();
    let next = resumed.next().await.unwrap();
    assert_eq!(next.iter().map(kind).collect::<Vec<_>>(), ["delete b"]);
}

#[tokio::test]
async fn the_last_known_set_serves_while_the_registry_is_away() {
    let registry = Registry::start().await;
    let client = registry.client();
    let _registration = client.register(instance("a"), long()).await.unwrap();
    let mut discovery = client.discover(api());
    becomes(&mut discovery, &["a"]).await;
    assert_eq!((discovery.age(), discovery.is_stale()), (Some(Duration::ZERO), false));

    let (address, store) = registry.kill().await;
    becomes_stale(&discovery, true).await;
    assert_eq!(ids(&discovery), ["a"]);
    let age = discovery.age().unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(discovery.age().unwrap() >= age + Duration::from_millis(20));

    let _registry = Registry::serve(address, store).await;
    becomes_stale(&discovery, false).await;
    assert_eq!((ids(&discovery), discovery.age()), (vec!["a".to_owned()], Some(Duration::ZERO)));
}

#[tokio::test]
async fn changes_missed_while_away_are_caught_up() {
    let registry = Registry::start().await;
    let client = registry.client();
    let _a = client.register(instance("a"), long()).await.unwrap();
    let mut discovery = client.discover(api());
    becomes(&mut discovery, &["a"]).await;

    let (_, store) = registry.kill().await;
    becomes_stale(&discovery, true).await;
    let elsewhere = Registry::serve("127.0.0.1:0".parse().unwrap(), store).await;
    let _b = elsewhere.client().register(instance("b"), long()).await.unwrap();
    assert_eq!(ids(&discovery), ["a"]);

    let target = client.target().to_string();
    let address = target.strip_prefix("http://").unwrap().parse().unwrap();
    let _registry = Registry::serve(address, std::sync::Arc::clone(&elsewhere.store)).await;
    becomes(&mut discovery, &["a", "b"]).await;
}

#[tokio::test]
async fn a_registry_that_forgot_everything_is_told_again() {
    let registry = Registry::start().await;
    let client = registry.client();
    let mut discovery = client.discover(api());
    let _a = client.register(instance("a"), long()).await.unwrap();
    let _b = client.register(instance("b"), short()).await.unwrap();
    becomes(&mut discovery, &["a", "b"]).await;

    let (address, _) = registry.stop().await;
    becomes_stale(&discovery, true).await;
    let _registry = Registry::serve(address, empty_store()).await;
    becomes_stale(&discovery, false).await;
    becomes(&mut discovery, &["a", "b"]).await;
    let found = timeout(PATIENCE, async {
        while resolved(&client).await != ["a", "b"] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    found.await.unwrap();
}

#[tokio::test]
async fn a_change_that_could_not_be_told_is_made_when_the_registry_is_back() {
    let registry = Registry::start().await;
    let client = registry.client();
    let registration = client.register(instance("a"), long()).await.unwrap();
    let (address, store) = registry.kill().await;

    let weight = Weight::try_from(7).unwrap();
    let error = registration.update(Patch { weight: Some(weight), ..Patch::default() }).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");

    let _registry = Registry::serve(address, store).await;
    let restored = async {
        // Until the connection is back, a lookup may fail as the change did.
        while !client.get(&id("a")).await.is_ok_and(|found| found.weight == weight) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, restored).await.unwrap();
}

// Registrations of a client share its session. One whose guard was dropped, or closed in vain, while the registry was
// away was asked to go once and not again, and lived on for as long as any other of them was held: no time to live
// removed it, since the others renewed that.
#[tokio::test]
async fn what_was_let_go_while_the_registry_was_away_goes_when_it_is_back() {
    let registry = Registry::start().await;
    let client = registry.client();
    let mut discovery = client.discover(api());
    let _held = client.register(instance("held"), long()).await.unwrap();
    let dropped = client.register(instance("dropped"), long()).await.unwrap();
    let closed = client.register(instance("closed"), long()).await.unwrap();
    becomes(&mut discovery, &["closed", "dropped", "held"]).await;

    let (address, store) = registry.kill().await;
    drop(dropped);
    assert!(closed.close().await.unwrap_err().is_retryable());
    // In a registry that is not there.
    becomes_stale(&discovery, true).await;
    let _registry = Registry::serve(address, store).await;
    becomes(&mut discovery, &["held"]).await;
}

#[tokio::test]
async fn picks_go_round_and_follow_the_set() {
    let registry = Registry::start().await;
    let client = registry.client();
    let a = client.register(instance("a"), long()).await.unwrap();
    let _b = client.register(instance("b"), long()).await.unwrap();
    let balanced = client.balance(api(), Builtin::RoundRobin);
    assert!(balanced.pick().is_none(), "nothing is known yet");
    balanced.ready(PATIENCE).await.unwrap();

    let mut counts = BTreeMap::<String, usize>::new();
    for _ in 0..100 {
        *counts.entry(balanced.pick().unwrap().id.to_string()).or_default() += 1;
    }
    assert_eq!(counts, BTreeMap::from([("a".to_owned(), 50), ("b".to_owned(), 50)]));

    let mut candidates: Vec<_> = balanced.candidates().map(|instance| instance.id.to_string()).collect();
    candidates.sort();
    assert_eq!(candidates, ["a", "b"], "each once");

    let mut discovery = balanced.discovery().clone();
    a.close().await.unwrap();
    becomes(&mut discovery, &["b"]).await;
    assert!((0..10).all(|_| balanced.pick().unwrap().id == id("b")));
}

#[tokio::test]
async fn waiting_for_a_registry_that_is_not_there_ends_with_the_reason() {
    let registry = Registry::start().await;
    let client = registry.client();
    registry.stop().await;
    let discovery = client.discover(api());
    let error = discovery.ready(Duration::from_millis(500)).await.unwrap_err();
    assert!(error.is_unavailable(), "{error:?}");
    assert_eq!((discovery.age(), ids(&discovery).len()), (None, 0));
}

fn kind(update: &Update) -> String {
    match update {
        Update::Reset { all, .. } => format!("reset {}", all.len()),
        Update::Put { instance, .. } => format!("put {}", instance.id),
        Update::Delete { id, .. } => format!("delete {id}"),
        Update::Progress { .. } => "progress".to_owned(),
    }
}
