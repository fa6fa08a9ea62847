//! The entries of a log: what commands did, in bytes.
//!
//! The effect is written and not the command: what is registered is written as it is afterwards, so that
//! reading needs no rule that may change one day. Every entry but an `Open`, and the `Close` of a session
//! without instances, makes one revision.
//!
//! Numbers are little-endian, text has its length before it. Each kind begins with a tag of its own, and is as
//! long as it says: bytes that do not fit are refused, whatever they are.

mod bytes;

use std::sync::Arc;
use std::time::Duration;

use netloft_types::limits::INSTANCE_SIZE_MAX;
use netloft_types::{Instance, InstanceId, SessionId};

pub(crate) use self::bytes::{Names, read_instance, write_instance};
use self::bytes::{Reader, write_text};

/// Bytes of the longest entry: the text of the largest instance, and generously what goes with it.
pub(crate) const ENTRY_LEN_MAX: usize = INSTANCE_SIZE_MAX + 1_024;

const OPEN: u8 = 1;
const CLOSE: u8 = 2;
const PUT: u8 = 3;
const DELETE: u8 = 4;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A session was opened.
    Open { session: SessionId, ttl: Option<Duration> },
    /// A session ended, and its instances with it.
    Close { session: SessionId },
    /// An instance was registered or changed.
    Put { session: SessionId, instance: Arc<Instance> },
    /// An instance was removed.
    Delete { id: InstanceId },
}

/// Bytes that are no entry, and what is wrong with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl Entry {
    /// Appends the entry to `bytes`.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Open { session, ttl } => {
                bytes.push(OPEN);
                bytes.extend(session.number().to_le_bytes());
                // A time to live is never zero, and 24 hours of nanoseconds fit with room to spare.
                let ttl_ns = ttl.map_or(0, |ttl| u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX));
                bytes.extend(ttl_ns.to_le_bytes());
            }
            Self::Close { session } => {
                bytes.push(CLOSE);
                bytes.extend(session.number().to_le_bytes());
            }
            Self::Put { session, instance } => {
                bytes.push(PUT);
                bytes.extend(session.number().to_le_bytes());
                write_instance(instance, bytes);
            }
            Self::Delete { id } => {
                bytes.push(DELETE);
                write_text(id.as_str(), bytes);
            }
        }
    }

    /// Reads the entry at the beginning of `bytes`, and moves them on behind it.
    pub(crate) fn read(bytes: &mut &[u8], names: &mut Names) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes, names);
        let entry = match reader.byte()? {
            OPEN => {
                let session = reader.session()?;
                let ttl_ns = u64::from_le_bytes(reader.array()?);
                Self::Open { session, ttl: (ttl_ns > 0).then(|| Duration::from_nanos(ttl_ns)) }
            }
            CLOSE => Self::Close { session: reader.session()? },
            PUT => {
                let session = reader.session()?;
                Self::Put { session, instance: Arc::new(reader.instance()?) }
            }
            DELETE => Self::Delete { id: reader.parse("an instance id is not one")? },
            _ => return Err(Malformed("an entry is of no known kind")),
        };
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use netloft_types::limits::{
        CHECKS_MAX, HTTP_PATH_LEN_MAX, INSTANCE_ID_LEN_MAX, LOCALITY_PART_LEN_MAX, METADATA_ENTRIES_MAX,
        METADATA_KEY_LEN_MAX, METADATA_VALUE_LEN_MAX, NAME_LEN_MAX, REASON_LEN_MAX, TAG_LEN_MAX, TAGS_MAX,
    };
    use netloft_types::{
        Check, Checks, Health, Lifecycle, Locality, Metadata, Port, Reason, Span, Tags, Weight,
    };
    use proptest::prelude::*;

    use super::*;

    fn bytes_of(entry: &Entry) -> Vec<u8> {
        let mut bytes = Vec::new();
        entry.write(&mut bytes);
        bytes
    }

    fn read_all(mut bytes: &[u8]) -> Result<Vec<Entry>, Malformed> {
        let mut entries = Vec::new();
        while !bytes.is_empty() {
            entries.push(Entry::read(&mut bytes, &mut Names::default())?);
        }
        Ok(entries)
    }

    fn largest() -> Instance {
        let long = |number: usize, len: usize| format!("{number:0len$}");
        let tags = (0..TAGS_MAX).map(|number| long(number, TAG_LEN_MAX).parse().unwrap());
        let value = "v".repeat(METADATA_VALUE_LEN_MAX);
        let metadata = (0..METADATA_ENTRIES_MAX).map(|n| (long(n, METADATA_KEY_LEN_MAX), value.clone()));
        let part = "p".repeat(LOCALITY_PART_LEN_MAX);
        // Every character of the path has a backslash before it.
        let path = r"\,".repeat(HTTP_PATH_LEN_MAX - 1);
        let checks = (0..CHECKS_MAX).map(|n| -> Check { format!("http:/{path},name=c{n}").parse().unwrap() });
        Instance {
            weight: "65535".parse().unwrap(),
            tags: Tags::try_from(tags.collect::<BTreeSet<_>>()).unwrap(),
            metadata: Metadata::try_from(metadata.collect::<BTreeMap<_, _>>()).unwrap(),
            health: Health::Critical,
            lifecycle: Lifecycle::Draining,
            locality: Locality::new(&part, &part, &part).unwrap(),
            checks: Checks::try_from(checks.collect::<Vec<_>>()).unwrap(),
            drain_window: Some("24h".parse().unwrap()),
            maintenance: Some("m".repeat(REASON_LEN_MAX).parse().unwrap()),
            ..Instance::new(
                "i".repeat(INSTANCE_ID_LEN_MAX).parse().unwrap(),
                "s".repeat(NAME_LEN_MAX).parse().unwrap(),
                "2001:db8::1".parse().unwrap(),
                "65535".parse().unwrap(),
            )
        }
    }

    fn instances() -> impl Strategy<Value = Instance> {
        let text = prop::collection::btree_set("[a-z0-9]{1,20}", 0..6);
        let metadata = prop::collection::btree_map("[a-zA-Z0-9./_-]{1,20}", "[ -~é]{0,40}", 0..6);
        let address = prop_oneof![
            any::<u32>().prop_map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits))),
            any::<u128>().prop_map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits))),
        ];
        let numbers = (1..=65_535_u32, 1..=65_535_u32, 0..3_usize, 0..3_usize);
        let care = (
            prop::collection::btree_set(
                prop::sample::select(vec!["tcp", "http:/a\\,b", "grpc:81/s", "ttl"]),
                0..4,
            ),
            prop::option::of((10..=86_400_000_u64).prop_map(Duration::from_millis)),
            prop::option::of("[!-~é]{1,40}"),
        );
        ("[!-~]{1,40}", "[a-z]{1,20}", address, numbers, text, metadata, "[ -~]{0,20}", care).prop_map(
            |(id, service, address, (port, weight, health, lifecycle), tags, metadata, part, care)| {
                let (checks, drain_window, maintenance) = care;
                let checks: Vec<Check> = checks.into_iter().map(|check| check.parse().unwrap()).collect();
                let port = Port::try_from(port).unwrap();
                let bare = Instance::new(id.parse().unwrap(), service.parse().unwrap(), address, port);
                let tags = tags.iter().map(|tag| tag.parse().unwrap()).collect::<BTreeSet<_>>();
                Instance {
                    weight: Weight::try_from(weight).unwrap(),
                    tags: Tags::try_from(tags).unwrap(),
                    metadata: Metadata::try_from(metadata).unwrap(),
                    health: [Health::Passing, Health::Warning, Health::Critical][health],
                    lifecycle: [Lifecycle::Starting, Lifecycle::Ready, Lifecycle::Draining][lifecycle],
                    locality: Locality::new("", &part, "host").unwrap(),
                    checks: Checks::try_from(checks).unwrap(),
                    drain_window: drain_window.map(|window| Span::try_from(window).unwrap()),
                    maintenance: maintenance.map(|reason| reason.parse::<Reason>().unwrap()),
                    ..bare
                }
            },
        )
    }

    fn entries() -> impl Strategy<Value = Entry> {
        let session = || any::<u128>().prop_map(SessionId::from_number);
        let ttl = prop::option::of((1..86_400_000_000_000_u64).prop_map(Duration::from_nanos));
        prop_oneof![
            (session(), ttl).prop_map(|(session, ttl)| Entry::Open { session, ttl }),
            session().prop_map(|session| Entry::Close { session }),
            (session(), instances())
                .prop_map(|(session, one)| Entry::Put { session, instance: Arc::new(one) }),
            instances().prop_map(|instance| Entry::Delete { id: instance.id }),
        ]
    }

    #[test]
    fn the_largest_entry_is_within_its_bound() {
        let entry = Entry::Put { session: SessionId::from_number(u128::MAX), instance: Arc::new(largest()) };
        let bytes = bytes_of(&entry);
        assert!(bytes.len() <= ENTRY_LEN_MAX, "{}", bytes.len());
        assert_eq!(read_all(&bytes), Ok(vec![entry]));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_written_is_read(entries in prop::collection::vec(entries(), 0..8)) {
            let bytes: Vec<u8> = entries.iter().flat_map(bytes_of).collect();
            prop_assert_eq!(read_all(&bytes), Ok(entries));
        }

        #[test]
        fn an_entry_that_is_cut_off_is_refused(entry in entries(), cut in any::<prop::sample::Index>()) {
            let bytes = bytes_of(&entry);
            let cut = cut.index(bytes.len());
            prop_assert!(cut == 0 || read_all(&bytes[..cut]).is_err());
        }

        #[test]
        fn whatever_is_read_can_be_written_again(
            entry in entries(),
            at in any::<prop::sample::Index>(),
            noise in prop::collection::vec(any::<u8>(), 0..12),
        ) {
            let mut bytes = bytes_of(&entry);
            let at = at.index(bytes.len());
            bytes.splice(at..bytes.len().min(at + noise.len()), noise);
            if let Ok(read) = read_all(&bytes) {
                let again: Vec<u8> = read.iter().flat_map(bytes_of).collect();
                prop_assert_eq!(read_all(&again), Ok(read));
            }
        }
    }
}
