//! What the values in etcd say, in bytes.
//!
//! Each begins with its format, so that a server of another release is refused and not misread. Numbers are
//! little-endian; an instance is in the layout of the embedded store.

use std::time::Duration;

use netloft_registry::codec::{self, Reading};
use netloft_types::{Instance, SessionId};

use crate::keys::ServerId;

/// The format of values.
pub(crate) const FORMAT: u8 = 1;

/// A value that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("a value has format {0}, this release reads format {FORMAT}")]
    Format(u8),
    #[error("a value is not what its key says it is")]
    Malformed,
}

/// A session, and who counts its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionRecord {
    pub(crate) ttl: Option<Duration>,
    pub(crate) owner: ServerId,
}

/// What distinguishes a transaction from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) server: ServerId,
    pub(crate) sequence: u64,
}

impl SessionRecord {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let ttl_ns = self.ttl.map_or(0, |ttl| u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX));
        [&[FORMAT][..], &ttl_ns.to_le_bytes(), &self.owner.0.to_le_bytes()].concat()
    }

    pub(crate) fn read(value: &[u8]) -> Result<Self, Unreadable> {
        let mut value = body(value)?;
        let ttl_ns = u64::from_le_bytes(take(&mut value)?);
        let owner = ServerId(u128::from_le_bytes(last(value)?));
        Ok(Self { ttl: (ttl_ns > 0).then(|| Duration::from_nanos(ttl_ns)), owner })
    }
}

impl Mark {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        [&[FORMAT][..], &self.server.0.to_le_bytes(), &self.sequence.to_le_bytes()].concat()
    }

    pub(crate) fn read(value: &[u8]) -> Result<Self, Unreadable> {
        let mut value = body(value)?;
        let server = ServerId(u128::from_le_bytes(take(&mut value)?));
        Ok(Self { server, sequence: u64::from_le_bytes(last(value)?) })
    }
}

/// What revisions are counted from.
pub(crate) fn base_bytes(base: u64) -> Vec<u8> {
    [&[FORMAT][..], &base.to_le_bytes()].concat()
}

pub(crate) fn read_base(value: &[u8]) -> Result<u64, Unreadable> {
    last(body(value)?).map(u64::from_le_bytes)
}

/// The session of an instance.
pub(crate) fn index_bytes(session: SessionId) -> Vec<u8> {
    [&[FORMAT][..], &session.number().to_le_bytes()].concat()
}

pub(crate) fn read_index(value: &[u8]) -> Result<SessionId, Unreadable> {
    last(body(value)?).map(|bytes| SessionId::from_number(u128::from_le_bytes(bytes)))
}

pub(crate) fn instance_bytes(instance: &Instance) -> Vec<u8> {
    let mut bytes = vec![FORMAT];
    codec::write(instance, &mut bytes);
    bytes
}

pub(crate) fn read_instance(value: &[u8], reading: &mut Reading) -> Result<Instance, Unreadable> {
    reading.read(body(value)?).map_err(|_| Unreadable::Malformed)
}

fn body(value: &[u8]) -> Result<&[u8], Unreadable> {
    match value.split_first() {
        Some((&FORMAT, body)) => Ok(body),
        Some((&format, _)) => Err(Unreadable::Format(format)),
        None => Err(Unreadable::Malformed),
    }
}

fn take<const LEN: usize>(value: &mut &[u8]) -> Result<[u8; LEN], Unreadable> {
    let (taken, rest) = value.split_first_chunk().ok_or(Unreadable::Malformed)?;
    *value = rest;
    Ok(*taken)
}

fn last<const LEN: usize>(value: &[u8]) -> Result<[u8; LEN], Unreadable> {
    value.try_into().map_err(|_| Unreadable::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let (session, owner) = (SessionId::from_number(u128::MAX / 3), ServerId(5));
        for ttl in [None, Some(Duration::from_millis(1_500))] {
            let record = SessionRecord { ttl, owner };
            assert_eq!(SessionRecord::read(&record.bytes()), Ok(record));
        }
        let mark = Mark { server: owner, sequence: 9 };
        assert_eq!(Mark::read(&mark.bytes()), Ok(mark));
        assert_eq!(read_base(&base_bytes(77)), Ok(77));
        assert_eq!(read_index(&index_bytes(session)), Ok(session));
        let (id, name) = ("a".parse().unwrap(), "api".parse().unwrap());
        let instance = Instance::new(id, name, "10.0.0.2".parse().unwrap(), "80".parse().unwrap());
        let read = read_instance(&instance_bytes(&instance), &mut Reading::default());
        assert_eq!(read, Ok(instance));
    }

    #[test]
    fn another_format_is_named_and_nonsense_is_refused() {
        assert_eq!(read_base(&[2; 9]), Err(Unreadable::Format(2)));
        for bytes in [&[][..], &[1], &[1; 8], &[1; 10]] {
            assert_eq!(read_base(bytes), Err(Unreadable::Malformed), "{bytes:?}");
        }
        assert_eq!(read_instance(&[1, 0], &mut Reading::default()), Err(Unreadable::Malformed));
    }
}
