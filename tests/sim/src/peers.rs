//! What other projects do, as we read it: only how they choose, written anew.
//!
//! Each is one client with servers that are all connected. What they do beside choosing - pools of connections,
//! readiness, subsets, health checks - is left out for all alike.

mod envoy;
mod grpc;
mod pingora;
mod prequal;
mod tower;

use crate::client::Client;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// tower 0.5.3, `balance::p2c::Balance` with `load::PendingRequests`.
    TowerPending,
    /// tower 0.5.3, `balance::p2c::Balance` with `load::PeakEwma`, 30 ms and 10 s: linkerd's settings.
    TowerPeakEwma,
    /// pingora 0.9.1, `selection::Weighted` with `RoundRobin`.
    Pingora,
    /// Envoy, `least_request_lb.cc` and `edf_scheduler.h`: two choices among equal weights, and the scheduler with
    /// a bias of 1 among others.
    EnvoyLeastRequest,
    /// The same with the scheduler always, as when a bias is set.
    EnvoyScheduler,
    /// grpc-go, `balancer/weightedroundrobin` (proposal A58), with the defaults.
    GrpcWeighted,
    /// Prequal (Wydrowski et al., Load is not what you should balance, NSDI 2024), with the paper's settings: every
    /// call asks three servers.
    Prequal,
    /// The same by calls in flight alone: the paper's setting in which everybody is hot.
    PrequalInFlight,
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::TowerPending,
        Self::TowerPeakEwma,
        Self::Pingora,
        Self::EnvoyLeastRequest,
        Self::EnvoyScheduler,
        Self::GrpcWeighted,
        Self::Prequal,
        Self::PrequalInFlight,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::TowerPending => "tower, pending",
            Self::TowerPeakEwma => "tower, peak-EWMA",
            Self::Pingora => "pingora",
            Self::EnvoyLeastRequest => "Envoy",
            Self::EnvoyScheduler => "Envoy, scheduler",
            Self::GrpcWeighted => "gRPC weighted",
            Self::Prequal => "Prequal",
            Self::PrequalInFlight => "Prequal, in flight",
        }
    }

    /// Whether servers tell it of themselves, which they do for no other.
    pub fn asks(self) -> bool {
        matches!(self, Self::GrpcWeighted | Self::Prequal | Self::PrequalInFlight)
    }

    pub(crate) fn client(self, servers: usize, seed: u64) -> Box<dyn Client> {
        match self {
            Self::TowerPending => Box::new(tower::Pending::new(servers, seed)),
            Self::TowerPeakEwma => Box::new(tower::PeakEwma::new(servers, seed)),
            Self::Pingora => Box::new(pingora::RoundRobin::default()),
            Self::EnvoyLeastRequest => Box::new(envoy::LeastRequest::new(servers, seed, false)),
            Self::EnvoyScheduler => Box::new(envoy::LeastRequest::new(servers, seed, true)),
            Self::GrpcWeighted => Box::new(grpc::Weighted::new(servers, seed)),
            Self::Prequal => Box::new(prequal::Prequal::new(prequal::COLD, seed)),
            Self::PrequalInFlight => Box::new(prequal::Prequal::new(0.0, seed)),
        }
    }
}

/// Who is in the snapshot.
fn listed(weights: &[u32]) -> Vec<usize> {
    (0..weights.len()).filter(|server| weights[*server] > 0).collect()
}
