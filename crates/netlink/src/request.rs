//! Requests, written into a datagram.

use crate::Subject;
use crate::attribute::aligned;
use crate::message::HEADER_LEN;

/// A flag of a request: makes what is not there (`NLM_F_CREATE`).
pub const CREATE: u16 = 0x400;
/// A flag of a request: refuses to touch what is there (`NLM_F_EXCL`).
pub const EXCLUSIVE: u16 = 0x200;
/// A flag of a request: replaces what is there (`NLM_F_REPLACE`).
pub const REPLACE: u16 = 0x100;
/// A flag of a request: adds to the end of a list (`NLM_F_APPEND`).
pub const APPEND: u16 = 0x800;

/// Flags that the socket sets: every request has the first; the others ask for an acknowledgement or for a list.
const NLM_F_REQUEST: u16 = 1;
pub(crate) const NLM_F_ACK: u16 = 4;
pub(crate) const NLM_F_DUMP: u16 = 0x300;

/// Requests in one datagram that are answered one by one. The answers wait in the socket's buffer (208 KiB by default,
/// `rmem_default`) until we read them, and an answer takes up to 1 KiB there.
pub(crate) const DATAGRAM_REQUESTS_MAX: usize = 64;

/// Requests to the kernel, in order.
#[derive(Debug, Clone, Default)]
pub struct Requests {
    pub(crate) bytes: Vec<u8>,
    pub(crate) subjects: Vec<Subject>,
}

impl Requests {
    /// Makes an empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a request of a type (a number of its protocol), with flags such as [`CREATE`]. `write` appends its payload.
    ///
    /// # Panics
    ///
    /// If `write` takes away what was there before, or writes 4 GiB.
    pub fn add(&mut self, subject: Subject, kind: u16, flags: u16, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        // Its number, and a port that the kernel does not look at.
        self.bytes.extend([0; 8]);
        write(&mut self.bytes);
        let end = self.bytes.len();
        assert!(end >= start + HEADER_LEN, "a payload is appended");
        let len = u32::try_from(end - start).expect("a payload is smaller than 4 GiB");
        self.bytes[start..start + 4].copy_from_slice(&len.to_ne_bytes());
        self.bytes.resize(aligned(end), 0);
        self.subjects.push(subject);
    }

    /// Removes all, and keeps the memory for others.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.subjects.clear();
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.subjects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.subjects.is_empty()
    }

    /// What the request at a position is about.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn subject(&self, position: usize) -> &Subject {
        &self.subjects[position]
    }

    /// Numbers the requests from `first` on, and sets a flag on those of the positions that `is_flagged` names.
    pub(crate) fn number(&mut self, first: u32, flag: u16, is_flagged: impl Fn(usize) -> bool) {
        let (mut at, mut sequence) = (0, first);
        for position in 0..self.len() {
            let request = &mut self.bytes[at..];
            at += request_len(request);
            if is_flagged(position) {
                let flags = u16::from_ne_bytes([request[6], request[7]]) | flag;
                request[6..8].copy_from_slice(&flags.to_ne_bytes());
            }
            request[8..12].copy_from_slice(&sequence.to_ne_bytes());
            sequence = sequence.wrapping_add(1);
        }
    }

    /// Datagrams of at most [`DATAGRAM_REQUESTS_MAX`] requests.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let end = (0..DATAGRAM_REQUESTS_MAX).fold(0, |at, _| at + request_len(&rest[at..]));
            let (datagram, behind) = rest.split_at(end);
            rest = behind;
            (!datagram.is_empty()).then_some(datagram)
        })
    }
}

/// How long the first request is, with what fills it up; 0 if there is none.
fn request_len(bytes: &[u8]) -> usize {
    bytes.first_chunk().map_or(0, |len| aligned(u32::from_ne_bytes(*len) as usize))
}
