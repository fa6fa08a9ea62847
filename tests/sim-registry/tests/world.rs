//! One run: a registry, its clients, and what befalls them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use netloft_registry::testing::{Recording, Truth};
use netloft_registry::{FeedOptions, MemoryStore, Store, StoreOptions};
use netloft_rpc::{Listener, Server, ServerOptions, SocketAccess};
use netloft_types::{Instance, InstanceId, Query, ReadMode, Revision, Update};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{Instant, sleep};

use crate::fate;
use crate::host::{Host, Observer};
use crate::wire::Wire;

/// How much time passes at a time.
const STEP: Duration = Duration::from_millis(10);
/// How often all have their turn before time passes: an answer takes some turns to get from one to the other.
const TURNS: usize = 6;

/// How long a run is, and how long it takes everybody to agree afterwards: a client notices within 15 seconds that the
/// registry is silent, and tries again within 5 seconds.
const RAGE: Duration = Duration::from_secs(40);
pub(crate) const CALM_DOWN: Duration = Duration::from_secs(30);

/// What came of a run.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) events: usize,
    pub(crate) trace: u64,
    pub(crate) revisions: usize,
    pub(crate) batches: usize,
    pub(crate) resets: usize,
    pub(crate) resumed: usize,
    pub(crate) expired: usize,
    pub(crate) crashes: usize,
    pub(crate) disturbances: usize,
    pub(crate) stale: usize,
}

/// What everybody shares.
pub(crate) struct World {
    pub(crate) place: PathBuf,
    began: Instant,
    /// What happened, in words. It is hashed and, if a promise is broken, printed.
    log: RefCell<Vec<String>>,
    /// What really happened, as the store itself tells it.
    pub(crate) truth: RefCell<Truth>,
    /// What there is.
    pub(crate) there: RefCell<BTreeMap<InstanceId, Arc<Instance>>>,
    /// Since when the server has been there, if it is.
    pub(crate) up_since: Cell<Option<Instant>>,
    pub(crate) down_since: Cell<Option<Instant>>,
    /// Instances that went without anybody having said so.
    pub(crate) expired: RefCell<Vec<(Instant, InstanceId)>>,
    /// Instances that somebody is taking away.
    pub(crate) leaving: RefCell<BTreeSet<InstanceId>>,
}

impl World {
    pub(crate) fn note(&self, what: std::fmt::Arguments<'_>) {
        let at = self.began.elapsed();
        self.log.borrow_mut().push(format!("{at:?} {what}"));
    }

    pub(crate) fn server(&self) -> PathBuf {
        self.place.join("server.sock")
    }

    /// The last of what happened.
    pub(crate) fn tail(&self) -> String {
        let log = self.log.borrow();
        log[log.len().saturating_sub(40)..].join("\n")
    }

    fn trace(&self) -> u64 {
        // With the keys of a new map nothing would ever be the same; this one has none.
        let mut hasher = DefaultHasher::new();
        self.log.borrow().hash(&mut hasher);
        hasher.finish()
    }
}

/// Runs the world of a seed to its end.
///
/// # Panics
///
/// If a promise is broken.
pub(crate) fn run(seed: u64) -> Outcome {
    end_with_the_first_panic();
    fate::decide(seed);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        let story = spawn_local(tell_story(seed));
        // Whoever waits for nobody else keeps the clock from running on by itself, ahead of what is in the sockets.
        while !story.is_finished() {
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
            fate::pass(STEP);
            tokio::time::advance(STEP).await;
        }
        story.await.unwrap()
    })
}

/// Also of a task that nobody waits for, of the server or of a client.
fn end_with_the_first_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        let _ = std::fs::remove_dir_all(place());
        std::process::exit(101);
    }));
}

/// The directory of this process, by its number: a name that is drawn would be the same in every process, and drawing
/// another would change what follows.
fn place() -> PathBuf {
    std::env::temp_dir().join(format!("netloft-sim-{:010}", std::process::id()))
}

fn make_place() -> PathBuf {
    // Left by one that was killed and had the number.
    let _ = std::fs::remove_dir_all(place());
    std::fs::create_dir(place()).unwrap();
    place()
}

async fn tell_story(seed: u64) -> Outcome {
    let world = Rc::new(World {
        place: make_place(),
        began: Instant::now(),
        log: RefCell::default(),
        truth: RefCell::default(),
        there: RefCell::default(),
        up_since: Cell::new(None),
        down_since: Cell::new(Some(Instant::now())),
        expired: RefCell::default(),
        leaving: RefCell::default(),
    });
    let mut dice = StdRng::seed_from_u64(seed);
    // The shortest still holds what happens in one moment, so that the store itself can tell all of it.
    let history_len_max = [40, 256, 16_384][dice.random_range(0..3)];
    let mut registry = Registry::start(&world, history_len_max).await;
    let hosts: Vec<Rc<Host>> = (0..4).map(|number| Host::start(&world, number, dice.random())).collect();
    let observers: Vec<Observer> =
        (0..3).map(|number| Observer::start(&world, number, dice.random())).collect();

    let mut outcome = Outcome::default();
    let end = Instant::now() + RAGE;
    while Instant::now() < end {
        sleep(Duration::from_millis(dice.random_range(200..3_000))).await;
        let living = hosts.iter().filter(|host| !host.is_dead.get()).map(|host| &host.wire);
        let wires: Vec<&Wire> = living.chain(observers.iter().map(|it| &it.wire)).collect();
        match dice.random_range(0..10) {
            0 => {
                world.note(format_args!("the registry crashes"));
                outcome.crashes += 1;
                registry.crash().await;
                sleep(Duration::from_millis(dice.random_range(0..4_000))).await;
                registry = Registry::start(&world, history_len_max).await;
            }
            1 => {
                let spared = dice.random_range(0..hosts.len());
                hosts[spared].die();
                world.note(format_args!("host {spared} is cut off for good"));
            }
            _ => {
                outcome.disturbances += 1;
                disturb(&world, wires[dice.random_range(0..wires.len())], &mut dice);
            }
        }
    }
    calm_down(&world, &hosts, &observers).await;
    for host in &hosts {
        outcome.stale += host.stale.get();
    }
    agree(&world, &registry, &hosts, &observers).await;
    for observer in observers {
        let (recording, resumed) = observer.finish().await;
        outcome.batches += recording.batches.len();
        let resets = recording.batches.iter().filter(|batch| matches!(batch[..], [Update::Reset { .. }, ..]));
        outcome.resets += resets.count();
        outcome.resumed += resumed;
        check(&world, &recording);
    }
    outcome.revisions = world.truth.borrow().revisions();
    outcome.expired = world.expired.borrow().len();
    (outcome.events, outcome.trace) = (world.log.borrow().len(), world.trace());
    let _ = std::fs::remove_dir_all(&world.place);
    outcome
}

/// Makes the weather of a wire other than it is.
fn disturb(world: &World, wire: &Wire, dice: &mut StdRng) {
    let name = wire.path.file_name().unwrap().to_owned();
    match dice.random_range(0..6) {
        0 => wire.change(|weather| weather.epoch += 1),
        1 => wire.change(|weather| weather.withholds_requests = true),
        2 => wire.change(|weather| weather.withholds_answers = true),
        3 => wire.change(|weather| {
            weather.withholds_requests = true;
            weather.withholds_answers = true;
        }),
        4 => wire.change(|weather| weather.delay_max = Duration::from_millis(700)),
        _ => wire.calm(),
    }
    world.note(format_args!("{}: {:?}", name.display(), *wire.weather.borrow()));
}

async fn calm_down(world: &World, hosts: &[Rc<Host>], observers: &[Observer]) {
    world.note(format_args!("calm"));
    for host in hosts {
        host.stop.set(true);
        if !host.is_dead.get() {
            host.wire.calm();
        }
    }
    for observer in observers {
        observer.wire.calm();
    }
    sleep(CALM_DOWN).await;
}

/// Everybody knows the same, and what is held is there.
async fn agree(world: &World, registry: &Registry, hosts: &[Rc<Host>], observers: &[Observer]) {
    let all = registry.store.list(&Query::everything(), ReadMode::Linearizable).await.unwrap().instances;
    for host in hosts {
        host.agrees(world, &all);
    }
    for observer in observers {
        observer.agrees(world, &all);
    }
    let wanted: BTreeSet<InstanceId> =
        hosts.iter().flat_map(|host| host.wanted()).map(|one| one.id).collect();
    let strays: Vec<_> = all.iter().filter(|one| !wanted.contains(&one.id)).map(|one| &one.id).collect();
    assert!(strays.is_empty(), "EXPIRY: {strays:?} are nobody's\n{}", world.tail());
}

fn check(world: &World, recording: &Recording) {
    let checked = world.truth.borrow().check(recording);
    checked.unwrap_or_else(|broken| {
        panic!("watch of {:?}: {broken:?}: {broken}\n{}", recording.query, world.tail())
    });
}

/// The server, with a store that lives as long as it does.
struct Registry {
    store: Arc<dyn Store>,
    serving: JoinHandle<()>,
    telling: JoinHandle<()>,
    world: Rc<World>,
}

impl Registry {
    async fn start(world: &Rc<World>, history_len_max: usize) -> Self {
        let feed = FeedOptions { history_len_max, ..FeedOptions::default() };
        let store: Arc<dyn Store> =
            Arc::new(MemoryStore::start(StoreOptions { feed, ..StoreOptions::default() }));
        let mut tap = store.watch(Query::everything(), None).unwrap();
        let listener = Listener::unix(&world.server(), SocketAccess::Owner).await.unwrap();
        let first = tap.next().await.unwrap();
        world.begin_anew(first[0].at());
        let server = Server::new(ServerOptions::default()).registry(Arc::clone(&store));
        let serving = spawn_local(async move {
            server.run(vec![listener], std::future::pending()).await.unwrap();
        });
        let told = Rc::clone(world);
        let telling = spawn_local(async move {
            while let Ok(batch) = tap.next().await {
                for update in batch {
                    told.take_in(update);
                }
            }
        });
        world.up_since.set(Some(Instant::now()));
        world.down_since.set(None);
        world.note(format_args!("the registry is there"));
        Self { store, serving, telling, world: Rc::clone(world) }
    }

    /// Ends without a word, and with everything it knew.
    async fn crash(self) {
        self.serving.abort();
        let _ = self.serving.await;
        drop(self.store);
        // Told before the end, and so part of what happened.
        let _ = self.telling.await;
        self.world.up_since.set(None);
        self.world.down_since.set(Some(Instant::now()));
    }
}

impl World {
    /// A new store has nothing of what there was.
    fn begin_anew(&self, at: Revision) {
        for id in std::mem::take(&mut *self.there.borrow_mut()).into_keys() {
            self.truth.borrow_mut().note(at, id, None);
        }
    }

    fn take_in(&self, update: Update) {
        let (at, id, after) = match update {
            Update::Put { at, instance } => (at, instance.id.clone(), Some(instance)),
            Update::Delete { at, id } => (at, id, None),
            Update::Progress { .. } => return,
            Update::Reset { .. } => panic!("the tap fell behind"),
        };
        self.note(format_args!("{at} {id} {}", after.is_some()));
        let mut there = self.there.borrow_mut();
        if let Some(after) = &after {
            there.insert(id.clone(), Arc::clone(after));
        } else {
            there.remove(&id);
            if !self.leaving.borrow().contains(&id) {
                self.expired.borrow_mut().push((Instant::now(), id.clone()));
            }
        }
        self.truth.borrow_mut().note(at, id, after);
    }
}
