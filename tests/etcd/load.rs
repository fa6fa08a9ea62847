//! Writers and watchers at several servers, while something breaks; and whether everybody was told the truth.
//!
//! What happened is known from two sides. An observer, to which nothing is done, watches everything; what it was told is
//! the history. Of that, every answer to a writer must be true: what was confirmed is there, at its revision; what was
//! refused is not there at all; and a read at any server knows everything that was confirmed before it began. Then all
//! that the watchers at all servers were told is compared with the history.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use netloft_registry::testing::{Recording, Truth};
use netloft_registry::{Command, Error, Snapshot, Store, Watch};
use netloft_types::{Instance, InstanceId, Patch, Query, ReadMode, Revision, SessionId, Update};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long anything may take to be as it should be once nothing is broken any more.
const RECOVERY: Duration = Duration::from_mins(1);
/// What the writers do at least, however slow the machine is.
const CONFIRMED_MIN: usize = 120;
const READS_MIN: usize = 40;
/// Long enough that no session ends in between.
const TTL: Duration = Duration::from_mins(5);

/// What went on, so that a test can tell that it tested something.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) confirmed: usize,
    pub(crate) refused: usize,
    pub(crate) unknown: usize,
    pub(crate) reads: usize,
    pub(crate) reads_refused: usize,
    pub(crate) revisions: usize,
    pub(crate) resets: usize,
}

/// What a writer got for one of its commands.
#[derive(Debug)]
enum Answer {
    Confirmed(Revision),
    Refused,
    Unknown,
}

/// A command of a writer, as what it makes of an instance.
#[derive(Debug)]
struct Attempt {
    id: InstanceId,
    after: Option<Arc<Instance>>,
    answer: Answer,
}

/// Runs a load on `servers` until `trouble` is over, and some more; checks all of it.
pub(crate) async fn under_load(
    observer: Arc<dyn Store>,
    servers: &[Arc<dyn Store>],
    trouble: impl Future<Output = ()>,
) -> Report {
    let shared = Arc::new(Shared::default());
    let mut watchers = JoinSet::new();
    // What went before, at other servers, is none of the observer's.
    observer.list(&Query::everything(), ReadMode::Linearizable).await.unwrap();
    let observing = tokio::spawn(Watcher::begin(&observer, Query::everything()).await.run());
    for server in servers {
        for query in [Query::everything(), Query::service("s0".parse().unwrap())] {
            watchers.spawn(Watcher::begin(server, query).await.run());
        }
    }
    let mut writers = JoinSet::new();
    for number in 0..4 {
        let (servers, shared) = (servers.to_vec(), Arc::clone(&shared));
        writers.spawn(Writer { number, servers, shared, ..Writer::default() }.run());
    }
    trouble.await;
    shared.is_over.store(true, Ordering::Relaxed);
    let writers = timeout(RECOVERY, writers.join_all()).await.expect("the writers come to an end");
    say_that_it_is_over(&observer).await;
    let recordings = timeout(RECOVERY, watchers.join_all()).await.expect("every watch gets to the end");
    let history = timeout(RECOVERY, observing).await.expect("the observer gets to the end").unwrap();
    check(&writers, &history, &recordings)
}

fn check(writers: &[Writer], observed: &Recording, recordings: &[Recording]) -> Report {
    let history = History::of(observed);
    let mut report = Report { revisions: history.steps.len(), ..Report::default() };
    for writer in writers {
        report.reads += writer.lists.len();
        report.reads_refused += writer.lists_refused;
        for attempt in &writer.attempts {
            history.check(attempt);
            match attempt.answer {
                Answer::Confirmed(_) => report.confirmed += 1,
                Answer::Refused => report.refused += 1,
                Answer::Unknown => report.unknown += 1,
            }
        }
        for snapshot in &writer.lists {
            history.truth.check_snapshot(&Query::everything(), snapshot).unwrap();
        }
    }
    for recording in recordings {
        history
            .truth
            .check(recording)
            .unwrap_or_else(|violation| panic!("{:?}: {violation}", recording.query));
        let all = recording.batches.iter().flatten();
        report.resets += all.filter(|update| matches!(update, Update::Reset { .. })).count();
    }
    report
}

/// What the observer was told.
struct History {
    steps: BTreeMap<(Revision, InstanceId), Option<Arc<Instance>>>,
    truth: Truth,
}

impl History {
    fn of(recording: &Recording) -> Self {
        let (mut steps, mut truth) = (BTreeMap::new(), Truth::default());
        for (number, update) in recording.batches.iter().flatten().enumerate() {
            let (at, id, after) = match update {
                Update::Reset { all, .. } if number == 0 && all.is_empty() => continue,
                Update::Reset { .. } => panic!("the observer missed something"),
                Update::Put { at, instance } => (*at, instance.id.clone(), Some(Arc::clone(instance))),
                Update::Delete { at, id } => (*at, id.clone(), None),
                Update::Progress { .. } => continue,
            };
            steps.insert((at, id.clone()), after.clone());
            truth.note(at, id, after);
        }
        Self { steps, truth }
    }

    fn check(&self, attempt: &Attempt) {
        match &attempt.answer {
            Answer::Confirmed(at) => {
                let really = self.steps.get(&(*at, attempt.id.clone()));
                assert_eq!(really, Some(&attempt.after), "{attempt:?} was confirmed");
            }
            // Every put of a writer is unlike all others.
            Answer::Refused if attempt.after.is_some() => {
                let was_done = self.steps.values().any(|after| *after == attempt.after);
                assert!(!was_done, "{attempt:?} was refused, and done");
            }
            Answer::Refused | Answer::Unknown => {}
        }
    }
}

/// What the writers have in common.
#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    /// The last revision that was confirmed to anybody.
    last: AtomicU64,
    confirmed: AtomicUsize,
    reads: AtomicUsize,
}

impl Shared {
    fn is_done(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
            && self.confirmed.load(Ordering::Relaxed) >= CONFIRMED_MIN
            && self.reads.load(Ordering::Relaxed) >= READS_MIN
    }
}

#[derive(Default)]
struct Writer {
    number: usize,
    servers: Vec<Arc<dyn Store>>,
    shared: Arc<Shared>,
    held: BTreeMap<InstanceId, Arc<Instance>>,
    attempts: Vec<Attempt>,
    lists: Vec<Snapshot>,
    lists_refused: usize,
    /// Counts commands, and is in all that they put.
    count: usize,
}

impl Writer {
    async fn run(mut self) -> Self {
        let session = SessionId::from_number(1 + self.number as u128);
        let open = Command::OpenSession { session, ttl: Some(TTL) };
        while self.server().apply(open.clone()).await.is_err() {
            self.count += 1;
        }
        while !self.shared.is_done() {
            self.count += 1;
            match self.count % 4 {
                0 => self.list().await,
                1 | 2 => self.put(session).await,
                _ => self.remove(session).await,
            }
            sleep(Duration::from_millis(5)).await;
        }
        self
    }

    /// Another one from command to command, most often its own.
    fn server(&self) -> Arc<dyn Store> {
        let strays = if self.count.is_multiple_of(8) { self.count / 8 } else { 0 };
        Arc::clone(&self.servers[(self.number + strays) % self.servers.len()])
    }

    async fn put(&mut self, session: SessionId) {
        let id = format!("w{}-{}", self.number, self.count % 7).parse().unwrap();
        let service = format!("s{}", self.count % 2).parse().unwrap();
        let mut instance = Instance::new(id, service, "10.0.0.2".parse().unwrap(), "80".parse().unwrap());
        let word = format!("put-{}-{}", self.number, self.count);
        let metadata = BTreeMap::from([("put".to_owned(), word)]);
        instance.metadata = metadata.try_into().unwrap();
        let id = instance.id.clone();
        let after = Arc::new(instance.clone());
        let answer = self.command(Command::Register { session, instance }).await;
        self.conclude(id, Some(after), answer).await;
    }

    async fn remove(&mut self, session: SessionId) {
        let Some(id) = self.held.keys().nth(self.count % self.held.len().max(1)).cloned() else { return };
        let answer = self.command(Command::Deregister { session, id: id.clone() }).await;
        self.conclude(id, None, answer).await;
    }

    async fn command(&mut self, command: Command) -> Answer {
        match self.server().apply(command).await {
            Ok(applied) => {
                self.shared.last.fetch_max(applied.at.number(), Ordering::SeqCst);
                self.shared.confirmed.fetch_add(1, Ordering::Relaxed);
                Answer::Confirmed(applied.at)
            }
            Err(Error::OutcomeUnknown { .. }) => Answer::Unknown,
            Err(error @ Error::Away { .. }) => {
                assert!(error.is_unavailable());
                Answer::Refused
            }
            Err(error) => panic!("writer {} in command {}: {error}", self.number, self.count),
        }
    }

    async fn conclude(&mut self, id: InstanceId, after: Option<Arc<Instance>>, answer: Answer) {
        let now = match answer {
            Answer::Confirmed(_) => after.clone(),
            Answer::Refused => self.held.get(&id).cloned(),
            // Nobody else changes what is this writer's.
            Answer::Unknown => self.find(&id).await,
        };
        match now {
            Some(now) => self.held.insert(id.clone(), now),
            None => self.held.remove(&id),
        };
        self.attempts.push(Attempt { id, after, answer });
    }

    /// What became of an instance: once that is known for certain.
    async fn find(&self, id: &InstanceId) -> Option<Arc<Instance>> {
        // A transaction of which nobody knows may still be on its way to etcd for as long as etcd lets it wait.
        sleep(Duration::from_secs(8)).await;
        let found = async {
            loop {
                for server in &self.servers {
                    if let Ok(found) = server.get(id, ReadMode::Linearizable).await {
                        return found.instance;
                    }
                }
            }
        };
        timeout(RECOVERY, found).await.expect("some server answers")
    }

    async fn list(&mut self) {
        let confirmed = self.shared.last.load(Ordering::SeqCst);
        match self.server().list(&Query::everything(), ReadMode::Linearizable).await {
            Ok(snapshot) => {
                let at = snapshot.at.number();
                assert!(at >= confirmed, "a linearizable read at {at} does not know of {confirmed}");
                self.lists.push(snapshot);
                self.shared.reads.fetch_add(1, Ordering::Relaxed);
            }
            Err(Error::Away { .. }) => self.lists_refused += 1,
            Err(error) => panic!("a list is answered with {error}"),
        }
    }
}

const END: &str = "the-end";

/// Registers something in each service, by which watchers know the end.
async fn say_that_it_is_over(observer: &Arc<dyn Store>) {
    let session = SessionId::from_number(u128::MAX);
    observer.apply(Command::OpenSession { session, ttl: Some(TTL) }).await.unwrap();
    for service in ["s1", "s0"] {
        let id = format!("{END}-{service}").parse().unwrap();
        let (address, port) = ("10.0.0.2".parse().unwrap(), "80".parse().unwrap());
        let instance = Instance::new(id, service.parse().unwrap(), address, port);
        observer.apply(Command::Register { session, instance }).await.unwrap();
    }
    let id = format!("{END}-s0").parse().unwrap();
    let patch = Patch { weight: Some("2".parse().unwrap()), ..Patch::default() };
    observer.apply(Command::Update { session, id, patch }).await.unwrap();
}

/// Watches until the end, now and then by another watch that goes on where the one before stopped.
struct Watcher {
    store: Arc<dyn Store>,
    watch: Watch,
    recording: Recording,
}

impl Watcher {
    /// Reads how it is before anything happens.
    async fn begin(store: &Arc<dyn Store>, query: Query) -> Self {
        let mut watch = store.watch(query.clone(), None).unwrap();
        let batches = vec![watch.next().await.unwrap()];
        Self { store: Arc::clone(store), watch, recording: Recording { query, batches } }
    }

    async fn run(mut self) -> Recording {
        loop {
            let batch = self.watch.next().await.unwrap();
            let is_end = batch.iter().any(|update| match update {
                Update::Put { instance, .. } => is_end(instance),
                Update::Reset { all, .. } => all.iter().any(|instance| is_end(instance)),
                _ => false,
            });
            let at = batch.last().map(Update::at);
            self.recording.batches.push(batch);
            if is_end {
                return self.recording;
            }
            if self.recording.batches.len().is_multiple_of(16) {
                self.watch = self.store.watch(self.recording.query.clone(), at).unwrap();
            }
        }
    }
}

fn is_end(instance: &Instance) -> bool {
    instance.id.as_str() == format!("{END}-s0") && instance.weight.number() == 2
}
