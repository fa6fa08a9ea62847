//! What an instance last said of its own load, kept where its calls are counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use netloft_types::Load;

use crate::number::{Shared, nanos, rounded};

/// The last load report of an instance. Of two that come at once, numbers of both may stay: they tell of the same moment.
#[derive(Debug, Default)]
pub(crate) struct LastLoad {
    /// When it came, in nanoseconds, and one more; 0 before the first.
    at: AtomicU64,
    utilization: Shared,
    calls: Shared,
    failures: Shared,
}

/// How long without a report until the next one is news: nobody may be looking any more.
const NEWS: Duration = Duration::from_secs(10);

impl LastLoad {
    /// Keeps a report; whether it is the first, or the first for long.
    pub(crate) fn keep(&self, load: Load, now: Duration) -> bool {
        self.utilization.set(rounded(load.utilization().number()));
        self.calls.set(rounded(load.calls_per_s()));
        self.failures.set(rounded(load.failures_per_s()));
        let now = nanos(now).saturating_add(1);
        let before = self.at.swap(now, Ordering::Release);
        before == 0 || now.saturating_sub(before) >= nanos(NEWS)
    }

    /// The report, and when it came.
    pub(crate) fn get(&self) -> Option<(Load, Duration)> {
        let at = self.at.load(Ordering::Acquire).checked_sub(1)?;
        let [utilization, calls, failures] =
            [&self.utilization, &self.calls, &self.failures].map(|number| f64::from(number.get()));
        // What was kept was a measure, and one rounded to a float is one.
        Load::new(utilization, calls, failures).ok().map(|load| (load, Duration::from_nanos(at)))
    }
}
