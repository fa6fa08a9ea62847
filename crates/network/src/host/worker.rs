//! The thread that does the kernel work, the queue to it, and the thread that watches for it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tracing::warn;

use crate::attached::Attached;
use crate::error::{Error, chain};
use crate::kernel::Watch;
use crate::state::{Change, Outcome, State};

/// How often the thread that watches looks whether the host is still there.
const WATCH_PACE: Duration = Duration::from_millis(500);

/// What the thread is asked to do.
pub(super) enum Job {
    Change(Change, Reply, OwnedSemaphorePermit),
    Other(Box<dyn FnOnce(&mut State) + Send>),
}

/// Where the outcome of a change goes. An attachment carries the way back to the queue, for when nobody takes it.
pub(super) enum Reply {
    Attach(oneshot::Sender<Result<Offer, Error>>, Sender<Job>),
    Detach(oneshot::Sender<Result<(), Error>>),
}

/// An endpoint on its way to whoever asked for it. Dropped on the way, it has the endpoint detached.
pub(super) struct Offer {
    attached: Option<Attached>,
    jobs: Sender<Job>,
}

impl Offer {
    pub(super) fn take(mut self) -> Attached {
        self.attached.take().expect("an offer is taken once")
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        if let Some(attached) = self.attached.take() {
            let discard = move |state: &mut State| state.discard(attached.endpoint.id);
            // If this fails the thread is gone, and took everything away before it went.
            drop(self.jobs.send(Job::Other(Box::new(discard))));
        }
    }
}

/// The body of the thread: jobs in order, making ahead and tidying up in between, until the host is closed or nobody
/// has a handle.
pub(super) fn work(mut state: State, jobs: &Receiver<Job>) {
    let mut next = None;
    while !state.is_closed() {
        let job = next.take().map_or_else(|| wait(&state, jobs), Ok);
        match job {
            Ok(Job::Other(job)) => job(&mut state),
            Ok(change) => next = work_off(&mut state, change, jobs),
            Err(RecvTimeoutError::Timeout) => state.use_quiet(),
            Err(RecvTimeoutError::Disconnected) => {
                if let Err(error) = state.leave() {
                    warn!(error = chain(&error), "the host was dropped and could not be closed");
                }
                return;
            }
        }
    }
}

fn wait(state: &State, jobs: &Receiver<Job>) -> Result<Job, RecvTimeoutError> {
    match state.patience() {
        Some(quiet) => jobs.recv_timeout(quiet),
        None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
    }
}

/// Carries a change out together with those that wait behind it; gives back the job that is none, if it came to one.
fn work_off(state: &mut State, first: Job, jobs: &Receiver<Job>) -> Option<Job> {
    let (mut replies, mut next) = (Vec::new(), Some(first));
    let waiting = std::iter::from_fn(|| {
        loop {
            match next.take().or_else(|| jobs.try_recv().ok())? {
                // Nobody would hear of it.
                Job::Change(_, Reply::Attach(reply, _), _) if reply.is_closed() => {}
                Job::Change(change, reply, room) => {
                    replies.push((reply, room));
                    return Some(change);
                }
                other @ Job::Other(_) => {
                    next = Some(other);
                    return None;
                }
            }
        }
    });
    let outcomes = state.carry_out_waiting(waiting);
    for (outcome, (reply, room)) in outcomes.into_iter().zip(replies) {
        reply.send(outcome);
        drop(room);
    }
    next
}

impl Reply {
    /// Dropping an answer that nobody hears is all that is to be done about it; see [`Offer`].
    fn send(self, outcome: Outcome) {
        match (self, outcome) {
            (Self::Attach(reply, jobs), Outcome::Attached(outcome)) => {
                let offer = outcome.map(|attached| Offer { attached: Some(attached), jobs });
                drop(reply.send(offer));
            }
            (Self::Detach(reply), Outcome::Detached(outcome)) => drop(reply.send(outcome)),
            _ => unreachable!("outcomes are in the order of their changes"),
        }
    }
}

/// The body of the thread that watches: tells the other one what happens, until the host is gone.
pub(super) fn observe(mut watch: Box<dyn Watch>, jobs: &Sender<Job>, is_alive: impl Fn() -> bool) {
    while is_alive() {
        if let Some(incident) = watch.next(WATCH_PACE) {
            let handle = move |state: &mut State| state.handle(&incident);
            if jobs.send(Job::Other(Box::new(handle))).is_err() {
                return;
            }
        }
    }
}

pub(super) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    thread::Builder::new().name(name.into()).spawn(body).map_err(Error::StartThread)?;
    Ok(())
}
