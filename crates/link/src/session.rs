//! Requests and their answers: many requests in one datagram, each with a sequence number of its own.

use std::io;

use nix::errno::Errno;
use rtnetlink::packet_core::{
    DecodeError, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST,
    NetlinkBuffer, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable, NlasIterator, Parseable,
};
use rtnetlink::packet_route::RouteNetlinkMessage;

use crate::request::Request;
use crate::wire::Wire;
use crate::{Error, Refusal};

/// How often a dump is read anew when the kernel says that what it listed changed meanwhile.
const DUMP_ATTEMPTS_MAX: u32 = 10;

/// Requests in one datagram. The answers wait in the socket's buffer (208 KiB by default, `rmem_default`)
/// until we read them, and an answer takes up to 1 KiB there.
const BATCH_LEN_MAX: usize = 64;

/// Of `linux/netlink.h`: the types of an acknowledgement and of the end of a list, the length of a header,
/// and the attribute that holds the kernel's own words.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER_LEN: usize = 16;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// A conversation with the kernel.
pub(crate) struct Session<W> {
    wire: W,
    /// The number of the last request; 0 is what the kernel's own notices carry.
    sequence: u32,
    buffer: Vec<u8>,
}

impl<W: Wire> Session<W> {
    pub(crate) fn new(wire: W) -> Self {
        Self { wire, sequence: 0, buffer: Vec::new() }
    }

    /// Carries out requests in order and returns what they asked for.
    ///
    /// The kernel does not stop at a refused request. The first refusal is returned, after all answers are in.
    pub(crate) fn batch(&mut self, requests: Vec<Request>) -> Result<Vec<RouteNetlinkMessage>, Error> {
        let mut replies = Vec::new();
        let mut requests = requests.into_iter();
        loop {
            let datagram: Vec<_> = requests.by_ref().take(BATCH_LEN_MAX).collect();
            if datagram.is_empty() {
                return Ok(replies);
            }
            self.exchange(datagram, &mut replies)?;
        }
    }

    /// Asks for a list. One that changed while it was read is read again.
    pub(crate) fn dump(&mut self, request: &Request) -> Result<Vec<RouteNetlinkMessage>, Error> {
        self.dump_as(request, parse)
    }

    /// Asks how long a list is, without understanding what is in it.
    pub(crate) fn count(&mut self, request: &Request) -> Result<usize, Error> {
        self.dump_as(request, |_, _| Ok(())).map(|list| list.len())
    }

    fn dump_as<T>(&mut self, request: &Request, read: Read<T>) -> Result<Vec<T>, Error> {
        for _ in 0..DUMP_ATTEMPTS_MAX {
            if let Some(list) = self.dump_once(request, read)? {
                return Ok(list);
            }
        }
        Err(request.interrupted(DUMP_ATTEMPTS_MAX))
    }

    fn exchange(
        &mut self,
        requests: Vec<Request>,
        replies: &mut Vec<RouteNetlinkMessage>,
    ) -> Result<(), Error> {
        let first = self.sequence.wrapping_add(1);
        let mut datagram = Vec::new();
        for request in &requests {
            self.append(request, NLM_F_ACK, &mut datagram);
        }
        let told = &requests[0];
        self.wire.send(&datagram).map_err(|source| told.unanswered(source))?;

        let mut outcomes: Vec<Option<Result<(), Error>>> = Vec::new();
        outcomes.resize_with(requests.len(), || None);
        while let Some(waiting) = outcomes.iter().position(Option::is_none) {
            let told = &requests[waiting];
            self.receive().map_err(|source| told.unanswered(source))?;
            for message in messages(&self.buffer) {
                let (header, payload) = message.map_err(|source| told.malformed(source))?;
                // Anything else is a late answer to a request that was given up.
                let position = header.sequence_number.wrapping_sub(first) as usize;
                let Some(request) = requests.get(position) else {
                    continue;
                };
                if header.message_type == NLMSG_ERROR {
                    let outcome = acknowledgement(header.flags, payload);
                    let outcome = outcome.map_err(|source| told.malformed(source))?;
                    outcomes[position] = Some(outcome.map_err(|refusal| request.refused(refusal)));
                } else {
                    replies.push(parse(&header, payload).map_err(|s| request.malformed(s))?);
                }
            }
        }
        outcomes.into_iter().flatten().collect()
    }

    /// Reads a list once, to its end; `None` if it was interrupted.
    ///
    /// To stop before the end would leave the kernel in the middle of the list, and the next one would be
    /// refused with `EBUSY`.
    fn dump_once<T>(&mut self, request: &Request, read: Read<T>) -> Result<Option<Vec<T>>, Error> {
        let mut datagram = Vec::new();
        self.append(request, NLM_F_DUMP, &mut datagram);
        self.wire.send(&datagram).map_err(|source| request.unanswered(source))?;
        let (mut list, mut overruns, mut interrupted) = (Ok(Vec::new()), 0, false);
        loop {
            if let Err(source) = self.receive() {
                overruns += 1;
                if source.raw_os_error() != Some(Errno::ENOBUFS as i32) || overruns > DUMP_ATTEMPTS_MAX {
                    return Err(request.unanswered(source));
                }
                // A part of the list is lost, the rest will come.
                interrupted = true;
                continue;
            }
            for message in messages(&self.buffer) {
                let (header, payload) = message.map_err(|source| request.malformed(source))?;
                if header.sequence_number != self.sequence {
                    continue;
                }
                interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
                if matches!(header.message_type, NLMSG_DONE | NLMSG_ERROR) {
                    acknowledgement(header.flags, payload)
                        .map_err(|source| request.malformed(source))?
                        .map_err(|refusal| request.refused(refusal))?;
                    let list = list.map_err(|source| request.malformed(source))?;
                    return Ok((!interrupted).then_some(list));
                }
                list = list.and_then(|mut list: Vec<_>| {
                    list.push(read(&header, payload)?);
                    Ok(list)
                });
            }
        }
    }

    fn append(&mut self, request: &Request, flags: u16, datagram: &mut Vec<u8>) {
        self.sequence = self.sequence.wrapping_add(1);
        let start = datagram.len();
        let len = HEADER_LEN + request.message.buffer_len();
        datagram.resize(start + aligned(len), 0);
        let mut buffer = NetlinkBuffer::new(&mut datagram[start..]);
        buffer.set_length(u32::try_from(len).expect("a request is a few hundred bytes"));
        buffer.set_message_type(request.message.message_type());
        buffer.set_flags(NLM_F_REQUEST | flags | request.flags);
        buffer.set_sequence_number(self.sequence);
        request.message.serialize(buffer.payload_mut());
    }

    fn receive(&mut self) -> io::Result<()> {
        self.wire.receive(&mut self.buffer)
    }
}

/// A message's header and what follows it.
type Message<'a> = (NetlinkHeader, &'a [u8]);

/// What is made of a message of a list.
type Read<T> = fn(&NetlinkHeader, &[u8]) -> Result<T, DecodeError>;

/// What the kernel says of its own accord in a datagram.
pub(crate) fn notices(datagram: &[u8]) -> impl Iterator<Item = Result<RouteNetlinkMessage, DecodeError>> {
    messages(datagram).map(|message| message.and_then(|(header, payload)| parse(&header, payload)))
}

/// The messages of a datagram.
fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<Message<'_>, DecodeError>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let read = split_message(rest);
        rest = read.as_ref().map_or(&[], |(_, rest)| rest);
        Some(read.map(|(message, _)| message))
    })
}

fn split_message(bytes: &[u8]) -> Result<(Message<'_>, &[u8]), DecodeError> {
    let buffer = NetlinkBuffer::new_checked(bytes)?;
    let header = NetlinkHeader::parse(&buffer)?;
    let len = aligned(buffer.length() as usize);
    Ok(((header, buffer.payload()), bytes.get(len..).unwrap_or(&[])))
}

/// Reads an acknowledgement, or the end of a list, which has the same shape: an error number, 0 for success,
/// then the header of the request, then attributes.
fn acknowledgement(flags: u16, payload: &[u8]) -> Result<Result<(), Refusal>, DecodeError> {
    let Some((number, rest)) = payload.split_first_chunk() else {
        return Err(DecodeError::buffer_too_small(payload.len(), 4));
    };
    match i32::from_ne_bytes(*number) {
        0 => Ok(Ok(())),
        negative => Ok(Err(Refusal::new(negative.wrapping_neg(), explanation(flags, rest)))),
    }
}

/// Finds the kernel's own words behind the request that an acknowledgement repeats.
fn explanation(flags: u16, repeated: &[u8]) -> Option<String> {
    if flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let repeated_len = if flags & NLM_F_CAPPED == 0 {
        NetlinkBuffer::new_checked(repeated).ok()?.length() as usize
    } else {
        HEADER_LEN
    };
    NlasIterator::new(repeated.get(aligned(repeated_len)..)?)
        .flatten()
        .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
        .map(|attribute| {
            let text = String::from_utf8_lossy(attribute.value());
            text.trim_end_matches('\0').to_owned()
        })
}

fn parse(header: &NetlinkHeader, payload: &[u8]) -> Result<RouteNetlinkMessage, DecodeError> {
    RouteNetlinkMessage::deserialize(header, payload)
}

/// Messages and attributes begin at multiples of four bytes (`NLMSG_ALIGNTO`).
const fn aligned(len: usize) -> usize {
    len.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Answers with what it was given, in order, and counts what was sent.
    #[derive(Default)]
    struct Script {
        answers: VecDeque<io::Result<Vec<u8>>>,
        sent: usize,
    }

    impl Wire for Script {
        fn send(&mut self, _datagram: &[u8]) -> io::Result<()> {
            self.sent += 1;
            Ok(())
        }

        fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
            let answer = self.answers.pop_front();
            *buffer = answer.unwrap_or(Err(io::ErrorKind::WouldBlock.into()))?;
            Ok(())
        }
    }

    fn session(answers: impl IntoIterator<Item = io::Result<Vec<u8>>>) -> Session<Script> {
        Session::new(Script { answers: answers.into_iter().collect(), sent: 0 })
    }

    fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let len = HEADER_LEN + payload.len();
        let mut bytes = vec![0; aligned(len)];
        let mut buffer = NetlinkBuffer::new(&mut bytes);
        buffer.set_length(len.try_into().unwrap());
        buffer.set_message_type(kind);
        buffer.set_flags(flags);
        buffer.set_sequence_number(sequence);
        buffer.payload_mut().copy_from_slice(payload);
        bytes
    }

    fn acknowledge(sequence: u32, errno: i32) -> Vec<u8> {
        let mut payload = (-errno).to_ne_bytes().to_vec();
        payload.resize(4 + HEADER_LEN, 0);
        message(NLMSG_ERROR, NLM_F_CAPPED, sequence, &payload)
    }

    fn link(sequence: u32, flags: u16) -> Vec<u8> {
        // An empty `ifinfomsg` of link 7 (RTM_NEWLINK is 16).
        let payload = [0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        message(16, flags, sequence, &payload)
    }

    fn end(sequence: u32, flags: u16) -> Vec<u8> {
        message(NLMSG_DONE, flags, sequence, &[0; 4])
    }

    fn requests(count: usize) -> Vec<Request> {
        (0..count).map(|number| Request::get_link("read", &format!("link{number}"))).collect()
    }

    #[test]
    fn interrupted_dump_is_read_again_from_the_start() {
        let first = [link(1, NLM_F_DUMP_INTR), link(1, 0), end(1, 0)].concat();
        let mut session = session([Ok(first), Ok(link(2, 0)), Ok(end(2, 0))]);
        let list = session.dump(&Request::list_links()).unwrap();
        assert_eq!((list.len(), session.wire.sent), (1, 2));
    }

    #[test]
    fn overrun_dump_is_read_to_its_end_before_it_is_read_again() {
        let overrun = Err(Errno::ENOBUFS.into());
        let rest = [link(1, 0), end(1, 0)].concat();
        let mut session = session([Ok(link(1, 0)), overrun, Ok(rest), Ok(link(2, 0)), Ok(end(2, 0))]);
        let list = session.dump(&Request::list_links()).unwrap();
        assert_eq!((list.len(), session.wire.sent), (1, 2));
        assert!(session.wire.answers.is_empty());
    }

    #[test]
    fn socket_that_overruns_without_end_is_given_up() {
        let overruns = (0..100).map(|_| Err(Errno::ENOBUFS.into()));
        let error = session(overruns).dump(&Request::list_links()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::ENOBUFS as i32));
    }

    #[test]
    fn dump_with_an_unreadable_message_is_an_error_after_its_end() {
        let unreadable = message(16, 0, 1, &[0; 3]);
        let mut session = session([Ok(unreadable), Ok(end(1, 0))]);
        let error = session.dump(&Request::list_links()).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{error}");
        assert!(session.wire.answers.is_empty());
    }

    #[test]
    fn dump_that_is_always_interrupted_ends_with_a_retryable_error() {
        let answers = (1..100).map(|sequence| Ok(end(sequence, NLM_F_DUMP_INTR)));
        let mut session = session(answers);
        let error = session.dump(&Request::list_links()).unwrap_err();
        assert!(error.is_retryable(), "{error}");
        assert_eq!(session.wire.sent, DUMP_ATTEMPTS_MAX as usize);
    }

    #[test]
    fn refused_dump_is_an_error_not_an_empty_list() {
        let refused = message(NLMSG_DONE, 0, 1, &(-libc_einval()).to_ne_bytes());
        let error = session([Ok(refused)]).dump(&Request::list_links()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc_einval()));
    }

    #[test]
    fn first_refusal_is_mapped_to_its_request_after_all_answers_are_read() {
        let answers = [acknowledge(1, 0), acknowledge(2, 17), acknowledge(3, 1)];
        let mut session = session(answers.map(Ok));
        let error = session.batch(requests(3)).unwrap_err();
        assert_eq!(error.to_string(), "cannot read link1");
        assert!(error.is_exists() && session.wire.answers.is_empty());
    }

    #[test]
    fn answers_to_given_up_requests_are_ignored() {
        let mut session = session([Err(io::ErrorKind::WouldBlock.into())]);
        assert!(session.batch(requests(2)).unwrap_err().is_retryable());
        let answers = [acknowledge(1, 1), acknowledge(2, 1), acknowledge(3, 0)];
        session.wire.answers.extend(answers.map(Ok));
        assert!(session.batch(requests(1)).unwrap().is_empty());
    }

    #[test]
    fn long_batches_are_cut_into_datagrams_whose_answers_fit_the_socket() {
        let last = u32::try_from(BATCH_LEN_MAX).unwrap() + 1;
        let mut session = session((1..=last).map(|sequence| Ok(acknowledge(sequence, 0))));
        session.batch(requests(BATCH_LEN_MAX + 1)).unwrap();
        assert_eq!(session.wire.sent, 2);
    }

    #[test]
    fn the_words_of_the_kernel_are_found_behind_capped_and_whole_requests() {
        let words = [8, 0, 1, 0, b'n', b'o', b'!', 0];
        let whole = message(16, 0, 1, &[0; 16]);
        for (flags, repeated) in [(NLM_F_CAPPED, &whole[..HEADER_LEN]), (0, &whole[..])] {
            let payload = [&(-1_i32).to_ne_bytes(), repeated, &words].concat();
            let refusal = acknowledgement(flags | NLM_F_ACK_TLVS, &payload).unwrap();
            let refusal = refusal.unwrap_err();
            assert_eq!((refusal.errno(), refusal.explanation()), (1, Some("no!")));
        }
    }

    fn libc_einval() -> i32 {
        Errno::EINVAL as i32
    }
}
