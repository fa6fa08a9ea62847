//! The load of instances: what they say of it themselves, what those see who call them, and what is advised.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use crate::{InstanceId, Invalid, ServiceName};

/// How busy an instance says that it is: 0 is idle, 1 all it can do, and more if it counts what waits.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Utilization(f64);

impl Utilization {
    /// The number.
    pub const fn number(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Utilization {
    type Error = Invalid;

    fn try_from(number: f64) -> Result<Self, Self::Error> {
        measure("utilization", number).map(Self)
    }
}

/// What an instance says of its own load, as gRPC backends do with each answer (ORCA: gRPC proposal A51).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    utilization: Utilization,
    calls_per_s: f64,
    failures_per_s: f64,
}

impl Load {
    /// Takes what is said: how busy it is, the calls that it serves, and those that fail, of all its clients.
    pub fn new(utilization: f64, calls_per_s: f64, failures_per_s: f64) -> Result<Self, Invalid> {
        Ok(Self {
            utilization: utilization.try_into()?,
            calls_per_s: measure("calls per second", calls_per_s)?,
            failures_per_s: measure("failures per second", failures_per_s)?,
        })
    }

    /// How busy it is.
    pub const fn utilization(self) -> Utilization {
        self.utilization
    }

    /// The calls that it serves.
    pub const fn calls_per_s(self) -> f64 {
        self.calls_per_s
    }

    /// Those that fail.
    pub const fn failures_per_s(self) -> f64 {
        self.failures_per_s
    }
}

/// Who sends load reports: a number that a client draws by chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reporter(NonZeroU64);

impl Reporter {
    /// The number.
    pub const fn number(self) -> u64 {
        self.0.get()
    }
}

impl TryFrom<u64> for Reporter {
    type Error = Invalid;

    fn try_from(number: u64) -> Result<Self, Self::Error> {
        let refused = || Invalid::new("reporter", number, "must be a number other than 0, drawn by chance");
        NonZeroU64::new(number).map(Self).ok_or_else(refused)
    }
}

/// What one client has seen of the instances of a service since its report before.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadReport {
    /// Who says so.
    pub reporter: Reporter,
    /// Of which service.
    pub service: ServiceName,
    /// Of each instance that had calls.
    pub seen: BTreeMap<InstanceId, Seen>,
}

/// What one client has seen of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Seen {
    /// Calls that ended well.
    pub successes: u64,
    /// Calls that failed.
    pub failures: u64,
    /// How long those that ended well took, together.
    pub latency: Duration,
    /// Calls that are on their way to it.
    pub in_flight: u32,
    /// How busy it last said that it is, if it does.
    pub utilization: Option<Utilization>,
}

/// What is known of an instance by all who report, and what is advised.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceLoad {
    /// The instance.
    pub instance: InstanceId,
    /// How many reported calls to it of late.
    pub reporters: u32,
    /// Calls of all of them together.
    pub calls_per_s: f64,
    /// The mean latency that half of them see at most; `None` without a call that ended well.
    pub latency: Option<Duration>,
    /// The share of failures that half of them see at most, from 0 to 1.
    pub failure_share: f64,
    /// Calls of all of them that are on their way to it.
    pub in_flight: u32,
    /// How busy it says that it is, if it does.
    pub utilization: Option<Utilization>,
    /// What follows; `None` if it should have its whole weight.
    pub advice: Option<Advice>,
}

impl InstanceLoad {
    /// Of an instance of which nothing was reported.
    pub fn unknown(instance: InstanceId) -> Self {
        Self {
            instance,
            reporters: 0,
            calls_per_s: 0.0,
            latency: None,
            failure_share: 0.0,
            in_flight: 0,
            utilization: None,
            advice: None,
        }
    }

    /// The same, if its numbers are measures.
    pub fn checked(self) -> Result<Self, Invalid> {
        measure("calls per second", self.calls_per_s)?;
        measure("failure share", self.failure_share)?;
        Ok(self)
    }
}

/// That an instance should have only a part of its weight, and why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Advice {
    percent: u8,
    ground: Ground,
}

impl Advice {
    /// Advises a percentage of the weight, from 1 to 100.
    pub fn new(percent: u32, ground: Ground) -> Result<Self, Invalid> {
        let refused = || Invalid::new("weight percentage", percent, "must be a number from 1 to 100");
        let percent = u8::try_from(percent).ok().filter(|percent| (1..=100).contains(percent));
        Ok(Self { percent: percent.ok_or_else(refused)?, ground: ground.checked()? })
    }

    /// The percentage of its weight, from 1 to 100.
    pub const fn percent(self) -> u8 {
        self.percent
    }

    /// Why.
    pub const fn ground(self) -> Ground {
        self.ground
    }
}

/// Why an instance should have less than its weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ground {
    /// Calls to it take so many times as long as those to the others.
    Slow {
        /// How many times.
        times: f64,
    },
    /// So large a share of the calls to it fails, from 0 to 1, and not of those to the others.
    Failing {
        /// The share.
        share: f64,
    },
    /// It was slow or failed, and is let back in by steps.
    Recovering,
}

impl Ground {
    fn checked(self) -> Result<Self, Invalid> {
        match self {
            Self::Slow { times } => measure("times", times).map(|times| Self::Slow { times }),
            Self::Failing { share } => measure("share", share).map(|share| Self::Failing { share }),
            Self::Recovering => Ok(self),
        }
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { percent, ground } = self;
        match ground {
            Ground::Slow { times } => {
                write!(f, "its callers wait {times:.1} times as long as for the others")?;
            }
            Ground::Failing { share } => {
                write!(f, "{:.0} % of the calls of its callers fail", share * 100.0)?;
            }
            Ground::Recovering => f.write_str("it was slow or failed, and is let back in by steps")?,
        }
        write!(f, ": {percent} % of its weight")
    }
}

/// A number that was measured.
fn measure(field: &'static str, number: f64) -> Result<f64, Invalid> {
    // Far beyond what anybody measures, and near enough that sums and quotients stay numbers.
    if (0.0..=1e12).contains(&number) {
        return Ok(number);
    }
    Err(Invalid::new(field, number, "must be a number from 0 to 10^12"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_measure_is_refused_by_name() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, -f64::MIN_POSITIVE, 1e300] {
            assert_eq!(Utilization::try_from(bad).unwrap_err().field(), "utilization");
            assert_eq!(Load::new(0.5, bad, 0.0).unwrap_err().field(), "calls per second");
            assert_eq!(Load::new(0.5, 1.0, bad).unwrap_err().field(), "failures per second");
            assert_eq!(Advice::new(50, Ground::Slow { times: bad }).unwrap_err().field(), "times");
            assert_eq!(Advice::new(50, Ground::Failing { share: bad }).unwrap_err().field(), "share");
        }
        for bad in [0, 101, 356, u32::MAX] {
            assert_eq!(Advice::new(bad, Ground::Recovering).unwrap_err().field(), "weight percentage");
        }
        assert_eq!(Reporter::try_from(0).unwrap_err().field(), "reporter");
        assert!(Load::new(0.0, 0.0, 0.0).is_ok() && Load::new(3.5, 1e12, 7.0).is_ok());
    }

    #[test]
    fn an_advice_says_what_and_why() {
        let said = |ground| Advice::new(40, ground).unwrap().to_string();
        let slow = "its callers wait 3.1 times as long as for the others: 40 % of its weight";
        assert_eq!(said(Ground::Slow { times: 3.06 }), slow);
        assert_eq!(
            said(Ground::Failing { share: 0.25 }),
            "25 % of the calls of its callers fail: 40 % of its weight"
        );
    }
}
