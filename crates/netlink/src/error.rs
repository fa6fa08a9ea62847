//! What can go wrong with a request.

use std::borrow::Cow;
use std::fmt;
use std::io;

use nix::libc;

/// What a request does to what, to be told when it fails: `set up`, `eth0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    operation: &'static str,
    object: Cow<'static, str>,
}

impl Subject {
    /// Names an operation and its object.
    pub fn new(operation: &'static str, object: impl Into<Cow<'static, str>>) -> Self {
        Self { operation, object: object.into() }
    }

    /// Says that it failed.
    pub fn failed(&self, cause: Cause) -> Error {
        Error { subject: self.clone(), cause }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.operation, self.object)
    }
}

/// A request failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {subject}")]
pub struct Error {
    /// What it was about.
    pub subject: Subject,
    /// Why.
    #[source]
    pub cause: Cause,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The kernel refused it.
    #[error(transparent)]
    Refused(Refusal),
    /// It could not be sent, or no answer came: what the socket said. Whether it was carried out is unknown.
    #[error("no answer from the kernel")]
    Unanswered(#[source] io::Error),
    /// The kernel answered in a way that makes no sense. Who understands payloads says the same of those.
    #[error("cannot understand the kernel's answer")]
    Malformed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A list changed under the kernel's hands each time it was read.
    #[error("interrupted {attempts} times by changes")]
    Interrupted {
        /// How often it was tried.
        attempts: u32,
    },
}

impl Error {
    /// The kernel's error number, if it gave one.
    pub fn raw_os_error(&self) -> Option<i32> {
        match &self.cause {
            Cause::Refused(refusal) => Some(refusal.errno()),
            Cause::Unanswered(source) => source.raw_os_error(),
            Cause::Malformed(_) | Cause::Interrupted { .. } => None,
        }
    }

    /// Whether the datagram was too large to be sent: without privilege over the machine, `net.core.wmem_max` bounds it.
    pub fn is_exhausted(&self) -> bool {
        self.raw_os_error() == Some(libc::EMSGSIZE)
    }

    /// Whether the same request may succeed if made again.
    pub fn is_retryable(&self) -> bool {
        match &self.cause {
            Cause::Refused(refusal) => [libc::ENOMEM, libc::ENOBUFS].contains(&refusal.errno()),
            Cause::Unanswered(_) | Cause::Interrupted { .. } => !self.is_exhausted(),
            Cause::Malformed(_) => false,
        }
    }
}

/// A transaction was not carried out.
#[derive(Debug, thiserror::Error)]
#[error("a transaction was not carried out")]
pub struct Rejected {
    /// The request that was refused, counted from 0; that which opens the transaction if it was not about one.
    pub position: usize,
    /// Why.
    #[source]
    pub error: Error,
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
