//! By chance, with and without weights.

use crate::roster::Eligible;
use crate::sampler::Sampler;
use crate::{Caller, Context, Picker, Roster};

/// The picker of [`Builtin::Random`](crate::Builtin::Random).
#[derive(Debug)]
pub(crate) struct Random {
    eligible: Eligible,
    roster: Roster,
}

impl Random {
    pub(crate) fn new(roster: Roster) -> Self {
        Self { eligible: roster.eligible(), roster }
    }
}

impl Picker for Random {
    fn roster(&self) -> &Roster {
        &self.roster
    }

    fn pick(&self, caller: &mut Caller, _context: &Context) -> Option<usize> {
        caller.below(self.eligible.len()).map(|number| self.eligible.at(number))
    }
}

/// The picker of [`Builtin::WeightedRandom`](crate::Builtin::WeightedRandom).
#[derive(Debug)]
pub(crate) struct WeightedRandom {
    sampler: Sampler,
    roster: Roster,
}

impl WeightedRandom {
    pub(crate) fn new(roster: Roster) -> Self {
        Self { sampler: Sampler::new(roster.weights()), roster }
    }
}

impl Picker for WeightedRandom {
    fn roster(&self) -> &Roster {
        &self.roster
    }

    fn pick(&self, caller: &mut Caller, _context: &Context) -> Option<usize> {
        self.sampler.draw(caller)
    }
}
