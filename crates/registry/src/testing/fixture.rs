//! Short words for the checks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use netloft_types::{Instance, InstanceId, Patch, Query, ReadMode, Revision, ServiceName, SessionId, Update};
use tokio::time::timeout;

use crate::{Applied, Closed, Command, Error, FeedOptions, Store, StoreOptions, Watch};

use super::Make;

/// How long anything that must happen may take. Only a failing check waits that long.
const DEADLINE: Duration = Duration::from_secs(30);

/// The store under test.
pub(super) struct Subject(pub(super) Arc<dyn Store>);

impl Subject {
    pub(super) async fn new(make: &Make) -> Self {
        Self::with(make, StoreOptions::default()).await
    }

    pub(super) async fn with(make: &Make, options: StoreOptions) -> Self {
        Self(make(options).await)
    }

    pub(super) async fn with_history(make: &Make, history_len_max: usize) -> Self {
        let feed = FeedOptions { history_len_max, ..FeedOptions::default() };
        let options = StoreOptions { feed, ..StoreOptions::default() };
        Self::with(make, options).await
    }

    pub(super) async fn open(&self, number: u128, ttl: Option<Duration>) -> Result<SessionId, Error> {
        let session = SessionId::from_number(number);
        let applied = self.0.apply(Command::OpenSession { session, ttl }).await;
        applied.map(|_| session)
    }

    /// Opens a session that lives as long as the store.
    pub(super) async fn session(&self, number: u128) -> SessionId {
        self.open(number, None).await.expect("a session can be opened")
    }

    pub(super) async fn renew(&self, session: SessionId) -> Result<Applied, Error> {
        self.0.apply(Command::RenewSession { session }).await
    }

    pub(super) async fn close(&self, session: SessionId) -> Result<Applied, Error> {
        self.0.apply(Command::CloseSession { session }).await
    }

    pub(super) async fn try_register(
        &self,
        session: SessionId,
        instance: Instance,
    ) -> Result<Applied, Error> {
        self.0.apply(Command::Register { session, instance }).await
    }

    /// Registers what must be accepted, and returns the revision.
    pub(super) async fn register(&self, session: SessionId, instance: Instance) -> Revision {
        let applied = self.try_register(session, instance).await;
        applied.expect("an instance can be registered").at
    }

    pub(super) async fn update(&self, session: SessionId, id: &str, patch: Patch) -> Result<Applied, Error> {
        let id = instance_id(id);
        self.0.apply(Command::Update { session, id, patch }).await
    }

    pub(super) async fn deregister(&self, session: SessionId, id: &str) -> Result<Applied, Error> {
        let id = instance_id(id);
        self.0.apply(Command::Deregister { session, id }).await
    }

    pub(super) async fn get(&self, id: &str) -> Option<Arc<Instance>> {
        self.0.get(&instance_id(id), ReadMode::Linearizable).await.expect("a read is answered").instance
    }

    /// The revision of the store and the ids of what `query` selects.
    pub(super) async fn list(&self, query: &Query) -> (Revision, Vec<String>) {
        let snapshot = self.0.list(query, ReadMode::Linearizable).await.expect("a list is answered");
        (snapshot.at, ids(&snapshot.instances))
    }

    pub(super) fn watch(&self, query: Query, from: Option<Revision>) -> Watch {
        self.0.watch(query, from).expect("a watch is granted")
    }
}

pub(super) fn instance_id(id: &str) -> InstanceId {
    id.parse().expect("a test's instance id is valid")
}

pub(super) fn service(name: &str) -> ServiceName {
    name.parse().expect("a test's service name is valid")
}

pub(super) fn instance(id: &str, of: &str) -> Instance {
    let address = "10.0.0.2".parse().expect("an address");
    Instance::new(instance_id(id), service(of), address, "80".parse().expect("a port"))
}

/// The usable instances of a service.
pub(super) fn of(name: &str) -> Query {
    Query::service(service(name))
}

pub(super) fn ids(instances: &[Arc<Instance>]) -> Vec<String> {
    instances.iter().map(|instance| instance.id.to_string()).collect()
}

/// The next batch, which must come.
pub(super) async fn next(watch: &mut Watch) -> Vec<Update> {
    try_next(watch).await.expect("the store is open")
}

pub(super) async fn try_next(watch: &mut Watch) -> Result<Vec<Update>, Closed> {
    let batch = timeout(DEADLINE, watch.next()).await;
    batch.unwrap_or_else(|_| panic!("nothing came within {DEADLINE:?} to {watch:?}"))
}

/// The next batch, which must be a `Reset`: its revision and ids.
pub(super) async fn next_reset(watch: &mut Watch) -> (Revision, Vec<String>) {
    let batch = next(watch).await;
    match &batch[..] {
        [Update::Reset { at, all }] => (*at, ids(all)),
        other => panic!("expected a Reset and got {other:?}"),
    }
}

/// A batch in short: `+id` for a put, `-id` for a delete; progress is left out.
pub(super) fn brief(batch: &[Update]) -> Vec<String> {
    let word = |update: &Update| match update {
        Update::Reset { .. } => Some("reset".to_owned()),
        Update::Put { instance, .. } => Some(format!("+{}", instance.id)),
        Update::Delete { id, .. } => Some(format!("-{id}")),
        Update::Progress { .. } => None,
    };
    batch.iter().filter_map(word).collect()
}

/// What a consumer knows after the batches it was given.
#[derive(Debug, Default)]
pub(super) struct Known(pub(super) BTreeMap<InstanceId, Arc<Instance>>);

impl Known {
    pub(super) fn take_in(&mut self, batch: &[Update]) {
        for update in batch {
            match update {
                Update::Reset { all, .. } => {
                    self.0 = all.iter().map(|one| (one.id.clone(), Arc::clone(one))).collect();
                }
                Update::Put { instance, .. } => {
                    self.0.insert(instance.id.clone(), Arc::clone(instance));
                }
                Update::Delete { id, .. } => {
                    self.0.remove(id);
                }
                Update::Progress { .. } => {}
            }
        }
    }
}

/// A small random number generator (splitmix64), so that a seed means the same run for ever.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// An independent generator.
    pub(super) fn fork(&mut self) -> Self {
        Self(self.roll())
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to, not including, `end`; the tiny bias of a remainder does not matter here.
    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() % end as u64).expect("is below a usize")
    }

    pub(super) fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    pub(super) fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }
}
