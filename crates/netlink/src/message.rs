//! Messages of the kernel, read out of a datagram.

use crate::attribute::{aligned, attributes};
use crate::{Cause, Refusal};

/// Of `linux/netlink.h`: the types of an acknowledgement and of the end of a list, and the length of a header.
pub(crate) const NLMSG_ERROR: u16 = 2;
pub(crate) const NLMSG_DONE: u16 = 3;
pub(crate) const HEADER_LEN: usize = 16;

/// Flags of an answer: a list was interrupted; an acknowledgement repeats only the header; attributes follow it.
pub(crate) const NLM_F_DUMP_INTR: u16 = 0x10;
pub(crate) const NLM_F_CAPPED: u16 = 0x100;
pub(crate) const NLM_F_ACK_TLVS: u16 = 0x200;

/// The attribute of an acknowledgement that holds the kernel's own words.
const NLMSGERR_ATTR_MSG: u16 = 1;

/// A message of the kernel.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Its type, a number of its protocol.
    pub kind: u16,
    /// The socket whose request it speaks of ([`crate::Socket::port`]).
    pub port: u32,
    /// What follows the header.
    pub payload: &'a [u8],
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
}

impl Message<'_> {
    /// Whether it is the last answer to a request: an acknowledgement, or the end of a list.
    pub(crate) fn is_last(&self) -> bool {
        matches!(self.kind, NLMSG_ERROR | NLMSG_DONE)
    }

    /// Whether the kernel says that the list of which it is a part changed meanwhile.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.flags & NLM_F_DUMP_INTR != 0
    }

    /// Reads the last answer to a request: an error number, 0 for success, then the header of the request, then
    /// attributes.
    pub(crate) fn outcome(&self) -> Result<(), Cause> {
        let Some((number, repeated)) = self.payload.split_first_chunk() else {
            return Err(Cause::Malformed("an acknowledgement has no number".into()));
        };
        match i32::from_ne_bytes(*number) {
            0 => Ok(()),
            negative => {
                Err(Cause::Refused(Refusal::new(negative.wrapping_neg(), self.explanation(repeated))))
            }
        }
    }

    /// Finds the kernel's own words behind the request that an acknowledgement repeats.
    fn explanation(&self, repeated: &[u8]) -> Option<String> {
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        let repeated_len = if self.flags & NLM_F_CAPPED == 0 {
            u32::from_ne_bytes(*repeated.first_chunk()?) as usize
        } else {
            HEADER_LEN
        };
        let mut told = attributes(repeated.get(aligned(repeated_len)..)?);
        let (_, words) = told.find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)?;
        Some(String::from_utf8_lossy(words).trim_end_matches('\0').to_owned())
    }
}

/// The messages of a datagram. If it ends in the middle of one, that one is an error, and the last.
#[derive(Debug, Clone)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    pub(crate) fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Cause>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let read = split_message(self.rest);
        self.rest = read.map_or(&[], |(_, rest)| rest);
        let cut_off = || Cause::Malformed("a datagram ends in the middle of a message".into());
        Some(read.map(|(message, _)| message).ok_or_else(cut_off))
    }
}

fn split_message(bytes: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let word = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let half = |at: usize| Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let len = word(0)? as usize;
    let payload = bytes.get(HEADER_LEN..len)?;
    let message = Message { kind: half(4)?, flags: half(6)?, sequence: word(8)?, port: word(12)?, payload };
    Some((message, bytes.get(aligned(len)..).unwrap_or(&[])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_kernel_are_found_behind_capped_and_whole_requests() {
        let words = [8, 0, 1, 0, b'n', b'o', b'!', 0];
        // A request of 18 bytes, and what fills it up.
        let whole = [&18_u32.to_ne_bytes()[..], &[0; 16]].concat();
        for (flags, repeated) in [(NLM_F_CAPPED, &whole[..HEADER_LEN]), (0, &whole)] {
            let payload = [&(-1_i32).to_ne_bytes(), repeated, &words].concat();
            let flags = flags | NLM_F_ACK_TLVS;
            let message = Message { kind: NLMSG_ERROR, port: 0, payload: &payload, flags, sequence: 1 };
            let Err(Cause::Refused(refusal)) = message.outcome() else { panic!("it is refused") };
            assert_eq!((refusal.errno(), refusal.explanation()), (1, Some("no!")));
            assert!(refusal.to_string().ends_with(": no!"), "{refusal}");
        }
    }

    #[test]
    fn a_message_that_is_cut_off_is_the_last_of_its_datagram() {
        for len in 1..HEADER_LEN + 4 {
            let mut whole = vec![0; HEADER_LEN + 4];
            whole[0] = 20;
            let datagram = [&whole, &whole[..len]].concat();
            let read: Vec<_> = Messages::new(&datagram).map(|message| message.is_ok()).collect();
            assert_eq!(read, [true, false], "{len}");
        }
    }
}
