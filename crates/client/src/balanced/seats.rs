//! The callers of a balancer, one for each thread as far as they go.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, TryLockError};

use netloft_balance::Caller;
use rand::RngExt as _;

/// Callers kept. Threads beyond this many share one with another, or get a fresh one for the moment.
const CALLERS: usize = 16;

/// Callers to be lent.
#[derive(Debug)]
pub(super) struct Seats([Seat; CALLERS]);

/// On a cache line pair of its own, so that threads do not slow each other down by turns (x86 fetches lines in
/// pairs).
#[derive(Debug)]
#[repr(align(128))]
struct Seat(Mutex<Caller>);

impl Seats {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| Seat(Mutex::new(fresh_caller()))))
    }

    /// Lends the caller of this thread. A strategy is exact for each caller, so one thread's picks are; where
    /// threads get in each other's way they use another, and rather a new one than wait.
    pub(super) fn with_caller<T>(&self, pick: impl FnOnce(&mut Caller) -> T) -> T {
        let start = thread_number() % CALLERS;
        for seat in self.0[start..].iter().chain(&self.0[..start]) {
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
