//! What is counted of calls, and how it is told.

mod histogram;
mod text;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use netloft_balance::Outcome;

use self::histogram::Histogram;
pub use self::histogram::LatencyHistogram;
pub use self::text::prometheus_text;
use crate::Pick;

/// What was counted since a channel or a layer was made. Calls are what the caller made; attempts are what instances got of
/// them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallStats {
    /// Calls that began.
    pub calls_begun: u64,
    /// How calls ended for the caller.
    pub calls: Ended,
    /// Attempts that began.
    pub attempts_begun: u64,
    /// How attempts ended.
    pub attempts: Ended,
    /// Calls for which there was no instance.
    pub without_instance: u64,
    /// Repeats of what no instance had begun.
    pub transparent_retries: u64,
    /// Repeats of what had failed.
    pub retries: u64,
    /// Retries and hedges that there was no budget for.
    pub repeats_refused: u64,
    /// Attempts that were sent because others were slow to answer, or had failed in a call that is hedged.
    pub hedges: u64,
    /// Those of them that answered first.
    pub hedges_won: u64,
    /// Connections that are open.
    pub connections_open: u64,
    /// Connections that were made.
    pub connections_made: u64,
    /// Connections that could not be made.
    pub connections_failed: u64,
    /// How long calls took until their answers began, or they had failed.
    pub latency: LatencyHistogram,
}

/// How calls or attempts ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// In success.
    pub succeeded: u64,
    /// The answer says that the caller erred.
    pub refused: u64,
    /// The instance could not be reached, broke off, took too long, or says that it cannot work.
    pub failed: u64,
    /// The caller did not wait for the end, or another attempt was faster.
    pub given_up: u64,
}

/// How a call or an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Succeeded,
    Refused,
    Failed,
}

impl Class {
    /// What it says of the instance.
    pub(crate) fn outcome(self) -> Outcome {
        match self {
            Self::Succeeded | Self::Refused => Outcome::Success,
            Self::Failed => Outcome::Failure,
        }
    }
}

/// The counters of one channel or layer. Clones of it share them, so they are not for millions of calls in a second.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    calls_begun: AtomicU64,
    calls: Ends,
    attempts_begun: AtomicU64,
    attempts: Ends,
    pub(crate) without_instance: AtomicU64,
    pub(crate) transparent_retries: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) repeats_refused: AtomicU64,
    pub(crate) hedges: AtomicU64,
    pub(crate) hedges_won: AtomicU64,
    connections_open: AtomicU64,
    connections_made: AtomicU64,
    connections_failed: AtomicU64,
    latency: Histogram,
}

#[derive(Debug, Default)]
struct Ends {
    succeeded: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    given_up: AtomicU64,
}

impl Ends {
    /// Without a class it was given up.
    fn count(&self, class: Option<Class>) {
        count(match class {
            Some(Class::Succeeded) => &self.succeeded,
            Some(Class::Refused) => &self.refused,
            Some(Class::Failed) => &self.failed,
            None => &self.given_up,
        });
    }

    fn read(&self) -> Ended {
        let [succeeded, refused, failed, given_up] =
            [&self.succeeded, &self.refused, &self.failed, &self.given_up].map(read);
        Ended { succeeded, refused, failed, given_up }
    }
}

/// Counts one more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Counters {
    pub(crate) fn connected(&self, is_made: bool) {
        count(if is_made { &self.connections_made } else { &self.connections_failed });
    }

    /// A connection that is open until what this returns is dropped.
    pub(crate) fn open(counters: &Arc<Self>) -> OpenConnection {
        count(&counters.connections_open);
        OpenConnection(Arc::clone(counters))
    }

    pub(crate) fn read(&self) -> CallStats {
        CallStats {
            calls_begun: read(&self.calls_begun),
            calls: self.calls.read(),
            attempts_begun: read(&self.attempts_begun),
            attempts: self.attempts.read(),
            without_instance: read(&self.without_instance),
            transparent_retries: read(&self.transparent_retries),
            retries: read(&self.retries),
            repeats_refused: read(&self.repeats_refused),
            hedges: read(&self.hedges),
            hedges_won: read(&self.hedges_won),
            connections_open: read(&self.connections_open),
            connections_made: read(&self.connections_made),
            connections_failed: read(&self.connections_failed),
            latency: self.latency.read(),
        }
    }
}

/// See [`Counters::open`].
#[derive(Debug)]
pub(crate) struct OpenConnection(Arc<Counters>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections_open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call that is under way until it is ended or dropped.
#[derive(Debug)]
pub(crate) struct Calling {
    counters: Arc<Counters>,
    begun: Instant,
    class: Option<Class>,
}

impl Calling {
    pub(crate) fn begin(counters: &Arc<Counters>) -> Self {
        count(&counters.calls_begun);
        Self { counters: Arc::clone(counters), begun: Instant::now(), class: None }
    }

    /// Its answer begins, or it has failed.
    pub(crate) fn answered(&self) {
        self.counters.latency.count(self.elapsed());
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(crate) fn end(mut self, class: Class) {
        self.class = Some(class);
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        self.counters.calls.count(self.class);
    }
}

/// A [`Pick`] whose end is counted.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// Until it is ended.
    pick: Option<Pick>,
    counters: Arc<Counters>,
}

impl Attempt {
    pub(crate) fn begin(counters: &Arc<Counters>, pick: Pick) -> Self {
        count(&counters.attempts_begun);
        Self { pick: Some(pick), counters: Arc::clone(counters) }
    }

    /// What is on its way, to be told more of.
    pub(crate) fn pick(&mut self) -> Option<&mut Pick> {
        self.pick.as_mut()
    }

    pub(crate) fn end(mut self, class: Class) {
        if let Some(pick) = self.pick.take() {
            self.counters.attempts.count(Some(class));
            pick.end(class.outcome());
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.pick.is_some() {
            self.counters.attempts.count(None);
        }
    }
}
