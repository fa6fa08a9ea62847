//! Numbers as the averages need them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Nanoseconds, in 64 bits: 584 years, and later is as late.
pub(crate) fn nanos(duration: Duration) -> u64 {
    // Without the 128 bits of `as_nanos`, since every pick and every report does this.
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos().into())
}

/// To the 24 bits of a float.
#[expect(clippy::cast_precision_loss, reason = "a millionth more or less does not matter to a cost")]
pub(crate) fn float(number: u64) -> f32 {
    number as f32
}

/// To the 24 bits of a float.
#[expect(clippy::cast_possible_truncation, reason = "a millionth more or less does not matter to a weight")]
pub(crate) fn rounded(number: f64) -> f32 {
    number as f32
}

/// What is before the point.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what is below or beyond is cut off"
)]
pub(crate) fn whole(number: f32) -> u64 {
    number as u64
}

/// An index into an array that has no more than 2^32 places.
pub(crate) fn place(index: usize) -> u32 {
    u32::try_from(index).expect("no service has 2^32 instances")
}

/// Takes 64 random bits to one of the numbers below `len`, and what is left of chance as a fraction of 2^32
/// (Lemire, Fast Random Integer Generation in an Interval, 2019, without its last correction: for a `len` of
/// 32 bits no number is more likely than another by more than 2^-32).
pub(crate) fn split(bits: u64, len: usize) -> (usize, u32) {
    let product = u128::from(bits) * len as u128;
    let index = usize::try_from(product >> 64).expect("less than len");
    let fraction = u32::try_from(product >> 32 & u128::from(u32::MAX)).expect("32 bits");
    (index, fraction)
}

/// A float that many threads read and write. A write between another's read and write is lost, which an
/// average survives; what is read was written by someone.
#[derive(Debug, Default)]
pub(crate) struct Shared(AtomicU32);

impl Shared {
    pub(crate) fn get(&self) -> f32 {
        f32::from_bits(self.0.load(Ordering::Relaxed))
    }

    pub(crate) fn set(&self, value: f32) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// Moves a part of the way to a sample; the first sample is taken as it is.
    pub(crate) fn approach(&self, sample: f32, gain: f32) {
        let before = self.get();
        self.set(if before > 0.0 { before + gain * (sample - before) } else { sample });
    }
}
