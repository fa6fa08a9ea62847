//! Time during which somebody was there to hear.

use std::time::Duration;

/// How often a clock is to be told the time at least, even if nothing else is to be done.
pub const BEAT: Duration = Duration::from_millis(250);
/// The longest time between two looks that counts: four beats, so that a busy machine is not taken for one that stood
/// still.
pub const STEP_MAX: Duration = Duration::from_secs(1);
/// How long the clock stands still after its owner did, so that what came in meanwhile can be read.
const CATCH_UP: Duration = Duration::from_secs(1);

/// A clock that stands still while its owner does.
///
/// Whoever waits for a sign of life, a renewal or a heartbeat, may count only the time in which it could have heard one:
/// a process that was stopped, or a machine that was suspended, finds every deadline over when it goes on, and the signs
/// of life still unread in its sockets. So time between two looks that is longer than [`STEP_MAX`] does not count, nor
/// does the second after it. The owner looks at least every [`BEAT`]; one that is starved makes deadlines later, never
/// earlier.
///
/// ```
/// use std::time::Duration;
/// use netloft_health::AwakeClock;
///
/// let ms = Duration::from_millis;
/// let mut clock = AwakeClock::new(ms(100_000));
/// assert_eq!(clock.tick(ms(100_250)), ms(250));
/// // Stopped for an hour, and busy with what came in meanwhile.
/// assert_eq!(clock.tick(ms(3_700_250)), ms(250));
/// assert_eq!(clock.tick(ms(3_701_250)), ms(250));
/// assert_eq!(clock.tick(ms(3_701_500)), ms(500));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AwakeClock {
    awake: Duration,
    seen: Duration,
    caught_up: Duration,
    gaps: u64,
}

impl AwakeClock {
    /// Makes a clock that says zero at the real time `now`, which is counted from any origin.
    pub fn new(now: Duration) -> Self {
        Self { awake: Duration::ZERO, seen: now, caught_up: now, gaps: 0 }
    }

    /// Takes note of the real time, and answers how long its owner has been awake. A real clock that goes back stands
    /// still.
    pub fn tick(&mut self, now: Duration) -> Duration {
        if now.saturating_sub(self.seen) > STEP_MAX {
            self.gaps += 1;
            self.caught_up = now + CATCH_UP;
        }
        self.awake += now.saturating_sub(self.seen.max(self.caught_up));
        self.seen = self.seen.max(now);
        self.awake
    }

    /// Goes on from the real time `now`, without a gap: meanwhile there was nothing to wait for.
    pub fn resume(&mut self, now: Duration) {
        self.seen = self.seen.max(now);
    }

    /// How long its owner has been awake, as of the last tick.
    pub fn awake(&self) -> Duration {
        self.awake
    }

    /// How often its owner was not there.
    pub fn gaps(&self) -> u64 {
        self.gaps
    }

    /// The real time at which it will say `awake`, if it is told the time often enough until then.
    pub fn real_time_of(&self, awake: Duration) -> Duration {
        self.seen.max(self.caught_up) + awake.saturating_sub(self.awake)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_beats_lose_nothing_and_a_clock_that_goes_back_stands_still() {
        let mut clock = AwakeClock::new(Duration::ZERO);
        for beat in 1..=100 {
            clock.tick(BEAT * beat);
        }
        assert_eq!((clock.awake(), clock.gaps()), (BEAT * 100, 0));
        assert_eq!(clock.tick(BEAT * 50), BEAT * 100);
        assert_eq!(clock.tick(BEAT * 101), BEAT * 101);
    }

    #[test]
    fn an_owner_with_nothing_to_wait_for_misses_nothing() {
        let mut clock = AwakeClock::new(Duration::ZERO);
        clock.resume(Duration::from_hours(1));
        assert_eq!((clock.tick(Duration::from_hours(1) + BEAT), clock.gaps()), (BEAT, 0));
    }

    #[test]
    fn a_deadline_is_reached_when_it_says() {
        let seconds = Duration::from_secs;
        let mut clock = AwakeClock::new(Duration::ZERO);
        clock.tick(BEAT);
        clock.tick(seconds(60));
        let due = clock.real_time_of(seconds(2));
        assert_eq!(due, Duration::from_millis(62_750));
        let mut now = seconds(60);
        while now < due {
            assert!(clock.tick(now) < seconds(2));
            now += BEAT;
        }
        assert_eq!(clock.tick(due), seconds(2));
    }
}
