//! How instances are written as bytes, and read back.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use netloft_types::{
    Checks, Health, Instance, Lifecycle, Locality, Metadata, Port, Reason, ServiceName, SessionId, Span,
    Tags, Weight,
};

use super::Malformed;

const CUT_OFF: Malformed = Malformed("an entry is cut off");

/// The service names read so far, so that the instances of a service share one.
#[derive(Debug, Default)]
pub(crate) struct Names(HashSet<ServiceName>);

pub(crate) fn write_instance(instance: &Instance, bytes: &mut Vec<u8>) {
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
    bytes.push(small(instance.tags.iter().count()));
    for tag in instance.tags.iter() {
        write_text(tag, bytes);
    }
    bytes.push(small(instance.metadata.iter().count()));
    for (key, value) in instance.metadata.iter() {
        write_text(key, bytes);
        write_long_text(value, bytes);
    }
    bytes.push(small(instance.checks.iter().len()));
    for check in &instance.checks {
        write_long_text(&check.to_string(), bytes);
    }
    let window = instance.drain_window.map_or(Duration::ZERO, Span::length);
    let window_ms = u32::try_from(window.as_millis()).expect("the vocabulary bounds a length of time");
    bytes.extend(window_ms.to_le_bytes());
    write_long_text(instance.maintenance.as_ref().map_or("", Reason::as_str), bytes);
}

pub(super) fn write_text(text: &str, bytes: &mut Vec<u8>) {
    bytes.push(small(text.len()));
    bytes.extend(text.as_bytes());
}

/// Of text that may be longer than a byte can say.
fn write_long_text(text: &str, bytes: &mut Vec<u8>) {
    let len = u16::try_from(text.len()).expect("the vocabulary bounds it");
    bytes.extend(len.to_le_bytes());
    bytes.extend(text.as_bytes());
}

fn small(len: usize) -> u8 {
    u8::try_from(len).expect("the vocabulary bounds it")
}

/// Reads the instance at the beginning of `bytes`, and moves them on behind it.
pub(crate) fn read_instance(bytes: &mut &[u8], names: &mut Names) -> Result<Instance, Malformed> {
    Reader::new(bytes, names).instance()
}

/// Takes values off the beginning of bytes.
pub(super) struct Reader<'a, 'b> {
    bytes: &'a mut &'b [u8],
    names: &'a mut Names,
}

impl<'a, 'b> Reader<'a, 'b> {
    pub(super) fn new(bytes: &'a mut &'b [u8], names: &'a mut Names) -> Self {
        Self { bytes, names }
    }

    fn take(&mut self, len: usize) -> Result<&'b [u8], Malformed> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(CUT_OFF)?;
        *self.bytes = rest;
        Ok(taken)
    }

    pub(super) fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN], Malformed> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(CUT_OFF)?;
        *self.bytes = rest;
        Ok(*taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| byte)
    }

    fn number(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn session(&mut self) -> Result<SessionId, Malformed> {
        self.array().map(|bytes| SessionId::from_number(u128::from_le_bytes(bytes)))
    }

    fn text_of(&mut self, len: usize) -> Result<&'b str, Malformed> {
        std::str::from_utf8(self.take(len)?).map_err(|_| Malformed("a text is not UTF-8"))
    }

    fn text(&mut self) -> Result<&'b str, Malformed> {
        let len = self.byte()?;
        self.text_of(len.into())
    }

    fn long_text(&mut self) -> Result<&'b str, Malformed> {
        let len = self.number()?;
        self.text_of(len.into())
    }

    pub(super) fn parse<T: FromStr>(&mut self, problem: &'static str) -> Result<T, Malformed> {
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

    pub(super) fn instance(&mut self) -> Result<Instance, Malformed> {
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
            checks: self.checks()?,
            drain_window: self.drain_window()?,
            maintenance: self.maintenance()?,
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
            entries.insert(key, self.long_text()?.to_owned());
        }
        Metadata::try_from(entries).map_err(|_| Malformed("metadata is not any"))
    }

    fn checks(&mut self) -> Result<Checks, Malformed> {
        let check = |text: &str| text.parse().map_err(|_| Malformed("a check is not one"));
        let count = self.byte()?;
        let checks = (0..count).map(|_| check(self.long_text()?)).collect::<Result<Vec<_>, _>>()?;
        Checks::try_from(checks).map_err(|_| Malformed("the checks of an instance do not fit together"))
    }

    fn drain_window(&mut self) -> Result<Option<Span>, Malformed> {
        match u32::from_le_bytes(self.array()?) {
            0 => Ok(None),
            ms => Span::try_from(Duration::from_millis(ms.into()))
                .map(Some)
                .map_err(|_| Malformed("a drain window is out of bounds")),
        }
    }

    fn maintenance(&mut self) -> Result<Option<Reason>, Malformed> {
        match self.long_text()? {
            "" => Ok(None),
            reason => reason.parse().map(Some).map_err(|_| Malformed("a reason is not one")),
        }
    }
}
