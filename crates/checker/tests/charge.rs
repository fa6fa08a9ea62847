//! Several checkers of one registry, each with a part of it in its charge.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use netloft_checker::Checker;
use netloft_health::{MonitorOptions, Observation, Targets};
use netloft_registry::{
    Applied, BoxFuture, Charge, Command, Error, Found, Handover, MemoryStore, Services, Snapshot, Store,
    StoreOptions, Usage, Watch,
};
use netloft_types::{
    Check, Checks, Health, Instance, InstanceId, Lifecycle, Query, ReadMode, Revision, SessionId,
};
use support::{PATIENCE, Server, status};
use tokio::sync::broadcast::Sender;
use tokio::time::{sleep, timeout};

/// One of several servers of a registry: all of it is there, and some of it in its charge.
struct Part {
    all: Arc<MemoryStore>,
    number: usize,
    /// The number of the server that looks after the instance, if any does.
    place: Arc<Mutex<Option<usize>>>,
    handovers: Sender<Handover>,
}

impl Store for Part {
    fn apply(&self, command: Command) -> BoxFuture<'_, Result<Applied, Error>> {
        self.all.apply(command)
    }

    fn get<'a>(&'a self, id: &'a InstanceId, mode: ReadMode) -> BoxFuture<'a, Result<Found, Error>> {
        self.all.get(id, mode)
    }

    fn list<'a>(&'a self, query: &'a Query, mode: ReadMode) -> BoxFuture<'a, Result<Snapshot, Error>> {
        self.all.list(query, mode)
    }

    fn services(&self, mode: ReadMode) -> BoxFuture<'_, Result<Services, Error>> {
        self.all.services(mode)
    }

    fn watch(&self, query: Query, from: Option<Revision>) -> Result<Watch, Error> {
        self.all.watch(query, from)
    }

    fn usage(&self) -> Usage {
        self.all.usage()
    }

    fn charge(&self) -> Charge {
        let (place, number) = (Arc::clone(&self.place), self.number);
        Charge::part(move |_| *place.lock().unwrap() == Some(number), self.handovers.clone())
    }
}

/// Two servers of one registry, and the one instance in it.
struct World {
    store: Arc<MemoryStore>,
    checkers: [Checker; 2],
    place: Arc<Mutex<Option<usize>>>,
    handovers: Sender<Handover>,
    id: InstanceId,
}

impl World {
    /// Registers an instance that the first of two servers looks after, and waits until it is passing.
    async fn with(at: SocketAddr, check: &str) -> Self {
        let store = Arc::new(MemoryStore::start(StoreOptions::default()));
        let (place, handovers) = (Arc::new(Mutex::new(Some(0))), Sender::new(16));
        let targets = Targets { allow: vec!["127.0.0.0/8".parse().unwrap()], deny: Vec::new() };
        let checkers = [0, 1].map(|number| {
            let (all, place, handovers) = (Arc::clone(&store), Arc::clone(&place), handovers.clone());
            let part: Arc<dyn Store> = Arc::new(Part { all, number, place, handovers });
            let targets = targets.clone();
            Checker::start(part, MonitorOptions { targets, ..MonitorOptions::default() })
        });
        let session = SessionId::from_number(7);
        store.apply(Command::OpenSession { session, ttl: None }).await.unwrap();
        let port = u32::from(at.port()).try_into().unwrap();
        let bare = Instance::new("a".parse().unwrap(), "api".parse().unwrap(), at.ip(), port);
        let instance = bare.with_checks(Checks::from(check.parse::<Check>().unwrap()));
        let id = instance.id.clone();
        store.apply(Command::Register { session, instance }).await.unwrap();
        Self { store, checkers, place, handovers, id }
    }

    async fn instance(&self) -> Arc<Instance> {
        self.store.get(&self.id, ReadMode::Linearizable).await.unwrap().instance.unwrap()
    }

    async fn beat(&self, server: usize) {
        let instance = self.instance().await;
        self.checkers[server].heartbeat(&instance, None, &Observation::pass("fine")).unwrap();
    }

    fn hand_over_to(&self, server: Option<usize>) {
        *self.place.lock().unwrap() = server;
        self.handovers.send(Handover::Of([self.id.clone()].into())).unwrap();
    }

    async fn becomes(&self, health: Health) {
        self.until("its health changes", async || {
            let instance = self.instance().await;
            (instance.health, instance.lifecycle) == (health, Lifecycle::Ready)
        })
        .await;
    }

    async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let reached = async {
            while !is_so().await {
                sleep(Duration::from_millis(1)).await;
            }
        };
        assert!(timeout(PATIENCE, reached).await.is_ok(), "{what} {:?}", self.instance().await);
    }

    fn is_looked_after_by(&self, server: usize) -> bool {
        !self.checkers[server].reports(&self.id).is_empty()
            && self.checkers[1 - server].reports(&self.id).is_empty()
    }

    async fn revision(&self) -> Revision {
        self.store.get(&self.id, ReadMode::Linearizable).await.unwrap().at
    }
}

const NOWHERE: &str = "192.0.2.9:80";

#[tokio::test]
async fn of_several_one_probes_and_after_a_handover_another() {
    let server = Server::start(status("200 OK")).await;
    let world = World::with(server.address, "http:/,interval=100ms,jitter=0%,failures=2").await;
    world.becomes(Health::Passing).await;
    assert!(world.is_looked_after_by(0));

    let (before, began) = (server.connections(), Instant::now());
    world.until("ten probes", async || server.connections() >= before + 10).await;
    // Two that probe would have done that in half the time.
    assert!(began.elapsed() >= Duration::from_millis(800), "{:?}", began.elapsed());

    let seen = world.revision().await;
    world.hand_over_to(Some(1));
    world.until("the other looks after it", async || world.is_looked_after_by(1)).await;
    let (before, began) = (server.connections(), Instant::now());
    world.until("ten probes", async || server.connections() >= before + 10).await;
    assert!(began.elapsed() >= Duration::from_millis(800), "{:?}", began.elapsed());
    assert_eq!(world.revision().await, seen, "nothing is written by a handover");

    drop(server);
    world.becomes(Health::Critical).await;
    assert!(world.checkers[1].reports(&world.id)[0].failures >= 2);
}

#[tokio::test]
async fn what_nobody_looks_after_is_probed_by_nobody_and_stays_what_it_is() {
    let server = Server::start(status("200 OK")).await;
    let world = World::with(server.address, "http:/,interval=20ms,failures=1").await;
    world.becomes(Health::Passing).await;
    world.hand_over_to(None);
    world.until("it is let go", async || world.checkers[0].reports(&world.id).is_empty()).await;
    let before = server.connections();
    sleep(Duration::from_millis(300)).await;
    // One may have been under way.
    assert!(server.connections() <= before + 1);
    assert_eq!(world.instance().await.health, Health::Passing);
}

#[tokio::test]
async fn after_a_handover_a_ttl_check_has_its_whole_interval() {
    let interval = Duration::from_millis(800);
    let world = World::with(NOWHERE.parse().unwrap(), "ttl,interval=800ms").await;
    world.beat(0).await;
    world.becomes(Health::Passing).await;
    sleep(interval / 2).await;
    let handed_over = Instant::now();
    world.hand_over_to(Some(1));
    world.becomes(Health::Critical).await;
    assert!(handed_over.elapsed() >= interval, "{:?}", handed_over.elapsed());
    assert!(world.is_looked_after_by(1));
    world.beat(1).await;
    world.becomes(Health::Passing).await;
}

#[tokio::test]
async fn a_heartbeat_that_comes_before_the_handover_counts() {
    let world = World::with(NOWHERE.parse().unwrap(), "ttl,interval=500ms").await;
    world.beat(0).await;
    world.becomes(Health::Passing).await;
    *world.place.lock().unwrap() = Some(1);
    for _ in 0..10 {
        world.beat(1).await;
        sleep(Duration::from_millis(100)).await;
        assert_eq!(
            world.instance().await.health,
            Health::Passing,
            "the first thinks otherwise and writes nothing"
        );
    }
    assert!(world.is_looked_after_by(1));
}

#[tokio::test]
async fn what_was_found_out_while_nothing_could_be_heard_counts_for_nothing() {
    let interval = Duration::from_millis(400);
    let world = World::with(NOWHERE.parse().unwrap(), "ttl,interval=400ms").await;
    world.beat(0).await;
    world.becomes(Health::Passing).await;
    // Cut off from all others, without knowing it yet.
    *world.place.lock().unwrap() = None;
    sleep(interval * 2).await;
    assert_eq!(world.instance().await.health, Health::Passing);
    let back = Instant::now();
    *world.place.lock().unwrap() = Some(0);
    world.handovers.send(Handover::Anew).unwrap();
    world.becomes(Health::Critical).await;
    assert!(back.elapsed() >= interval, "{:?}", back.elapsed());
}
