//! What can go wrong with a firewall.

use std::io;

use netloft_netlink::Refusal;
use netloft_netns::NetnsId;
use nix::libc;

use crate::Fact;

/// An operation on the tables, or on the connections that the kernel tracks, failed.
///
/// The kernel's number is always within reach: [`Error::raw_os_error`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The namespace could not be entered to open a socket there.
    #[error("cannot reach the network namespace")]
    Enter {
        /// Why.
        source: netloft_netns::Error,
    },
    /// The sockets could not be opened in the namespace.
    #[error("cannot open a netfilter socket in {netns}")]
    Open {
        /// The namespace.
        netns: NetnsId,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A request failed. If the kernel refused it, what was asked for with it was not done either.
    #[error(transparent)]
    Request(#[from] netloft_netlink::Error),
    /// Another living process owns the tables.
    #[error("another process owns the tables")]
    Taken {
        /// The kernel's answer.
        source: Refusal,
    },
    /// Two facts cannot be true at once: they say different things of the same port.
    #[error("{one} contradicts {other}")]
    Contradiction {
        /// One of them.
        one: Box<Fact>,
        /// The other.
        other: Box<Fact>,
    },
    /// The events of the namespace could not be read.
    #[error("cannot read the events of the packet filter")]
    Events {
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    /// The kernel's error number, if the kernel was asked.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Enter { source } => source.raw_os_error(),
            Self::Request(error) => error.raw_os_error(),
            Self::Taken { source } => Some(source.errno()),
            Self::Open { source, .. } | Self::Events { source } => source.raw_os_error(),
            Self::Contradiction { .. } => None,
        }
    }

    /// Whether a table or set is not there: somebody deleted it. [`crate::Firewall::establish`] brings it back.
    pub fn is_not_found(&self) -> bool {
        self.is_errno(libc::ENOENT)
    }

    /// Whether what was put contradicts what is there, or another process has the tables.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Taken { .. } | Self::Contradiction { .. }) || self.says_taken()
    }

    /// Whether privilege over the namespace is missing.
    pub fn is_permission_denied(&self) -> bool {
        match self {
            Self::Enter { source } => source.is_permission_denied(),
            Self::Taken { .. } => false,
            _ => self.is_errno(libc::EPERM) || self.is_errno(libc::EACCES),
        }
    }

    /// Whether there is more than one transaction can hold: without privilege over the machine, `net.core.wmem_max`
    /// bounds it.
    pub fn is_exhausted(&self) -> bool {
        matches!(self, Self::Request(error) if error.is_exhausted())
    }

    /// Whether the same call may succeed if made again.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Request(error) => error.is_retryable(),
            Self::Events { .. } => true,
            _ => self.is_errno(libc::ENOMEM) || self.is_errno(libc::ENOBUFS),
        }
    }

    /// Whether something else is in the place: the same key with other data, or an interval that overlaps.
    pub(crate) fn says_taken(&self) -> bool {
        [libc::EEXIST, libc::EBUSY, libc::ENOTEMPTY].into_iter().any(|errno| self.is_errno(errno))
    }

    pub(crate) fn is_errno(&self, errno: i32) -> bool {
        self.raw_os_error() == Some(errno)
    }
}
