//! An instance: one place that serves a service.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::str::FromStr;

use crate::limits::{
    LOCALITY_PART_LEN_MAX, METADATA_ENTRIES_MAX, METADATA_KEY_LEN_MAX, METADATA_VALUE_LEN_MAX, TAG_LEN_MAX,
    TAGS_MAX,
};
use crate::name::text_type;
use crate::{Checks, InstanceId, Invalid, Port, Reason, ServiceName, Span};

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

text_type! {
    /// A word that instances are selected by: 1 to 128 bytes without control characters.
    Tag, check_tag
}

fn check_tag(text: &str) -> Result<(), Invalid> {
    check_text("tag", text, 1, TAG_LEN_MAX)
}

/// The tags of an instance: a set of at most 64.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "BTreeSet<Tag>", try_from = "BTreeSet<Tag>"))]
pub struct Tags(BTreeSet<Tag>);

impl Tags {
    /// Whether `tag` is among them.
    pub fn contains(&self, tag: &Tag) -> bool {
        self.0.contains(tag)
    }

    /// The tags in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Tag> {
        self.0.iter()
    }
}

impl TryFrom<BTreeSet<Tag>> for Tags {
    type Error = Invalid;

    fn try_from(tags: BTreeSet<Tag>) -> Result<Self, Self::Error> {
        if tags.len() > TAGS_MAX {
            return Err(Invalid::new("tags", format_args!("{} tags", tags.len()), "must be at most 64"));
        }
        Ok(Self(tags))
    }
}

impl From<Tags> for BTreeSet<Tag> {
    fn from(tags: Tags) -> Self {
        tags.0
    }
}

/// Facts about an instance: at most 64 entries of a key (1 to 128 bytes of `a-z`, `A-Z`, `0-9`, `-`, `_`,
/// `.`, `/`) and a value (at most 512 bytes without control characters).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(into = "BTreeMap<String, String>", try_from = "BTreeMap<String, String>")
)]
pub struct Metadata(BTreeMap<String, String>);

impl Metadata {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// The entries in order of their keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

impl TryFrom<BTreeMap<String, String>> for Metadata {
    type Error = Invalid;

    fn try_from(entries: BTreeMap<String, String>) -> Result<Self, Self::Error> {
        if entries.len() > METADATA_ENTRIES_MAX {
            return Err(Invalid::new(
                "metadata",
                format_args!("{} entries", entries.len()),
                "must be at most 64",
            ));
        }
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        for (key, value) in &entries {
            if !(1..=METADATA_KEY_LEN_MAX).contains(&key.len()) || !key.bytes().all(legal) {
                let rule = "must be 1 to 128 characters of a-z, A-Z, 0-9, '-', '_', '.' and '/'";
                return Err(Invalid::new("metadata key", key, rule));
            }
            check_text("metadata value", value, 0, METADATA_VALUE_LEN_MAX)?;
        }
        Ok(Self(entries))
    }
}

impl From<Metadata> for BTreeMap<String, String> {
    fn from(metadata: Metadata) -> Self {
        metadata.0
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

/// Where an instance runs, from wide to narrow; an empty part is unknown.
///
/// Each part is at most 63 bytes without control characters.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "UncheckedLocality"))]
pub struct Locality {
    region: String,
    zone: String,
    host: String,
}

impl Locality {
    /// Makes a locality of its three parts.
    pub fn new(region: &str, zone: &str, host: &str) -> Result<Self, Invalid> {
        for (field, part) in [("region", region), ("zone", zone), ("host", host)] {
            check_text(field, part, 0, LOCALITY_PART_LEN_MAX)?;
        }
        Ok(Self { region: region.into(), zone: zone.into(), host: host.into() })
    }

    /// The region, such as a cloud's.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The zone within the region.
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// The host within the zone.
    pub fn host(&self) -> &str {
        &self.host
    }
}

/// A locality as it comes from outside.
#[cfg(feature = "serde")]
#[derive(Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct UncheckedLocality {
    region: String,
    zone: String,
    host: String,
}

#[cfg(feature = "serde")]
impl TryFrom<UncheckedLocality> for Locality {
    type Error = Invalid;

    fn try_from(parts: UncheckedLocality) -> Result<Self, Self::Error> {
        Self::new(&parts.region, &parts.zone, &parts.host)
    }
}

fn check_text(field: &'static str, text: &str, len_min: usize, len_max: usize) -> Result<(), Invalid> {
    if (len_min..=len_max).contains(&text.len()) && !text.chars().any(char::is_control) {
        Ok(())
    } else {
        let rule = format!("must be {len_min} to {len_max} bytes without control characters");
        Err(Invalid::new(field, text, rule))
    }
}

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
    fn tags_and_metadata_are_bounded() {
        let tags =
            |count: usize| (0..count).map(|n| format!("t{n}").parse().unwrap()).collect::<BTreeSet<Tag>>();
        assert!(Tags::try_from(tags(TAGS_MAX)).is_ok());
        assert!(Tags::try_from(tags(TAGS_MAX + 1)).is_err());

        let entry = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        assert!(Metadata::try_from(entry("version", "1.2")).is_ok());
        assert!(Metadata::try_from(entry("", "1.2")).is_err());
        assert!(Metadata::try_from(entry("a b", "1.2")).is_err());
        assert!(Metadata::try_from(entry("key", &"x".repeat(METADATA_VALUE_LEN_MAX + 1))).is_err());
        assert!(Metadata::try_from(entry("key", "a\u{7}b")).is_err());
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
