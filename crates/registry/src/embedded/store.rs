//! The handle of a store in a directory, and the thread behind it.

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use netloft_types::{InstanceId, Query, ReadMode, Revision};
use tokio::sync::{Semaphore, oneshot, watch};
use tracing::info;

use super::clock::Clock;
use super::disk::{Directory, Disk};
use super::gathering::Gathering;
use super::image::ImageJob;
use super::inbox::{Inbox, Messages};
use super::ledger::Layout;
use super::writer::{Job, Shared, Writer};
use super::{DiskFault, StorageError};
use crate::memory::first_revision;
use crate::{
    Applied, BoxFuture, Command, Error, Found, Services, Snapshot, Store, StoreOptions, Usage, Watch,
};

/// Commands that wait for the writer; more wait to hand theirs in. It is some frames full of them.
const JOBS_MAX: usize = 4_096;
/// How often a writer without room looks for some.
const ROOM_INTERVAL: Duration = Duration::from_secs(1);

/// What can be chosen about a store in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedOptions {
    /// What every store takes. Limits that are lower than what is there refuse what is new, and lose nothing.
    pub store: StoreOptions,
    /// How much longer than its time to live a session lives after a restart, if it is not renewed.
    ///
    /// The default of 5 seconds is the longest pause of a client between two attempts to connect.
    pub grace: Duration,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self { store: StoreOptions::default(), grace: Duration::from_secs(5) }
    }
}

/// What a store can do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Condition {
    /// Everything.
    Writing,
    /// The disk is full: it refuses what needs room, with [`Error::DiskFull`], and does all the rest. Once a second
    /// it looks whether there is room.
    Full,
    /// The disk failed: it serves reads and renewals, and refuses everything else with [`Error::DiskFailed`], until
    /// it is opened again. No session ends.
    Failed(DiskFault),
    /// The others that it has to agree with do not answer: it serves what it knew, and refuses changes with
    /// [`Error::Away`], until they do.
    Away,
}

/// A store whose registrations outlive the process: what was answered is on the disk.
///
/// It knows everything that there is to know, so its reads are linearizable whatever their mode. It needs no runtime: the thread that writes is its own.
///
/// A session outlives a restart, with its whole time to live and [a grace](EmbeddedOptions::grace) from then on. One
/// without a time to live ends with the process, as it does in every store. Revisions go on where they were, and so
/// do watches, as far as the log remembers changes; it remembers at least those since it was last replaced by an
/// image, up to [`history_len_max`](crate::FeedOptions::history_len_max).
///
/// Dropping the store waits for the commands that were handed in, and for an image if one is being written: some
/// milliseconds, or as long as the disk takes for everything there is.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    clock: Arc<Clock>,
    inbox: Arc<Inbox>,
    places: Arc<Semaphore>,
    writer: Option<JoinHandle<()>>,
}

impl EmbeddedStore {
    /// Opens the store in a directory, or makes one, with the directory, where none is. It answers nothing before it
    /// knows everything.
    ///
    /// # Errors
    ///
    /// If another store has the directory; if its files are damaged, are of another release, or cannot be read; if
    /// there is no room for a new log, which is a mebibyte.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the store is opened and closed again.
    ///
    /// # Panics
    ///
    /// If the opening thread does, which would be a bug.
    pub async fn open(directory: &Path, options: EmbeddedOptions) -> Result<Self, StorageError> {
        let directory = directory.to_owned();
        let (inbox, messages) = Inbox::new();
        let (opened, answer) = oneshot::channel();
        let to_self = Arc::clone(&inbox);
        let run = move || {
            let started = Instant::now();
            let writer = Directory::take(&directory).and_then(|disk| {
                let disk: Arc<dyn Disk> = Arc::new(disk);
                Writer::open(&disk, Layout::default(), &options, first_revision())
            });
            let writer = match writer {
                Ok(writer) => writer,
                Err(error) => return drop(opened.send(Err(error))),
            };
            let clock = Arc::new(Clock::start());
            let shared = Arc::clone(&writer.shared);
            let (revision, took) = (shared.feed.revision(), started.elapsed());
            info!(directory = %directory.display(), %revision, ?took, "store opened");
            // If nobody waits for it any more, it is closed again.
            if opened.send(Ok((shared, Arc::clone(&clock)))).is_ok() {
                let gathering = Gathering::default();
                Loop { writer, clock, messages, gathering, to_self, imager: None }.run();
            }
        };
        let thread = thread::Builder::new().name("registry-writer".into()).spawn(run);
        let thread = thread.map_err(|source| StorageError::Thread { source })?;
        let (shared, clock) = answer.await.expect("opening does not panic")?;
        let places = Arc::new(Semaphore::new(JOBS_MAX));
        Ok(Self { shared, clock, inbox, places, writer: Some(thread) })
    }

    /// What the store can do, now and from now on.
    pub fn condition(&self) -> watch::Receiver<Condition> {
        self.shared.condition.subscribe()
    }

    /// Renews without waiting for the disk, if the session is there.
    fn renew(&self, command: &Command) -> Option<Applied> {
        let Command::RenewSession { session } = command else { return None };
        let mut state = self.shared.state();
        let now = self.clock.now(state.next_deadline());
        state.apply(now, command.clone()).ok()?;
        let ttl = state.ttl(*session);
        drop(state);
        Some(Applied { at: self.shared.feed.revision(), ttl })
    }

    async fn hand_in(&self, command: Command) -> Result<Applied, Error> {
        let place = Arc::clone(&self.places).acquire_owned().await.expect("it is never closed");
        let (answer, answered) = oneshot::channel();
        let job = Job { command, answer, _place: Some(place) };
        let gone = "an earlier panic ended the writer: the store refuses further work";
        self.inbox.hand_in(job);
        answered.await.expect(gone)
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.inbox.stop();
        if let Some(writer) = self.writer.take() {
            // Fails only if the writer has panicked, which was told then.
            let _ = writer.join();
        }
        self.shared.feed.close();
    }
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedStore").finish_non_exhaustive()
    }
}

impl Store for EmbeddedStore {
    fn apply(&self, command: Command) -> BoxFuture<'_, Result<Applied, Error>> {
        Box::pin(async move {
            match self.renew(&command) {
                Some(renewed) => Ok(renewed),
                None => self.hand_in(command).await,
            }
        })
    }

    fn get<'a>(&'a self, id: &'a InstanceId, _: ReadMode) -> BoxFuture<'a, Result<Found, Error>> {
        Box::pin(async move { Ok(self.shared.feed.get(id)) })
    }

    fn list<'a>(&'a self, query: &'a Query, _: ReadMode) -> BoxFuture<'a, Result<Snapshot, Error>> {
        Box::pin(async move { Ok(self.shared.feed.list(query)) })
    }

    fn services(&self, _: ReadMode) -> BoxFuture<'_, Result<Services, Error>> {
        Box::pin(async move { Ok(self.shared.feed.services()) })
    }

    fn watch(&self, query: Query, from: Option<Revision>) -> Result<Watch, Error> {
        self.shared.feed.watch(query, from)
    }

    fn usage(&self) -> Usage {
        self.shared.feed.usage(&self.shared.state())
    }
}

/// The thread that writes.
struct Loop {
    writer: Writer,
    clock: Arc<Clock>,
    messages: Messages,
    gathering: Gathering,
    /// For the thread that writes an image.
    to_self: Arc<Inbox>,
    /// The thread that writes an image.
    imager: Option<JoinHandle<()>>,
}

impl Loop {
    fn run(mut self) {
        let mut waiting = VecDeque::new();
        let mut is_stopping = false;
        while !(is_stopping && waiting.is_empty()) {
            // Also before the first command: after many restarts an image is due at once.
            if let Some(job) = self.writer.image_due() {
                self.write_image(job);
            }
            if waiting.is_empty() {
                self.messages.wait(1, self.pause());
            }
            is_stopping |= self.take(&mut waiting);
            is_stopping |= self.gather(&mut waiting);
            let (now, jobs) = (self.clock.now(self.writer.next_deadline()), waiting.len());
            let began = Instant::now();
            self.writer.turn(now, &mut waiting);
            self.gathering.wrote(jobs - waiting.len(), began.elapsed());
        }
        if let Some(imager) = self.imager {
            let _ = imager.join();
        }
    }

    /// Waits a moment for others to come, if that is worth it; answers whether the writer was told to stop.
    fn gather(&mut self, waiting: &mut VecDeque<Job>) -> bool {
        let before = waiting.len();
        let Some(wait) = self.gathering.wait(before) else { return false };
        self.messages.wait(wait.callers - before, Some(wait.limit));
        let is_stopping = self.take(waiting);
        self.gathering.waited(before, waiting.len());
        is_stopping
    }

    /// How long to sleep if nothing is told: until the next session ends, or the clock is to be told the time.
    fn pause(&self) -> Option<Duration> {
        let until = self.writer.next_deadline().map(|deadline| self.clock.until(deadline));
        if !self.writer.is_full() {
            return until;
        }
        // Without any room the sessions that are overdue stay so.
        Some(until.unwrap_or(ROOM_INTERVAL).clamp(ROOM_INTERVAL / 20, ROOM_INTERVAL))
    }

    /// Takes in what there is; answers whether the writer was told to stop.
    fn take(&mut self, waiting: &mut VecDeque<Job>) -> bool {
        let told = self.messages.take(waiting);
        if let Some(written) = told.image {
            self.writer.end_image(written);
            if let Some(imager) = self.imager.take() {
                // It has told all it had to tell.
                let _ = imager.join();
            }
        }
        told.is_stopping
    }

    fn write_image(&mut self, job: ImageJob) {
        let to_writer = Arc::clone(&self.to_self);
        let run = move || to_writer.end_image(job.run());
        match thread::Builder::new().name("registry-image".into()).spawn(run) {
            Ok(thread) => self.imager = Some(thread),
            Err(source) => self.writer.end_image(Err(StorageError::Thread { source })),
        }
    }
}
