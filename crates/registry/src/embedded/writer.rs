//! The one who writes: carries out the commands that wait, has what they did on the disk, and only then tells.
//!
//! All commands that wait go into one frame, so that a hundred callers wait for the disk once and not a hundred
//! times. None is answered before everything before it is on the disk, not even one that is refused: the refusal
//! may rest on a command that a cut of power would undo.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use netloft_types::{Health, Instance, Lifecycle, Query, Revision};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tracing::{error, info, warn};

use super::disk::Disk;
use super::entry::Entry;
use super::frame::NewFrame;
use super::image::{ImageJob, write_first_image};
use super::ledger::{Layout, Ledger, Room};
use super::replay::{ReplayOptions, has_store, replay};
use super::{Condition, DiskFault, EmbeddedOptions, StorageError};
use crate::{Applied, Change, Command, Delta, Effect, Error, Feed, Limits, State};

/// Sessions that end in one frame. Others are served in between.
const EXPIRIES_MAX: usize = 64;

/// What readers and renewals use beside the writer.
pub(crate) struct Shared {
    /// Ahead of the feed by what is on its way to the disk.
    pub(crate) state: Mutex<State>,
    /// What is on the disk.
    pub(crate) feed: Feed,
    pub(crate) condition: watch::Sender<Condition>,
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("an earlier panic left the state half changed: it refuses further work")
    }
}

/// A command, and where its answer goes.
pub(crate) struct Job {
    pub(crate) command: Command,
    pub(crate) answer: oneshot::Sender<Result<Applied, Error>>,
    /// Given back when the job is done.
    pub(crate) _place: Option<OwnedSemaphorePermit>,
}

/// Owns the files, and everything that changes what they say.
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    ledger: Ledger,
    /// What made the files useless.
    fault: Option<DiskFault>,
}

/// What is carried out and not yet on the disk.
struct Batch {
    frame: NewFrame,
    changes: Vec<Change>,
    answers: Vec<(Job, Result<Applied, Error>)>,
    expired: usize,
}

impl Writer {
    /// Reads what is there, or makes a store with the revision `start` where none is, and ends the sessions whose
    /// owners ended with the process before. When it returns, everything it serves is on the disk.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        layout: Layout,
        options: &EmbeddedOptions,
        start: Revision,
    ) -> Result<Self, StorageError> {
        let replay_options = ReplayOptions {
            limits: options.store.limits.clone(),
            grace: options.grace,
            history_len_max: options.store.feed.history_len_max,
        };
        if !has_store(&**disk)? {
            write_first_image(&**disk, &State::new(start, Limits::default()).contents())?;
        }
        let mut replayed = replay(&**disk, &replay_options)?;
        let ledger = Ledger::begin(Arc::clone(disk), layout, &mut replayed)?;
        let (state, lost) = (replayed.state, replayed.history.lost);
        let instances: Vec<_> = state.contents().instances.into_iter().map(|(_, one)| one).collect();
        let history = replayed.history.into_changes();
        let feed = Feed::resume(state.revision(), &instances, history, lost, &options.store.feed);
        let shared =
            Shared { state: Mutex::new(state), feed, condition: watch::Sender::new(Condition::Writing) };
        let mut writer = Self { shared: Arc::new(shared), ledger, fault: None };
        writer.end_sessions_without_ttl(disk)?;
        Ok(writer)
    }

    fn end_sessions_without_ttl(&mut self, disk: &Arc<dyn Disk>) -> Result<(), StorageError> {
        let mut orphaned = VecDeque::from(self.shared.state().sessions_without_ttl());
        let failed = |source| StorageError::Io { operation: "write to", path: disk.path(""), source };
        let faulty = |fault: DiskFault| failed(io::Error::other(fault));
        while !orphaned.is_empty() {
            let room = self.ledger.make_room().map_err(faulty)?;
            if room == Room::None {
                return Err(failed(io::ErrorKind::StorageFull.into()));
            }
            let mut batch = Batch::new();
            let mut state = self.shared.state();
            let before = state.revision();
            while batch.has_space(&self.ledger, room) {
                let Some(session) = orphaned.pop_front() else { break };
                let closed = state.carry_out(Duration::ZERO, Effect::Close { session });
                let closed = closed.expect("it was listed under the same lock");
                batch.note(&Entry::Close { session }, closed);
            }
            drop(state);
            self.ledger.append(batch.frame, before).map_err(faulty)?;
            batch.changes.into_iter().for_each(|change| self.shared.feed.publish(change));
        }
        Ok(())
    }

    /// Carries out what is due at the time `now`: ends sessions, and takes commands as far as one frame goes. What
    /// it takes, it answers.
    pub(crate) fn turn(&mut self, now: Duration, waiting: &mut VecDeque<Job>) {
        if self.fault.is_some() {
            return self.refuse_all(waiting);
        }
        let room = match self.ledger.make_room() {
            Ok(room) => room,
            Err(fault) => {
                self.fail(fault);
                return self.refuse_all(waiting);
            }
        };
        self.tell_condition(if room == Room::Ample { Condition::Writing } else { Condition::Full });
        let mut batch = Batch::new();
        let before = {
            let shared = Arc::clone(&self.shared);
            let mut state = shared.state();
            let before = state.revision();
            self.expire(now, &mut state, room, &mut batch);
            while batch.has_space(&self.ledger, room) || room == Room::None {
                let Some(job) = waiting.pop_front() else { break };
                let outcome = carry_out(now, &job.command, &mut state, room, &mut batch);
                batch.answers.push((job, outcome));
            }
            before
        };
        self.conclude(batch, before);
    }

    /// The time of the next turn even if no command comes.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        // Without a disk no end of a session can be written down, and a catalogue that is known to be old is better
        // than an empty one.
        if self.fault.is_some() { None } else { self.shared.state().next_deadline() }
    }

    /// Whether it looks for room from time to time.
    pub(crate) fn is_full(&self) -> bool {
        *self.shared.condition.borrow() == Condition::Full
    }

    /// The job of writing an image, if one is due.
    pub(crate) fn image_due(&mut self) -> Option<ImageJob> {
        if self.fault.is_some() || !self.ledger.is_image_due() {
            return None;
        }
        let contents = self.shared.state().contents();
        match self.ledger.begin_image(contents) {
            Ok(job) => Some(job),
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                warn!(error, "no new log; going on with the old one");
                None
            }
        }
    }

    /// Takes note of how the image ended.
    pub(crate) fn end_image(&mut self, written: Result<u64, StorageError>) {
        self.ledger.end_image(written);
    }

    fn expire(&self, now: Duration, state: &mut State, room: Room, batch: &mut Batch) {
        while batch.expired < EXPIRIES_MAX && batch.has_space(&self.ledger, room) {
            let Some(expired) = state.expire_next(now) else { return };
            batch.note(&Entry::Close { session: expired.session }, expired.change);
            batch.expired += 1;
        }
    }

    /// Has a batch on the disk, and then tells everybody.
    fn conclude(&mut self, batch: Batch, before: Revision) {
        if !batch.frame.is_empty()
            && let Err(fault) = self.ledger.append(batch.frame, before)
        {
            self.fail(fault);
            let mut waiting = batch.answers.into_iter().map(|(job, _)| job).collect();
            return self.refuse_all(&mut waiting);
        }
        let instances: usize = batch.changes.iter().map(|change| change.deltas.len()).sum();
        batch.changes.into_iter().for_each(|change| self.shared.feed.publish(change));
        if batch.expired > 0 {
            info!(sessions = batch.expired, changes = instances, "sessions expired");
        }
        for (job, outcome) in batch.answers {
            // Whoever does not wait any more has not taken anything back.
            let _ = job.answer.send(outcome);
        }
    }

    fn refuse_all(&self, waiting: &mut VecDeque<Job>) {
        let Some(fault) = &self.fault else { return };
        for job in waiting.drain(..) {
            let _ = job.answer.send(Err(Error::DiskFailed { fault: fault.clone() }));
        }
    }

    fn fail(&mut self, fault: DiskFault) {
        let cause: &dyn std::error::Error = &fault;
        error!(cause, "the disk failed: serving reads, refusing changes until the store is opened again");
        self.shared.condition.send_replace(Condition::Failed(fault.clone()));
        self.fault = Some(fault);
    }

    fn tell_condition(&self, now: Condition) {
        if *self.shared.condition.borrow() == now {
            return;
        }
        if now == Condition::Full {
            warn!("the disk is full: refusing registrations until there is room");
        } else {
            info!("there is room on the disk again: taking registrations");
        }
        self.shared.condition.send_replace(now);
    }
}

impl Batch {
    fn new() -> Self {
        Self { frame: NewFrame::new(), changes: Vec::new(), answers: Vec::new(), expired: 0 }
    }

    /// Whether another entry fits.
    fn has_space(&self, ledger: &Ledger, room: Room) -> bool {
        let len_max = match room {
            Room::Ample => ledger.layout().entries_len,
            Room::Reserve => ledger.layout().small_entries_len,
            Room::None => 0,
        };
        self.frame.entries_len() < len_max
    }

    fn note(&mut self, entry: &Entry, change: Option<Change>) {
        self.frame.push(entry);
        self.changes.extend(change);
    }
}

/// Carries out a command as far as there is room for its effect, and notes that.
fn carry_out(
    now: Duration,
    command: &Command,
    state: &mut State,
    room: Room,
    batch: &mut Batch,
) -> Result<Applied, Error> {
    if !is_affordable(command, state, room) {
        return Err(Error::DiskFull);
    }
    let session = command.session();
    let opens = matches!(command, Command::OpenSession { session, .. } if !state.is_open(*session));
    let change = state.apply(now, command.clone())?;
    match command {
        Command::OpenSession { session, ttl } if opens => {
            batch.frame.push(&Entry::Open { session: *session, ttl: *ttl });
        }
        Command::CloseSession { session } => batch.frame.push(&Entry::Close { session: *session }),
        _ => {
            for delta in change.iter().flat_map(|change| &change.deltas) {
                batch.frame.push(&entry_of(delta, state));
            }
        }
    }
    batch.changes.extend(change);
    Ok(Applied { at: state.revision(), ttl: session.and_then(|session| state.ttl(session)) })
}

/// Whether there is room for a command: for what makes room as long as there is any, and for what takes an instance out
/// of lookups, since it must not be found just because a disk is full.
fn is_affordable(command: &Command, state: &State, room: Room) -> bool {
    match command {
        Command::RenewSession { .. } => true,
        Command::OpenSession { session, .. } => room == Room::Ample || state.is_open(*session),
        Command::CloseSession { .. } | Command::Deregister { .. } => room != Room::None,
        Command::Amend { becomes, .. } => {
            let is_found = |instance: &Arc<Instance>| Query::default().matches(instance);
            room == Room::Ample || room == Room::Reserve && !becomes.as_ref().is_some_and(is_found)
        }
        Command::Update { patch, .. } => {
            let takes_out =
                patch.lifecycle == Some(Lifecycle::Draining) || patch.health == Some(Health::Critical);
            room == Room::Ample || room == Room::Reserve && takes_out
        }
        Command::Register { .. } => room == Room::Ample,
    }
}

/// What became of an instance, as `state` has it by now.
fn entry_of(delta: &Delta, state: &State) -> Entry {
    match (&delta.after, &delta.before) {
        (Some(after), _) => {
            let session = state.holder(&after.id).expect("it was registered under the same lock");
            Entry::Put { session, instance: Arc::clone(after) }
        }
        (None, Some(gone)) => Entry::Delete { id: gone.id.clone() },
        (None, None) => unreachable!("one side of a delta is there"),
    }
}
