//! The two traits, and the strategies by name.

use std::fmt;
use std::str::FromStr;

use netloft_types::Invalid;

use crate::random::Random;
use crate::round_robin::RoundRobin;
use crate::weighted::Weighted;
use crate::{Caller, Snapshot};

/// A way to choose, which becomes a [`Picker`] for each snapshot.
pub trait Strategy: fmt::Debug + Send + Sync {
    /// Builds the picker of a snapshot. All that can be computed ahead is computed here.
    fn picker(&self, snapshot: Snapshot) -> Box<dyn Picker>;
}

/// Chooses from one snapshot. It never changes: many threads pick from it at once, and a new snapshot makes a
/// new picker (as in gRPC proposals A61 and A74).
pub trait Picker: fmt::Debug + Send + Sync {
    /// The snapshot to choose from.
    fn snapshot(&self) -> &Snapshot;

    /// Chooses an instance, as an index into those of the snapshot; `None` if there are none.
    fn pick(&self, caller: &mut Caller) -> Option<usize>;

    /// Chooses an instance that is not in `tried`, for those who could not connect to the ones before; `None`
    /// if all were tried.
    ///
    /// It picks again, so the calls of a dead instance go to the living as the strategy would have it and not
    /// all to one neighbour. When a few picks in a row are of tried ones, as when a dead instance has most of
    /// the weight, it takes the next untried one after a random place. Allocates nothing; meant for a `tried`
    /// of a few, by whose length each step is multiplied.
    fn pick_untried(&self, caller: &mut Caller, tried: &[usize]) -> Option<usize> {
        for _ in 0..REPICKS {
            let index = self.pick(caller)?;
            if !tried.contains(&index) {
                return Some(index);
            }
        }
        let len = self.snapshot().instances().len();
        let start = caller.below(len)?;
        let mut round = (start..len).chain(0..start);
        round.find(|index| !tried.contains(index))
    }
}

/// Picks before giving up on chance. With half of the weight dead, 99.6 % of fallbacks end within these.
const REPICKS: usize = 8;

/// The strategies of this crate, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Builtin {
    /// `round-robin`: one after the other. Any n picks in a row by one caller, of n instances, hold each
    /// instance once.
    RoundRobin,
    /// `random`: each instance as likely as the others, whatever was picked before.
    Random,
    /// `weighted`: by turns, each instance as often as its weight demands, and as evenly spread as can be.
    ///
    /// Let W be the sum of the weights after dividing them by their greatest common divisor. For one caller,
    /// in every window of any length, the picks of an instance differ from its exact share:
    ///
    /// - W up to 16,384: by less than 2; and any W picks in a row hold each instance exactly by its weight.
    ///   The turns are laid out ahead by worst-case fair weighted fair queueing (`WF²Q`: Bennett and Zhang,
    ///   INFOCOM 1996), in 2 bytes a turn, at most 32 KiB, in O(W log n).
    /// - W beyond: by less than 8 in windows up to a million picks, growing with the logarithm of the length.
    ///   The turns follow the golden ratio through the summed weights (a Kronecker sequence: Kuipers and
    ///   Niederreiter, Uniform Distribution of Sequences, chapter 2), in 12 to 16 bytes an instance, in O(n).
    ///   No weight is rounded, so nothing drifts however long the window.
    Weighted,
}

impl Builtin {
    const NAMES: [(Self, &str); 3] =
        [(Self::RoundRobin, "round-robin"), (Self::Random, "random"), (Self::Weighted, "weighted")];
}

impl Strategy for Builtin {
    fn picker(&self, snapshot: Snapshot) -> Box<dyn Picker> {
        match self {
            Self::RoundRobin => Box::new(RoundRobin::new(snapshot)),
            Self::Random => Box::new(Random::new(snapshot)),
            Self::Weighted => Box::new(Weighted::new(snapshot)),
        }
    }
}

impl fmt::Display for Builtin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(Self::NAMES[*self as usize].1)
    }
}

impl FromStr for Builtin {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::NAMES.iter().find(|(_, name)| *name == text);
        found
            .map(|(strategy, _)| *strategy)
            .ok_or_else(|| Invalid::new("strategy", text, "must be round-robin, random or weighted"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_print_what_they_parse_and_others_are_refused_with_the_choice() {
        for (strategy, name) in Builtin::NAMES {
            assert_eq!(strategy.to_string(), name);
            assert_eq!(name.parse::<Builtin>().unwrap(), strategy);
        }
        for bad in ["", "round_robin", "Random", "weighted "] {
            let error = bad.parse::<Builtin>().unwrap_err();
            assert_eq!(error.field(), "strategy");
            assert_eq!(error.rule(), "must be round-robin, random or weighted");
        }
    }
}
