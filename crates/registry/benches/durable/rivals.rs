//! What the store is compared with: a log that means nothing, and a database.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use netloft_registry::{
    Applied, BoxFuture, Command, Error, Feed, FeedOptions, Found, Services, Snapshot, State, Store,
    StoreOptions, Usage, Watch,
};
use netloft_types::{InstanceId, Query, ReadMode, Revision};
use redb::{Database, TableDefinition};
use tokio::sync::oneshot;

/// As many as the store takes.
const GROUP_MAX: usize = 4_096;
const INSTANCES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("instances");

type Job = (Command, oneshot::Sender<Result<Applied, Error>>);

/// A store for registering only, whose thread commits all that wait at once.
pub(crate) struct Grouped {
    inbox: Sender<Job>,
    feed: Feed,
}

impl Grouped {
    /// The least there can be: bytes of about the right number are appended to a file filled with zeros, and synced.
    pub(crate) fn bare_log(directory: &Path) -> Self {
        let file = File::create(directory.join("log")).unwrap();
        let (mut end, mut filled) = (0, 0);
        let feed = Feed::new(Revision::ZERO, &FeedOptions::default());
        Self::start(feed, move |commands| {
            let bytes = vec![1; 512.max(commands.len() * 232)];
            if end + bytes.len() as u64 > filled {
                file.write_all_at(&vec![0; 1 << 20], filled).unwrap();
                file.sync_data().unwrap();
                filled += 1 << 20;
            }
            file.write_all_at(&bytes, end).unwrap();
            file.sync_data().unwrap();
            end += bytes.len() as u64;
            let applied = Applied { at: Revision::ZERO, ttl: None };
            commands.iter().map(|_| Ok(applied)).collect()
        })
    }

    /// The same rules and the same published side as the store, with a database in between.
    pub(crate) fn redb(directory: &Path, options: StoreOptions) -> Self {
        let database = Database::create(directory.join("registry.redb")).unwrap();
        let mut state = State::new(Revision::ZERO, options.limits);
        let feed = Feed::new(Revision::ZERO, &options.feed);
        let published = feed.clone();
        Self::start(feed, move |commands| {
            let mut changes = Vec::new();
            let answers = commands.into_iter().map(|command| {
                let session = command.session();
                changes.extend(state.apply(Duration::ZERO, command)?);
                Ok(Applied { at: state.revision(), ttl: session.and_then(|session| state.ttl(session)) })
            });
            let answers: Vec<_> = answers.collect();
            let transaction = database.begin_write().unwrap();
            let mut table = transaction.open_table(INSTANCES).unwrap();
            for instance in
                changes.iter().flat_map(|change| &change.deltas).filter_map(|one| one.after.as_ref())
            {
                // As many bytes as the store writes for it.
                table.insert(instance.id.as_str(), &[1; 200][..]).unwrap();
            }
            drop(table);
            transaction.commit().unwrap();
            for change in changes {
                published.publish(change);
            }
            answers
        })
    }

    fn start(
        feed: Feed,
        mut commit: impl FnMut(Vec<Command>) -> Vec<Result<Applied, Error>> + Send + 'static,
    ) -> Self {
        let (inbox, jobs): (_, Receiver<Job>) = mpsc::channel();
        thread::spawn(move || {
            while let Ok(first) = jobs.recv() {
                let group = std::iter::once(first).chain(jobs.try_iter()).take(GROUP_MAX);
                let (commands, answers): (Vec<_>, Vec<_>) = group.unzip();
                for (answer, outcome) in answers.into_iter().zip(commit(commands)) {
                    let _ = answer.send(outcome);
                }
            }
        });
        Self { inbox, feed }
    }
}

impl Store for Grouped {
    fn apply(&self, command: Command) -> BoxFuture<'_, Result<Applied, Error>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            self.inbox.send((command, answer)).unwrap();
            answered.await.unwrap()
        })
    }

    fn get<'a>(&'a self, id: &'a InstanceId, _: ReadMode) -> BoxFuture<'a, Result<Found, Error>> {
        Box::pin(async move { Ok(self.feed.get(id)) })
    }

    fn list<'a>(&'a self, query: &'a Query, _: ReadMode) -> BoxFuture<'a, Result<Snapshot, Error>> {
        Box::pin(async move { Ok(self.feed.list(query)) })
    }

    fn services(&self, _: ReadMode) -> BoxFuture<'_, Result<Services, Error>> {
        Box::pin(async move { Ok(self.feed.services()) })
    }

    fn watch(&self, query: Query, from: Option<Revision>) -> Result<Watch, Error> {
        self.feed.watch(query, from)
    }

    fn usage(&self) -> Usage {
        unreachable!("only registrations are measured")
    }
}
