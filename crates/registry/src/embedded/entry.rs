//! The entries of a log: what commands did, in bytes.
//!
//! The effect is written and not the command: what is registered is written as it is afterwards, so that
//! reading needs no rule that may change one day. Every entry but an `Open`, and the `Close` of a session
//! without instances, makes one revision.
//!
//! Numbers are little-endian, text has its length before it. Each kind begins with a tag of its own, and is as
//! long as it says: bytes that do not fit are refused, whatever they are.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use netloft_types::limits::INSTANCE_SIZE_MAX;
use netloft_types::{
    Health, Instance, InstanceId, Lifecycle, Locality, Metadata, Port, ServiceName, SessionId, Tags, Weight,
};

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

const CUT_OFF: Malformed = Malformed("an entry is cut off");

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
        let mut reader = Reader { bytes, names };
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

/// The service names read so far, so that the instances of a service share one.
#[derive(Debug, Default)]
pub(crate) struct Names(HashSet<ServiceName>);

fn write_instance(instance: &Instance, bytes: &mut Vec<u8>) {
    write_text(instance.id.as_str(), bytes);
    write_text(instance.service.as_str(), bytes);
    match instance.address {
        IpAddr::V4(address) => {
            bytes.push(4);
            bytes.extend(address.octets());
        }
        IpAddr::V6(address) => {
            bytes.push(6);
            bytes.extend(address.octets());
        }
    }
    bytes.extend(u16::from(instance.port).to_le_bytes());
    bytes.extend(instance.weight.number().to_le_bytes());
    bytes.push(match instance.health {
        Health::Passing => 0,
        Health::Warning => 1,
        Health::Critical => 2,
    });
    bytes.push(match instance.lifecycle {
        Lifecycle::Starting => 0,
        Lifecycle::Ready => 1,
        Lifecycle::Draining => 2,
    });
    let locality = &instance.locality;
    for part in [locality.region(), locality.zone(), locality.host()] {
        write_text(part, bytes);
    }
    bytes.push(small(instance.tags.iter().len()));
    for tag in instance.tags.iter() {
        write_text(tag.as_str(), bytes);
    }
    bytes.push(small(instance.metadata.iter().len()));
    for (key, value) in instance.metadata.iter() {
        write_text(key, bytes);
        // The one text that may be longer than a byte can say.
        let len = u16::try_from(value.len()).expect("the vocabulary bounds a metadata value");
        bytes.extend(len.to_le_bytes());
        bytes.extend(value.as_bytes());
    }
}

fn write_text(text: &str, bytes: &mut Vec<u8>) {
    bytes.push(small(text.len()));
    bytes.extend(text.as_bytes());
}

fn small(len: usize) -> u8 {
    u8::try_from(len).expect("the vocabulary bounds it")
}

/// Takes values off the beginning of bytes.
struct Reader<'a, 'b> {
    bytes: &'a mut &'b [u8],
    names: &'a mut Names,
}

impl<'b> Reader<'_, 'b> {
    fn take(&mut self, len: usize) -> Result<&'b [u8], Malformed> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(CUT_OFF)?;
        *self.bytes = rest;
        Ok(taken)
    }

    fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN], Malformed> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(CUT_OFF)?;
        *self.bytes = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| byte)
    }

    fn number(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    fn session(&mut self) -> Result<SessionId, Malformed> {
        self.array().map(|bytes| SessionId::from_number(u128::from_le_bytes(bytes)))
    }

    fn text_of(&mut self, len: usize) -> Result<&'b str, Malformed> {
        std::str::from_utf8(self.take(len)?).map_err(|_| Malformed("a text is not UTF-8"))
    }

    fn text(&mut self) -> Result<&'b str, Malformed> {
        let len = self.byte()?;
        self.text_of(len.into())
    }

    fn parse<T: FromStr>(&mut self, problem: &'static str) -> Result<T, Malformed> {
        self.text()?.parse().map_err(|_| Malformed(problem))
    }

    fn service(&mut self) -> Result<ServiceName, Malformed> {
        let text = self.text()?;
        if let Some(known) = self.names.0.get(text) {
            return Ok(known.clone());
        }
        let name: ServiceName = text.parse().map_err(|_| Malformed("a service name is not one"))?;
        self.names.0.insert(name.clone());
        Ok(name)
    }

    fn instance(&mut self) -> Result<Instance, Malformed> {
        Ok(Instance {
            id: self.parse("an instance id is not one")?,
            service: self.service()?,
            address: self.address()?,
            port: Port::try_from(u32::from(self.number()?)).map_err(|_| Malformed("a port is zero"))?,
            weight: Weight::try_from(u32::from(self.number()?)).map_err(|_| Malformed("a weight is zero"))?,
            health: match self.byte()? {
                0 => Health::Passing,
                1 => Health::Warning,
                2 => Health::Critical,
                _ => return Err(Malformed("a health is unknown")),
            },
            lifecycle: match self.byte()? {
                0 => Lifecycle::Starting,
                1 => Lifecycle::Ready,
                2 => Lifecycle::Draining,
                _ => return Err(Malformed("a lifecycle is unknown")),
            },
            locality: self.locality()?,
            tags: self.tags()?,
            metadata: self.metadata()?,
        })
    }

    fn address(&mut self) -> Result<IpAddr, Malformed> {
        match self.byte()? {
            4 => self.array::<4>().map(|octets| Ipv4Addr::from(octets).into()),
            6 => self.array::<16>().map(|octets| Ipv6Addr::from(octets).into()),
            _ => Err(Malformed("an address is of no known family")),
        }
    }

    fn locality(&mut self) -> Result<Locality, Malformed> {
        let (region, zone, host) = (self.text()?, self.text()?, self.text()?);
        Locality::new(region, zone, host).map_err(|_| Malformed("a locality is not one"))
    }

    fn tags(&mut self) -> Result<Tags, Malformed> {
        let count = self.byte()?;
        let tags = (0..count).map(|_| self.parse("a tag is not one")).collect::<Result<BTreeSet<_>, _>>()?;
        Tags::try_from(tags).map_err(|_| Malformed("there are too many tags"))
    }

    fn metadata(&mut self) -> Result<Metadata, Malformed> {
        let count = self.byte()?;
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let key = self.text()?.to_owned();
            let len = self.number()?;
            entries.insert(key, self.text_of(len.into())?.to_owned());
        }
        Metadata::try_from(entries).map_err(|_| Malformed("metadata is not any"))
    }
}

#[cfg(test)]
mod tests {
    use netloft_types::limits::{
        INSTANCE_ID_LEN_MAX, LOCALITY_PART_LEN_MAX, METADATA_ENTRIES_MAX, METADATA_KEY_LEN_MAX,
        METADATA_VALUE_LEN_MAX, NAME_LEN_MAX, TAG_LEN_MAX, TAGS_MAX,
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
        Instance {
            weight: "65535".parse().unwrap(),
            tags: Tags::try_from(tags.collect::<BTreeSet<_>>()).unwrap(),
            metadata: Metadata::try_from(metadata.collect::<BTreeMap<_, _>>()).unwrap(),
            health: Health::Critical,
            lifecycle: Lifecycle::Draining,
            locality: Locality::new(&part, &part, &part).unwrap(),
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
        ("[!-~]{1,40}", "[a-z]{1,20}", address, numbers, text, metadata, "[ -~]{0,20}").prop_map(
            |(id, service, address, (port, weight, health, lifecycle), tags, metadata, part)| {
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
