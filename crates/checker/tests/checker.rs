//! A checker on a store, with real servers behind the instances.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use netloft_checker::Checker;
use netloft_health::{MonitorOptions, Observation, Targets};
use netloft_registry::{Command, MemoryStore, Store, StoreOptions};
use netloft_types::{
    Check, Checks, Health, Instance, InstanceId, Lifecycle, Patch, Query, ReadMode, SessionId,
};
use support::{Manner, PATIENCE, Server, status};
use tokio::time::{sleep, timeout};

struct World {
    store: Arc<dyn Store>,
    checker: Checker,
    session: SessionId,
}

impl World {
    async fn new(allow: &[&str]) -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::start(StoreOptions::default()));
        let targets =
            Targets { allow: allow.iter().map(|text| text.parse().unwrap()).collect(), deny: Vec::new() };
        let checker =
            Checker::start(Arc::clone(&store), MonitorOptions { targets, ..MonitorOptions::default() });
        let session = SessionId::from_number(7);
        store.apply(Command::OpenSession { session, ttl: None }).await.unwrap();
        Self { store, checker, session }
    }

    async fn register(&self, id: &str, at: SocketAddr, check: &str) {
        let checks = Checks::from(check.parse::<Check>().unwrap());
        let port = u32::from(at.port()).try_into().unwrap();
        let bare = Instance::new(id.parse().unwrap(), "api".parse().unwrap(), at.ip(), port);
        let instance = Instance { lifecycle: Lifecycle::Starting, checks, ..bare };
        self.store.apply(Command::Register { session: self.session, instance }).await.unwrap();
    }

    async fn get(&self, id: &str) -> Option<Arc<Instance>> {
        let id: InstanceId = id.parse().unwrap();
        self.store.get(&id, ReadMode::Linearizable).await.unwrap().instance
    }

    /// Waits until an instance is as it should be, or gone if there is none.
    async fn becomes(&self, id: &str, expected: impl Fn(Option<&Instance>) -> bool) {
        let mut watch = self.store.watch(Query::everything(), None).unwrap();
        let reached = async {
            while !expected(self.get(id).await.as_deref()) {
                watch.next().await.unwrap();
            }
        };
        let reached = timeout(PATIENCE, reached).await;
        assert!(reached.is_ok(), "{:?} {:?}", self.get(id).await, self.checker.reports(&id.parse().unwrap()));
    }
}

fn is(health: Health, lifecycle: Lifecycle) -> impl Fn(Option<&Instance>) -> bool {
    move |instance| instance.is_some_and(|one| (one.health, one.lifecycle) == (health, lifecycle))
}

const LOOPBACK: &[&str] = &["127.0.0.0/8"];

#[tokio::test]
async fn an_instance_gets_ready_falls_rises_and_is_removed_in_the_end() {
    let world = World::new(LOOPBACK).await;
    let server = Server::start(status("200 OK")).await;
    let (address, again) = (server.address, server.address.to_string());
    world.register("a", address, "http:/healthz,interval=100ms,failures=2,remove-after=1s").await;
    world.becomes("a", is(Health::Passing, Lifecycle::Ready)).await;
    assert!(server.requests()[0].starts_with("GET /healthz "));

    drop(server);
    world.becomes("a", is(Health::Critical, Lifecycle::Ready)).await;
    let report = &world.checker.reports(&"a".parse().unwrap())[0];
    assert!(report.failures >= 2 && report.output.as_str().contains("refused"), "{report:?}");

    let server = Server::at(&again, status("200 OK")).await;
    world.becomes("a", is(Health::Passing, Lifecycle::Ready)).await;
    drop(server);
    world.becomes("a", |instance| instance.is_none()).await;
    assert!(world.checker.reports(&"a".parse().unwrap()).is_empty() || world.get("a").await.is_none());
}

#[tokio::test]
async fn a_port_named_in_the_check_is_probed_instead() {
    let world = World::new(LOOPBACK).await;
    let (main, side) = (Server::start(Manner::Silent).await, Server::start(status("200 OK")).await);
    world.register("a", main.address, &format!("http:{}/,interval=100ms", side.address.port())).await;
    world.becomes("a", is(Health::Passing, Lifecycle::Ready)).await;
    assert_eq!(main.connections(), 0);
}

#[tokio::test]
async fn what_is_not_allowed_is_never_connected_to() {
    let world = World::new(&[]).await;
    let server = Server::start(status("200 OK")).await;
    world.register("a", server.address, "tcp,interval=20ms").await;
    // Its own address by another name, if this machine has one besides loopback; else only loopback is tried.
    let id: InstanceId = "a".parse().unwrap();
    let refused = async {
        while world.checker.reports(&id).first().is_none_or(|report| report.failures < 5) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, refused).await.unwrap();
    assert_eq!(server.connections(), 0);
    let report = &world.checker.reports(&id)[0];
    assert!(report.output.as_str().starts_with("127.0.0.1 is a loopback address"), "{report:?}");
    assert!(world.checker.admit(&world.get("a").await.unwrap()).is_err());
}

#[tokio::test]
async fn heartbeats_keep_an_instance_and_their_absence_does_not() {
    let world = World::new(&[]).await;
    world.register("a", "192.0.2.9:80".parse().unwrap(), "ttl,interval=400ms").await;
    let instance = world.get("a").await.unwrap();
    let counts_for = world.checker.heartbeat(&instance, None, &Observation::pass("fine")).unwrap();
    assert_eq!(counts_for, Duration::from_millis(400));
    world.becomes("a", is(Health::Passing, Lifecycle::Ready)).await;
    world.becomes("a", is(Health::Critical, Lifecycle::Ready)).await;
    world.checker.heartbeat(&instance, None, &Observation::warn("tired")).unwrap();
    world.becomes("a", is(Health::Warning, Lifecycle::Ready)).await;
    world.checker.heartbeat(&instance, None, &Observation::fail("done for")).unwrap();
    world.becomes("a", is(Health::Critical, Lifecycle::Ready)).await;
}

#[tokio::test]
async fn a_drained_instance_is_out_of_lookups_at_once_and_removed_at_the_end_of_its_window() {
    let world = World::new(&[]).await;
    let bare = Instance::new(
        "a".parse().unwrap(),
        "api".parse().unwrap(),
        "192.0.2.9".parse().unwrap(),
        "80".parse().unwrap(),
    );
    let (session, id) = (world.session, bare.id.clone());
    world.store.apply(Command::Register { session, instance: bare }).await.unwrap();
    let patch = Patch::drain_within("500ms".parse().unwrap());
    let began = std::time::Instant::now();
    world.store.apply(Command::Update { session, id, patch }).await.unwrap();
    let query = Query::service("api".parse().unwrap());
    assert!(world.store.list(&query, ReadMode::Linearizable).await.unwrap().instances.is_empty());
    assert!(world.get("a").await.is_some());
    world.becomes("a", |instance| instance.is_none()).await;
    assert!(began.elapsed() >= Duration::from_millis(500));
}

#[tokio::test]
async fn it_ends_with_its_last_handle() {
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let world = World::new(LOOPBACK).await;
    let clone = world.checker.clone();
    drop(world);
    assert!(tokio::runtime::Handle::current().metrics().num_alive_tasks() > before);
    drop(clone);
    let ended = async {
        while tokio::runtime::Handle::current().metrics().num_alive_tasks() > before {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, ended).await.unwrap();
}
