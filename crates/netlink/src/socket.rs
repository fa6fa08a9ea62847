//! The socket that asks and is answered.

use std::io;

use nix::libc;

use crate::message::Messages;
use crate::request::{DATAGRAM_REQUESTS_MAX, NLM_F_ACK, NLM_F_DUMP};
use crate::wire::{KernelSocket, Wire};
use crate::{Cause, Error, Message, Rejected, Requests, Subject};

/// How often a list is read anew when the kernel says that what it listed changed meanwhile.
const DUMP_ATTEMPTS_MAX: u32 = 10;

/// A part of the kernel that speaks netlink: a number of `linux/netlink.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocol(pub u8);

impl Protocol {
    /// Links, addresses, routes, rules, neighbours and queues (`NETLINK_ROUTE`).
    pub const ROUTE: Self = Self(0);
    /// Packet filter and connection tracking (`NETLINK_NETFILTER`).
    pub const NETFILTER: Self = Self(12);
}

/// A socket that asks the kernel and is answered. Blocking; the kernel answers at once.
///
/// After an error it can be used as before: a late answer to what was given up is not taken for another.
pub struct Socket {
    wire: Box<dyn Wire>,
    port: u32,
    /// The number of the last request; 0 is what the kernel's own notices carry.
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the network namespace of the calling thread, where it acts from then on.
    pub fn open(protocol: Protocol) -> io::Result<Self> {
        let wire = KernelSocket::open(protocol)?;
        wire.expect_answers()?;
        Ok(Self { port: wire.port, wire: Box::new(wire), sequence: 0, buffer: Vec::new() })
    }

    /// What the kernel calls this socket: the author of changes, in its notices of them.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Carries out requests in order, in as few datagrams as have room for the answers (64 in each), and tells what came
    /// of each. A refused one keeps none of the others from being carried out.
    ///
    /// What a request asks for is given to `reply`, with the position of the request, before its outcome is known.
    ///
    /// The outcomes are in the order of the requests. If the kernel cannot be asked or understood any more, the last
    /// outcome says why, and there is none for the requests behind it: of those nothing is known.
    pub fn carry_out(
        &mut self,
        requests: &mut Requests,
        mut reply: impl FnMut(usize, &Message<'_>),
    ) -> Vec<Result<(), Error>> {
        let first = self.take_numbers(requests.len());
        requests.number(first, NLM_F_ACK, |_| true);
        let mut outcomes = Vec::with_capacity(requests.len());
        for datagram in requests.datagrams() {
            let exchanged = self.exchange(datagram, requests, first, &mut outcomes, &mut reply);
            if let (Err(cause), Some(subject)) = (exchanged, requests.subjects.get(outcomes.len())) {
                outcomes.push(Err(subject.failed(cause)));
                break;
            }
        }
        outcomes
    }

    /// Sends one datagram of requests and reads answers until the outcomes of all in it are known.
    fn exchange(
        &mut self,
        datagram: &[u8],
        requests: &Requests,
        first: u32,
        outcomes: &mut Vec<Result<(), Error>>,
        reply: &mut impl FnMut(usize, &Message<'_>),
    ) -> Result<(), Cause> {
        let expected = requests.len().min(outcomes.len() + DATAGRAM_REQUESTS_MAX);
        self.send(datagram)?;
        while outcomes.len() < expected {
            self.receive()?;
            for answer in answers(&self.buffer, first, expected) {
                let (position, message) = answer?;
                if !message.is_last() {
                    reply(position, &message);
                } else if position == outcomes.len() {
                    let subject = &requests.subjects[position];
                    outcomes.push(message.outcome().map_err(|cause| subject.failed(cause)));
                } else {
                    return Err(Cause::Malformed("requests were not answered in their order".into()));
                }
            }
        }
        Ok(())
    }

    /// Carries out requests all together or not at all, in one datagram, however large. Netfilter knows that: the first
    /// request opens the transaction (`NFNL_MSG_BATCH_BEGIN`), the last closes it (`NFNL_MSG_BATCH_END`). One with
    /// nothing in between is not sent.
    ///
    /// # Errors
    ///
    /// The kernel judges every request before it gives up; the first that it refused is told.
    pub fn transact(&mut self, requests: &mut Requests) -> Result<(), Rejected> {
        // All refusals come before the answer to the last change. Only newer kernels would answer the end itself.
        let Some(last @ 1..) = requests.len().checked_sub(2) else { return Ok(()) };
        let first = self.take_numbers(requests.len());
        requests.number(first, NLM_F_ACK, |position| position == last);
        let rejected =
            |position: usize, cause| Rejected { position, error: requests.subjects[position].failed(cause) };
        let whole = |cause| rejected(0, cause);
        self.send(&requests.bytes).map_err(whole)?;
        let mut outcome = Ok(());
        loop {
            self.receive().map_err(whole)?;
            for answer in answers(&self.buffer, first, requests.len()) {
                let (position, message) = answer.map_err(whole)?;
                if !message.is_last() {
                    continue;
                }
                if let (Ok(()), Err(cause)) = (&outcome, message.outcome()) {
                    outcome = Err(rejected(position, cause));
                }
                // About the whole there is one answer; what follows is out of date.
                if position == last || position == 0 {
                    return outcome;
                }
            }
        }
    }

    /// Asks for a list, by a request of a type whose payload `write` appends, and keeps what `read` makes of its entries.
    /// A list that changed while it was read is read again, up to ten times.
    pub fn dump<T>(
        &mut self,
        subject: &Subject,
        kind: u16,
        write: impl FnOnce(&mut Vec<u8>),
        mut read: impl FnMut(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let mut request = Requests::new();
        request.add(subject.clone(), kind, NLM_F_DUMP, write);
        for _ in 0..DUMP_ATTEMPTS_MAX {
            let list = self.dump_once(&mut request, &mut read);
            if let Some(list) = list.map_err(|cause| subject.failed(cause))? {
                return Ok(list);
            }
        }
        Err(subject.failed(Cause::Interrupted { attempts: DUMP_ATTEMPTS_MAX }))
    }

    /// Reads a list once, to its end; `None` if it was interrupted.
    ///
    /// To stop before the end would leave the kernel in the middle of the list, and the next one would be
    /// refused with `EBUSY`.
    fn dump_once<T>(
        &mut self,
        request: &mut Requests,
        mut read: impl FnMut(&Message<'_>) -> Option<T>,
    ) -> Result<Option<Vec<T>>, Cause> {
        let first = self.take_numbers(1);
        request.number(first, 0, |_| false);
        self.send(&request.bytes)?;
        let (mut list, mut overruns, mut interrupted) = (Vec::new(), 0, false);
        loop {
            if let Err(source) = self.wire.receive(&mut self.buffer) {
                overruns += 1;
                if source.raw_os_error() != Some(libc::ENOBUFS) || overruns > DUMP_ATTEMPTS_MAX {
                    return Err(Cause::Unanswered(source));
                }
                // A part of the list is lost, the rest will come.
                interrupted = true;
                continue;
            }
            for answer in answers(&self.buffer, first, 1) {
                let (_, message) = answer?;
                interrupted |= message.is_interrupted();
                if message.is_last() {
                    message.outcome()?;
                    return Ok((!interrupted).then_some(list));
                }
                list.extend(read(&message));
            }
        }
    }

    /// Takes numbers for requests; the first of them.
    fn take_numbers(&mut self, count: usize) -> u32 {
        let first = self.sequence.wrapping_add(1);
        let count = u32::try_from(count).expect("a request takes 16 bytes of memory");
        self.sequence = self.sequence.wrapping_add(count);
        first
    }

    fn send(&mut self, datagram: &[u8]) -> Result<(), Cause> {
        self.wire.send(datagram).map_err(Cause::Unanswered)
    }

    fn receive(&mut self) -> Result<(), Cause> {
        self.wire.receive(&mut self.buffer).map_err(Cause::Unanswered)
    }
}

/// The answers in a datagram to `count` requests numbered from `first`, each with the position of its request. Anything
/// else is late: it answers a request that was given up.
fn answers(
    datagram: &[u8],
    first: u32,
    count: usize,
) -> impl Iterator<Item = Result<(usize, Message<'_>), Cause>> {
    let addressed = move |message: &Message<'_>| {
        let position = message.sequence.wrapping_sub(first) as usize;
        (position < count).then_some(position)
    };
    Messages::new(datagram).filter_map(move |message| match message {
        Ok(message) => addressed(&message).map(|position| Ok((position, message))),
        Err(error) => Some(Err(error)),
    })
}

#[cfg(test)]
mod tests;
