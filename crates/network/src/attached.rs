//! An endpoint as this process holds it.

use std::path::PathBuf;

use netloft_netns::Netns;
use netloft_types::Endpoint;

/// An endpoint of this host, with the namespace of its sandbox.
///
/// It holds the sandbox's namespace open: after a detach the namespace lives on, cut off, until the last clone of
/// this value is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attached {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// The sandbox's namespace, for this process.
    pub netns: Netns,
    /// Where other processes can open the sandbox's namespace, while the sandbox is attached.
    pub netns_path: PathBuf,
    /// What was remembered with [`Host::annotate`](crate::Host::annotate).
    pub note: Option<String>,
}
