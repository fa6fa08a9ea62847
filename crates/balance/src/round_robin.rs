//! One after the other.

use crate::roster::Eligible;
use crate::{Caller, Context, Picker, Roster};

/// The picker of [`Builtin::RoundRobin`](crate::Builtin::RoundRobin).
#[derive(Debug)]
pub(crate) struct RoundRobin {
    eligible: Eligible,
    roster: Roster,
}

impl RoundRobin {
    pub(crate) fn new(roster: Roster) -> Self {
        Self { eligible: roster.eligible(), roster }
    }
}

impl Picker for RoundRobin {
    fn roster(&self) -> &Roster {
        &self.roster
    }

    fn pick(&self, caller: &mut Caller, _context: &Context) -> Option<usize> {
        self.eligible.by_turns(caller.turn())
    }
}
