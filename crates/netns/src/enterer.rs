//! Threads that enter namespaces.

use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::{Error, Netns};

/// Runs a job on a thread that exists for nothing else, and waits for it; a panic goes on in the caller.
pub(crate) fn on_fresh_thread<T: Send>(job: impl FnOnce() -> T + Send) -> Result<T, Error> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("netns-visit".to_owned())
            .spawn_scoped(scope, job)
            .map_err(|source| Error::StartThread { source })?;
        thread.join().map_or_else(|payload| panic::resume_unwind(payload), Ok)
    })
}

/// A long-lived thread that visits namespaces and runs short jobs there, one after another.
///
/// After each job the thread goes home, to the namespace in which the enterer was made; if it cannot, it ends
/// and the next job starts another one. Jobs queue behind each other, so they should open sockets or write
/// settings, never wait.
///
/// A visit costs two changes of thread: 50 us (median), busy machine or not. A fresh thread costs the same
/// on an idle machine; on a busy one it waits for its turn, 3 ms, because the scheduler prefers a thread that
/// has slept.
#[derive(Debug)]
pub struct Enterer {
    home: Netns,
    /// Held for the whole visit: a job is only given to a thread known to be at home.
    worker: Mutex<Option<Worker>>,
}

impl Enterer {
    /// Makes an enterer whose home is the namespace of the calling thread. The thread starts with the first job.
    pub fn new() -> Result<Self, Error> {
        Ok(Self { home: Netns::current()?, worker: Mutex::new(None) })
    }

    /// Makes a namespace, as [`Netns::create`] does, without starting a thread for it.
    pub fn create(&self) -> Result<Netns, Error> {
        self.create_with(|| ()).map(|(netns, ())| netns)
    }

    /// Makes a namespace and runs a first job in it, in the same visit.
    ///
    /// # Panics
    ///
    /// If the job panics, in the caller, with the same payload.
    pub fn create_with<T, F>(&self, job: F) -> Result<(Netns, T), Error>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let home = self.home.clone();
        // That the namespace differs is known before the job does anything in it.
        self.run(&self.home, move || {
            let netns = Netns::leave_for_new()?.differing_from(&home)?;
            Ok((netns, job()))
        })?
    }

    /// Runs a job in a namespace and waits for it. Blocks the calling thread.
    ///
    /// # Panics
    ///
    /// If the job panics, in the caller, with the same payload. The enterer stays usable.
    pub fn run<T, F>(&self, netns: &Netns, job: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (reply, outcome) = sync_channel(1);
        let visit = Visit {
            netns: netns.clone(),
            job: Box::new(move |entered: Result<(), Error>| {
                let result = entered.map(|()| panic::catch_unwind(AssertUnwindSafe(job)));
                Box::new(move |returned| {
                    // The caller waits below, so there is always someone to tell.
                    let _ = reply.send((result, returned));
                })
            }),
        };
        let mut guard = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        let worker = match guard.take() {
            Some(worker) => worker,
            None => Worker::start(self.home.clone())?,
        };
        worker.visit(visit);
        let (result, returned) =
            outcome.recv().expect("the thread answers every visit: panics of the job are caught");
        if returned == Returned::Home {
            *guard = Some(worker);
        }
        drop(guard);
        result?.map_or_else(|payload| panic::resume_unwind(payload), Ok)
    }
}

/// Whether the thread found its way home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Returned {
    Home,
    Lost,
}

/// A job and where to do it. The job is told whether the namespace was entered, and leaves behind what is to
/// be said when the thread is home again.
struct Visit {
    netns: Netns,
    job: Box<dyn FnOnce(Result<(), Error>) -> Answer + Send>,
}

type Answer = Box<dyn FnOnce(Returned)>;

#[derive(Debug)]
struct Worker {
    visits: Option<SyncSender<Visit>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn start(home: Netns) -> Result<Self, Error> {
        // One slot: the enterer gives out one job at a time.
        let (sender, receiver) = sync_channel(1);
        let thread = thread::Builder::new()
            .name("netns-enterer".to_owned())
            .spawn(move || work(&home, &receiver))
            .map_err(|source| Error::StartThread { source })?;
        Ok(Self { visits: Some(sender), thread: Some(thread) })
    }

    fn visit(&self, visit: Visit) {
        let visits = self.visits.as_ref().expect("taken only on drop");
        visits.send(visit).unwrap_or_else(|_| unreachable!("a thread that is at home waits for visits"));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.visits.take());
        if let Some(thread) = self.thread.take() {
            // It panics only if this file is wrong, and then it has said so already.
            let _ = thread.join();
        }
    }
}

fn work(home: &Netns, visits: &Receiver<Visit>) {
    for Visit { netns, job } in visits {
        let answer = job(netns.enter());
        drop(netns);
        // Between leaving and coming home nothing returns early.
        if home.enter().is_ok() {
            answer(Returned::Home);
        } else {
            answer(Returned::Lost);
            return;
        }
    }
}
