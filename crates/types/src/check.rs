//! How an instance shows that it works: checks as data, and what maintenance says.

mod http;
mod report;
mod span;
mod text;

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::Duration;

pub use self::http::{HostHeader, HttpCheck, HttpHeaders, HttpMethod, HttpPath, StatusRange};
pub use self::report::{CheckReport, Output};
pub use self::span::{Percent, Span};
use crate::limits::{CHECKS_MAX, GRPC_SERVICE_LEN_MAX, NAME_LEN_MAX, REASON_LEN_MAX};
use crate::name::text_type;
use crate::{Health, Invalid, Port};

/// One way of finding out whether an instance works.
///
/// Every field is already valid by its type, so any combination of them is a legal check. It has a text form, in
/// which what is not said is the default: `http:8081/healthz,interval=5s,failures=2`, `tcp`, `grpc:/pkg.Api`,
/// `ttl,interval=30s`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "String", try_from = "String"))]
pub struct Check {
    /// Tells it from the other checks of the instance.
    pub name: CheckName,
    /// What is done.
    pub kind: CheckKind,
    /// From the beginning of one probe to that of the next, 10 seconds by default. Of [`CheckKind::Ttl`]: how long a
    /// heartbeat counts.
    pub interval: Span,
    /// How long a probe may take, 2 seconds by default; never longer than the interval, whatever is said here.
    pub timeout: Span,
    /// By how much of the interval a probe may come early, 10 % by default, so that those that began together drift
    /// apart.
    pub jitter: Percent,
    /// What holds before the first result: critical by default, so that calls must be earned.
    pub initial: Health,
    /// Successes in a row that end being critical, 1 by default.
    pub passes: NonZeroU8,
    /// Failures in a row that make critical, 3 by default.
    pub failures: NonZeroU8,
    /// The instance is removed when this check has been critical for so long; never by default.
    pub remove_after: Option<Span>,
    /// What is done about changing to and fro; five changes within a minute by default.
    pub damping: Option<Damping>,
}

impl Check {
    /// Makes a check of a kind, named like it, with the defaults.
    pub fn new(kind: CheckKind) -> Self {
        Self {
            name: CheckName(kind.word().into()),
            kind,
            interval: Span::from_secs(10),
            timeout: Span::from_secs(2),
            jitter: Percent::new(10),
            initial: Health::Critical,
            passes: NonZeroU8::MIN,
            failures: NonZeroU8::MIN.saturating_add(2),
            remove_after: None,
            damping: Some(Damping::default()),
        }
    }

    /// A connection to the instance's own port.
    pub fn tcp() -> Self {
        Self::new(CheckKind::Tcp { port: None })
    }

    /// How long a probe may take, the interval considered.
    pub fn time_limit(&self) -> Duration {
        self.timeout.length().min(self.interval.length())
    }
}

/// What a check does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckKind {
    /// Asks over HTTP/1.1 and looks at the status. Redirects are not followed.
    Http(HttpCheck),
    /// Connects and hangs up.
    Tcp {
        /// Where, at the instance's address; its own port if absent.
        port: Option<Port>,
    },
    /// Asks `grpc.health.v1.Health/Check` without TLS.
    Grpc {
        /// Where, at the instance's address; its own port if absent.
        port: Option<Port>,
        /// After what.
        service: GrpcService,
    },
    /// Waits to be told: the instance says in time that it works.
    Ttl,
}

impl CheckKind {
    /// The port that is probed instead of the instance's own, if there is one.
    pub fn port(&self) -> Option<Port> {
        match self {
            Self::Http(http) => http.port,
            Self::Tcp { port } | Self::Grpc { port, .. } => *port,
            Self::Ttl => None,
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Tcp { .. } => "tcp",
            Self::Grpc { .. } => "grpc",
            Self::Ttl => "ttl",
        }
    }
}

/// When a check that changes to and fro is held critical: after so many changes within so long, until it has not failed
/// for as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damping {
    /// Changes to and from critical.
    pub changes: NonZeroU8,
    /// Within this time.
    pub within: Span,
}

impl Default for Damping {
    fn default() -> Self {
        Self { changes: NonZeroU8::MIN.saturating_add(4), within: Span::from_secs(60) }
    }
}

/// The checks of an instance: at most 8, each of another name.
#[derive(Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "Vec<Check>", try_from = "Vec<Check>"))]
pub struct Checks(Arc<[Check]>);

impl Checks {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The checks, as they were given.
    pub fn iter(&self) -> std::slice::Iter<'_, Check> {
        self.0.iter()
    }

    /// The checks, as they were given.
    pub fn as_slice(&self) -> &[Check] {
        &self.0
    }

    /// What holds before the first result: the worst that one of them says.
    pub fn initial(&self) -> Option<Health> {
        self.0.iter().map(|check| check.initial).max()
    }
}

impl<'a> IntoIterator for &'a Checks {
    type Item = &'a Check;
    type IntoIter = std::slice::Iter<'a, Check>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<Check> for Checks {
    fn from(check: Check) -> Self {
        Self(Arc::from([check]))
    }
}

impl TryFrom<Vec<Check>> for Checks {
    type Error = Invalid;

    fn try_from(checks: Vec<Check>) -> Result<Self, Self::Error> {
        if checks.len() > CHECKS_MAX {
            return Err(Invalid::new("checks", format_args!("{} checks", checks.len()), "must be at most 8"));
        }
        let mut names = BTreeSet::new();
        for check in &checks {
            if !names.insert(&check.name) {
                return Err(Invalid::new("check name", &check.name, "must be of one check of an instance"));
            }
        }
        Ok(Self(checks.into()))
    }
}

impl From<Checks> for Vec<Check> {
    fn from(checks: Checks) -> Self {
        checks.0.to_vec()
    }
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(Check::to_string)).finish()
    }
}

text_type! {
    /// The name of a check, such as `http`, by the same rules as [`ServiceName`](crate::ServiceName).
    CheckName, check_check_name
}

fn check_check_name(text: &str) -> Result<(), Invalid> {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let well_formed = (1..=NAME_LEN_MAX).contains(&text.len())
        && text.bytes().all(legal)
        && !text.starts_with('-')
        && !text.ends_with('-');
    let rule = "must be 1 to 63 characters of a-z, 0-9 and '-', and neither begin nor end with '-'";
    if well_formed { Ok(()) } else { Err(Invalid::new("check name", text, rule)) }
}

text_type! {
    /// A service in the words of `grpc.health.v1`, such as `pkg.Api`; empty for the server as a whole. At most 128
    /// bytes of letters, digits, `.`, `_`, `-` and `/`.
    GrpcService, check_grpc_service
}

fn check_grpc_service(text: &str) -> Result<(), Invalid> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    let rule = "must be at most 128 letters, digits, '.', '_', '-' and '/'";
    if text.len() <= GRPC_SERVICE_LEN_MAX && text.bytes().all(legal) {
        Ok(())
    } else {
        Err(Invalid::new("gRPC service", text, rule))
    }
}

text_type! {
    /// Why an instance is kept out of lookups: 1 to 256 bytes without control characters.
    Reason, check_reason
}

fn check_reason(text: &str) -> Result<(), Invalid> {
    if (1..=REASON_LEN_MAX).contains(&text.len()) && !text.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(Invalid::new("reason", text, "must be 1 to 256 bytes without control characters"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_few_and_of_different_names() {
        let named = |n: usize| Check { name: format!("c{n}").parse().unwrap(), ..Check::tcp() };
        assert!(Checks::try_from((0..CHECKS_MAX).map(named).collect::<Vec<_>>()).is_ok());
        assert!(Checks::try_from((0..=CHECKS_MAX).map(named).collect::<Vec<_>>()).is_err());
        let error = Checks::try_from(vec![Check::tcp(), Check::tcp()]).unwrap_err();
        assert_eq!(error.field(), "check name");
    }

    #[test]
    fn the_worst_initial_health_counts() {
        assert_eq!(Checks::default().initial(), None);
        let passing = Check { name: "a".parse().unwrap(), initial: Health::Passing, ..Check::tcp() };
        assert_eq!(Checks::from(passing.clone()).initial(), Some(Health::Passing));
        let both = Checks::try_from(vec![passing, Check::tcp()]).unwrap();
        assert_eq!(both.initial(), Some(Health::Critical));
    }

    #[test]
    fn a_probe_never_outlives_its_interval() {
        let check = Check { interval: "1s".parse().unwrap(), timeout: "5s".parse().unwrap(), ..Check::tcp() };
        assert_eq!(check.time_limit(), Duration::from_secs(1));
    }
}
