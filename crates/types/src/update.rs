//! The one shape in which changes travel.

use std::fmt;
use std::sync::Arc;

use crate::{Instance, InstanceId, Instances};

/// A point in the history of a store: one more with each change, and 0 before every change there can be.
///
/// One revision may touch many instances, as when a session ends; it is never split.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Revision(u64);

impl Revision {
    /// Before the first change.
    pub const ZERO: Self = Self(0);

    /// Makes a revision of its number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One step of a watch.
///
/// A watch is a snapshot, then changes, each at a revision. Updates come in batches; a batch holds every
/// update of the revisions it covers, so a consumer that applies whole batches never sees half a change.
/// After a gap the next update is a `Reset`, never silence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// Forget what you had: this is all there is.
    Reset {
        /// The revision of the snapshot.
        at: Revision,
        /// Everything the watch selects, in order of instance id.
        all: Instances,
    },
    /// This instance is new, or changed, or newly selected.
    Put {
        /// The revision of the change.
        at: Revision,
        /// The instance as it is now.
        instance: Arc<Instance>,
    },
    /// This instance is gone, or no longer selected.
    Delete {
        /// The revision of the change.
        at: Revision,
        /// The instance that was there.
        id: InstanceId,
    },
    /// Nothing more happened to what the watch selects, up to and including this revision.
    Progress {
        /// The revision reached.
        at: Revision,
    },
}

impl Update {
    /// The revision of this step: after applying its whole batch, a watch can be resumed from here.
    pub fn at(&self) -> Revision {
        match self {
            Self::Reset { at, .. }
            | Self::Put { at, .. }
            | Self::Delete { at, .. }
            | Self::Progress { at } => *at,
        }
    }
}
