//! Time as a pool counts it.

use std::time::{Duration, SystemTime};

/// A point in the time of a pool, in nanoseconds. 584 years fit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    pub(crate) const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub(crate) const fn nanos(self) -> u64 {
        self.0
    }

    /// The moment this much later, or the last there is.
    pub(crate) fn plus(self, time: Duration) -> Self {
        Self(self.0.saturating_add(saturated_nanos(time)))
    }

    /// The moment this much earlier, or the first there is.
    pub(crate) fn minus(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(saturated_nanos(time)))
    }

    /// How long from this moment to a later one; zero if it is not later.
    pub(crate) fn until(self, later: Self) -> Duration {
        Duration::from_nanos(later.0.saturating_sub(self.0))
    }
}

fn saturated_nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Turns the time of day, which can be set back, into moments, which only grow.
///
/// While the time of day goes forward, moments go with it; a step back makes them stand still once. So what is
/// due at a moment is put off by a step back, by no more than passed since the clock was read last, and
/// never waits until the old time of day comes again.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    last: SystemTime,
    moment: Moment,
}

impl Clock {
    /// Makes a clock that has not been read.
    pub(crate) fn new() -> Self {
        Self { last: SystemTime::UNIX_EPOCH, moment: Moment::default() }
    }

    /// The moment it is when it is `now` outside.
    pub(crate) fn read(&mut self, now: SystemTime) -> Moment {
        if let Ok(passed) = now.duration_since(self.last) {
            self.moment = self.moment.plus(passed);
        }
        self.last = now;
        self.moment
    }

    /// The moment of a time of day, by the last reading.
    pub(crate) fn moment_of(&self, time: SystemTime) -> Moment {
        match time.duration_since(self.last) {
            Ok(ahead) => self.moment.plus(ahead),
            Err(behind) => self.moment.minus(behind.duration()),
        }
    }

    /// The time of day of a moment, by the last reading.
    pub(crate) fn time_of(&self, moment: Moment) -> SystemTime {
        let (ahead, behind) = (self.moment.until(moment), moment.until(self.moment));
        // Only a time of day at the very end of what the system can tell is too near to it for 584 years more.
        self.last.checked_add(ahead).and_then(|time| time.checked_sub(behind)).unwrap_or(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
    }

    #[test]
    fn moments_go_with_the_time_of_day_and_stand_still_when_it_steps_back() {
        let mut clock = Clock::new();
        let before = clock.read(at(1_000));
        assert_eq!(clock.read(at(10)), before);
        assert_eq!(before.until(clock.read(at(15))), Duration::from_secs(5));
    }

    #[test]
    fn a_moment_and_its_time_of_day_find_each_other() {
        let mut clock = Clock::new();
        clock.read(at(1_000));
        clock.read(at(500));
        for secs in [400, 500, 600] {
            assert_eq!(clock.time_of(clock.moment_of(at(secs))), at(secs));
        }
    }

    #[test]
    fn what_does_not_fit_ends_at_the_ends() {
        let mut clock = Clock::new();
        let now = clock.read(at(1_000));
        let last = now.plus(Duration::MAX);
        assert_eq!((last, last.plus(Duration::MAX)), (Moment::from_nanos(u64::MAX), last));
        assert_eq!(now.minus(Duration::MAX), Moment::default());
        assert!(clock.time_of(last) > at(1_000));
    }
}
