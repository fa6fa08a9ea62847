//! What is asked of a pool and what it answers.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use netloft_types::EndpointId;

/// Whom a released address is kept for.
///
/// An owner is an endpoint, which never comes again: a sandbox that goes and returns does so as another one.
/// Its tenant is what stays the same, a key that the caller derives from a lasting name, by a hash that is the
/// same after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant(u64);

impl Tenant {
    /// Makes a tenant of its key.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// The key.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// Which address is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// The one that the tenant had last, or whichever comes next.
    Any,
    /// As [`Request::Any`], but none whose rest would have to be cut short: for whoever can do without.
    Rested,
    /// This one and no other.
    Exact(IpAddr),
}

/// The address that was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocated {
    /// The address.
    pub address: IpAddr,
    /// Whether it rested as long as it should.
    pub rested: Rested,
}

/// Whether an address rested as long as it should before it was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rested {
    /// It did, or it needs none: nobody had it, or this very tenant.
    Fully,
    /// No other was left. Traffic for the tenant before may still arrive, which is worth a warning.
    CutShort {
        /// How much of the rest is missing.
        by: Duration,
    },
}

/// An address held by an owner until released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocation {
    /// The address.
    pub address: IpAddr,
    /// Who holds it.
    pub owner: EndpointId,
    /// Whom it will be kept for.
    pub tenant: Tenant,
}

/// An address that was released and is kept for its tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    /// The address.
    pub address: IpAddr,
    /// Who had it.
    pub tenant: Tenant,
    /// When it may go to others.
    pub rest_until: SystemTime,
}
