//! How long to wait before trying again.

use std::time::Duration;

use rand::{Rng, RngExt as _};

/// Exponential backoff with full jitter: the n-th wait is drawn evenly from zero to `first` doubled n times, at
/// most `longest`.
///
/// The draw spreads the clients of a registry that comes back over the whole interval, where a fixed wait with a
/// little noise would bring them all at once. There is no last attempt: whoever waits here has promised to keep
/// something true for as long as its owner lives.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// Draws the wait after one more failure.
    fn next(&mut self, rng: &mut impl Rng) -> Duration {
        let ceiling = self.ceiling();
        self.failures = self.failures.saturating_add(1);
        rng.random_range(Duration::ZERO..=ceiling)
    }

    /// Draws as [`next`](Self::next) does, by the thread's own source of chance.
    pub(crate) fn draw(&mut self) -> Duration {
        self.next(&mut rand::rng())
    }

    /// Forgets the failures: something worked.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    fn ceiling(&self) -> Duration {
        let doubled = 2_u32.checked_pow(self.failures);
        doubled
            .and_then(|factor| self.first.checked_mul(factor))
            .map_or(self.longest, |ceiling| ceiling.min(self.longest))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(5);

    #[test]
    fn ceilings_double_up_to_the_longest_and_stay_there() {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        let mut rng = StdRng::seed_from_u64(1);
        let mut ceilings = Vec::new();
        for _ in 0..100 {
            ceilings.push(backoff.ceiling().as_millis());
            let ceiling = backoff.ceiling();
            assert!(backoff.next(&mut rng) <= ceiling);
        }
        assert_eq!(ceilings[..7], [100, 200, 400, 800, 1600, 3200, 5000]);
        assert!(ceilings[7..].iter().all(|&ceiling| ceiling == 5000));
    }

    #[test]
    fn waits_are_spread_over_the_whole_interval() {
        let mut rng = StdRng::seed_from_u64(2);
        let waits: Vec<_> = (0..1000).map(|_| Backoff::new(FIRST, LONGEST).next(&mut rng)).collect();
        for tenth in 0..10 {
            let interval = FIRST * tenth / 10..FIRST * (tenth + 1) / 10;
            let count = waits.iter().filter(|wait| interval.contains(wait)).count();
            assert!((60..=140).contains(&count), "tenth {tenth}: {count} of 1000");
        }
    }

    #[test]
    fn a_success_starts_over() {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        let mut rng = StdRng::seed_from_u64(3);
        for _ in 0..5 {
            backoff.next(&mut rng);
        }
        backoff.reset();
        assert_eq!(backoff.ceiling(), FIRST);
    }
}
