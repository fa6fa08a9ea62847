//! How much the observer trusts itself.

use std::time::Duration;

/// How well the observer itself gets along, as in Lifeguard's local health (arXiv 1707.00788, section IV-A): it notices
/// by its own timers when it is short of processor time, and then gives others more time to answer.
///
/// A score of 0 is full trust. Each alarm that rings late adds one, each time asleep two; ten alarms in time take one
/// away. Time limits are stretched by one more than the score.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Awareness {
    score: u32,
    in_time: u32,
}

/// The most that Lifeguard's authors found useful; a time limit of 2 seconds becomes 18.
const SCORE_MAX: u32 = 8;
/// How late an alarm may ring: timers have a grain of a millisecond, and a busy but healthy machine some tens.
const LATENESS_MAX: Duration = Duration::from_millis(100);
const IN_TIME_FOR_TRUST: u32 = 10;

impl Awareness {
    /// An alarm rang `late` after it was set for.
    pub fn rang(&mut self, late: Duration) {
        if late > LATENESS_MAX {
            self.doubt(1);
            return;
        }
        self.in_time += 1;
        if self.in_time == IN_TIME_FOR_TRUST {
            self.in_time = 0;
            self.score = self.score.saturating_sub(1);
        }
    }

    /// The observer was not there at all for a while.
    pub fn slept(&mut self) {
        self.doubt(2);
    }

    /// The score, from 0 to 8.
    pub fn score(&self) -> u32 {
        self.score
    }

    /// How long to wait for what may take `limit` by itself.
    pub fn stretched(&self, limit: Duration) -> Duration {
        limit * (self.score + 1)
    }

    fn doubt(&mut self, by: u32) {
        self.in_time = 0;
        self.score = (self.score + by).min(SCORE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_while_alarms_are_late_and_shrinks_while_they_are_not() {
        let mut awareness = Awareness::default();
        for _ in 0..20 {
            awareness.rang(LATENESS_MAX * 2);
        }
        assert_eq!(awareness.score(), SCORE_MAX);
        assert_eq!(awareness.stretched(Duration::from_secs(2)), Duration::from_secs(18));
        for _ in 0..SCORE_MAX * IN_TIME_FOR_TRUST {
            awareness.rang(LATENESS_MAX);
        }
        assert_eq!(awareness.score(), 0);
        assert_eq!(awareness.stretched(Duration::from_secs(2)), Duration::from_secs(2));
        awareness.slept();
        assert_eq!(awareness.score(), 2);
    }
}
