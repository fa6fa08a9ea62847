//! What a store may answer instead of doing.

use std::fmt;

use netloft_types::{InstanceId, Invalid};

use crate::embedded::DiskFault;

/// Why a store did not do what it was asked to do. A refused command changed nothing; this is not known only of one
/// that met a failing disk, before the store is opened again, or a cluster that went away ([`Error::OutcomeUnknown`]).
///
/// No variant names a session: whoever knows the id of a session can end it, and errors are logged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The session was never opened, was closed, or has expired. Its owner opens a new one and registers
    /// again.
    #[error("session is not open: never opened, closed, or expired")]
    SessionNotFound,
    /// The session is open with another time to live.
    #[error("session is open already, with another time to live")]
    SessionExists,
    /// There is no such instance, so nothing to change or to remove.
    #[error("instance {id} is not registered")]
    InstanceNotFound {
        /// The instance asked for.
        id: InstanceId,
    },
    /// The instance was registered by another session, which alone may change it.
    #[error("instance {id} belongs to another session")]
    InstanceHeld {
        /// The instance in question.
        id: InstanceId,
    },
    /// The instance is no longer as it was seen, so the amendment may be wrong now: look again.
    #[error("instance {id} has changed meanwhile")]
    InstanceChanged {
        /// The instance in question.
        id: InstanceId,
    },
    /// A value breaks a rule of the vocabulary.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The disk of the store is full. What needs no room, or makes some, is still done.
    #[error("the disk of the registry is full")]
    DiskFull,
    /// The disk of the store failed. Whether the command was carried out shows when the store is opened again; until
    /// then it changes nothing more, and what it answers to reads is what was on the disk before.
    #[error("the disk of the registry failed; it takes no changes until it is started again")]
    DiskFailed {
        /// How it failed.
        #[source]
        fault: DiskFault,
    },
    /// The others that the store has to agree with do not answer, or not enough of them. Nothing was changed.
    #[error("the cluster of the registry does not answer; nothing was changed")]
    Away {
        /// What was tried last, and how it failed.
        #[source]
        fault: ClusterFault,
    },
    /// The cluster went away after it was asked for the change, and for too long to find out whether it made it.
    /// Repeating the command is safe: what was done already is then found done, or gone.
    #[error("the cluster of the registry went away meanwhile; whether the change was made is not known")]
    OutcomeUnknown {
        /// What was tried last, and how it failed.
        #[source]
        fault: ClusterFault,
    },
    /// A bound on memory is reached. It is an option of the store.
    #[error("limit {limit} = {max} is reached")]
    Exhausted {
        /// The option, by its name.
        limit: &'static str,
        /// Its value.
        max: usize,
    },
}

impl Error {
    /// Whether what the command is about does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::SessionNotFound | Self::InstanceNotFound { .. })
    }

    /// Whether what the command is about belongs to someone else, or somebody else was faster.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::SessionExists | Self::InstanceHeld { .. } | Self::InstanceChanged { .. })
    }

    /// Whether the command can never succeed as it is.
    pub fn is_invalid(&self) -> bool {
        matches!(self, Self::Invalid(_))
    }

    /// Whether a limit is reached, or the disk is full; the same command may succeed once others have gone.
    pub fn is_exhausted(&self) -> bool {
        matches!(self, Self::Exhausted { .. } | Self::DiskFull)
    }

    /// Whether the store cannot do it now, whatever the command. Unlike other refused commands, this one may have been
    /// carried out, unless it is [`Error::Away`].
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::DiskFailed { .. } | Self::Away { .. } | Self::OutcomeUnknown { .. })
    }
}

/// How a cluster failed to answer: what it was asked for, and what was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterFault {
    operation: &'static str,
    said: String,
}

impl ClusterFault {
    /// Notes what was asked for, such as `read the last revision`, and what came of it.
    pub fn new(operation: &'static str, said: impl fmt::Display) -> Self {
        Self { operation, said: said.to_string() }
    }
}

impl fmt::Display for ClusterFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.operation, self.said)
    }
}

impl std::error::Error for ClusterFault {}

/// The store of a watch has gone, and everything it published was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the watched store has closed")]
pub struct Closed;
