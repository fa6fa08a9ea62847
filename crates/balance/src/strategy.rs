//! The two traits.

use std::any::Any;
use std::fmt;

use crate::{Caller, Context, Roster};

/// A way to choose, which becomes a [`Picker`] for each roster.
pub trait Strategy: fmt::Debug + Send + Sync {
    /// Builds the picker of a roster. All that can be computed ahead is computed here.
    fn picker(&self, roster: Roster) -> Box<dyn Picker>;

    /// Builds the picker of the next roster, which chooses as [`picker`](Self::picker) would make it choose. What is much to
    /// compute and mostly stays may be shared with the picker before, which may be of another strategy.
    fn follow(&self, before: &dyn Picker, roster: Roster) -> Box<dyn Picker> {
        let _ = before;
        self.picker(roster)
    }
}

/// Chooses from one roster. It never changes: many threads pick from it at once, and a new snapshot makes a
/// new picker (as in gRPC proposals A61 and A74). What strategies learn is in the roster, and goes over to the
/// next.
pub trait Picker: Any + fmt::Debug + Send + Sync {
    /// What it chooses from, with what is measured of each.
    fn roster(&self) -> &Roster;

    /// Chooses an instance, as an index into those of the snapshot; `None` if there are none.
    ///
    /// Whoever then calls it says so by [`Roster::begin`], and says how the call went: that is what strategies
    /// learn from. A pick alone leaves no trace, so that a connection may be tried first.
    fn pick(&self, caller: &mut Caller, context: &Context) -> Option<usize>;

    /// Chooses an instance that is not in `tried`, for those who could not connect to the ones before; `None`
    /// if all that have a weight were tried.
    ///
    /// It picks again, so the calls of a dead instance go to the living as the strategy would have it and not
    /// all to one neighbour. When a few picks in a row are of tried ones, as when a dead instance has most of
    /// the weight, it takes the next untried one after a random place. Allocates nothing; meant for a `tried`
    /// of a few, by whose length each step is multiplied.
    fn pick_untried(&self, caller: &mut Caller, context: &Context, tried: &[usize]) -> Option<usize> {
        for _ in 0..REPICKS {
            let index = self.pick(caller, context)?;
            if !tried.contains(&index) {
                return Some(index);
            }
        }
        let weights = self.roster().weights();
        let start = caller.below(weights.len())?;
        let mut round = (start..weights.len()).chain(0..start);
        round.find(|index| weights[*index] > 0 && !tried.contains(index))
    }
}

/// Picks before giving up on chance. With half of the weight dead, 99.6 % of fallbacks end within these.
const REPICKS: usize = 8;
