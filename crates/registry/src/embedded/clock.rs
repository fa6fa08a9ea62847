//! The time that a state is told: that in which renewals could be heard.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use netloft_health::{AwakeClock, BEAT};

/// Begins at zero when it is made. Told the time by renewals, and at least every [`BEAT`] by the writer.
#[derive(Debug)]
pub(crate) struct Clock {
    origin: Instant,
    awake: Mutex<AwakeClock>,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now(), awake: Mutex::new(AwakeClock::new(Duration::ZERO)) }
    }

    /// The present time. `next_deadline` is what there is to wait for.
    pub(crate) fn now(&self, next_deadline: Option<Duration>) -> Duration {
        let mut awake = self.awake();
        let now = self.origin.elapsed();
        if next_deadline.is_none() {
            awake.resume(now);
        }
        awake.tick(now)
    }

    /// How long from now a deadline is, at most a [`BEAT`].
    pub(crate) fn until(&self, deadline: Duration) -> Duration {
        self.awake().real_time_of(deadline).saturating_sub(self.origin.elapsed()).min(BEAT)
    }

    fn awake(&self) -> MutexGuard<'_, AwakeClock> {
        self.awake.lock().expect("nothing panics while it holds the clock")
    }
}
