//! Netlink messages of netfilter: written into a datagram, and read out of one.

use std::borrow::Cow;
use std::io;

use crate::attribute::{Writer, aligned, find_text};
use crate::{Error, Refusal};

/// Flags of a request (`NLM_F_*`).
pub(crate) const REQUEST: u16 = 1;
pub(crate) const ACK: u16 = 4;
pub(crate) const DUMP: u16 = 0x300;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;
/// Flags of an answer: a list was interrupted; an acknowledgement repeats only the header; attributes follow it.
pub(crate) const DUMP_INTERRUPTED: u16 = 0x10;
pub(crate) const CAPPED: u16 = 0x100;
pub(crate) const ACK_HAS_ATTRIBUTES: u16 = 0x200;

/// The types of an acknowledgement and of the end of a list.
pub(crate) const ERROR: u16 = 2;
pub(crate) const DONE: u16 = 3;

pub(crate) const HEADER_LEN: usize = 16;
/// What follows the header in netfilter: a family, a version, and a number that most messages leave alone.
const FAMILY_HEADER_LEN: usize = 4;

/// What a request does to what, to be told when it fails.
pub(crate) struct Subject {
    operation: &'static str,
    object: Cow<'static, str>,
}

impl Subject {
    pub(crate) fn new(operation: &'static str, object: impl Into<Cow<'static, str>>) -> Self {
        Self { operation, object: object.into() }
    }

    pub(crate) fn refused(&self, source: Refusal) -> Error {
        Error::Refused { operation: self.operation, object: self.object.to_string(), source }
    }

    pub(crate) fn unanswered(&self, source: io::Error) -> Error {
        Error::Unanswered { operation: self.operation, object: self.object.to_string(), source }
    }

    pub(crate) fn malformed(&self) -> Error {
        Error::Malformed { operation: self.operation, object: self.object.to_string() }
    }

    pub(crate) fn interrupted(&self, attempts: u32) -> Error {
        Error::Interrupted { operation: self.operation, object: self.object.to_string(), attempts }
    }
}

/// Requests for one datagram, in order.
#[derive(Default)]
pub(crate) struct Requests {
    bytes: Vec<u8>,
    subjects: Vec<Subject>,
    /// Where the last one begins.
    last: usize,
}

impl Requests {
    /// Adds a request. `resource` is the number in the family header.
    pub(crate) fn add(
        &mut self,
        subject: Subject,
        (kind, flags, family, resource): (u16, u16, u8, u16),
        fill: impl FnOnce(&mut Writer<'_>),
    ) {
        self.last = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((REQUEST | flags).to_ne_bytes());
        self.bytes.extend([0; 8]);
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        fill(&mut Writer::new(&mut self.bytes));
        let len = u32::try_from(self.bytes.len() - self.last).expect("who writes long lists cuts them");
        self.bytes[self.last..self.last + 4].copy_from_slice(&len.to_ne_bytes());
        self.subjects.push(subject);
    }

    /// Sets flags on the last request.
    pub(crate) fn flag_last(&mut self, flags: u16) {
        let at = self.last + 6;
        let old = u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]]);
        self.bytes[at..at + 2].copy_from_slice(&(old | flags).to_ne_bytes());
    }

    /// The datagram, its requests numbered from `first`.
    pub(crate) fn numbered(&mut self, first: u32) -> &[u8] {
        let (mut at, mut sequence) = (0, first);
        while at < self.bytes.len() {
            self.bytes[at + 8..at + 12].copy_from_slice(&sequence.to_ne_bytes());
            sequence = sequence.wrapping_add(1);
            let len = [0, 1, 2, 3].map(|index| self.bytes[at + index]);
            at += aligned(u32::from_ne_bytes(len) as usize);
        }
        &self.bytes
    }

    pub(crate) fn subjects(&self) -> &[Subject] {
        &self.subjects
    }
}

/// A message of the kernel.
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    /// Whose request it speaks of.
    pub(crate) port: u32,
    payload: &'a [u8],
}

/// A datagram that ends in the middle of a message.
pub(crate) struct CutOff;

impl<'a> Message<'a> {
    /// The family of the object it tells of.
    pub(crate) fn family(&self) -> Option<u8> {
        self.payload.first().copied()
    }

    pub(crate) fn attributes(&self) -> &'a [u8] {
        self.payload.get(FAMILY_HEADER_LEN..).unwrap_or(&[])
    }

    /// Reads an acknowledgement, or the end of a list, which has the same shape: an error number, 0 for success,
    /// then the header of the request, then attributes.
    pub(crate) fn acknowledgement(&self) -> Result<Result<(), Refusal>, CutOff> {
        let (number, repeated) = self.payload.split_first_chunk().ok_or(CutOff)?;
        match i32::from_ne_bytes(*number) {
            0 => Ok(Ok(())),
            negative => Ok(Err(Refusal::new(negative.wrapping_neg(), self.explanation(repeated)))),
        }
    }

    /// Finds the kernel's own words (`NLMSGERR_ATTR_MSG`) behind the request that an acknowledgement repeats.
    fn explanation(&self, repeated: &[u8]) -> Option<String> {
        if self.flags & ACK_HAS_ATTRIBUTES == 0 {
            return None;
        }
        let repeated_len = if self.flags & CAPPED == 0 {
            u32::from_ne_bytes(*repeated.first_chunk()?) as usize
        } else {
            HEADER_LEN
        };
        find_text(repeated.get(aligned(repeated_len)..)?, 1).map(str::to_owned)
    }
}

/// The messages of a datagram.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<Message<'_>, CutOff>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let read = split_message(rest);
        rest = read.as_ref().map_or(&[], |(_, rest)| rest);
        Some(read.map(|(message, _)| message).ok_or(CutOff))
    })
}

fn split_message(bytes: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let word = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let half = |at: usize| Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let len = word(0)? as usize;
    let payload = bytes.get(HEADER_LEN..len)?;
    let message = Message { kind: half(4)?, flags: half(6)?, sequence: word(8)?, port: word(12)?, payload };
    Some((message, bytes.get(aligned(len)..).unwrap_or(&[])))
}
