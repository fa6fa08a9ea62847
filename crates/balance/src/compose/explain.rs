//! Why an instance gets calls, or none.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use netloft_types::{Advice, Health, Lifecycle};

/// What the parts decided of one instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The share of the calls that its weight stands for, from 0 to 1. A strategy that watches load and latency gives it more
    /// or less than that.
    pub share: f64,
    /// What each part did to it, in their order; nothing if it simply has its weight.
    pub reasons: Arc<[Reason]>,
}

/// What a part did to an instance.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// It is further away than is needed: nearer ones can carry the calls.
    Far,
    /// It is nearer than those that get calls, but too few as near as it are usable.
    TooFewNear,
    /// Its distance gets this share of the calls, from 0 to 1, since nearer ones cannot carry all of them.
    Spill {
        /// The share of all instances that are as far.
        share: f64,
    },
    /// The registry says that it does not work, or wants no calls.
    Unusable {
        /// Whether it works.
        health: Health,
        /// Whether it wants calls.
        lifecycle: Lifecycle,
    },
    /// An operator keeps it out of use.
    Maintenance,
    /// It gets calls though the registry says that it does not work: too few work for that to be believed.
    Panic,
    /// Its calls failed.
    Ejected {
        /// In which way.
        cause: Cause,
        /// Until when, on the caller's clock.
        until: Duration,
    },
    /// Its calls failed, and it gets more only because too many others are ejected already.
    NotEjected {
        /// In which way.
        cause: Cause,
    },
    /// By the load that it reports, it can take more or less than the others.
    Load {
        /// How busy it says that it is: 0 is idle, 1 all it can do.
        utilization: f64,
        /// What its weight is multiplied by.
        factor: f64,
    },
    /// The registry advises less of it, by what all clients report.
    Advised(Advice),
    /// It came a moment ago, and has this part of its weight, from 0 to 1.
    SlowStart {
        /// The part.
        part: f64,
    },
    /// This caller uses others of the many.
    OutsideSubset,
}

/// How an outlier shows itself.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Cause {
    /// So many calls failed one after the other.
    ConsecutiveFailures(u32),
    /// The share of its calls that succeed is far below those of others.
    SuccessRate {
        /// Its share, from 0 to 1.
        own: f64,
        /// The share below which it is an outlier.
        threshold: f64,
    },
    /// More than so many of its calls fail, in percent.
    FailurePercentage(u8),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} % of the calls", self.share * 100.0)?;
        for (reason, separator) in self.reasons.iter().zip([": "].into_iter().chain(std::iter::repeat("; ")))
        {
            write!(f, "{separator}{reason}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Far => f.write_str("nearer ones can carry them"),
            Self::TooFewNear => f.write_str("too few as near as it are usable"),
            Self::Spill { share } => {
                write!(f, "those as near as it get {:.0} %, what nearer ones cannot carry", share * 100.0)
            }
            Self::Unusable { health, lifecycle: Lifecycle::Ready } => write!(f, "it is {health}"),
            Self::Unusable { lifecycle, .. } => write!(f, "it is {lifecycle}"),
            Self::Maintenance => f.write_str("an operator keeps it out of use"),
            Self::Panic => f.write_str("it does not work, but too few do for that to be believed"),
            Self::Ejected { cause, .. } => write!(f, "it is ejected: {cause}"),
            Self::NotEjected { cause } => write!(f, "{cause}, but too many are ejected already"),
            Self::Load { utilization, factor } => {
                write!(f, "it says that it is {:.0} % busy: {factor:.1} of its weight", utilization * 100.0)
            }
            Self::Advised(advice) => write!(f, "the registry says: {advice}"),
            Self::SlowStart { part } => write!(f, "it is new, and has {:.0} % of its weight", part * 100.0),
            Self::OutsideSubset => f.write_str("this caller uses others"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConsecutiveFailures(count) => write!(f, "{count} calls failed one after the other"),
            Self::SuccessRate { own, threshold } => {
                let (own, threshold) = (own * 100.0, threshold * 100.0);
                write!(f, "{own:.1} % of its calls succeed, and of an ordinary one {threshold:.1} %")
            }
            Self::FailurePercentage(percent) => write!(f, "{percent} % of its calls fail"),
        }
    }
}
