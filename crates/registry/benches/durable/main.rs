//! Registrations in one process: what a disk costs, against memory, a bare log, and a database.
//!
//! `cargo bench -p netloft-registry --bench durable [DIRECTORY]`. Every contender gets the same instances from the
//! same number of callers, each of which waits for its answer before the next. The two rivals commit in groups by
//! a thread of their own, as the store does: without that they would do one write at a time. They take turns, and
//! the median of their turns counts, for a disk has moods.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and ends at the first failure"
)]

mod rivals;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use netloft_registry::{Command, EmbeddedOptions, EmbeddedStore, Limits, MemoryStore, Store, StoreOptions};
use netloft_types::{Instance, Metadata, Query, ReadMode, SessionId, Tags};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use self::rivals::Grouped;

/// How long a turn is.
const SPAN: Duration = Duration::from_secs(2);
const TURNS: usize = 5;
const CALLERS: [usize; 3] = [1, 16, 64];
const SERVICES: usize = 1_000;
const MANY: usize = 100_000;

fn main() {
    let directory = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let directory = directory.map_or_else(std::env::temp_dir, PathBuf::from);
    let place = tempfile::Builder::new().prefix("netloft-bench-").tempdir_in(directory).unwrap();
    let runtime = Runtime::new().unwrap();
    println!("{:24} {:>8} {:>10} {:>10} {:>10}", "registrations", "callers", "per s", "p50 us", "p99 us");
    for callers in CALLERS {
        let mut turns = CONTENDERS.map(|_| Vec::new());
        for _ in 0..TURNS {
            for ((name, make), figures) in CONTENDERS.iter().zip(&mut turns) {
                let directory = place.path().join(name.replace(' ', "-"));
                std::fs::create_dir(&directory).unwrap();
                let contender = make(&runtime, &directory);
                figures.push(runtime.block_on(measure(contender, callers)));
                std::fs::remove_dir_all(&directory).unwrap();
            }
        }
        for ((name, _), mut figures) in CONTENDERS.iter().zip(turns) {
            figures.sort_by(|one, other| one.per_second.total_cmp(&other.per_second));
            println!("{name:24} {callers:>8} {}", figures[TURNS / 2]);
        }
    }
    open_many(&runtime, place.path());
}

type Make = fn(&Runtime, &Path) -> Arc<dyn Store>;

const CONTENDERS: [(&str, Make); 4] = [
    ("memory store", |runtime, _| {
        let _inside = runtime.enter();
        Arc::new(MemoryStore::start(options().store))
    }),
    ("embedded store", |runtime, directory| {
        Arc::new(runtime.block_on(EmbeddedStore::open(directory, options())).unwrap())
    }),
    ("bare log", |_, directory| Arc::new(Grouped::bare_log(directory))),
    ("redb", |_, directory| Arc::new(Grouped::redb(directory, options().store))),
];

fn options() -> EmbeddedOptions {
    let limits =
        Limits { sessions_max: 1_000, instances_max: 10_000_000, instances_per_session_max: 10_000_000 };
    EmbeddedOptions {
        store: StoreOptions { limits, ..StoreOptions::default() },
        ..EmbeddedOptions::default()
    }
}

/// Some 200 bytes of text, as a service of some ambition has.
fn instance(number: usize) -> Instance {
    let id = format!("instance-{number:08}");
    let service = format!("service-{:04}", number % SERVICES);
    let [_, a, b, c] = u32::try_from(number).unwrap().to_be_bytes();
    let tags = ["production", "blue", "http"].map(|tag| tag.parse().unwrap());
    let metadata = [("version", "1.2.3-4f5e6d7c"), ("team", "payments"), ("owner", "someone@example.com")];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
    Instance {
        tags: Tags::try_from(std::collections::BTreeSet::from(tags)).unwrap(),
        metadata: Metadata::try_from(std::collections::BTreeMap::from(metadata)).unwrap(),
        ..Instance::new(
            id.parse().unwrap(),
            service.parse().unwrap(),
            std::net::Ipv4Addr::new(10, a, b, c).into(),
            "8080".parse().unwrap(),
        )
    }
}

struct Figures {
    per_second: f64,
    p50: Duration,
    p99: Duration,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let us = |duration: Duration| duration.as_secs_f64() * 1e6;
        write!(f, "{:>10.0} {:>10.1} {:>10.1}", self.per_second, us(self.p50), us(self.p99))
    }
}

async fn measure(store: Arc<dyn Store>, callers: usize) -> Figures {
    let began = Instant::now();
    let mut all = JoinSet::new();
    for caller in 0..callers {
        all.spawn(call(Arc::clone(&store), caller, began + SPAN));
    }
    let mut taken: Vec<_> = all.join_all().await.into_iter().flatten().collect();
    let elapsed = began.elapsed();
    taken.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "it is printed without decimals")]
    let per_second = taken.len() as f64 / elapsed.as_secs_f64();
    Figures { per_second, p50: taken[taken.len() / 2], p99: taken[taken.len() * 99 / 100] }
}

/// Registers new instances until a moment; how long each took.
async fn call(store: Arc<dyn Store>, caller: usize, until: Instant) -> Vec<Duration> {
    let session = open(&*store, caller).await;
    let mut taken = Vec::new();
    let mut number = caller * 1_000_000 % 64_000_000;
    while Instant::now() < until {
        let instance = instance(number);
        number += 1;
        let began = Instant::now();
        store.apply(Command::Register { session, instance }).await.unwrap();
        taken.push(began.elapsed());
    }
    taken
}

async fn open(store: &dyn Store, number: usize) -> SessionId {
    let session = SessionId::from_number(number as u128 + 1);
    let ttl = Some(Duration::from_hours(1));
    store.apply(Command::OpenSession { session, ttl }).await.unwrap();
    session
}

/// How soon a store with many instances answers after its process has ended, and what it takes on the disk.
fn open_many(runtime: &Runtime, place: &Path) {
    let directory = place.join("many");
    runtime.block_on(async {
        let store = Arc::new(EmbeddedStore::open(&directory, options()).await.unwrap());
        let mut all = JoinSet::new();
        for caller in 0..64 {
            let store = Arc::clone(&store);
            all.spawn(async move {
                let session = open(&*store, caller).await;
                for number in (caller..MANY).step_by(64) {
                    let instance = instance(number);
                    store.apply(Command::Register { session, instance }).await.unwrap();
                }
            });
        }
        all.join_all().await;
    });
    for round in 1..=3 {
        let bytes: u64 = std::fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        let began = Instant::now();
        let store = runtime.block_on(EmbeddedStore::open(&directory, options())).unwrap();
        let took = began.elapsed();
        let found = runtime
            .block_on(store.list(&Query::everything(), ReadMode::Linearizable))
            .unwrap()
            .instances
            .len();
        assert_eq!(found, MANY);
        let each = bytes / MANY as u64;
        println!("open {round}: {MANY} instances in {took:.1?}, from {bytes} bytes on disk, {each} for each");
    }
}
