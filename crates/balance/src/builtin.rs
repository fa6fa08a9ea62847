//! The strategies by name.

use std::any::Any;
use std::fmt;
use std::str::FromStr;

use netloft_types::Invalid;

use crate::adaptive::{Memory, PeakEwma};
use crate::least_request::{FewDrawn, FullScan};
use crate::maglev::Table;
use crate::options::{LeastRequest, Maglev, RingHash};
use crate::random::{Random, WeightedRandom};
use crate::ring_hash::Ring;
use crate::round_robin::RoundRobin;
use crate::weighted::Weighted;
use crate::{Picker, Roster, Strategy};

/// The strategies of this crate. [`Adaptive`](Self::Adaptive) is the default.
///
/// All honour weights, except [`RoundRobin`](Self::RoundRobin) and [`Random`](Self::Random), which only leave
/// out those of weight 0. Each is parsed from its name, with the options' defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
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
    /// - Equal weights, or W up to 16,384 of at most 1,024 instances: by less than 2; and any W picks in a row
    ///   hold each instance exactly by its weight. The turns are laid out ahead by worst-case fair weighted fair
    ///   queueing (`WF²Q`: Bennett and Zhang, INFOCOM 1996), in 2 bytes a turn, at most 32 KiB, in O(W log n).
    /// - Others: by less than 8 in windows up to a million picks, growing with the logarithm of the length.
    ///   The turns follow the golden ratio through the summed weights (a Kronecker sequence: Kuipers and
    ///   Niederreiter, Uniform Distribution of Sequences, chapter 2), in 12 to 16 bytes an instance, in O(n).
    ///   No weight is rounded, so nothing drifts however long the window.
    Weighted,
    /// `weighted-random`: each instance as likely as its weight demands, whatever was picked before (the alias
    /// method: Walker 1977, Vose 1991).
    WeightedRandom,
    /// `least-request`: of a few drawn by weight, the one with the fewest calls in flight for its weight: power
    /// of two choices (Mitzenmacher 2001; gRPC proposal A48; Envoy's `least_request`). Who is idle when drawn
    /// gets the call, so among the idle the weights alone decide.
    LeastRequest(LeastRequest),
    /// `least-request-full-scan`: of all, the one with the fewest calls in flight for its weight (Envoy's
    /// `FULL_SCAN`). A pick takes O(n): for a few instances, with clients that know of most calls.
    LeastRequestFullScan,
    /// `peak-ewma`: of two drawn by weight, the one for which the product of latency and calls in flight is
    /// less. The latency is an average that believes bad news at once and good news slowly (Twitter's finagle,
    /// 10 s; linkerd; tower).
    ///
    /// As in those, a failure is an answer like others, and who fails fast looks fast. It needs somebody to
    /// throw out who fails; [`Adaptive`](Self::Adaptive) does not.
    PeakEwma,
    /// `ring-hash`: the instance that follows the key on a ring of hashes (Karger et al. 1997), and the next
    /// one on it when that one has too many calls in flight: consistent hashing with bounded loads (Mirrokni,
    /// Thorup and Zadimoghaddam 2016).
    ///
    /// When an instance goes, its keys alone move; when one comes, only to it. With weights, this holds while
    /// the mean weight stays. A share is rounded to a whole number of points, at least one.
    RingHash(RingHash),
    /// `maglev`: the instance that owns the key in a table (Eisenbud et al., NSDI 2016). The keys are shared
    /// within about a hundredth; when an instance goes, a few keys of others move too.
    Maglev(Maglev),
    /// `adaptive`, the default: of two drawn by weight and the last twelve that answered, if that was a moment ago, the
    /// cheapest by service time, calls in flight and failures. `cargo run --release -p netloft-sim-fleet` shows it
    /// beside others.
    ///
    /// The cost of an instance is s (l + 1)² (1 + 50 f): s is its service time for each call in flight, with a
    /// gain of 1/16 for each success; l its calls in flight, times the mean weight over its own; f the share of
    /// its failures, with a gain of 1/16. Half of s and f is forgotten in 30 s without news, s towards the mean
    /// of all. Of the two drawn the first stays unless the other costs less than 65 % of it, so that the weights
    /// decide among equals. A moment is ten mean latencies.
    ///
    /// A client comes back to those that served it well, and leaves the others to others. So calls are not
    /// shared evenly while there are cores to spare. The more clients share the servers, the less each knows, and
    /// the less this gains.
    #[default]
    Adaptive,
}

impl Builtin {
    /// All of them, with default options.
    pub const ALL: [Self; 10] = [
        Self::RoundRobin,
        Self::Random,
        Self::Weighted,
        Self::WeightedRandom,
        Self::LeastRequest(LeastRequest::DEFAULT),
        Self::LeastRequestFullScan,
        Self::PeakEwma,
        Self::RingHash(RingHash::DEFAULT),
        Self::Maglev(Maglev::Small),
        Self::Adaptive,
    ];

    /// Its name, which does not tell options.
    pub fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::Random => "random",
            Self::Weighted => "weighted",
            Self::WeightedRandom => "weighted-random",
            Self::LeastRequest(_) => "least-request",
            Self::LeastRequestFullScan => "least-request-full-scan",
            Self::PeakEwma => "peak-ewma",
            Self::RingHash(_) => "ring-hash",
            Self::Maglev(_) => "maglev",
            Self::Adaptive => "adaptive",
        }
    }
}

impl Strategy for Builtin {
    fn picker(&self, roster: Roster) -> Box<dyn Picker> {
        match *self {
            Self::RoundRobin => Box::new(RoundRobin::new(roster)),
            Self::Random => Box::new(Random::new(roster)),
            Self::Weighted => Box::new(Weighted::new(roster)),
            Self::WeightedRandom => Box::new(WeightedRandom::new(roster)),
            Self::LeastRequest(options) => Box::new(FewDrawn::new(options, roster)),
            Self::LeastRequestFullScan => Box::new(FullScan::new(roster)),
            Self::PeakEwma => Box::new(PeakEwma::new(roster)),
            Self::RingHash(options) => Box::new(Ring::new(options, roster)),
            Self::Maglev(options) => Box::new(Table::new(options, roster)),
            Self::Adaptive => Box::new(Memory::new(roster)),
        }
    }

    fn follow(&self, before: &dyn Picker, roster: Roster) -> Box<dyn Picker> {
        let before: &dyn Any = before;
        match (self, before.downcast_ref::<Ring>()) {
            (Self::RingHash(options), Some(ring)) => Box::new(ring.following(*options, roster)),
            _ => self.picker(roster),
        }
    }
}

impl fmt::Display for Builtin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

const RULE: &str = "must be adaptive, round-robin, random, weighted, weighted-random, least-request, \
    least-request-full-scan, peak-ewma, ring-hash or maglev";

impl FromStr for Builtin {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|strategy| strategy.name() == text);
        found.ok_or_else(|| Invalid::new("strategy", text, RULE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_print_what_they_parse_and_others_are_refused_with_the_choice() {
        for strategy in Builtin::ALL {
            assert_eq!(strategy.to_string(), strategy.name());
            assert_eq!(strategy.name().parse::<Builtin>().unwrap(), strategy);
        }
        for bad in ["", "round_robin", "Random", "weighted "] {
            let error = bad.parse::<Builtin>().unwrap_err();
            assert_eq!(error.field(), "strategy");
            for strategy in Builtin::ALL {
                assert!(error.rule().contains(strategy.name()), "{strategy}");
            }
        }
    }

    #[test]
    fn options_outside_their_limits_are_refused() {
        for choices in [0, 1, 11] {
            assert!(LeastRequest::with_choices(choices).is_err(), "{choices}");
        }
        for points in [0, 1_001] {
            assert!(RingHash::default().with_points(points).is_err(), "{points}");
        }
        for percent in [0, 100, 1_001] {
            assert!(RingHash::default().with_bound_percent(percent).is_err(), "{percent}");
        }
        assert!(LeastRequest::with_choices(10).is_ok());
        assert!(RingHash::default().with_points(1_000).unwrap().with_bound_percent(101).is_ok());
    }
}
