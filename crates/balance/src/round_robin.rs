//! One after the other.

use crate::{Caller, Picker, Snapshot};

/// The picker of [`Builtin::RoundRobin`](crate::Builtin::RoundRobin).
#[derive(Debug)]
pub(crate) struct RoundRobin {
    snapshot: Snapshot,
}

impl RoundRobin {
    pub(crate) fn new(snapshot: Snapshot) -> Self {
        Self { snapshot }
    }
}

impl Picker for RoundRobin {
    fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    fn pick(&self, caller: &mut Caller) -> Option<usize> {
        let index = caller.turn().checked_rem(self.snapshot.instances().len() as u64)?;
        usize::try_from(index).ok()
    }
}
