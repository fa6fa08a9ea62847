//! What there is to know about an instance beside its address: tags, metadata, locality.
//!
//! A registry holds hundreds of thousands of these, so each is one piece of memory: its texts one after another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::Invalid;
use crate::limits::{
    LOCALITY_PART_LEN_MAX, METADATA_ENTRIES_MAX, METADATA_KEY_LEN_MAX, METADATA_VALUE_LEN_MAX, TAG_LEN_MAX,
    TAGS_MAX,
};
use crate::name::text_type;

/// Texts without control characters, each with a NUL after it.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Texts(Box<str>);

impl Texts {
    fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split_terminator('\0')
    }
}

impl<'a> FromIterator<&'a str> for Texts {
    fn from_iter<I: IntoIterator<Item = &'a str>>(texts: I) -> Self {
        let mut all = String::new();
        for text in texts {
            all.push_str(text);
            all.push('\0');
        }
        Self(all.into())
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
#[derive(Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "BTreeSet<Tag>", try_from = "BTreeSet<Tag>"))]
pub struct Tags(Texts);

impl Tags {
    /// Whether `tag` is among them.
    pub fn contains(&self, tag: &Tag) -> bool {
        self.iter().any(|one| one == tag.as_str())
    }

    /// The tags in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter()
    }
}

impl TryFrom<BTreeSet<Tag>> for Tags {
    type Error = Invalid;

    fn try_from(tags: BTreeSet<Tag>) -> Result<Self, Self::Error> {
        if tags.len() > TAGS_MAX {
            return Err(Invalid::new("tags", format_args!("{} tags", tags.len()), "must be at most 64"));
        }
        Ok(Self(tags.iter().map(Tag::as_str).collect()))
    }
}

impl From<Tags> for BTreeSet<Tag> {
    fn from(tags: Tags) -> Self {
        tags.iter().map(|tag| Tag(tag.into())).collect()
    }
}

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Facts about an instance: at most 64 entries of a key (1 to 128 bytes of `a-z`, `A-Z`, `0-9`, `-`, `_`,
/// `.`, `/`) and a value (at most 512 bytes without control characters).
#[derive(Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(
    feature = "serde",
    serde(into = "BTreeMap<String, String>", try_from = "BTreeMap<String, String>")
)]
pub struct Metadata(Texts);

impl Metadata {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(one, _)| *one == key).map(|(_, value)| value)
    }

    /// The entries in order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut texts = self.0.iter();
        std::iter::from_fn(move || Some((texts.next()?, texts.next()?)))
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
        Ok(Self(entries.iter().flat_map(|(key, value)| [key.as_str(), value]).collect()))
    }
}

impl From<Metadata> for BTreeMap<String, String> {
    fn from(metadata: Metadata) -> Self {
        metadata.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Where an instance runs, from wide to narrow; an empty part is unknown.
///
/// Each part is at most 63 bytes without control characters.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "LocalityParts", try_from = "LocalityParts"))]
pub struct Locality(Texts);

impl Locality {
    /// Makes a locality of its three parts.
    pub fn new(region: &str, zone: &str, host: &str) -> Result<Self, Invalid> {
        for (field, part) in [("region", region), ("zone", zone), ("host", host)] {
            check_text(field, part, 0, LOCALITY_PART_LEN_MAX)?;
        }
        let parts = [region, zone, host];
        let is_known = parts.iter().any(|part| !part.is_empty());
        Ok(Self(parts.into_iter().filter(|_| is_known).collect()))
    }

    /// The region, such as a cloud's.
    pub fn region(&self) -> &str {
        self.part(0)
    }

    /// The zone within the region.
    pub fn zone(&self) -> &str {
        self.part(1)
    }

    /// The host within the zone.
    pub fn host(&self) -> &str {
        self.part(2)
    }

    fn part(&self, number: usize) -> &str {
        self.0.iter().nth(number).unwrap_or_default()
    }
}

impl fmt::Debug for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", [self.region(), self.zone(), self.host()])
    }
}

/// A locality as it is written.
#[cfg(feature = "serde")]
#[derive(Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LocalityParts {
    region: String,
    zone: String,
    host: String,
}

#[cfg(feature = "serde")]
impl TryFrom<LocalityParts> for Locality {
    type Error = Invalid;

    fn try_from(parts: LocalityParts) -> Result<Self, Self::Error> {
        Self::new(&parts.region, &parts.zone, &parts.host)
    }
}

#[cfg(feature = "serde")]
impl From<Locality> for LocalityParts {
    fn from(locality: Locality) -> Self {
        let [region, zone, host] =
            [locality.region(), locality.zone(), locality.host()].map(ToOwned::to_owned);
        Self { region, zone, host }
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
    use proptest::prelude::*;

    use super::*;

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

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            tags in prop::collection::btree_set("[^\\p{Cc}]{1,8}", 0..6),
            entries in prop::collection::btree_map("[a-z]{1,3}", "[^\\p{Cc}]{0,8}", 0..6),
            parts in ["[a-z]{0,2}", "[a-z]{0,2}", "[a-z]{0,2}"],
        ) {
            let tags: BTreeSet<Tag> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
            let packed = Tags::try_from(tags.clone()).unwrap();
            prop_assert!(tags.iter().all(|tag| packed.contains(tag)));
            prop_assert_eq!(packed.iter().count(), tags.len());
            prop_assert_eq!(BTreeSet::from(packed), tags);

            let metadata = Metadata::try_from(entries.clone()).unwrap();
            prop_assert!(entries.iter().all(|(key, value)| metadata.get(key) == Some(value)));
            prop_assert_eq!(metadata.get("absent"), None);
            prop_assert_eq!(BTreeMap::from(metadata), entries);

            let [region, zone, host] = &parts;
            let locality = Locality::new(region, zone, host).unwrap();
            prop_assert_eq!([locality.region(), locality.zone(), locality.host()], [region, zone, host]);
        }
    }
}
