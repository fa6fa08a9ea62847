//! The handle of a store in a directory, and the thread behind it.

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use netloft_types::{InstanceId, Query, ReadMode, Revision};
use tokio::sync::{Semaphore, oneshot, watch};
use tracing::info;

use super::clock::Clock;
use super::disk::{Directory, Disk};
use super::gathering::Gathering;
use super::image::ImageJob;
use super::ledger::Layout;
use super::writer::{Job, Shared, Writer};
use super::{DiskFault, StorageError};
use crate::memory::first_revision;
use crate::{Applied, BoxFuture, Command, Error, Found, Services, Snapshot, Store, StoreOptions, Watch};

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
    inbox: Sender<Message>,
    places: Arc<Semaphore>,
    writer: Option<JoinHandle<()>>,
}

/// What the writer is told.
enum Message {
    Job(Box<Job>),
    /// How the writing of an image ended.
    Image(Result<u64, StorageError>),
    Stop,
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
        let (inbox, messages) = mpsc::channel();
        let (opened, answer) = oneshot::channel();
        let to_self = inbox.clone();
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
            // A writer that nobody waits for is told to stop by the end of its inbox.
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
        self.inbox.send(Message::Job(Box::new(job))).expect(gone);
        answered.await.expect(gone)
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        // Either fails only if the writer has panicked, which was told then.
        let _ = self.inbox.send(Message::Stop);
        if let Some(writer) = self.writer.take() {
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
}

/// The thread that writes.
struct Loop {
    writer: Writer,
    clock: Arc<Clock>,
    messages: Receiver<Message>,
    gathering: Gathering,
    /// For the thread that writes an image.
    to_self: Sender<Message>,
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
            if let Some(message) = self.wait(waiting.is_empty()) {
                is_stopping |= self.take(message, &mut waiting);
            }
            while waiting.len() < JOBS_MAX {
                let Ok(message) = self.messages.try_recv() else { break };
                is_stopping |= self.take(message, &mut waiting);
            }
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
        let (began, mut is_stopping) = (Instant::now(), false);
        while waiting.len() < wait.callers && !is_stopping {
            let left = wait.limit.saturating_sub(began.elapsed());
            let Ok(message) = self.messages.recv_timeout(left) else { break };
            is_stopping = self.take(message, waiting);
        }
        self.gathering.waited(before, waiting.len());
        is_stopping
    }

    /// Waits for a message, until the next session ends or the clock is to be told the time, if there is nothing else
    /// to do.
    fn wait(&self, is_idle: bool) -> Option<Message> {
        if !is_idle {
            return self.messages.try_recv().ok();
        }
        let until = self.writer.next_deadline().map(|deadline| self.clock.until(deadline));
        let pause = if self.writer.is_full() {
            // Without any room the sessions that are overdue stay so.
            Some(until.unwrap_or(ROOM_INTERVAL).clamp(ROOM_INTERVAL / 20, ROOM_INTERVAL))
        } else {
            until
        };
        match pause {
            None => self.messages.recv().ok(),
            Some(pause) => match self.messages.recv_timeout(pause) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => unreachable!("it has a sender itself"),
            },
        }
    }

    /// Takes a message in; answers whether it was to stop.
    fn take(&mut self, message: Message, waiting: &mut VecDeque<Job>) -> bool {
        match message {
            Message::Job(job) => waiting.push_back(*job),
            Message::Image(written) => {
                self.writer.end_image(written);
                if let Some(imager) = self.imager.take() {
                    // It has told all it had to tell.
                    let _ = imager.join();
                }
            }
            Message::Stop => return true,
        }
        false
    }

    fn write_image(&mut self, job: ImageJob) {
        let to_writer = self.to_self.clone();
        // Fails only if the writer has ended, which then does not ask.
        let run = move || drop(to_writer.send(Message::Image(job.run())));
        match thread::Builder::new().name("registry-image".into()).spawn(run) {
            Ok(thread) => self.imager = Some(thread),
            Err(source) => self.writer.end_image(Err(StorageError::Thread { source })),
        }
    }
}
