//! What a client is to the simulator.

use std::fmt;

use crate::queue::{Queue, Report};

/// A client of the fleet: chooses a server for each of its calls, and is told how they went. It knows nothing of
/// the calls of others.
pub(crate) trait Client: fmt::Debug {
    /// The snapshot changed: these are the weights of all servers now, 0 for those not in it.
    fn follow(&mut self, weights: &[u32], now: f64);

    /// Chooses a server for a call of that number and begins it. `servers` is for those who ask servers.
    fn call(&mut self, number: usize, servers: &[Queue], now: f64) -> Option<usize>;

    /// A call is over.
    fn end(&mut self, ended: &Ended);
}

/// How a call went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    /// Which call it was.
    pub(crate) number: usize,
    /// Who had it.
    pub(crate) server: usize,
    /// When it ended, in seconds.
    pub(crate) now: f64,
    /// How long it took, in seconds.
    pub(crate) latency: f64,
    /// Whether it was answered.
    pub(crate) is_success: bool,
    /// What the server tells of itself with the answer.
    pub(crate) report: Report,
}
