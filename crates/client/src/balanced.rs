//! Choosing from what is discovered.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use arc_swap::ArcSwap;
use netloft_balance::{Caller, Picker, Snapshot, Strategy};
use netloft_types::{Instance, Query};
use rand::RngExt as _;

use crate::calls::Calls;
use crate::{Discovery, Error};

/// Callers kept. Threads beyond this many share one with another, or get a fresh one for the moment.
const CALLERS: usize = 16;

/// A discovery with a strategy: chooses an instance for each call, without waiting for anything.
///
/// The picker is rebuilt when the set changes, in the task that follows the registry, and swapped whole.
#[derive(Debug)]
pub struct Balanced {
    discovery: Discovery,
    picker: Arc<ArcSwap<Box<dyn Picker>>>,
    callers: [Seat; CALLERS],
}

/// On a cache line pair of its own, so that threads do not slow each other down by turns (x86 fetches lines in
/// pairs).
#[derive(Debug)]
#[repr(align(128))]
struct Seat(Mutex<Caller>);

impl Balanced {
    pub(crate) fn start(calls: Calls, query: Query, strategy: Box<dyn Strategy>) -> Self {
        let picker = Arc::new(ArcSwap::from_pointee(strategy.picker(Snapshot::default())));
        let current = Arc::clone(&picker);
        let rebuild = move |snapshot: &Snapshot| current.store(Arc::new(strategy.picker(snapshot.clone())));
        Self {
            discovery: Discovery::start_with(calls, query, Box::new(rebuild)),
            picker,
            callers: std::array::from_fn(|_| Seat(Mutex::new(fresh_caller()))),
        }
    }

    /// Waits for the first answer; see [`Discovery::ready`]. Picks are made of it from then on.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn ready(&self, patience: Duration) -> Result<(), Error> {
        self.discovery.ready(patience).await
    }

    /// What is chosen from, with its age.
    pub fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    /// Chooses an instance; `None` if there are none. It never blocks.
    pub fn pick(&self) -> Option<Arc<Instance>> {
        let picker = self.picker.load();
        let index = self.with_caller(|caller| picker.pick(caller))?;
        Some(Arc::clone(&picker.snapshot().instances()[index]))
    }

    /// Chooses instances one after another, each once: the next for when the one before cannot be reached. All
    /// from the set of this moment.
    pub fn candidates(&self) -> Candidates<'_> {
        Candidates { balanced: self, picker: self.picker.load_full(), tried: Vec::new() }
    }

    /// Lends the caller of this thread. A strategy is exact for each caller, so one thread's picks are; where
    /// threads get in each other's way they use another, and rather a new one than wait.
    fn with_caller<T>(&self, pick: impl FnOnce(&mut Caller) -> T) -> T {
        let start = thread_number() % CALLERS;
        for seat in self.callers[start..].iter().chain(&self.callers[..start]) {
            match seat.0.try_lock() {
                Ok(mut caller) => return pick(&mut caller),
                // A caller has no state that a panic of a strategy could leave half changed.
                Err(TryLockError::Poisoned(poisoned)) => return pick(&mut poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        pick(&mut fresh_caller())
    }
}

/// Instances to try, best first; see [`Balanced::candidates`].
#[derive(Debug)]
pub struct Candidates<'a> {
    balanced: &'a Balanced,
    picker: Arc<Box<dyn Picker>>,
    tried: Vec<usize>,
}

impl Iterator for Candidates<'_> {
    type Item = Arc<Instance>;

    fn next(&mut self) -> Option<Self::Item> {
        let untried = |caller: &mut Caller| self.picker.pick_untried(caller, &self.tried);
        let index = self.balanced.with_caller(untried)?;
        self.tried.push(index);
        Some(Arc::clone(&self.picker.snapshot().instances()[index]))
    }
}

fn fresh_caller() -> Caller {
    Caller::seeded(rand::rng().random())
}

/// Numbers threads as they come.
fn thread_number() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
    }
    NUMBER.with(|number| {
        number.get().unwrap_or_else(|| {
            let next = THREADS.fetch_add(1, Ordering::Relaxed);
            number.set(Some(next));
            next
        })
    })
}
