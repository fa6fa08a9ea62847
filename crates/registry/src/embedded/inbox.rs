//! Where callers leave what the writer is to do.
//!
//! A caller wakes the writer only if that waits for no more than what is there now. So a writer that gathers callers, or
//! waits for the disk, is not woken for each of them.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::StorageError;
use super::writer::Job;

/// The callers' side.
#[derive(Default)]
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    enough: Condvar,
}

/// The writer's side. When it is dropped, whoever waits for an answer learns that there will be none.
pub(crate) struct Messages(Arc<Inbox>);

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// How the writing of an image ended.
    image: Option<Result<u64, StorageError>>,
    is_stopping: bool,
    /// How many jobs the writer sleeps for, if it does.
    sleeps_for: Option<usize>,
    has_no_reader: bool,
}

/// What the writer was told besides jobs.
pub(crate) struct Told {
    pub(crate) image: Option<Result<u64, StorageError>>,
    pub(crate) is_stopping: bool,
}

impl Inbox {
    pub(crate) fn new() -> (Arc<Self>, Messages) {
        let inbox = Arc::new(Self::default());
        (Arc::clone(&inbox), Messages(inbox))
    }

    /// Leaves a job. It is dropped if there is no writer any more.
    pub(crate) fn hand_in(&self, job: Job) {
        self.change(|queue| {
            if !queue.has_no_reader {
                queue.jobs.push_back(job);
            }
        });
    }

    pub(crate) fn end_image(&self, written: Result<u64, StorageError>) {
        self.change(|queue| queue.image = Some(written));
    }

    pub(crate) fn stop(&self) {
        self.change(|queue| queue.is_stopping = true);
    }

    fn change(&self, change: impl FnOnce(&mut Queue)) {
        let mut queue = self.queue();
        change(&mut queue);
        let is_enough = queue.sleeps_for.is_some_and(|wanted| queue.has(wanted));
        if is_enough {
            queue.sleeps_for = None;
        }
        drop(queue);
        if is_enough {
            self.enough.notify_one();
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Nothing that is done under it can fail halfway.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Whether so many jobs are there, or something that does not wait for jobs.
    fn has(&self, jobs: usize) -> bool {
        self.jobs.len() >= jobs || self.image.is_some() || self.is_stopping
    }
}

impl Messages {
    /// Sleeps until so many jobs are there, or something else is told, or for as long as `limit`.
    pub(crate) fn wait(&self, jobs: usize, limit: Option<Duration>) {
        let until = limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut queue = self.0.queue();
        while !queue.has(jobs) {
            queue.sleeps_for = Some(jobs);
            queue = match until {
                None => self.0.enough.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    self.0.enough.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        queue.sleeps_for = None;
    }

    /// Takes everything that is there.
    pub(crate) fn take(&self, waiting: &mut VecDeque<Job>) -> Told {
        let mut queue = self.0.queue();
        waiting.append(&mut queue.jobs);
        Told { image: queue.image.take(), is_stopping: queue.is_stopping }
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        queue.has_no_reader = true;
        let unread = std::mem::take(&mut queue.jobs);
        drop(queue);
        drop(unread);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use netloft_types::SessionId;
    use tokio::sync::oneshot;

    use super::*;
    use crate::{Applied, Command, Error};

    const LONG: Duration = Duration::from_mins(1);

    fn job() -> (Job, oneshot::Receiver<Result<Applied, Error>>) {
        let (answer, answered) = oneshot::channel();
        let command = Command::CloseSession { session: SessionId::from_number(1) };
        (Job { command, answer, _place: None }, answered)
    }

    #[test]
    fn a_writer_sleeps_until_enough_callers_are_there() {
        let (inbox, messages) = Inbox::new();
        let callers = thread::spawn(move || {
            for _ in 0..3 {
                inbox.hand_in(job().0);
            }
        });
        messages.wait(3, Some(LONG));
        let mut waiting = VecDeque::new();
        messages.take(&mut waiting);
        assert_eq!(waiting.len(), 3);
        callers.join().unwrap();
    }

    #[test]
    fn whatever_is_no_job_wakes_it_at_once() {
        for tell in [Inbox::stop as fn(&Inbox), |inbox| inbox.end_image(Ok(7))] {
            let (inbox, messages) = Inbox::new();
            let teller = thread::spawn(move || tell(&inbox));
            messages.wait(9, None);
            let told = messages.take(&mut VecDeque::new());
            assert!(told.is_stopping || told.image.is_some_and(|written| written.unwrap() == 7));
            teller.join().unwrap();
        }
    }

    #[test]
    fn it_sleeps_no_longer_than_it_wants_to() {
        let (inbox, messages) = Inbox::new();
        inbox.hand_in(job().0);
        messages.wait(2, Some(Duration::from_millis(1)));
        let mut waiting = VecDeque::new();
        messages.take(&mut waiting);
        assert_eq!(waiting.len(), 1);
    }

    #[test]
    fn nobody_waits_for_an_answer_of_a_writer_that_is_gone() {
        let (inbox, messages) = Inbox::new();
        let (before, mut answered_before) = job();
        inbox.hand_in(before);
        drop(messages);
        let (after, mut answered_after) = job();
        inbox.hand_in(after);
        assert!(answered_before.try_recv().is_err() && answered_after.try_recv().is_err());
    }
}
