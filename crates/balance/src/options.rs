//! What can be set of the strategies that have something to set.

use netloft_types::Invalid;

/// Options of [`Builtin::LeastRequest`](crate::Builtin::LeastRequest).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeastRequest {
    choices: u32,
}

impl LeastRequest {
    pub(crate) const DEFAULT: Self = Self { choices: 2 };

    /// How many instances are drawn for each pick: 2 to 10, 2 by default (gRPC proposal A48, `choice_count`).
    ///
    /// The second choice wins nearly all there is to win (Mitzenmacher 2001).
    pub fn with_choices(choices: u32) -> Result<Self, Invalid> {
        let is_legal = (2..=10).contains(&choices);
        is_legal
            .then_some(Self { choices })
            .ok_or_else(|| Invalid::new("choices", choices, "must be a number from 2 to 10"))
    }

    pub(crate) fn choices(self) -> u32 {
        self.choices
    }
}

impl Default for LeastRequest {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Options of [`Builtin::RingHash`](crate::Builtin::RingHash).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RingHash {
    points: u32,
    bound_percent: Option<u32>,
}

impl RingHash {
    pub(crate) const DEFAULT: Self = Self { points: 100, bound_percent: Some(125) };

    /// How many points on the ring an instance of the mean weight has: 1 to 1,000, 100 by default.
    ///
    /// More points share the keys more evenly and take longer to build: with 100 instances, the busiest gets
    /// 1.3 times the mean with 100 points each, and 1.1 times with 1,000. A point takes 8 bytes.
    pub fn with_points(self, points: u32) -> Result<Self, Invalid> {
        let is_legal = (1..=1_000).contains(&points);
        is_legal
            .then_some(Self { points, ..self })
            .ok_or_else(|| Invalid::new("points", points, "must be a number from 1 to 1000"))
    }

    /// How many calls an instance may have in flight, in percent of its share of all of them, rounded up: 101
    /// to 1,000, 125 by default (Vimeo's, for the bounded loads of Mirrokni, Thorup and Zadimoghaddam 2016).
    ///
    /// What goes beyond goes to the next on the ring. The less, the more keys move under load. Only calls of
    /// this process are counted, and only those that began after the first ring was built.
    pub fn with_bound_percent(self, percent: u32) -> Result<Self, Invalid> {
        let is_legal = (101..=1_000).contains(&percent);
        is_legal
            .then_some(Self { bound_percent: Some(percent), ..self })
            .ok_or_else(|| Invalid::new("bound", percent, "must be a number of percent from 101 to 1000"))
    }

    /// A key goes to its instance whatever its load.
    #[must_use]
    pub fn without_bound(self) -> Self {
        Self { bound_percent: None, ..self }
    }

    pub(crate) fn points(self) -> u32 {
        self.points
    }

    pub(crate) fn bound_percent(self) -> Option<u32> {
        self.bound_percent
    }
}

impl Default for RingHash {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The table of [`Builtin::Maglev`](crate::Builtin::Maglev): the two sizes of the paper.
///
/// With a hundred places for each instance, no share is off by more than about a hundredth. Instances that find
/// no place in the table get no calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Maglev {
    /// 65,537 places in 256 KiB, for up to about 600 instances. The default.
    #[default]
    Small,
    /// 655,373 places in 2.5 MiB, for up to about 6,000. Takes ten times as long to build.
    Large,
}

impl Maglev {
    pub(crate) fn len(self) -> u32 {
        match self {
            Self::Small => 65_537,
            Self::Large => 655_373,
        }
    }
}
