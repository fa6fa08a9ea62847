//! An instance: one place that serves a service.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::str::FromStr;

use crate::{Checks, InstanceId, Invalid, Locality, Metadata, Port, Reason, ServiceName, Span, Tags};

/// One place serving a service: what a lookup returns and a watch carries.
///
/// Every field is already valid by its type, so any combination of them is a legal instance.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Instance {
    /// Unique in a registry.
    pub id: InstanceId,
    /// The name under which it is found.
    pub service: ServiceName,
    /// Where it listens.
    pub address: IpAddr,
    /// Where it listens.
    pub port: Port,
    /// Its share of the calls, relative to the weights of its siblings.
    pub weight: Weight,
    /// Words to select it by.
    pub tags: Tags,
    /// Facts about it, for those who call it.
    pub metadata: Metadata,
    /// Whether it works.
    pub health: Health,
    /// Whether it wants calls.
    pub lifecycle: Lifecycle,
    /// Where it runs.
    pub locality: Locality,
    /// How it shows that it works; without any, its owner says so.
    pub checks: Checks,
    /// How long it is kept while it drains; until its owner removes it if absent. Only of a draining instance.
    pub drain_window: Option<Span>,
    /// Why an operator keeps it out of lookups, if one does.
    pub maintenance: Option<Reason>,
}

impl Instance {
    /// Makes an instance that is passing, ready, of weight 1 and otherwise bare.
    pub fn new(id: InstanceId, service: ServiceName, address: IpAddr, port: Port) -> Self {
        Self {
            id,
            service,
            address,
            port,
            weight: Weight::default(),
            tags: Tags::default(),
            metadata: Metadata::default(),
            health: Health::Passing,
            lifecycle: Lifecycle::Ready,
            locality: Locality::default(),
            checks: Checks::default(),
            drain_window: None,
            maintenance: None,
        }
    }

    /// The instance with checks, and starting: it gets its first call when they have passed.
    #[must_use]
    pub fn with_checks(self, checks: Checks) -> Self {
        Self { lifecycle: Lifecycle::Starting, checks, ..self }
    }

    /// Where it listens.
    pub fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port.number())
    }

    /// Whether it is ready, and no operator keeps it out.
    pub fn wants_calls(&self) -> bool {
        self.lifecycle == Lifecycle::Ready && self.maintenance.is_none()
    }

    /// Whether it may get calls: it wants them, and is not critical.
    pub fn is_usable(&self) -> bool {
        self.wants_calls() && self.health != Health::Critical
    }
}

/// A relative share of calls: 1 to 65535. An instance that wants no calls drains, it does not weigh zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "u16", try_from = "u32"))]
pub struct Weight(NonZeroU16);

const WEIGHT_RULE: &str = "must be a number from 1 to 65535; to take an instance out of use, drain it";

impl Weight {
    /// The number.
    pub const fn number(self) -> u16 {
        self.0.get()
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(NonZeroU16::MIN)
    }
}

impl TryFrom<u32> for Weight {
    type Error = Invalid;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        let refused = || Invalid::new("weight", number, WEIGHT_RULE);
        let weight = u16::try_from(number).ok().and_then(NonZeroU16::new).ok_or_else(refused)?;
        Ok(Self(weight))
    }
}

impl From<Weight> for u16 {
    fn from(weight: Weight) -> Self {
        weight.number()
    }
}

impl FromStr for Weight {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| Invalid::new("weight", text, WEIGHT_RULE))
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Whether an instance works, worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Health {
    /// It works.
    Passing,
    /// It works, with complaints; it still gets calls.
    Warning,
    /// It does not work and gets no calls.
    Critical,
}

impl Health {
    const NAMES: [(Self, &str); 3] =
        [(Self::Passing, "passing"), (Self::Warning, "warning"), (Self::Critical, "critical")];
}

/// Where an instance stands between its first and its last call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Lifecycle {
    /// Not ready for calls yet.
    Starting,
    /// Wants calls.
    Ready,
    /// Finishes the calls it has and wants no new ones.
    Draining,
}

impl Lifecycle {
    const NAMES: [(Self, &str); 3] =
        [(Self::Starting, "starting"), (Self::Ready, "ready"), (Self::Draining, "draining")];
}

macro_rules! named_enum {
    ($name:ident, $field:literal, $rule:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(Self::NAMES[*self as usize].1)
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let found = Self::NAMES.iter().find(|(_, name)| *name == text);
                found.map(|(value, _)| *value).ok_or_else(|| Invalid::new($field, text, $rule))
            }
        }
    };
}

named_enum!(Health, "health", "must be passing, warning or critical");
named_enum!(Lifecycle, "lifecycle", "must be starting, ready or draining");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weight_zero_is_refused_with_the_way_out() {
        let error = Weight::try_from(0).unwrap_err();
        assert!(error.to_string().contains("drain"), "{error}");
        assert!("0".parse::<Weight>().is_err() && "65536".parse::<Weight>().is_err());
    }

    #[test]
    fn enums_print_what_they_parse() {
        for (health, name) in Health::NAMES {
            assert_eq!(health.to_string(), name);
            assert_eq!(name.parse::<Health>().unwrap(), health);
        }
        for (lifecycle, name) in Lifecycle::NAMES {
            assert_eq!(lifecycle.to_string(), name);
            assert_eq!(name.parse::<Lifecycle>().unwrap(), lifecycle);
        }
    }
}
