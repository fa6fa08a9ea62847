//! Everybody who plays.

use netloft_balance::{Builtin, Composition, LeastRequest, OutlierOptions, SlowStartOptions};

use crate::client::Client;
use crate::ejecting::Ejecting;
use crate::oracle::Oracle;
use crate::ours::Ours;
use crate::peers::Peer;

/// What clients of the fleet choose by.
#[derive(Debug, Clone, PartialEq)]
pub enum Player {
    /// A strategy of ours, with nothing before it.
    Ours(Builtin),
    /// A strategy of ours, with some parts of a composition before it.
    Composed(&'static str, Builtin, Box<Composition>),
    /// What another project does.
    Peer(Peer),
    /// The same with outlier detection before it.
    Ejecting(Peer),
    /// Who knows everything but what calls will cost: not a strategy, but how well one could do.
    Oracle,
}

impl Player {
    /// Those of ours that need no key; with random keys, the others are random.
    pub fn ours() -> [Self; 7] {
        [
            Builtin::Adaptive,
            Builtin::LeastRequestFullScan,
            Builtin::LeastRequest(LeastRequest::default()),
            Builtin::PeakEwma,
            Builtin::Weighted,
            Builtin::RoundRobin,
            Builtin::Random,
        ]
        .map(Self::Ours)
    }

    /// Its name in tables.
    pub fn name(&self) -> String {
        match self {
            Self::Ours(strategy) => strategy.to_string(),
            Self::Composed(parts, strategy, _) => format!("{strategy}, {parts}"),
            Self::Peer(peer) => peer.name().to_owned(),
            Self::Ejecting(peer) => format!("{}, outliers", peer.name()),
            Self::Oracle => "oracle".to_owned(),
        }
    }

    /// A strategy of ours with outlier ejection, with a slow start, or with both.
    pub fn composed(strategy: Builtin) -> [Self; 3] {
        let outlier = Some(OutlierOptions::default());
        let slow_start = Some(SlowStartOptions::default());
        [
            ("outliers", Composition { outlier: outlier.clone(), ..Composition::NONE }),
            ("slow start", Composition { slow_start, ..Composition::NONE }),
            ("both", Composition { outlier, slow_start, ..Composition::NONE }),
        ]
        .map(|(parts, composition)| Self::Composed(parts, strategy, Box::new(composition)))
    }

    /// Makes a client.
    pub(crate) fn client(&self, servers: usize, seed: u64) -> Box<dyn Client> {
        match self {
            Self::Ours(strategy) => Box::new(Ours::new(*strategy, Composition::NONE, seed)),
            Self::Composed(_, strategy, composition) => {
                Box::new(Ours::new(*strategy, (**composition).clone(), seed))
            }
            Self::Peer(peer) => peer.client(servers, seed),
            Self::Ejecting(peer) => Box::new(Ejecting::new(peer.client(servers, seed), servers)),
            Self::Oracle => Box::new(Oracle::new(seed)),
        }
    }
}
