//! Requests and their answers.

use std::io;

use nix::errno::Errno;

use crate::Error;
use crate::attribute::Writer;
use crate::message::{ACK, DONE, DUMP, DUMP_INTERRUPTED, ERROR, Message, Requests, Subject, messages};
use crate::wire::Wire;

/// How often a list is read anew when the kernel says that what it listed changed meanwhile.
const DUMP_ATTEMPTS_MAX: u32 = 10;

/// What brackets a transaction (`NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`), and the part of netfilter it is for.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NFTABLES: u16 = 10;

/// The type of a message of nftables (`NFT_MSG_*`) among those of all of netfilter.
pub(crate) const fn nft(kind: u16) -> u16 {
    (NFTABLES << 8) | kind
}

/// Changes that the kernel makes all together or not at all.
pub(crate) struct Transaction(Requests);

impl Transaction {
    pub(crate) fn new() -> Self {
        let mut requests = Requests::default();
        let subject = Subject::new("change", "the packet filter");
        requests.add(subject, (BATCH_BEGIN, 0, 0, NFTABLES), |_| ());
        Self(requests)
    }

    /// Adds a change of nftables: a kind (`NFT_MSG_*`), flags, and a family.
    pub(crate) fn add(
        &mut self,
        subject: Subject,
        (kind, flags, family): (u16, u16, u8),
        fill: impl FnOnce(&mut Writer<'_>),
    ) {
        self.0.add(subject, (nft(kind), flags, family, 0), fill);
    }

    /// How many changes it has.
    pub(crate) fn len(&self) -> usize {
        self.0.subjects().len() - 1
    }
}

/// A transaction that was not carried out.
pub(crate) struct Rejected {
    /// The change that was refused, counted from 0; none if it was not about one.
    pub(crate) position: Option<usize>,
    pub(crate) error: Error,
}

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

    pub(crate) fn wire(&self) -> &W {
        &self.wire
    }

    /// Carries out a transaction, in one datagram.
    ///
    /// The kernel judges every change before it gives up; the first refusal is told.
    pub(crate) fn transact(&mut self, Transaction(mut requests): Transaction) -> Result<(), Rejected> {
        if requests.subjects().len() == 1 {
            return Ok(());
        }
        // All refusals come before this answer. Only newer kernels would answer the end of the transaction itself.
        requests.flag_last(ACK);
        let last = requests.subjects().len() - 1;
        let end = Subject::new("commit", "the change");
        requests.add(end, (BATCH_END, 0, 0, NFTABLES), |_| ());
        let sent = self.start(&mut requests);
        let subjects = requests.subjects();
        let rejected = |position: usize, error| Rejected { position: position.checked_sub(1), error };
        let first = sent.map_err(|source| rejected(0, subjects[0].unanswered(source)))?;
        let mut outcome = Ok(());
        loop {
            self.receive().map_err(|source| rejected(0, subjects[0].unanswered(source)))?;
            for message in messages(&self.buffer) {
                let message = message.map_err(|_| rejected(0, subjects[0].malformed()))?;
                let Some((position, subject)) = addressed(&message, first, subjects) else { continue };
                let answer =
                    message.acknowledgement().map_err(|_| rejected(position, subject.malformed()))?;
                if let (Err(refusal), Ok(())) = (answer, &outcome) {
                    outcome = Err(rejected(position, subject.refused(refusal)));
                }
                // About the whole there is one answer; what follows is out of date.
                if position == last || position == 0 {
                    return outcome;
                }
            }
        }
    }

    /// Carries out requests in order, in one datagram; what came of each. The kernel goes on after a refused one.
    pub(crate) fn exchange(&mut self, mut requests: Requests) -> Result<Vec<Result<(), Error>>, Error> {
        let sent = self.start(&mut requests);
        let subjects = requests.subjects();
        let first = sent.map_err(|source| subjects[0].unanswered(source))?;
        let mut outcomes: Vec<Option<Result<(), Error>>> = subjects.iter().map(|_| None).collect();
        while let Some(waiting) = outcomes.iter().position(Option::is_none) {
            self.receive().map_err(|source| subjects[waiting].unanswered(source))?;
            for message in messages(&self.buffer) {
                let message = message.map_err(|_| subjects[waiting].malformed())?;
                let Some((position, subject)) = addressed(&message, first, subjects) else { continue };
                let answer = message.acknowledgement().map_err(|_| subject.malformed())?;
                outcomes[position] = Some(answer.map_err(|refusal| subject.refused(refusal)));
            }
        }
        Ok(outcomes.into_iter().flatten().collect())
    }

    /// Asks for a list, and keeps what `read` makes of it. One that changed while it was read is read again.
    pub(crate) fn dump<T>(
        &mut self,
        (operation, object): (&'static str, &'static str),
        (kind, family): (u16, u8),
        fill: impl Fn(&mut Writer<'_>),
        read: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        for _ in 0..DUMP_ATTEMPTS_MAX {
            let mut request = Requests::default();
            request.add(Subject::new(operation, object), (kind, DUMP, family, 0), &fill);
            if let Some(list) = self.dump_once(request, &read)? {
                return Ok(list);
            }
        }
        Err(Subject::new(operation, object).interrupted(DUMP_ATTEMPTS_MAX))
    }

    /// Reads a list once, to its end; `None` if it was interrupted.
    ///
    /// To stop before the end would leave the kernel in the middle of the list, and the next one would be
    /// refused with `EBUSY`.
    fn dump_once<T>(
        &mut self,
        mut request: Requests,
        read: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Option<Vec<T>>, Error> {
        let sent = self.start(&mut request);
        let subject = &request.subjects()[0];
        sent.map_err(|source| subject.unanswered(source))?;
        let (mut list, mut overruns, mut interrupted) = (Vec::new(), 0, false);
        loop {
            if let Err(source) = self.receive() {
                overruns += 1;
                if source.raw_os_error() != Some(Errno::ENOBUFS as i32) || overruns > DUMP_ATTEMPTS_MAX {
                    return Err(subject.unanswered(source));
                }
                // A part of the list is lost, the rest will come.
                interrupted = true;
                continue;
            }
            for message in messages(&self.buffer) {
                let message = message.map_err(|_| subject.malformed())?;
                if message.sequence != self.sequence {
                    continue;
                }
                interrupted |= message.flags & DUMP_INTERRUPTED != 0;
                if matches!(message.kind, DONE | ERROR) {
                    let end = message.acknowledgement().map_err(|_| subject.malformed())?;
                    end.map_err(|refusal| subject.refused(refusal))?;
                    return Ok((!interrupted).then_some(list));
                }
                list.extend(read(&message));
            }
        }
    }

    /// Sends requests; the number of the first.
    fn start(&mut self, requests: &mut Requests) -> io::Result<u32> {
        let first = self.sequence.wrapping_add(1);
        let count = u32::try_from(requests.subjects().len()).expect("a datagram holds less than 4 GiB");
        self.sequence = self.sequence.wrapping_add(count);
        self.wire.send(requests.numbered(first))?;
        Ok(first)
    }

    fn receive(&mut self) -> io::Result<()> {
        self.wire.receive(&mut self.buffer)
    }
}

/// What an answer is about, if it answers one of the requests numbered from `first`. Anything else is late: it answers
/// a request that was given up.
fn addressed<'a>(message: &Message<'_>, first: u32, subjects: &'a [Subject]) -> Option<(usize, &'a Subject)> {
    let position = message.sequence.wrapping_sub(first) as usize;
    let subject = subjects.get(position).filter(|_| message.kind == ERROR)?;
    Some((position, subject))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use nix::libc;

    use super::*;
    use crate::message::{ACK_HAS_ATTRIBUTES, CAPPED, HEADER_LEN};

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

    #[test]
    fn the_refused_change_of_a_transaction_is_told_with_the_words_of_the_kernel() {
        // The first message is the beginning of the transaction.
        let mut words = acknowledge(3, libc::EBUSY);
        words.extend([8, 0, 1, 0, b'n', b'o', b'!', 0]);
        let len = u32::try_from(words.len()).unwrap();
        words[..4].copy_from_slice(&len.to_ne_bytes());
        words[6..8].copy_from_slice(&(CAPPED | ACK_HAS_ATTRIBUTES).to_ne_bytes());
        let mut session = session([Ok(words), Ok(acknowledge(4, 0))]);
        let rejected = session.transact(transaction(3)).unwrap_err();
        assert_eq!(rejected.position, Some(1));
        assert_eq!(rejected.error.to_string(), "cannot put 1");
        let source = std::error::Error::source(&rejected.error).unwrap().to_string();
        assert!(source.ends_with(": no!"), "{source}");
        assert!(session.wire.answers.is_empty());
    }

    #[test]
    fn a_transaction_that_is_refused_as_a_whole_has_no_position() {
        let mut session = session([Ok(acknowledge(1, libc::EPERM))]);
        let rejected = session.transact(transaction(3)).unwrap_err();
        assert_eq!(rejected.position, None);
        assert!(rejected.error.is_permission_denied());
    }

    #[test]
    fn a_transaction_of_nothing_is_not_sent() {
        let mut session = session([]);
        assert!(session.transact(transaction(0)).is_ok());
        assert_eq!(session.wire.sent, 0);
    }

    #[test]
    fn answers_to_given_up_transactions_are_ignored() {
        let mut session = session([Err(Errno::ENOBUFS.into())]);
        assert!(session.transact(transaction(1)).unwrap_err().error.is_retryable());
        // The first one had three messages: its beginning, a change, its end.
        session.wire.answers.extend([acknowledge(2, libc::EBUSY), acknowledge(5, 0)].map(Ok));
        assert!(session.transact(transaction(1)).is_ok());
    }

    #[test]
    fn an_interrupted_or_overrun_list_is_read_again_from_the_start() {
        let interrupted = [entry(1, DUMP_INTERRUPTED), end(1, 0)].concat();
        let overrun = Err(Errno::ENOBUFS.into());
        let mut session = session([
            Ok(interrupted),
            Ok(entry(2, 0)),
            overrun,
            Ok(end(2, 0)),
            Ok(entry(3, 0)),
            Ok(end(3, 0)),
        ]);
        assert_eq!(dump(&mut session).unwrap(), [7]);
        assert_eq!(session.wire.sent, 3);
    }

    #[test]
    fn a_list_that_is_always_interrupted_ends_with_a_retryable_error() {
        let mut session = session((1..100).map(|sequence| Ok(end(sequence, DUMP_INTERRUPTED))));
        assert!(dump(&mut session).unwrap_err().is_retryable());
        assert_eq!(session.wire.sent, DUMP_ATTEMPTS_MAX as usize);
    }

    #[test]
    fn a_refused_list_is_an_error_not_an_empty_list() {
        let mut session = session([Ok(message(DONE, 0, 1, &(-libc::ENOENT).to_ne_bytes()))]);
        assert!(dump(&mut session).unwrap_err().is_not_found());
    }

    #[test]
    fn an_answer_that_is_cut_off_is_malformed() {
        let mut session = session([Ok(end(1, 0)[..18].to_vec())]);
        let error = dump(&mut session).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{error}");
    }

    fn session(answers: impl IntoIterator<Item = io::Result<Vec<u8>>>) -> Session<Script> {
        Session::new(Script { answers: answers.into_iter().collect(), sent: 0 })
    }

    fn transaction(changes: usize) -> Transaction {
        let mut transaction = Transaction::new();
        for number in 0..changes {
            transaction.add(Subject::new("put", number.to_string()), (12, 0, 1), |_| ());
        }
        transaction
    }

    fn dump(session: &mut Session<Script>) -> Result<Vec<u8>, Error> {
        session.dump(
            ("list", "tables"),
            (nft(1), 0),
            |_| (),
            |message| message.family().filter(|it| *it == 7),
        )
    }

    fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(HEADER_LEN + payload.len()).unwrap();
        let header =
            [len.to_ne_bytes(), [kind.to_ne_bytes(), flags.to_ne_bytes()].concat().try_into().unwrap()];
        [&header.concat()[..], &sequence.to_ne_bytes(), &[0; 4], payload].concat()
    }

    fn acknowledge(sequence: u32, errno: i32) -> Vec<u8> {
        let payload = [&(-errno).to_ne_bytes()[..], &[0; HEADER_LEN]].concat();
        message(ERROR, CAPPED, sequence, &payload)
    }

    /// A table of family 7.
    fn entry(sequence: u32, flags: u16) -> Vec<u8> {
        message(nft(0), flags, sequence, &[7, 0, 0, 0])
    }

    fn end(sequence: u32, flags: u16) -> Vec<u8> {
        message(DONE, flags, sequence, &[0; 4])
    }
}
