//! Bandwidths.

use std::num::{NonZeroU32, NonZeroU64};

/// The smallest burst by default: packets arrive put together into pieces of up to 64 KiB (segmentation offload), and
/// one that is larger than the burst has to be cut up again.
const BURST_BYTES_MIN: u32 = 64 * 1024;

/// How many milliseconds' worth of bytes a burst is by default, where that is more.
const BURST_MS: u64 = 20;

/// How long a packet waits at most.
const QUEUE_MS: u64 = 50;

/// A bandwidth, and how much may pass at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    bits_per_second: NonZeroU64,
    burst_bytes: NonZeroU32,
}

impl Rate {
    /// Makes a rate whose burst is what passes in 20 ms, and at least 64 KiB, the size of the largest packet that
    /// network cards and their virtual likenesses put together.
    pub fn from_bits_per_second(bits_per_second: NonZeroU64) -> Self {
        let burst = bytes_in(bits_per_second, BURST_MS).max(BURST_BYTES_MIN);
        Self { bits_per_second, burst_bytes: NonZeroU32::new(burst).unwrap_or(NonZeroU32::MAX) }
    }

    /// The same rate with another burst, in bytes. One that is smaller than a packet lets that packet never pass.
    #[must_use]
    pub const fn burst(self, burst_bytes: NonZeroU32) -> Self {
        Self { burst_bytes, ..self }
    }

    /// The bits that pass in a second.
    pub const fn bits_per_second(self) -> NonZeroU64 {
        self.bits_per_second
    }

    /// The burst in bytes.
    pub const fn burst_bytes(self) -> NonZeroU32 {
        self.burst_bytes
    }

    /// As the kernel counts; never 0.
    pub(crate) const fn bytes_per_second(self) -> u64 {
        self.bits_per_second.get().div_ceil(8)
    }

    /// How many bytes may wait: the burst, and what passes in 50 ms.
    pub(crate) fn queue_bytes(self) -> u32 {
        bytes_in(self.bits_per_second, QUEUE_MS).saturating_add(self.burst_bytes.get())
    }
}

/// How much passes in some milliseconds, as far as the kernel can count.
fn bytes_in(bits_per_second: NonZeroU64, milliseconds: u64) -> u32 {
    let bytes = u128::from(bits_per_second.get()) * u128::from(milliseconds) / 8000;
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(bits_per_second: u64) -> Rate {
        Rate::from_bits_per_second(bits_per_second.try_into().unwrap())
    }

    #[test]
    fn a_burst_takes_the_largest_packet_and_twenty_milliseconds() {
        assert_eq!(rate(1).burst_bytes().get(), 65_536);
        assert_eq!(rate(20_000_000).burst_bytes().get(), 65_536);
        assert_eq!(rate(1_000_000_000).burst_bytes().get(), 2_500_000);
        assert_eq!(rate(u64::MAX).burst_bytes(), NonZeroU32::MAX);
    }

    #[test]
    fn a_queue_holds_the_burst_and_fifty_milliseconds() {
        assert_eq!(rate(20_000_000).queue_bytes(), 65_536 + 125_000);
        assert_eq!(rate(u64::MAX).queue_bytes(), u32::MAX);
    }

    #[test]
    fn even_the_smallest_rate_lets_something_pass() {
        assert_eq!(rate(1).bytes_per_second(), 1);
    }
}
