//! What can go wrong with a firewall.

use std::fmt;
use std::io;

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
    /// The kernel refused a request. What was asked for with it was not done either.
    #[error("cannot {operation} {object}")]
    Refused {
        /// What we were doing.
        operation: &'static str,
        /// To what.
        object: String,
        /// The kernel's answer.
        source: Refusal,
    },
    /// The request could not be sent, or no answer came. Whether it was carried out is unknown.
    #[error("no answer from the kernel to: {operation} {object}")]
    Unanswered {
        /// What we were doing.
        operation: &'static str,
        /// To what.
        object: String,
        /// What the socket said.
        source: io::Error,
    },
    /// The kernel answered in a way we do not understand.
    #[error("cannot understand the kernel's answer to: {operation} {object}")]
    Malformed {
        /// What we were doing.
        operation: &'static str,
        /// To what.
        object: String,
    },
    /// A list changed under the kernel's hands each time it was read.
    #[error("cannot {operation} {object}: interrupted {attempts} times by changes")]
    Interrupted {
        /// What we were doing.
        operation: &'static str,
        /// To what.
        object: String,
        /// How often it was tried.
        attempts: u32,
    },
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
            Self::Refused { source, .. } | Self::Taken { source, .. } => Some(source.errno()),
            Self::Open { source, .. } | Self::Unanswered { source, .. } | Self::Events { source } => {
                source.raw_os_error()
            }
            Self::Malformed { .. } | Self::Interrupted { .. } | Self::Contradiction { .. } => None,
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
        self.is_errno(libc::EMSGSIZE)
    }

    /// Whether the same call may succeed if made again.
    pub fn is_retryable(&self) -> bool {
        let unknown =
            matches!(self, Self::Unanswered { .. } | Self::Interrupted { .. } | Self::Events { .. });
        (unknown && !self.is_exhausted()) || self.is_errno(libc::ENOMEM) || self.is_errno(libc::ENOBUFS)
    }

    /// Whether something else is in the place: the same key with other data, or an interval that overlaps.
    pub(crate) fn says_taken(&self) -> bool {
        [libc::EEXIST, libc::EBUSY, libc::ENOTEMPTY].into_iter().any(|errno| self.is_errno(errno))
    }

    pub(crate) fn is_errno(&self, errno: i32) -> bool {
        self.raw_os_error() == Some(errno)
    }
}

/// Why the kernel refused a request: an error number and, often, a sentence (extended acknowledgement).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    errno: i32,
    explanation: Option<String>,
}

impl Refusal {
    pub(crate) fn new(errno: i32, explanation: Option<String>) -> Self {
        Self { errno, explanation }
    }

    /// The error number, positive.
    pub fn errno(&self) -> i32 {
        self.errno
    }

    /// The kernel's own words.
    pub fn explanation(&self) -> Option<&str> {
        self.explanation.as_deref()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.errno).fmt(f)?;
        match &self.explanation {
            Some(explanation) => write!(f, ": {explanation}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}
