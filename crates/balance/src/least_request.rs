//! To who has the fewest calls in flight, of a few drawn ones or of all.

use crate::number::float;
use crate::options::LeastRequest;
use crate::sampler::Sampler;
use crate::{Caller, Context, Picker, Roster};

/// The picker of [`Builtin::LeastRequest`](crate::Builtin::LeastRequest).
#[derive(Debug)]
pub(crate) struct FewDrawn {
    choices: u32,
    sampler: Sampler,
    roster: Roster,
}

impl FewDrawn {
    pub(crate) fn new(options: LeastRequest, roster: Roster) -> Self {
        Self { choices: options.choices(), sampler: Sampler::new(roster.weights()), roster }
    }
}

impl Picker for FewDrawn {
    fn roster(&self) -> &Roster {
        &self.roster
    }

    fn pick(&self, caller: &mut Caller, _context: &Context) -> Option<usize> {
        // Who is idle gets the call: while nobody has calls, the weights alone decide.
        let mut best = self.sampler.draw(caller)?;
        for _ in 1..self.choices {
            if self.roster.stats()[best].in_flight() == 0 {
                break;
            }
            let other = self.sampler.draw_other(caller, best);
            if load(&self.roster, other) < load(&self.roster, best) {
                best = other;
            }
        }
        Some(best)
    }
}

/// The picker of [`Builtin::LeastRequestFullScan`](crate::Builtin::LeastRequestFullScan).
#[derive(Debug)]
pub(crate) struct FullScan {
    sampler: Sampler,
    roster: Roster,
}

impl FullScan {
    pub(crate) fn new(roster: Roster) -> Self {
        Self { sampler: Sampler::new(roster.weights()), roster }
    }
}

impl Picker for FullScan {
    fn roster(&self) -> &Roster {
        &self.roster
    }

    fn pick(&self, caller: &mut Caller, _context: &Context) -> Option<usize> {
        // The scan begins at one drawn by weight, which gets the call if it is idle: so the weights decide
        // among the idle, and not the order.
        let first = self.sampler.draw(caller)?;
        if self.roster.stats()[first].in_flight() == 0 {
            return Some(first);
        }
        let others = (first + 1..self.roster.weights().len()).chain(0..first);
        let mut best = (first, load(&self.roster, first));
        for index in others {
            let load = load(&self.roster, index);
            if load < best.1 {
                best = (index, load);
            }
        }
        Some(best.0)
    }
}

/// What the calls in flight for each unit of weight would be with half a call more; infinite without weight.
/// Half a call gives light and heavy ones their due; none favours the light, a whole one the heavy (the methods
/// of Webster, Adams and Jefferson in Balinski and Young, Fair Representation, 1982).
fn load(roster: &Roster, index: usize) -> f32 {
    let load = roster.stats()[index].in_flight();
    (float(load.into()) + 0.5) / float(roster.weights()[index].into())
}
