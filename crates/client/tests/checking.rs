//! What checks, drains and maintenance look like from a client.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fmt::Write as _;
use std::time::Duration;

use netloft_client::{Client, Examined, Registration};
use netloft_types::{Check, Checks, Health, Instance, Lifecycle, Patch};
use support::*;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

fn checked(instance: Instance, check: &str) -> Instance {
    instance.with_checks(Checks::from(check.parse::<Check>().unwrap()))
}

/// An instance of a port of loopback.
fn at(id: &str, port: u16, check: &str) -> Instance {
    let bare = Instance { address: "127.0.0.1".parse().unwrap(), ..instance(id) };
    checked(Instance { port: u32::from(port).try_into().unwrap(), ..bare }, check)
}

/// Waits until what is registered of `id`, and how its checks stand, is as it should be.
async fn reaches(client: &Client, name: &str, expected: impl Fn(&Examined) -> bool) -> Examined {
    let mut last = None;
    let reached = timeout(PATIENCE, async {
        loop {
            let examined = client.examine(&id(name)).await.unwrap();
            if expected(&examined) {
                return examined;
            }
            last = Some(examined);
            sleep(Duration::from_millis(5)).await;
        }
    });
    let reached = reached.await;
    reached.unwrap_or_else(|_| panic!("{last:?}"))
}

#[tokio::test]
async fn an_instance_with_a_check_is_found_once_it_passes_and_not_while_it_fails() {
    let registry = Registry::start_checking().await;
    let client = registry.client();
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let _registration = client.register(at("a", port, "tcp,interval=50ms,failures=2"), long()).await.unwrap();
    let mut discovery = client.discover(api());

    let failing = reaches(&client, "a", |examined| examined.checks[0].failures > 2).await;
    assert_eq!(failing.instance.lifecycle, Lifecycle::Starting);
    assert!(failing.checks[0].output.as_str().contains("refused"), "{failing:?}");
    assert!(resolved(&client).await.is_empty());

    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    becomes(&mut discovery, &["a"]).await;
    let passing = client.examine(&id("a")).await.unwrap();
    assert_eq!((passing.instance.health, passing.instance.lifecycle), (Health::Passing, Lifecycle::Ready));
    assert_eq!(passing.checks[0].output.as_str(), "connected");

    drop(listener);
    becomes(&mut discovery, &[]).await;
    assert_eq!(client.get(&id("a")).await.unwrap().lifecycle, Lifecycle::Ready, "its owner's to say");
}

#[tokio::test]
async fn heartbeats_say_how_an_instance_is() {
    let registry = Registry::start_checking().await;
    let client = registry.client();
    let registration = client.register(checked(instance("a"), "ttl,interval=1h"), long()).await.unwrap();
    assert!(resolved(&client).await.is_empty());

    assert_eq!(registration.heartbeat(Health::Passing, "fine").await.unwrap(), Duration::from_hours(1));
    let is = |health| move |examined: &Examined| examined.instance.health == health;
    let examined = reaches(&client, "a", is(Health::Passing)).await;
    assert_eq!((examined.checks[0].output.as_str(), examined.instance.lifecycle), ("fine", Lifecycle::Ready));
    assert_eq!(resolved(&client).await, ["a"]);
    registration.heartbeat(Health::Critical, "no disk").await.unwrap();
    reaches(&client, "a", is(Health::Critical)).await;
    registration.heartbeat(Health::Warning, "little disk").await.unwrap();
    reaches(&client, "a", is(Health::Warning)).await;
}

#[tokio::test]
async fn nobody_else_can_speak_for_an_instance_and_its_owner_not_for_its_checks() {
    let registry = Registry::start_checking().await;
    let client = registry.client();
    let registration = client.register(checked(instance("a"), "ttl,interval=1h"), long()).await.unwrap();
    let boast = Patch { health: Some(Health::Passing), ..Patch::default() };
    let error = registration.update(boast).await.unwrap_err();
    assert!(error.is_invalid(), "{error:?}");

    let unchecked = client.register(instance("b"), long()).await.unwrap();
    assert!(unchecked.heartbeat(Health::Passing, "").await.unwrap_err().is_not_found());
    // A stranger has a session, and knows the id of the instance; that is not enough.
    let stranger = registry.client();
    let mine = stranger.register(instance("c"), long()).await.unwrap();
    let mut raw = registry.raw();
    let opened =
        raw.open_session(netloft_proto::registry::v1::OpenSessionRequest { ttl_ms: 10_000 }).await.unwrap();
    let request = netloft_proto::registry::v1::HeartbeatRequest {
        session_id: opened.into_inner().session_id,
        instance_id: "a".into(),
        ..Default::default()
    };
    assert_eq!(raw.heartbeat(request).await.unwrap_err().code(), tonic::Code::AlreadyExists);
    assert_eq!(client.get(&id("a")).await.unwrap().lifecycle, Lifecycle::Starting);
    mine.close().await.unwrap();
}

#[tokio::test]
async fn what_nobody_would_check_is_refused_and_says_why() {
    let plain = Registry::start().await;
    let error = plain.client().register(checked(instance("a"), "tcp"), long()).await.unwrap_err();
    assert!(error.is_invalid(), "{error:?}");

    let checking = Registry::start_checking().await;
    for address in ["169.254.169.254", "::1", "fd00:ec2::254"] {
        let target = Instance {
            address: address.parse().unwrap(),
            ..checked(instance("a"), "http:/latest/meta-data/")
        };
        let error = checking.client().register(target, long()).await.unwrap_err();
        assert!(error.is_invalid(), "{error:?}");
        assert!(chain(&error).contains(address), "{}", chain(&error));
    }
}

#[tokio::test]
async fn registering_again_keeps_what_the_checks_found() {
    let registry = Registry::start_checking().await;
    let client = registry.client();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let said = at("a", listener.local_addr().unwrap().port(), "tcp,interval=1h");
    let first = client.register(said.clone(), long()).await.unwrap();
    let mut discovery = client.discover(api());
    becomes(&mut discovery, &["a"]).await;
    let mut watch = client.watch(&api(), None).await.unwrap();
    watch.next().await.unwrap();

    let heavier = Instance { weight: "7".parse().unwrap(), ..said };
    let second = client.register(heavier, long()).await.unwrap();
    let batch = timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
    assert!(
        matches!(&batch[..], [netloft_types::Update::Put { instance, .. }] if instance.weight.number() == 7),
        "{batch:?}"
    );
    assert_eq!(resolved(&client).await, ["a"]);
    drop(first);
    second.close().await.unwrap();
}

#[tokio::test]
async fn an_operator_keeps_an_instance_out_for_a_reason_whatever_its_owner_says() {
    let registry = Registry::start().await;
    let (owner, operator) = (registry.client(), registry.client());
    let registration = owner.register(instance("a"), long()).await.unwrap();
    let reason = "new disk".parse().unwrap();
    operator.set_maintenance(&id("a"), Some(reason)).await.unwrap();
    assert!(resolved(&owner).await.is_empty());
    registration.update(Patch { health: Some(Health::Warning), ..Patch::default() }).await.unwrap();
    let _again = owner.register(instance("a"), long()).await.unwrap();
    assert!(resolved(&owner).await.is_empty());
    let kept_out = operator.get(&id("a")).await.unwrap();
    assert_eq!(kept_out.maintenance.unwrap().as_str(), "new disk");

    operator.set_maintenance(&id("a"), None).await.unwrap();
    assert_eq!(resolved(&owner).await, ["a"]);
    let nobody = operator.set_maintenance(&id("z"), None).await.unwrap_err();
    assert!(nobody.is_not_found(), "{nobody:?}");
}

#[tokio::test]
async fn a_drained_instance_goes_at_the_end_of_its_window_or_when_its_owner_says() {
    let registry = Registry::start_checking().await;
    let client = registry.client();
    let drain = async |name: &str, window: &str| -> Registration {
        let registration = client.register(instance(name), long()).await.unwrap();
        registration.drain_within(window.parse().unwrap()).await.unwrap();
        assert!(resolved(&client).await.is_empty());
        assert_eq!(client.get(&id(name)).await.unwrap().lifecycle, Lifecycle::Draining);
        registration
    };
    let _short = drain("a", "300ms").await;
    let long = drain("b", "1h").await;
    let gone = timeout(PATIENCE, async {
        while client.get(&id("a")).await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
    });
    gone.await.unwrap();
    assert!(client.get(&id("b")).await.is_ok());
    long.close().await.unwrap();
    assert!(client.get(&id("b")).await.unwrap_err().is_not_found());
}

fn chain(error: &netloft_client::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        write!(text, ": {error}").unwrap();
        cause = error.source();
    }
    text
}
