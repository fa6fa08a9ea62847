//! Everything at once: concurrent writers, slow readers, resumed watches, a short history.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use netloft_types::{
    Health, HealthFilter, Instance, InstanceId, Lifecycle, LifecycleFilter, Patch, Query, ReadMode, Revision,
    ServicePattern, SessionId, Tags, Update,
};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::{Applied, Command, Error, Snapshot, Store, Watch};

use super::fixture::{Dice, Known, Subject, instance, instance_id, next, service};
use super::{Make, Recording, Truth, checks};

checks![every_promise_holds_under_churn];

/// How much is to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Churn {
    /// The seed of every choice made.
    pub seed: u64,
    /// Clients that register, change and remove, each with a session of its own.
    pub writers: usize,
    /// Watches, each of a random query, read at a random pace, dropped and resumed at random.
    pub readers: usize,
    /// Commands of each writer.
    pub commands: usize,
}

/// How much went on, so that a test can tell that it tested something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Revisions made.
    pub revisions: usize,
    /// Lists taken and compared.
    pub lists: usize,
    /// Updates delivered and compared, over all readers.
    pub updates: usize,
    /// How many of them were resets.
    pub resets: usize,
    /// How many of them were progress.
    pub progress: usize,
    /// Watches resumed.
    pub resumed: usize,
}

/// Lets writers and readers loose on an empty store, and checks everything that anyone was told.
///
/// # Panics
///
/// If a promise is broken; the message names the promise and the seed.
pub async fn churn(store: Arc<dyn Store>, churn: Churn) -> Report {
    let seed = churn.seed;
    let mut dice = Dice::new(seed);
    let mut readers = JoinSet::new();
    let is_all_written = Arc::new(AtomicBool::new(false));
    for _ in 0..churn.readers {
        readers.spawn(Reader::new(&store, dice.fork(), &is_all_written).run());
    }
    let mut writers = JoinSet::new();
    for number in 0..churn.writers {
        writers.spawn(Writer::new(&store, dice.fork(), number).run(churn.commands));
    }

    let mut truth = Truth::default();
    let mut lists = Vec::new();
    for writer in writers.join_all().await {
        truth.extend(writer.truth);
        lists.extend(writer.lists);
    }
    let mut last = Writer::new(&store, dice.fork(), churn.writers);
    last.say_that_it_is_over().await;
    truth.extend(last.truth);
    is_all_written.store(true, Ordering::Relaxed);

    let mut report = Report { revisions: truth.revisions(), lists: lists.len(), ..Report::default() };
    for (query, snapshot) in lists {
        let checked = truth.check_snapshot(&query, &snapshot);
        checked.unwrap_or_else(|violation| panic!("seed {seed}, list of {query:?}: {violation}"));
    }
    for reader in readers.join_all().await {
        let checked = truth.check(&reader.recording);
        checked.unwrap_or_else(|violation| {
            panic!("seed {seed}, watch of {:?}: {violation}", reader.recording.query)
        });
        let now =
            store.list(&reader.recording.query, ReadMode::Linearizable).await.expect("a list is answered");
        let known: Vec<_> = reader.known.0.into_values().collect();
        assert_eq!(known[..], now.instances[..], "seed {seed}: a watch does not add up to a list");
        report.resumed += reader.resumed;
        report.count(&reader.recording);
    }
    report
}

impl Report {
    fn count(&mut self, recording: &Recording) {
        for update in recording.batches.iter().flatten() {
            self.updates += 1;
            self.resets += usize::from(matches!(update, Update::Reset { .. }));
            self.progress += usize::from(matches!(update, Update::Progress { .. }));
        }
    }
}

const SERVICES: [&str; 4] = ["s0", "s1", "s2", "s3"];

struct Writer {
    store: Arc<dyn Store>,
    dice: Dice,
    number: usize,
    session: SessionId,
    /// What it registered and still holds. Nobody else can change that.
    held: BTreeMap<InstanceId, Arc<Instance>>,
    /// The latest revision it was told of.
    seen: Revision,
    truth: Truth,
    lists: Vec<(Query, Snapshot)>,
}

impl Writer {
    fn new(store: &Arc<dyn Store>, dice: Dice, number: usize) -> Self {
        Self {
            store: Arc::clone(store),
            dice,
            number,
            session: SessionId::from_number(1_000_000 * (number as u128 + 1)),
            held: BTreeMap::new(),
            seen: Revision::ZERO,
            truth: Truth::default(),
            lists: Vec::new(),
        }
    }

    async fn run(mut self, commands: usize) -> Self {
        self.open().await;
        for _ in 0..commands {
            match self.dice.below(40) {
                0 => self.begin_anew().await,
                1..=7 => self.deregister().await,
                8..=15 => self.update().await,
                16..=19 => self.list().await,
                _ => self.register().await,
            }
            if self.dice.one_in(4) {
                tokio::task::yield_now().await;
            }
            if self.dice.one_in(16) {
                sleep(Duration::from_millis(1)).await;
            }
        }
        self
    }

    /// Registers in every service an instance that no query hides, by which readers know the end.
    async fn say_that_it_is_over(&mut self) {
        self.open().await;
        for name in SERVICES {
            let mut last = instance(&end_of(name), name);
            last.tags = tags(&["blue", "green"]);
            self.register_one(last).await;
        }
    }

    async fn apply(&mut self, command: Command) -> Result<Applied, Error> {
        let applied = self.store.apply(command).await?;
        assert!(applied.at >= self.seen, "the revision went back for a writer");
        Ok(applied)
    }

    /// Notes what a command made of an instance of this writer.
    fn note(&mut self, at: Revision, id: InstanceId, after: Option<Arc<Instance>>) {
        match &after {
            Some(after) => self.held.insert(id.clone(), Arc::clone(after)),
            None => self.held.remove(&id),
        };
        self.seen = at;
        self.truth.note(at, id, after);
    }

    async fn open(&mut self) {
        let (session, ttl) = (self.session, None);
        let opened = self.apply(Command::OpenSession { session, ttl }).await;
        opened.expect("a session can be opened");
    }

    async fn begin_anew(&mut self) {
        let session = self.session;
        let closed = self.apply(Command::CloseSession { session }).await;
        let at = closed.expect("it is open").at;
        for id in std::mem::take(&mut self.held).into_keys() {
            self.note(at, id, None);
        }
        self.session = SessionId::from_number(session.number() + 1);
        self.open().await;
    }

    async fn register(&mut self) {
        let number = self.dice.below(12);
        // Some ids are wanted by all writers.
        let id = match number {
            0..4 => format!("shared-{number}"),
            _ => format!("w{}-{number}", self.number),
        };
        let mut wanted = instance(&id, self.dice.pick(&SERVICES));
        wanted.tags = self.dice.pick(&[tags(&[]), tags(&["blue"]), tags(&["blue", "green"])]);
        wanted.health = self.dice.pick(&[Health::Passing, Health::Warning, Health::Critical]);
        wanted.lifecycle = self.dice.pick(&[Lifecycle::Starting, Lifecycle::Ready]);
        self.register_one(wanted).await;
    }

    async fn register_one(&mut self, instance: Instance) {
        let (session, wanted) = (self.session, Arc::new(instance.clone()));
        match self.apply(Command::Register { session, instance }).await {
            Ok(applied) if self.held.get(&wanted.id) != Some(&wanted) => {
                self.note(applied.at, wanted.id.clone(), Some(wanted));
            }
            Ok(_) => {}
            Err(error) => assert!(error.is_conflict(), "{error}"),
        }
    }

    async fn update(&mut self) {
        let Some(before) = self.pick_held() else {
            return;
        };
        let patch = Patch {
            health: Some(self.dice.pick(&[Health::Passing, Health::Critical])),
            lifecycle: self.dice.pick(&[None, Some(Lifecycle::Ready), Some(Lifecycle::Draining)]),
            ..Patch::default()
        };
        let after = Arc::new(patch.clone().applied_to(&before));
        let (session, id) = (self.session, before.id.clone());
        let updated = self.apply(Command::Update { session, id, patch }).await;
        let at = updated.expect("it is held").at;
        if after != before {
            self.note(at, after.id.clone(), Some(after));
        }
    }

    async fn deregister(&mut self) {
        let Some(before) = self.pick_held() else {
            return;
        };
        let (session, id) = (self.session, before.id.clone());
        let removed = self.apply(Command::Deregister { session, id }).await;
        self.note(removed.expect("it is held").at, before.id.clone(), None);
    }

    async fn list(&mut self) {
        let query = random_query(&mut self.dice);
        let snapshot = self.store.list(&query, ReadMode::Linearizable).await.expect("a list is answered");
        assert!(snapshot.at >= self.seen, "a list is older than what its reader saw");
        self.seen = snapshot.at;
        self.lists.push((query, snapshot));
    }

    fn pick_held(&mut self) -> Option<Arc<Instance>> {
        let choice = self.dice.below(self.held.len().max(1));
        self.held.values().nth(choice).cloned()
    }
}

struct Reader {
    store: Arc<dyn Store>,
    dice: Dice,
    recording: Recording,
    known: Known,
    resumed: usize,
    is_all_written: Arc<AtomicBool>,
}

impl Reader {
    fn new(store: &Arc<dyn Store>, mut dice: Dice, is_all_written: &Arc<AtomicBool>) -> Self {
        let query = random_query(&mut dice);
        let batches = Vec::new();
        Self {
            store: Arc::clone(store),
            dice,
            recording: Recording { query, batches },
            known: Known::default(),
            resumed: 0,
            is_all_written: Arc::clone(is_all_written),
        }
    }

    async fn run(mut self) -> Self {
        let mut watch = self.watch(None);
        while !self.is_over() {
            let batch = match self.dice.below(4) {
                // Abandons the wait, which must lose nothing.
                0 => match timeout(Duration::ZERO, watch.next()).await {
                    Ok(batch) => batch.expect("the store is open"),
                    Err(_) => continue,
                },
                _ => next(&mut watch).await,
            };
            let from = batch.last().map(Update::at);
            self.known.take_in(&batch);
            self.recording.batches.push(batch);
            match self.dice.below(24) {
                0 => self.fall_behind().await,
                1..=3 => {
                    self.resumed += 1;
                    watch = self.watch(from);
                }
                _ => {}
            }
        }
        self
    }

    /// Reads nothing until more has happened than a short history holds, or all has; how long that takes, depends on
    /// the store.
    async fn fall_behind(&self) {
        const FAR: u64 = 40;
        let revision = async || {
            let snapshot = self.store.list(&self.recording.query, ReadMode::Stale).await;
            snapshot.expect("a stale list is answered").at.number()
        };
        let far = revision().await + FAR;
        while !self.is_all_written.load(Ordering::Relaxed) && revision().await < far {
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn watch(&self, from: Option<Revision>) -> Watch {
        let watch = self.store.watch(self.recording.query.clone(), from);
        watch.expect("a watch is granted")
    }

    fn is_over(&self) -> bool {
        let watched = SERVICES.iter().filter(|name| {
            let Query { service: only, within, .. } = &self.recording.query;
            only.as_ref().is_none_or(|only| only.as_str() == **name)
                && within.as_ref().is_none_or(|within| within.iter().any(|one| one.matches(&service(name))))
        });
        watched.into_iter().all(|name| self.known.0.contains_key(&instance_id(&end_of(name))))
    }
}

fn end_of(name: &str) -> String {
    format!("end-of-{name}")
}

fn tags(words: &[&str]) -> Tags {
    let tags = words.iter().map(|word| word.parse().expect("a tag"));
    Tags::try_from(tags.collect::<std::collections::BTreeSet<_>>()).expect("few tags")
}

fn random_query(dice: &mut Dice) -> Query {
    Query {
        service: (!dice.one_in(4)).then(|| service(dice.pick(&SERVICES))),
        tags: tags(dice.pick(&[&[][..], &["blue"], &["blue", "green"]])).into(),
        health: dice.pick(&[HealthFilter::Passing, HealthFilter::Usable, HealthFilter::Any]),
        lifecycle: dice.pick(&[LifecycleFilter::Ready, LifecycleFilter::Any]),
        within: dice.pick(&[None, Some(&["s1", "s3*"][..]), Some(&["s*"])]).map(patterns),
    }
}

fn patterns(words: &[&str]) -> Arc<[ServicePattern]> {
    words.iter().map(|word| word.parse().expect("a pattern")).collect()
}

async fn every_promise_holds_under_churn(make: Make) {
    for (seed, history_len_max) in [(1, 8), (2, 32), (3, 10_000)] {
        let subject = Subject::with_history(&make, history_len_max).await;
        let load = Churn { seed, writers: 4, readers: 8, commands: 200 };
        let readers = load.readers;
        let report = churn(subject.0, load).await;
        assert!(report.revisions > 200 && report.resumed > 0, "{report:?}");
        assert!(report.updates > report.resets + report.progress && report.lists > 0, "{report:?}");
        let is_short = history_len_max < report.revisions;
        assert_eq!(report.resets > readers, is_short, "{report:?}");
    }
}
