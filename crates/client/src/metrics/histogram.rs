//! Latencies in buckets whose bounds double.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// From 32 µs, doubled up to 33.6 s, and one for what took longer. Fixed, so that those of many processes can be added.
const BOUNDS: usize = 21;
const FIRST_BITS: u32 = 5;

/// How often calls took how long.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LatencyHistogram {
    counts: [u64; BOUNDS + 1],
    total: Duration,
}

impl LatencyHistogram {
    /// The buckets: up to which time, and how many took no longer than that but longer than that of the bucket before. The last
    /// one has no bound.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        self.counts.iter().enumerate().map(|(index, &count)| (bound(index), count))
    }

    /// How many there are in all.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long they took together.
    pub fn total(&self) -> Duration {
        self.total
    }

    /// The time that a share of them, from 0 to 1, did not exceed: the bound of its bucket, so up to twice what it really was.
    /// `None` if there is no call, or if it is beyond the last bound.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let wanted = (self.count() as f64 * share).max(f64::MIN_POSITIVE);
        let mut seen = 0;
        let reached = self.buckets().find(|(_, count)| {
            seen += count;
            #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
            let is_reached = seen as f64 >= wanted;
            is_reached
        });
        reached?.0
    }
}

fn bound(index: usize) -> Option<Duration> {
    (index < BOUNDS).then(|| Duration::from_micros(1 << (FIRST_BITS as usize + index)))
}

/// A histogram that is counted into.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    counts: [AtomicU64; BOUNDS + 1],
    total_us: AtomicU64,
}

impl Histogram {
    pub(super) fn count(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        // What is exactly at a bound is within it.
        let bits = u64::BITS - micros.saturating_sub(1).leading_zeros();
        let index = bits.saturating_sub(FIRST_BITS) as usize;
        self.counts[index.min(BOUNDS)].fetch_add(1, Ordering::Relaxed);
        self.total_us.fetch_add(micros, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> LatencyHistogram {
        LatencyHistogram {
            counts: std::array::from_fn(|index| self.counts[index].load(Ordering::Relaxed)),
            total: Duration::from_micros(self.total_us.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let (histogram, us) = (Histogram::default(), Duration::from_micros);
        let longest = us(32 << 20);
        for (latency, expected) in [
            (Duration::ZERO, Some(us(32))),
            (us(32), Some(us(32))),
            (us(33), Some(us(64))),
            (us(64), Some(us(64))),
            (longest, Some(longest)),
            (longest + us(1), None),
        ] {
            let before = histogram.read();
            histogram.count(latency);
            let after = histogram.read();
            let grown = after.buckets().zip(before.buckets()).find(|(after, before)| after != before);
            assert_eq!(grown.map(|(after, _)| after.0), Some(expected), "{latency:?}");
        }
        assert_eq!(histogram.read().count(), 6);
        assert_eq!(histogram.read().total(), longest * 2 + us(32 + 33 + 64 + 1));
    }

    #[test]
    fn a_quantile_is_the_bound_of_its_bucket() {
        let histogram = Histogram::default();
        assert_eq!(histogram.read().quantile(0.5), None);
        for _ in 0..99 {
            histogram.count(Duration::from_micros(100));
        }
        histogram.count(Duration::from_millis(3));
        let read = histogram.read();
        assert_eq!(read.quantile(0.0), Some(Duration::from_micros(128)));
        assert_eq!(read.quantile(0.99), Some(Duration::from_micros(128)));
        assert_eq!(read.quantile(1.0), Some(Duration::from_micros(4_096)));
    }
}
