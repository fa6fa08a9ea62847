//! Who is at the other end of a connection, and how many connections they have.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use netloft_access::SpiffeId;

/// Who is at the other end of a connection; in the extensions of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// A TCP client.
    Tcp(SocketAddr),
    /// A TCP client over TLS.
    Tls {
        /// Its address.
        address: SocketAddr,
        /// What its certificate says it is, if it showed one that says so. It was verified.
        identity: Option<SpiffeId>,
    },
    /// A process of this host, as it was when it connected.
    Unix {
        /// Its process id in our process-id namespace, if it has one there.
        pid: Option<u32>,
        /// Its user id.
        uid: u32,
        /// Its group id.
        gid: u32,
    },
}

impl Peer {
    /// The address that shares the connections of one peer; none for processes of this host.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) | Self::Tls { address, .. } => Some(address.ip().to_canonical()),
            Self::Unix { .. } => None,
        }
    }
}

/// Prints `10.0.0.2:41234` or `unix:PID`.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) | Self::Tls { address, .. } => write!(f, "{address}"),
            Self::Unix { pid: Some(pid), .. } => write!(f, "unix:{pid}"),
            Self::Unix { pid: None, .. } => f.write_str("unix"),
        }
    }
}

/// How many connections each address has.
#[derive(Debug, Clone, Default)]
pub(crate) struct PeerCounts(Arc<Mutex<BTreeMap<IpAddr, u32>>>);

/// One of the connections of an address, until it is dropped.
pub(crate) struct Place {
    counts: PeerCounts,
    address: Option<IpAddr>,
}

impl PeerCounts {
    /// Counts one more connection of `address`, unless it has `max` already.
    pub(crate) fn enter(&self, address: Option<IpAddr>, max: u32) -> Option<Place> {
        if let Some(address) = address {
            let mut counts = self.lock();
            let count = counts.entry(address).or_default();
            if *count >= max {
                return None;
            }
            *count += 1;
        }
        Some(Place { counts: self.clone(), address })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, u32>> {
        // Counts have no state that a panic could leave half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut counts = self.counts.lock();
        if let Some(count) = counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&address);
            }
        }
    }
}
