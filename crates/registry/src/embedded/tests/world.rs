//! Lives of a store on a pretended disk, one after another, and what each may find.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use netloft_types::{Instance, InstanceId, Query, Revision, SessionId, Update};
use tokio::sync::oneshot;

use super::pretended::{Fault, Pretended, Sectors, Survival};
use crate::embedded::disk::Disk;
use crate::embedded::image::ImageJob;
use crate::embedded::ledger::Layout;
use crate::embedded::writer::{Job, Writer};
use crate::embedded::{Condition, EmbeddedOptions, StorageError};
use crate::state::Contents;
use crate::{Applied, Command, Error};

/// The revision of the first store in a world.
pub(super) const START: Revision = Revision::new(1_000);

/// Sizes that make a dozen commands fill logs and need images.
pub(super) const LAYOUT: Layout = Layout {
    entries_len: 384,
    frame_len_max: 1_024,
    small_entries_len: 64,
    small_frame_len_max: 512,
    chunk_len: 2_048,
    reserve_len: 1_024,
    logs_len_min: 1_536,
    logs_max: 3,
};

/// Commands that come together, at a time.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) at: Duration,
    pub(super) commands: Vec<Command>,
}

/// What happened in a life.
#[derive(Debug)]
pub(super) struct Life {
    /// What the store held after opening, and after each step; empty if it did not open.
    pub(super) held: Vec<Contents>,
    /// The last of them that was promised.
    pub(super) promised: usize,
    /// What readers saw on the way.
    pub(super) published: Vec<(Revision, Vec<Arc<Instance>>)>,
    pub(super) answers: Vec<Result<Applied, Error>>,
    pub(super) images: usize,
    /// Why it did not open.
    pub(super) error: Option<StorageError>,
}

pub(super) fn open(disk: &Pretended) -> Result<Writer, StorageError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Writer::open(&disk, LAYOUT, &EmbeddedOptions::default(), START)
}

pub(super) fn contents(writer: &Writer) -> Contents {
    writer.shared.state().contents()
}

/// Opens the store and goes through the steps, as long as the process lives. An image is written so many steps after
/// it is due.
pub(super) fn live(disk: &Pretended, steps: &[Step], image_delay: usize) -> Life {
    let mut life =
        Life { held: vec![], promised: 0, published: vec![], answers: vec![], images: 0, error: None };
    let mut writer = match open(disk) {
        Ok(writer) => writer,
        Err(error) => {
            life.error = Some(error);
            return life;
        }
    };
    life.note(&writer);
    let mut image: Option<(usize, ImageJob)> = None;
    for (number, step) in steps.iter().enumerate() {
        if disk.is_dead() {
            break;
        }
        let answers = turn(&mut writer, step);
        life.note(&writer);
        let has_failed = matches!(*writer.shared.condition.borrow(), Condition::Failed(_));
        assert!(answers.iter().all(|answer| answer.as_ref().is_err_and(Error::is_unavailable) == has_failed));
        if !has_failed {
            life.promised = life.held.len() - 1;
        }
        life.answers.extend(answers);
        image = image.or_else(|| writer.image_due().map(|job| (number + image_delay, job)));
        if let Some((_, job)) = image.take_if(|(due, _)| *due <= number) {
            let written = job.run();
            life.images += usize::from(written.is_ok());
            writer.end_image(written);
        }
    }
    life
}

/// Has a writer take one step.
pub(super) fn turn(writer: &mut Writer, step: &Step) -> Vec<Result<Applied, Error>> {
    let mut waiting = VecDeque::new();
    let mut answers = Vec::new();
    for command in step.commands.clone() {
        let (answer, answered) = oneshot::channel();
        waiting.push_back(Job { command, answer, _place: None });
        answers.push(answered);
    }
    writer.turn(step.at, &mut waiting);
    assert!(waiting.is_empty(), "a step is meant to be one frame");
    answers.into_iter().map(|mut answer| answer.try_recv().expect("every command is answered")).collect()
}

impl Life {
    fn note(&mut self, writer: &Writer) {
        self.held.push(contents(writer));
        let snapshot = writer.shared.feed.list(&Query::everything());
        if self.published.last().is_none_or(|(at, _)| *at < snapshot.at) {
            self.published.push((snapshot.at, snapshot.instances.to_vec()));
        }
    }

    /// What the next process may find, if `before` is what this one might have found.
    pub(super) fn legacy(&self, before: &[Contents]) -> Vec<Contents> {
        match self.held.get(self.promised..) {
            None | Some([]) => before.to_vec(),
            Some(possible) => possible.iter().map(inherited).collect(),
        }
    }
}

/// What is left when the process has gone: not the sessions without a time to live.
pub(super) fn inherited(contents: &Contents) -> Contents {
    let ends = |session: &SessionId| contents.sessions.iter().any(|(id, ttl)| id == session && ttl.is_none());
    let mut kept = contents.clone();
    kept.sessions.retain(|(session, _)| !ends(session));
    kept.instances.retain(|(session, _)| !ends(session));
    let mut ended: Vec<_> = contents.instances.iter().map(|(session, _)| session).collect();
    ended.retain(|session| ends(session));
    ended.sort_unstable();
    ended.dedup();
    kept.revision = ended.iter().fold(kept.revision, |revision, _| revision.next());
    kept
}

/// Opens the store on a disk, and checks that it holds one of what it may, and tells readers so, those included
/// who go on from where another process left them.
pub(super) fn check(disk: &Pretended, legacy: &[Contents], published: &[(Revision, Vec<Arc<Instance>>)]) {
    let writer = open(disk).unwrap_or_else(|error| panic!("it does not open: {error}"));
    let found = contents(&writer);
    assert!(legacy.contains(&found), "found {found:#?}\ninstead of one of {legacy:#?}");

    let instances: Vec<_> = found.instances.iter().map(|(_, instance)| Arc::clone(instance)).collect();
    let feed = &writer.shared.feed;
    let listed = feed.list(&Query::everything());
    assert_eq!((listed.at, listed.instances.to_vec()), (found.revision, instances.clone()));
    for (at, known) in published {
        assert!(*at <= found.revision, "revision {at} was seen, and is gone");
        let mut watch = feed.watch(Query::everything(), Some(*at)).unwrap();
        let mut known: Vec<(InstanceId, Arc<Instance>)> =
            known.iter().map(|one| (one.id.clone(), Arc::clone(one))).collect();
        while let Poll::Ready(batch) = pin!(watch.next()).poll(&mut Context::from_waker(Waker::noop())) {
            batch.unwrap().into_iter().for_each(|update| take_in(&mut known, update));
        }
        known.sort_by(|one, other| one.0.cmp(&other.0));
        let known: Vec<_> = known.into_iter().map(|(_, instance)| instance).collect();
        assert_eq!(known, instances, "a watch resumed from revision {at} went wrong");
    }
}

fn take_in(known: &mut Vec<(InstanceId, Arc<Instance>)>, update: Update) {
    match update {
        Update::Reset { all, .. } => {
            *known = all.iter().map(|one| (one.id.clone(), Arc::clone(one))).collect();
        }
        Update::Put { instance, .. } => {
            known.retain(|(id, _)| *id != instance.id);
            known.push((instance.id.clone(), instance));
        }
        Update::Delete { id, .. } => known.retain(|(other, _)| *other != id),
        Update::Progress { .. } => {}
    }
}

/// Everything that may survive on a disk.
pub(super) fn survivals(disk: &Pretended) -> Vec<Survival> {
    let names = disk.unsynced_names();
    // Every choice of a few; else those up to each.
    let choices: Vec<u32> = match names {
        0..4 => (0..1 << names).collect(),
        _ => (0..=names).map(|count| (1 << count) - 1).collect(),
    };
    let sectors =
        [Sectors::None, Sectors::All, Sectors::Even, Sectors::Odd, Sectors::Random(1), Sectors::Random(2)];
    let cuts = choices.iter().flat_map(|names| sectors.map(|sectors| (*names, sectors)));
    let cuts = cuts.map(|(names, sectors)| Survival::PowerCut { names, sectors });
    cuts.chain([Survival::Killed]).collect()
}

/// The most different of what may survive.
pub(super) const FEW_SURVIVALS: [Survival; 7] = [
    Survival::Killed,
    Survival::PowerCut { names: 0, sectors: Sectors::None },
    Survival::PowerCut { names: u32::MAX, sectors: Sectors::All },
    Survival::PowerCut { names: u32::MAX, sectors: Sectors::Random(3) },
    Survival::PowerCut { names: u32::MAX, sectors: Sectors::None },
    // Of a new log its first frame, and not its header.
    Survival::PowerCut { names: u32::MAX, sectors: Sectors::Odd },
    // Of an image that was just finished neither the old nor the new name is there, of all that came later it is.
    Survival::PowerCut { names: !0b11, sectors: Sectors::All },
];

/// Everything that can go wrong at a call.
pub(super) const FAULTS: [Fault; 4] = [
    Fault::Die,
    Fault::DieHalfway,
    Fault::Fail(std::io::ErrorKind::Other),
    Fault::Fail(std::io::ErrorKind::StorageFull),
];

pub(super) fn session(number: u128) -> SessionId {
    SessionId::from_number(number)
}

pub(super) fn open_session(number: u128, ttl_s: Option<u64>) -> Command {
    Command::OpenSession { session: session(number), ttl: ttl_s.map(Duration::from_secs) }
}

pub(super) fn register(number: u128, id: &str, service: &str) -> Command {
    let address = "10.0.0.2".parse().unwrap();
    let port = "80".parse().unwrap();
    let instance = Instance::new(id.parse().unwrap(), service.parse().unwrap(), address, port);
    Command::Register { session: session(number), instance }
}
