//! One after the other.

use crate::{Caller, Context, Picker, Roster};

/// The picker of [`Builtin::RoundRobin`](crate::Builtin::RoundRobin).
#[derive(Debug)]
pub(crate) struct RoundRobin {
    eligible: Box<[u32]>,
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
        let turn = caller.turn().checked_rem(self.eligible.len() as u64)?;
        Some(self.eligible[usize::try_from(turn).ok()?] as usize)
    }
}
