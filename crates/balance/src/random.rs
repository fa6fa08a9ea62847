//! Each as likely as the others.

use crate::{Caller, Picker, Snapshot};

/// The picker of [`Builtin::Random`](crate::Builtin::Random).
#[derive(Debug)]
pub(crate) struct Random {
    snapshot: Snapshot,
}

impl Random {
    pub(crate) fn new(snapshot: Snapshot) -> Self {
        Self { snapshot }
    }
}

impl Picker for Random {
    fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    fn pick(&self, caller: &mut Caller) -> Option<usize> {
        caller.below(self.snapshot.instances().len())
    }
}
