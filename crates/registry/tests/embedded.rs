//! The store in a directory against the contract of stores, and what only it promises.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use netloft_registry::embedded::{Condition, StorageError, backup, restore};
use netloft_registry::testing::{Churn, churn, conformance, conformance_over_restarts, read_hostile_bytes};
use netloft_registry::{Command, EXPIRY_DELAY_MAX, EmbeddedOptions, EmbeddedStore, Store, StoreOptions};
use netloft_types::{Instance, InstanceId, Metadata, Patch, Query, ReadMode, Revision, SessionId, Update};
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::task::JoinSet;

const TTL: Option<Duration> = Some(Duration::from_mins(10));

#[tokio::test]
async fn embedded_store_conforms() {
    let places = Arc::new(TempDir::new().unwrap());
    conformance(move |options| open_with(new_place(&places), options)).await;
}

#[tokio::test]
async fn embedded_store_conforms_over_restarts() {
    let places = TempDir::new().unwrap();
    conformance_over_restarts(|| {
        let directory = new_place(&places);
        // A grace would hide what becomes of the time to live.
        move |store| open_as(directory.clone(), EmbeddedOptions { store, grace: Duration::ZERO })
    })
    .await;
}

#[tokio::test]
async fn a_session_has_its_time_to_live_and_the_grace_after_a_restart() {
    let places = TempDir::new().unwrap();
    let directory = places.path().join("registry");
    open_a_session_that_dies(&directory).await;
    assert_the_session_lives_for_its_time_and_the_grace(directory).await;
}

// What is restored is an image; what was only killed is a log.
#[tokio::test]
async fn a_session_has_its_time_to_live_and_the_grace_after_it_was_restored() {
    let places = TempDir::new().unwrap();
    let [directory, file, copy] = ["registry", "backup", "copy"].map(|name| places.path().join(name));
    open_a_session_that_dies(&directory).await;
    assert_eq!(backup(&directory, &file).unwrap().sessions, 1);
    restore(&file, &copy).unwrap();
    assert_the_session_lives_for_its_time_and_the_grace(copy).await;
}

const SHORT: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_millis(1_500);

async fn open_a_session_that_dies(directory: &Path) {
    let store = open(directory).await;
    let session = SessionId::from_number(1);
    store.apply(Command::OpenSession { session, ttl: Some(SHORT) }).await.expect("it opens");
    register(&store, session, "a").await;
}

async fn assert_the_session_lives_for_its_time_and_the_grace(directory: PathBuf) {
    let before_opening = Instant::now();
    let store = open_as(directory, EmbeddedOptions { grace: GRACE, ..EmbeddedOptions::default() }).await;
    let opened = Instant::now();
    let mut watch = store.watch(Query::everything(), None).expect("there is room");
    let begin = watch.next().await.expect("the store is open");
    assert!(matches!(&begin[..], [Update::Reset { all, .. }] if all.len() == 1), "{begin:?}");
    let end = watch.next().await.expect("the store is open");
    assert!(matches!(&end[..], [Update::Delete { .. }]), "{end:?}");
    assert!(before_opening.elapsed() >= SHORT + GRACE, "it ended early");
    assert!(opened.elapsed() <= SHORT + GRACE + EXPIRY_DELAY_MAX, "it ended late");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_promise_holds_on_several_threads() {
    let places = TempDir::new().unwrap();
    for seed in 0..6 {
        let store = open_with(new_place(&places), StoreOptions::default()).await;
        let load = Churn { seed, writers: 4, readers: 12, commands: 300 };
        let report = churn(Arc::new(store), load).await;
        assert!(report.revisions > 500 && report.resumed > 0, "seed {seed}: {report:?}");
    }
}

#[tokio::test]
async fn a_directory_has_one_store_at_a_time() {
    let places = TempDir::new().unwrap();
    let directory = places.path().join("not/there/yet");
    let first = open(&directory).await;
    let second = EmbeddedStore::open(&directory, EmbeddedOptions::default()).await;
    let error = second.expect_err("there is one");
    assert!(matches!(error, StorageError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("not/there/yet"), "{error}");
    drop(first);
    assert_eq!(*open(&directory).await.condition().borrow(), Condition::Writing);
}

#[tokio::test]
async fn what_tells_the_ids_of_sessions_is_for_its_owner_only() {
    let places = TempDir::new().unwrap();
    let directory = places.path().join("registry");
    let store = open(&directory).await;
    register_some(&store, "a", 3).await;
    backup(&directory, &places.path().join("backup")).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&directory), mode(&places.path().join("backup"))), (0o700, 0o600));
    let files: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() >= 3, "{files:?}");
    assert!(files.iter().all(|file| mode(file) == 0o600), "{files:?}");
}

// The writers must go on while the backup is taken in this thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_taken_under_load_has_everything_answered_before_it_began() {
    let places = TempDir::new().unwrap();
    let directory = places.path().join("registry");
    let store = Arc::new(open(&directory).await);
    let answered = Arc::new(std::sync::Mutex::new(BTreeSet::new()));
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let (store, answered) = (Arc::clone(&store), Arc::clone(&answered));
        let session = open_session(&store, writer).await;
        writers.spawn(async move {
            for number in 0..4_000 {
                let id = format!("{writer}-{number}");
                register(&store, session, &id).await;
                answered.lock().unwrap().insert(id);
            }
        });
    }
    for round in 0..20 {
        let before = answered.lock().unwrap().clone();
        let file = places.path().join(format!("backup-{round}"));
        let taken = backup(&directory, &file).unwrap();
        assert_eq!(taken.sessions, 8);

        let copy = places.path().join(format!("copy-{round}"));
        assert_eq!(restore(&file, &copy).unwrap(), taken);
        let restored = open(&copy).await;
        let found = ids(&restored).await;
        assert_eq!(found.len(), taken.instances);
        assert!(found.is_superset(&before), "round {round}");
        drop(restored);
        std::fs::remove_dir_all(&copy).unwrap();
    }
    writers.shutdown().await;
}

#[tokio::test]
async fn a_watch_from_after_the_backup_begins_with_a_reset_on_what_was_restored() {
    let places = TempDir::new().unwrap();
    let (directory, file) = (places.path().join("registry"), places.path().join("backup"));
    let store = open(&directory).await;
    register_some(&store, "before", 2).await;
    let taken = backup(&directory, &file).unwrap();
    let last = register_some(&store, "after", 2).await;
    drop(store);

    let copy = places.path().join("copy");
    restore(&file, &copy).unwrap();
    let store = open(&copy).await;
    // Enough for the revisions to be the same, if they went on from the backup.
    let now = register_some(&store, "since", 5).await;
    assert!(now > last && last > taken.at);
    for from in [taken.at, last] {
        let mut watch = store.watch(Query::everything(), Some(from)).unwrap();
        let batch = watch.next().await.unwrap();
        assert!(matches!(&batch[..], [Update::Reset { all, .. }] if all.len() == 7), "{batch:?}");
    }
}

#[tokio::test]
async fn nothing_is_overwritten_and_no_other_file_is_taken_for_a_backup() {
    let places = TempDir::new().unwrap();
    let (directory, file) = (places.path().join("registry"), places.path().join("backup"));
    let refused = backup(&places.path().join("nowhere"), &file).unwrap_err();
    assert!(refused.to_string().contains("nowhere"), "{refused}");
    let refused = backup(places.path(), &file).unwrap_err();
    assert!(matches!(refused, StorageError::Empty { .. }), "{refused}");

    let store = open(&directory).await;
    register_some(&store, "a", 1).await;
    backup(&directory, &file).unwrap();
    let refused = backup(&directory, &file).unwrap_err();
    assert!(matches!(refused, StorageError::Exists { .. }), "{refused}");
    let refused = restore(&file, &directory).unwrap_err();
    assert!(matches!(refused, StorageError::InUse { .. }), "{refused}");
    drop(store);
    let refused = restore(&file, &directory).unwrap_err();
    assert!(matches!(refused, StorageError::Exists { .. }), "{refused}");

    let copy = places.path().join("copy");
    let whole = std::fs::read(&file).unwrap();
    for bytes in [&b"something else"[..], &whole[..whole.len() - 512], &[]] {
        let other = places.path().join("other");
        std::fs::write(&other, bytes).unwrap();
        let refused = restore(&other, &copy).unwrap_err();
        assert!(matches!(refused, StorageError::Damaged { .. }), "{refused}");
        assert!(refused.to_string().contains("other"), "{refused}");
    }
    let mut next = whole;
    next[8] = 2;
    std::fs::write(places.path().join("next"), next).unwrap();
    let refused = restore(&places.path().join("next"), &copy).unwrap_err();
    assert!(matches!(refused, StorageError::Version { found: 2, .. }), "{refused}");
    assert!(!copy.exists(), "a refused restore leaves nothing");
}

#[tokio::test]
async fn images_take_the_place_of_logs_under_load_and_lose_nothing() {
    let places = TempDir::new().unwrap();
    let directory = places.path().join("registry");
    let mut known = BTreeSet::new();
    for round in 0..3 {
        let store = Arc::new(open(&directory).await);
        let session = open_session(&store, round).await;
        let mut writers = JoinSet::new();
        // Ten mebibytes of frames, which is more than logs may be.
        for writer in 0..4 {
            let store = Arc::clone(&store);
            writers.spawn(async move {
                for number in 0..600 {
                    let id: InstanceId = format!("{round}-{writer}-{number}").parse().unwrap();
                    let metadata = ["a", "b", "c", "d"].map(|key| (key.to_owned(), "x".repeat(500)));
                    let metadata = Metadata::try_from(BTreeMap::from(metadata)).unwrap();
                    let instance = Instance { metadata, ..instance(id.as_str()) };
                    store.apply(Command::Register { session, instance }).await.unwrap();
                    store.apply(Command::Update { session, id, patch: Patch::drain() }).await.unwrap();
                }
            });
        }
        writers.join_all().await;
        let found = ids(&store).await;
        assert!(found.is_superset(&known));
        assert_eq!(found.len(), known.len() + 2_400);
        known = found;
    }
    let names: Vec<_> =
        std::fs::read_dir(&directory).unwrap().map(|file| file.unwrap().file_name()).collect();
    let is_first = |name: &std::ffi::OsString| name == "image-0000000000000001";
    assert!(!names.iter().any(is_first), "no image was written: {names:?}");
    assert_eq!(ids(&open(&directory).await).await, known);
}

#[tokio::test]
async fn more_callers_than_wait_at_a_time_are_all_answered() {
    const CALLERS: usize = 10_000;
    let places = TempDir::new().unwrap();
    let store = Arc::new(open(places.path()).await);
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let store = Arc::clone(&store);
        callers.spawn(async move {
            let session = open_session(&store, (number % 100) as u128).await;
            register(&store, session, &format!("i{number}")).await;
        });
    }
    callers.join_all().await;
    assert_eq!(ids(&store).await.len(), CALLERS);
    drop(store);
    assert_eq!(ids(&open(places.path()).await).await.len(), CALLERS);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_store_panic(
        bytes in prop::collection::vec(prop_oneof![3 => 0..5_u8, 1 => any::<u8>()], 0..400),
    ) {
        read_hostile_bytes(&bytes);
    }
}

fn new_place(places: &TempDir) -> PathBuf {
    tempfile::Builder::new().tempdir_in(places.path()).expect("there is a place").keep()
}

async fn open_with(directory: PathBuf, store: StoreOptions) -> EmbeddedStore {
    open_as(directory, EmbeddedOptions { store, ..EmbeddedOptions::default() }).await
}

async fn open_as(directory: PathBuf, options: EmbeddedOptions) -> EmbeddedStore {
    EmbeddedStore::open(&directory, options).await.expect("it can be opened")
}

async fn open(directory: &Path) -> EmbeddedStore {
    open_with(directory.to_owned(), StoreOptions::default()).await
}

async fn open_session(store: &EmbeddedStore, number: u128) -> SessionId {
    let session = SessionId::from_number(number);
    let opened = store.apply(Command::OpenSession { session, ttl: TTL }).await;
    opened.map(|_| session).expect("a session can be opened")
}

async fn register(store: &EmbeddedStore, session: SessionId, id: &str) -> Revision {
    let registered = store.apply(Command::Register { session, instance: instance(id) }).await;
    registered.expect("an instance can be registered").at
}

fn instance(id: &str) -> Instance {
    let address = "10.0.0.2".parse().expect("an address");
    let service = "api".parse().expect("a service name");
    Instance::new(id.parse().expect("an id"), service, address, "80".parse().expect("a port"))
}

/// Registers instances in a session of their own; the last revision.
async fn register_some(store: &EmbeddedStore, word: &str, count: usize) -> Revision {
    let session = open_session(store, word.bytes().map(u128::from).sum()).await;
    let mut last = Revision::ZERO;
    for number in 0..count {
        last = register(store, session, &format!("{word}-{number}")).await;
    }
    last
}

async fn ids(store: &EmbeddedStore) -> BTreeSet<String> {
    let snapshot =
        store.list(&Query::everything(), ReadMode::Linearizable).await.expect("a list is answered");
    snapshot.instances.iter().map(|instance| instance.id.to_string()).collect()
}
