//! Clients of the registry: hosts that register and follow, and observers that watch.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use netloft_client::{Client, RegisterOptions, Registration};
use netloft_registry::testing::Recording;
use netloft_types::{Health, Instance, Lifecycle, Patch, Query, Revision, Update};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{sleep, timeout};

use crate::wire::Wire;
use crate::world::World;

const SERVICES: [&str; 2] = ["api", "web"];

/// A host with some instances, of which it is asked only by the guards of the client.
pub(crate) struct Host {
    pub(crate) number: usize,
    pub(crate) wire: Wire,
    ttl: Duration,
    pub(crate) stop: Cell<bool>,
    /// Cut off for good: as if it had lost power.
    pub(crate) is_dead: Cell<bool>,
    /// What it holds, as it wants it to be.
    held: RefCell<Vec<(Registration, Instance)>>,
    discovery: netloft_client::Discovery,
    /// How often it went on by what it knew while the registry was away.
    pub(crate) stale: Cell<usize>,
}

impl Host {
    pub(crate) fn start(world: &Rc<World>, number: usize, seed: u64) -> Rc<Self> {
        let mut dice = StdRng::seed_from_u64(seed);
        let wire = Wire::lay(world.place.join(format!("host-{number}.sock")), &world.server(), dice.random());
        let client = client_at(&wire);
        let service = SERVICES[number % 2].parse().unwrap();
        let host = Rc::new(Self {
            number,
            ttl: Duration::from_secs(dice.random_range(2..9)),
            stop: Cell::new(false),
            is_dead: Cell::new(false),
            held: RefCell::default(),
            discovery: client.discover(Query::service(service)),
            stale: Cell::new(0),
            wire,
        });
        spawn_local(Rc::clone(&host).work(Rc::clone(world), client, dice));
        spawn_local(Rc::clone(&host).look(Rc::clone(world)));
        host
    }

    pub(crate) fn die(&self) {
        self.is_dead.set(true);
        self.wire.change(|weather| {
            weather.withholds_requests = true;
            weather.withholds_answers = true;
        });
    }

    /// Registers, changes and takes away.
    async fn work(self: Rc<Self>, world: Rc<World>, client: Client, mut dice: StdRng) {
        let mut count = 0;
        while !self.stop.get() {
            sleep(Duration::from_millis(dice.random_range(50..1_500))).await;
            let len = self.held.borrow().len();
            match dice.random_range(0..10) {
                0..4 if len < 6 => {
                    count += 1;
                    self.register(&world, &client, count).await;
                }
                4..8 if len > 0 => self.update(&world, &mut dice).await,
                8..10 if len > 0 => self.close(&world, &mut dice).await,
                _ => {}
            }
        }
    }

    async fn register(&self, world: &World, client: &Client, count: usize) {
        let id = format!("host-{}-{count}", self.number);
        let service = SERVICES[count % 2].parse().unwrap();
        let address = "10.0.0.2".parse().unwrap();
        let instance = Instance::new(id.parse().unwrap(), service, address, "80".parse().unwrap());
        // One that is not answered is taken back by the client.
        world.leaving.borrow_mut().insert(instance.id.clone());
        match client.register(instance.clone(), RegisterOptions { ttl: self.ttl }).await {
            Ok(registration) => {
                world.leaving.borrow_mut().remove(&instance.id);
                self.held.borrow_mut().push((registration, instance));
            }
            Err(error) => assert!(error.is_retryable(), "{error}"),
        }
    }

    async fn update(&self, world: &World, dice: &mut StdRng) {
        let patch = Patch {
            health: Some([Health::Passing, Health::Warning, Health::Critical][dice.random_range(0..3)]),
            lifecycle: Some([Lifecycle::Ready, Lifecycle::Draining][dice.random_range(0..2)]),
            ..Patch::default()
        };
        let index = dice.random_range(0..self.held.borrow().len());
        // Out of the list while it is waited for: only this task changes the list.
        let (registration, instance) = self.held.borrow_mut().swap_remove(index);
        let updated = registration.update(patch.clone()).await;
        world.note(format_args!("host {}: updated {}: {}", self.number, instance.id, updated.is_ok()));
        // What could not be told is told as soon as it can be.
        if let Err(error) = &updated {
            assert!(error.is_retryable(), "{error}");
        }
        let instance = patch.applied_to(&instance);
        self.held.borrow_mut().push((registration, instance));
    }

    async fn close(&self, world: &World, dice: &mut StdRng) {
        let index = dice.random_range(0..self.held.borrow().len());
        let (registration, instance) = self.held.borrow_mut().swap_remove(index);
        world.leaving.borrow_mut().insert(instance.id);
        if dice.random_range(0..2) == 0 {
            let _ = registration.close().await;
        }
    }

    /// Looks at the set that it follows as somebody does who makes calls, all the time.
    async fn look(self: Rc<Self>, world: Rc<World>) {
        let mut before = self.discovery.snapshot();
        let mut was_stale = false;
        while !self.stop.get() {
            sleep(Duration::from_millis(20)).await;
            let now = self.discovery.snapshot();
            let is_stale = self.discovery.is_stale();
            // Only what is told changes it: not that nothing is told.
            if is_stale && was_stale && self.is_silent(&world) {
                assert!(Arc::ptr_eq(&before, &now), "LAST KNOWN SET: it changed\n{}", world.tail());
            }
            if is_stale && !was_stale {
                self.stale.set(self.stale.get() + 1);
                world.note(format_args!(
                    "host {} goes on by {} instances",
                    self.number,
                    now.instances().len()
                ));
            }
            self.no_early_end(&world);
            (before, was_stale) = (now, is_stale);
        }
    }

    /// Whether nothing can have been told to it since it last looked.
    fn is_silent(&self, world: &World) -> bool {
        let is_away = world.down_since.get().is_some_and(|since| since.elapsed() > Duration::from_secs(1));
        is_away
            || self.wire.withholds_since().is_some_and(|since| since.elapsed() > Duration::from_millis(50))
    }

    /// Nothing of a host ends that could renew its session: a client that is not heard tries again within a third of
    /// the time to live, and waits as long for the answer.
    fn no_early_end(&self, world: &World) {
        for (when, id) in world.expired.borrow().iter() {
            let is_ours = id.as_str().starts_with(&format!("host-{}-", self.number));
            let is_fresh = when.elapsed() < Duration::from_millis(50);
            let quiet_since = world.up_since.get().map(|up| up.max(self.wire.disturbed()));
            let was_quiet =
                quiet_since.is_some_and(|since| since + self.ttl * 2 / 3 + Duration::from_secs(1) < *when);
            assert!(!(is_ours && is_fresh && was_quiet), "EXPIRY: {id} ended early\n{}", world.tail());
        }
    }

    /// What should be there in the end.
    pub(crate) fn wanted(&self) -> Vec<Instance> {
        if self.is_dead.get() {
            return Vec::new();
        }
        self.held.borrow().iter().map(|(_, instance)| instance.clone()).collect()
    }

    pub(crate) fn agrees(&self, world: &World, all: &[Arc<Instance>]) {
        for wanted in self.wanted() {
            let found = all.iter().find(|one| one.id == wanted.id).map(AsRef::as_ref);
            assert_eq!(found, Some(&wanted), "CONVERGENCE: it is held\n{}", world.tail());
        }
        if self.is_dead.get() {
            return;
        }
        let query = Query::service(SERVICES[self.number % 2].parse().unwrap());
        let selected: Vec<_> = all.iter().filter(|one| query.matches(one)).cloned().collect();
        let known = self.discovery.snapshot();
        let known: Vec<_> = known.instances().iter().cloned().collect();
        assert!(
            !self.discovery.is_stale(),
            "CONVERGENCE: host {} has lost it\n{}",
            self.number,
            world.tail()
        );
        assert_eq!(known, selected, "CONVERGENCE: host {}\n{}", self.number, world.tail());
    }
}

fn client_at(wire: &Wire) -> Client {
    Client::connect(format!("unix://{}", wire.path.display()).parse().unwrap())
}

/// One who watches and writes everything down.
pub(crate) struct Observer {
    pub(crate) wire: Wire,
    told: Rc<RefCell<Recording>>,
    resumed: Rc<Cell<usize>>,
    watching: JoinHandle<()>,
}

impl Observer {
    pub(crate) fn start(world: &Rc<World>, number: usize, seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let path = world.place.join(format!("observer-{number}.sock"));
        let wire = Wire::lay(path, &world.server(), dice.random());
        let query = match number {
            0 => Query::everything(),
            _ => Query::service(SERVICES[number - 1].parse().unwrap()),
        };
        let told = Rc::new(RefCell::new(Recording { query, batches: Vec::new() }));
        let resumed = Rc::new(Cell::new(0));
        let watch = watch(client_at(&wire), Rc::clone(&told), Rc::clone(&resumed), dice, Rc::clone(world));
        Self { wire, told, resumed, watching: spawn_local(watch) }
    }

    pub(crate) fn agrees(&self, world: &World, all: &[Arc<Instance>]) {
        let told = self.told.borrow();
        let mut known = std::collections::BTreeMap::new();
        for update in told.batches.iter().flatten() {
            match update {
                Update::Reset { all, .. } => {
                    known = all.iter().map(|one| (one.id.clone(), Arc::clone(one))).collect();
                }
                Update::Put { instance, .. } => drop(known.insert(instance.id.clone(), Arc::clone(instance))),
                Update::Delete { id, .. } => drop(known.remove(id)),
                Update::Progress { .. } => {}
            }
        }
        let selected: Vec<_> = all.iter().filter(|one| told.query.matches(one)).cloned().collect();
        let known: Vec<_> = known.into_values().collect();
        assert_eq!(known, selected, "CONVERGENCE: a watch of {:?}\n{}", told.query, world.tail());
    }

    pub(crate) async fn finish(self) -> (Recording, usize) {
        self.watching.abort();
        let _ = self.watching.await;
        (self.told.borrow().clone(), self.resumed.get())
    }
}

async fn watch(
    client: Client,
    told: Rc<RefCell<Recording>>,
    resumed: Rc<Cell<usize>>,
    mut dice: StdRng,
    world: Rc<World>,
) {
    let query = told.borrow().query.clone();
    let mut after: Option<Revision> = None;
    loop {
        let Ok(mut watch) = client.watch(&query, after).await else {
            sleep(Duration::from_millis(dice.random_range(50..500))).await;
            continue;
        };
        resumed.set(resumed.get() + usize::from(after.is_some()));
        let patience = Duration::from_millis(dice.random_range(500..20_000));
        // Hangs up now and then.
        let _ = timeout(patience, async {
            while let Ok(batch) = watch.next().await {
                after = batch.last().map(Update::at);
                world.note(format_args!(
                    "a watch of {:?} is told of {} up to {after:?}",
                    query.service,
                    batch.len()
                ));
                told.borrow_mut().batches.push(batch);
            }
        })
        .await;
        sleep(Duration::from_millis(dice.random_range(1..300))).await;
    }
}
