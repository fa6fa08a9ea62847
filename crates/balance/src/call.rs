//! One call to an instance, from its begin to its end.

use std::sync::Arc;
use std::time::Duration;

use netloft_types::Load;

use crate::Stats;
use crate::number::nanos;

/// A call on its way. It counts as in flight until it ends or is dropped.
///
/// It borrows nothing, so it moves into tasks; it keeps what is measured of its instance alive, and nothing
/// else. Beginning and ending it takes no lock and allocates nothing.
///
/// Dropped without an end, in a panic too, it was given up: that is neither a success nor a failure, and
/// nothing is learned from it. Who gives up because the answer took too long should say so by
/// [`Outcome::Failure`].
#[derive(Debug)]
#[must_use = "a call that is dropped at once is never in flight"]
pub struct Call {
    stats: Arc<Stats>,
    /// Nanoseconds on the caller's clock.
    begun: u64,
    /// The calls in flight at its begin, with itself.
    load: u32,
    is_in_total: bool,
    is_success: bool,
    index: usize,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The instance did its work, even if the answer is that the asker erred.
    Success,
    /// The instance could not be reached, broke off, took too long, or says that it cannot work.
    Failure,
}

impl Call {
    pub(crate) fn begin(stats: &Arc<Stats>, index: usize, now: Duration) -> Self {
        let (load, is_in_total) = stats.enter();
        Self { stats: Arc::clone(stats), begun: nanos(now), load, is_in_total, is_success: false, index }
    }

    /// The instance, as an index into those of the snapshot it was picked from.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Takes note of what the instance says of its own load; see [`Stats::observe`].
    pub fn observe(&self, load: Load, now: Duration) -> bool {
        self.stats.observe(load, now)
    }

    /// Ends the call and reports how it went; `now` is on the clock it began by.
    pub fn end(mut self, now: Duration, outcome: Outcome) {
        let now = nanos(now);
        self.is_success = outcome == Outcome::Success;
        self.stats.report(now, now.saturating_sub(self.begun), self.load, outcome);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.stats.leave(self.is_in_total, self.is_success);
    }
}
