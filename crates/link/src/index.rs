//! What links are called by.

use std::fmt;
use std::num::NonZeroU32;

/// The index of a link, unique in its network namespace. The kernel counts up and does not reuse numbers
/// soon, so a stale index names nothing rather than another link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkIndex(NonZeroU32);

impl LinkIndex {
    /// Makes an index of its number; `None` for 0, which the kernel gives to no link.
    pub fn from_number(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// The number.
    pub const fn number(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for LinkIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A group of links (`ip link set ... group`), deleted in one act.
///
/// Never 0: that is the kernel's default group, and to delete it is to delete every link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkGroup(NonZeroU32);

impl LinkGroup {
    /// Makes a group of its number.
    pub const fn new(number: NonZeroU32) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn number(self) -> u32 {
        self.0.get()
    }
}
