//! What a monitor says.

use std::net::SocketAddr;
use std::time::Duration;

use netloft_types::{Check, Checks, InstanceId, ServiceName};

use super::Amendment;

/// What somebody with hands is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Probe, then call [`Monitor::finished`](super::Monitor::finished).
    Probe(Probe),
    /// Change the registry, and call [`Monitor::set_back`](super::Monitor::set_back) if that fails.
    Amend(Amendment),
    /// So much of a service seems to fail at once that what was there before stays: somebody should look soon.
    Panic {
        /// The service.
        service: ServiceName,
    },
    /// That is over.
    Calm {
        /// The service.
        service: ServiceName,
    },
}

/// A probe to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Names it when it is finished.
    pub ticket: u64,
    /// What it is for.
    pub instance: InstanceId,
    /// Where to connect to.
    pub target: SocketAddr,
    /// How long it may take.
    pub time_limit: Duration,
    pub(super) checks: Checks,
    pub(super) index: usize,
}

impl Probe {
    /// What to do.
    pub fn check(&self) -> &Check {
        &self.checks.as_slice()[self.index]
    }
}

/// Why a heartbeat counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeartbeatError {
    /// There is no check that waits to be told, or none of that name.
    #[error("instance {instance} has no such ttl check")]
    NoSuchCheck {
        /// The instance.
        instance: InstanceId,
    },
}

/// How much there is to do, and how well it goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Instances looked after.
    pub instances: usize,
    /// Their checks.
    pub checks: usize,
    /// Probes under way.
    pub under_way: usize,
    /// Probes that are due and wait for their turn.
    pub waiting: usize,
    /// Results so far.
    pub results: u64,
    /// Failures that were not believed, because the observer was not there.
    pub discarded: u64,
    /// How much the observer doubts itself, from 0 to 8.
    pub doubt: u32,
}
