//! What every store must do, as tests that any store can be put through.
//!
//! [`conformance`] is the contract of [`Store`] in executable form. [`churn`] lets concurrent
//! writers, slow readers and resumed watches loose on a store, and has [`Truth`] compare everything a reader
//! was told with what the writers did: it finds a change that was lost, repeated, reordered, torn apart,
//! announced too early or shown to the wrong watch.
//!
//! A store that outlives its process passes [`conformance_over_restarts`], too.
//!
//! The suite waits only by tokio's clock. A store in memory is tested with that clock paused, in no time; a
//! store with a disk or a network behind it, in real time, of which the suite takes about ten seconds.
//!
//! This is no feature, so that nothing has to be switched on to test a store and no test is ever skipped
//! because it was not. It needs no dependency that the crate has not, and a program that does not call it
//! does not contain it.
//!
//! ```no_run
//! use netloft_registry::{MemoryStore, testing};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() {
//!     testing::conformance(|options| async { MemoryStore::start(options) }).await;
//! }
//! ```

mod churn;
mod expiring;
mod fixture;
mod registering;
mod restarting;
mod truth;
mod watching;

use std::sync::Arc;

pub use churn::{Churn, Report, churn};
pub use truth::{Recording, Truth, Violation};

use crate::{BoxFuture, Store, StoreOptions};

/// Makes an empty store; where restarts are checked, one with what the last one had when it was dropped.
type Make = Arc<dyn Fn(StoreOptions) -> BoxFuture<'static, Arc<dyn Store>> + Send + Sync>;

/// One named claim about a store.
type Check = (&'static str, fn(Make) -> BoxFuture<'static, ()>);

/// Lists functions as checks, each by its own name.
macro_rules! checks {
    ($($check:ident),* $(,)?) => {
        pub(super) const CHECKS: &[super::Check] =
            &[$((stringify!($check), |make| Box::pin($check(make)))),*];
    };
}
use checks;

/// Runs every check against stores made by `make`, each against a new and empty one with the options given.
///
/// # Panics
///
/// If a check fails, naming it. The message before tells what was expected.
pub async fn conformance<S, F>(make: impl Fn(StoreOptions) -> F + Send + Sync + 'static)
where
    S: Store,
    F: Future<Output = S> + Send + 'static,
{
    let make = boxed(make);
    let all = [registering::CHECKS, expiring::CHECKS, watching::CHECKS, churn::CHECKS];
    for (name, check) in all.concat() {
        run(name, check(Arc::clone(&make))).await;
    }
}

/// Runs every check of what a store promises that outlives its process. For each of them `place` finds a new place,
/// where a store can be opened, dropped, and opened again with what it had.
///
/// # Panics
///
/// If a check fails, naming it. The message before tells what was expected.
pub async fn conformance_over_restarts<S, F, O>(place: impl Fn() -> O)
where
    S: Store,
    F: Future<Output = S> + Send + 'static,
    O: Fn(StoreOptions) -> F + Send + Sync + 'static,
{
    for (name, check) in restarting::CHECKS {
        run(name, check(boxed(place()))).await;
    }
}

/// Has the embedded store read bytes as everything that its files can hold: an entry for fuzzers. Whatever they are,
/// it returns.
pub fn read_hostile_bytes(bytes: &[u8]) {
    crate::embedded::read_hostile(bytes);
}

fn boxed<S, F>(make: impl Fn(StoreOptions) -> F + Send + Sync + 'static) -> Make
where
    S: Store,
    F: Future<Output = S> + Send + 'static,
{
    Arc::new(move |options| {
        let store = make(options);
        Box::pin(async move { Arc::new(store.await) as Arc<dyn Store> })
    })
}

async fn run(name: &str, check: BoxFuture<'static, ()>) {
    let outcome = tokio::spawn(check).await;
    assert!(outcome.is_ok(), "the store fails the check `{name}`");
}
