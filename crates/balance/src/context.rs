//! What a pick is for.

use std::time::Duration;

/// What is known of the call that a pick is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Context {
    /// The time on the caller's monotonic clock: since any moment, but the same one for all that share a
    /// roster. A clock that ticks every few milliseconds will do.
    pub now: Duration,
    /// Calls of one key go to one instance, with the strategies that hash. Without a key, they choose at
    /// random.
    pub key: Option<Key>,
}

impl Context {
    /// A call without a key, at this time.
    pub fn at(now: Duration) -> Self {
        Self { now, key: None }
    }

    /// A call with a key.
    #[must_use]
    pub fn with_key(self, key: Key) -> Self {
        Self { key: Some(key), ..self }
    }
}

/// The hash of what calls have in common: a user, a session, the name of a thing that instances cache.
///
/// It is the same in every process and every version, so that all clients agree on the instance of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(u64);

impl Key {
    /// Hashes bytes (FNV-1a, finished by the mixer of `SplitMix64`). Not against an adversary who chooses
    /// keys: who can, can aim them at one instance, which bounded loads then hold off.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Self(mix(bytes.as_ref().iter().fold(0xcbf2_9ce4_8422_2325, step)))
    }

    /// Takes a hash that was made elsewhere, whose bits are all equally good.
    pub fn hashed(hash: u64) -> Self {
        Self(hash)
    }

    /// The hash.
    pub fn hash(self) -> u64 {
        self.0
    }
}

/// Makes each bit of the result depend on each bit of the number (Steele, Lea and Flood, Fast Splittable
/// Pseudorandom Number Generators, 2014).
pub(crate) fn mix(number: u64) -> u64 {
    let mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_in_every_version() {
        assert_eq!(Key::of("").hash(), 0xc381_7c01_6ba4_ff30);
        assert_eq!(Key::of("user-42").hash(), 0xe28b_a372_823d_e243);
    }
}
