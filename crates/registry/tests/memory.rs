//! The store in memory against the contract of stores, and what only it promises.

use std::sync::Arc;
use std::time::Duration;

use netloft_registry::testing::{Churn, churn, conformance};
use netloft_registry::{Closed, Command, FeedOptions, MemoryStore, Store, StoreOptions, Watch};
use netloft_types::{Instance, Query, Revision, SessionId, Update};
use tokio::time::{Instant, advance, timeout};

/// How long anything that must happen may take.
const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test(start_paused = true)]
async fn memory_store_conforms() {
    conformance(|options| async { MemoryStore::start(options) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_promise_holds_on_several_threads() {
    for seed in 0..20 {
        let history_len_max = [4, 64, 16_384][usize::try_from(seed % 3).unwrap()];
        let feed = FeedOptions { history_len_max, ..FeedOptions::default() };
        let options = StoreOptions { feed, ..StoreOptions::default() };
        let load = Churn { seed, writers: 4, readers: 12, commands: 300 };
        let report = churn(Arc::new(MemoryStore::start(options)), load).await;
        assert!(report.revisions > 500 && report.resumed > 0, "seed {seed}: {report:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_expires_to_the_millisecond() {
    let store = MemoryStore::start(StoreOptions::default());
    let session = open(&store, Some(Duration::from_secs(5))).await;
    register(&store, session, "a").await;
    let mut watch = store.watch(Query::everything(), None).unwrap();
    next(&mut watch).await.unwrap();

    tokio::time::sleep(Duration::from_secs(3)).await;
    store.apply(Command::RenewSession { session }).await.unwrap();
    let renewed = Instant::now();
    assert!(matches!(&next(&mut watch).await.unwrap()[..], [Update::Delete { .. }]));
    let lived = renewed.elapsed();
    assert!(lived >= Duration::from_secs(5) && lived <= Duration::from_millis(5_001), "{lived:?}");
}

#[tokio::test(start_paused = true)]
async fn time_in_which_the_store_stood_still_ends_no_session() {
    let store = MemoryStore::start(StoreOptions::default());
    let session = open(&store, Some(Duration::from_secs(1))).await;
    register(&store, session, "a").await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(600)).await;
        // The clock jumps and nothing of the store runs meanwhile: the renewals of that time are still unread.
        advance(Duration::from_secs(10)).await;
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(900)).await;
        store.apply(Command::RenewSession { session }).await.expect("it is not over");
    }
    let mut watch = store.watch(Query::everything(), None).unwrap();
    next(&mut watch).await.unwrap();
    assert!(matches!(&next(&mut watch).await.unwrap()[..], [Update::Delete { .. }]));
}

#[tokio::test]
async fn a_dropped_store_leaves_no_task_and_no_waiting_watch() {
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let store = MemoryStore::start(StoreOptions::default());
    open(&store, Some(Duration::from_hours(1))).await;
    let mut watch = store.watch(Query::everything(), None).unwrap();
    next(&mut watch).await.unwrap();
    drop(store);

    assert_eq!(next(&mut watch).await, Err(Closed));
    let ended = async {
        while tokio::runtime::Handle::current().metrics().num_alive_tasks() > before {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, ended).await.unwrap();
}

#[tokio::test]
async fn a_watch_from_before_a_restart_begins_with_a_reset() {
    let store = MemoryStore::start(StoreOptions::default());
    let session = open(&store, None).await;
    let before = register(&store, session, "a").await;
    drop(store);

    let store = MemoryStore::start(StoreOptions::default());
    let session = open(&store, None).await;
    register(&store, session, "b").await;
    let mut watch = store.watch(Query::everything(), Some(before)).unwrap();
    let batch = next(&mut watch).await.unwrap();
    assert!(matches!(&batch[..], [Update::Reset { all, .. }] if all.len() == 1 && all[0].id.as_str() == "b"));
}

async fn open(store: &MemoryStore, ttl: Option<Duration>) -> SessionId {
    let session = SessionId::from_number(7);
    let opened = store.apply(Command::OpenSession { session, ttl }).await;
    opened.map(|_| session).expect("a session can be opened")
}

async fn register(store: &MemoryStore, session: SessionId, id: &str) -> Revision {
    let instance = Instance::new(
        id.parse().expect("an id"),
        "api".parse().expect("a service name"),
        "10.0.0.2".parse().expect("an address"),
        "80".parse().expect("a port"),
    );
    let registered = store.apply(Command::Register { session, instance }).await;
    registered.expect("an instance can be registered").at
}

async fn next(watch: &mut Watch) -> Result<Vec<Update>, Closed> {
    timeout(DEADLINE, watch.next()).await.expect("a batch comes in time")
}
