//! Conversations with a kernel that follows a script.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use super::*;
use crate::message::{HEADER_LEN, NLM_F_CAPPED, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR};

/// Answers with what it was given, in order, and keeps what was sent.
#[derive(Default)]
struct Script {
    answers: VecDeque<io::Result<Vec<u8>>>,
    sent: Vec<Vec<u8>>,
}

/// The script, which the test sees while a socket follows it.
type Kernel = Arc<Mutex<Script>>;

impl Wire for Kernel {
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        self.lock().unwrap().sent.push(datagram.to_owned());
        Ok(())
    }

    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        let answer = self.lock().unwrap().answers.pop_front();
        *buffer = answer.unwrap_or(Err(io::ErrorKind::WouldBlock.into()))?;
        Ok(())
    }
}

#[test]
fn requests_go_out_in_one_datagram_numbered_and_filled_up_to_four_bytes() {
    let (mut socket, kernel) = socket([Ok([acknowledge(1, 0), acknowledge(2, 0)].concat())]);
    let mut requests = Requests::new();
    requests.add(subject(0), 16, crate::CREATE, |payload| payload.extend([1, 2, 3]));
    requests.add(subject(1), 17, 0, |payload| payload.push(4));
    assert!(socket.carry_out(&mut requests, |_, _| ()).iter().all(Result::is_ok));
    let script = kernel.lock().unwrap();
    let mut sent = Messages::new(&script.sent[0]).map(Result::unwrap);
    let mut next = || sent.next().map(|it| (it.kind, it.flags, it.sequence, it.payload.to_owned()));
    assert_eq!(next(), Some((16, 0x405, 1, vec![1, 2, 3])));
    assert_eq!(next(), Some((17, 0x005, 2, vec![4])));
    assert_eq!((next(), script.sent.len()), (None, 1));
}

#[test]
fn every_outcome_and_reply_finds_its_request() {
    let answers = [entry(1, 0), acknowledge(1, 0), acknowledge(2, libc::EEXIST), acknowledge(3, libc::EPERM)];
    let (mut socket, kernel) = socket(answers.map(Ok));
    let mut replies = Vec::new();
    let outcomes =
        socket.carry_out(&mut requests(3), |position, message| replies.push((position, message.kind)));
    let errnos: Vec<_> = outcomes.into_iter().map(|it| it.err().and_then(|it| it.raw_os_error())).collect();
    assert_eq!(errnos, [None, Some(libc::EEXIST), Some(libc::EPERM)]);
    assert_eq!(replies, [(0, 16)]);
    assert!(kernel.lock().unwrap().answers.is_empty());
}

#[test]
fn outcomes_end_with_the_request_that_was_not_answered() {
    let overrun = Err(io::Error::from_raw_os_error(libc::ENOBUFS));
    let (mut socket, _) = socket([Ok(acknowledge(1, libc::EEXIST)), overrun]);
    let outcomes = socket.carry_out(&mut requests(3), |_, _| ());
    let [Err(_), Err(lost)] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert!(matches!(lost.cause, Cause::Unanswered(_)) && lost.is_retryable());
    assert_eq!(lost.to_string(), "cannot read link1");
}

#[test]
fn a_request_that_is_passed_over_is_not_waited_for() {
    let (mut socket, _) = socket([acknowledge(1, 0), acknowledge(3, 0)].map(Ok));
    let outcomes = socket.carry_out(&mut requests(3), |_, _| ());
    assert!(matches!(&outcomes[..], [Ok(()), Err(Error { cause: Cause::Malformed(_), .. })]), "{outcomes:?}");
}

#[test]
fn answers_to_given_up_requests_are_ignored() {
    let (mut socket, kernel) = socket([Err(io::ErrorKind::WouldBlock.into())]);
    assert!(socket.carry_out(&mut requests(2), |_, _| ())[0].is_err());
    let answers = [acknowledge(1, 1), acknowledge(2, 1), acknowledge(3, 0)];
    kernel.lock().unwrap().answers.extend(answers.map(Ok));
    let outcomes = socket.carry_out(&mut requests(1), |_, _| ());
    assert!(matches!(&outcomes[..], [Ok(())]), "{outcomes:?}");
}

#[test]
fn many_requests_are_cut_into_datagrams_whose_answers_fit_the_socket() {
    let last = u32::try_from(DATAGRAM_REQUESTS_MAX).unwrap() + 1;
    let (mut socket, kernel) = socket((1..=last).map(|sequence| Ok(acknowledge(sequence, 0))));
    let outcomes = socket.carry_out(&mut requests(DATAGRAM_REQUESTS_MAX + 1), |_, _| ());
    assert_eq!(outcomes.iter().filter(|it| it.is_ok()).count(), DATAGRAM_REQUESTS_MAX + 1);
    let script = kernel.lock().unwrap();
    let lens = script.sent.iter().map(|datagram| Messages::new(datagram).count());
    assert_eq!(lens.collect::<Vec<_>>(), [DATAGRAM_REQUESTS_MAX, 1]);
}

#[test]
fn the_first_refusal_of_a_transaction_is_told_after_all_answers_are_read() {
    let (mut socket, kernel) = socket([3, 4, 5].map(|sequence| Ok(acknowledge(sequence, libc::EBUSY))));
    // The first opens the transaction, the last closes it.
    let rejected = socket.transact(&mut requests(6)).unwrap_err();
    assert_eq!((rejected.position, rejected.error.raw_os_error()), (2, Some(libc::EBUSY)));
    assert_eq!(rejected.error.to_string(), "cannot read link2");
    assert!(kernel.lock().unwrap().answers.is_empty());
}

#[test]
fn only_the_last_change_of_a_transaction_is_acknowledged() {
    let (mut socket, kernel) = socket([Ok(acknowledge(4, 0))]);
    socket.transact(&mut requests(5)).unwrap();
    let script = kernel.lock().unwrap();
    let flags = Messages::new(&script.sent[0]).map(|it| it.unwrap().flags);
    assert_eq!(flags.collect::<Vec<_>>(), [1, 1, 1, 5, 1]);
}

#[test]
fn a_transaction_that_is_refused_as_a_whole_is_not_waited_for() {
    let (mut socket, _) = socket([Ok(acknowledge(1, libc::EPERM))]);
    let rejected = socket.transact(&mut requests(5)).unwrap_err();
    assert_eq!((rejected.position, rejected.error.raw_os_error()), (0, Some(libc::EPERM)));
}

#[test]
fn a_transaction_of_nothing_is_not_sent() {
    for len in 0..3 {
        let (mut socket, kernel) = socket([]);
        assert!(socket.transact(&mut requests(len)).is_ok());
        assert!(kernel.lock().unwrap().sent.is_empty());
    }
}

#[test]
fn answers_to_given_up_transactions_are_ignored() {
    let (mut socket, kernel) = socket([Err(io::Error::from_raw_os_error(libc::ENOBUFS))]);
    assert!(socket.transact(&mut requests(3)).unwrap_err().error.is_retryable());
    kernel.lock().unwrap().answers.extend([acknowledge(2, libc::EBUSY), acknowledge(5, 0)].map(Ok));
    assert!(socket.transact(&mut requests(3)).is_ok());
}

#[test]
fn a_list_is_read_to_its_end_whatever_is_made_of_its_entries() {
    let (mut socket, kernel) = socket([Ok(entry(1, 0)), Ok(entry(1, 0)), Ok(end(1, 0))]);
    let list = socket.dump(&subject(0), 18, |_| (), |_| None::<()>).unwrap();
    assert!(list.is_empty() && kernel.lock().unwrap().answers.is_empty());
}

#[test]
fn an_interrupted_list_is_read_again_from_the_start() {
    let first = [entry(1, NLM_F_DUMP_INTR), entry(1, 0), end(1, 0)].concat();
    let (mut socket, kernel) = socket([Ok(first), Ok(entry(2, 0)), Ok(end(2, 0))]);
    assert_eq!(dump(&mut socket).unwrap(), [7]);
    assert_eq!(kernel.lock().unwrap().sent.len(), 2);
}

#[test]
fn an_overrun_list_is_read_to_its_end_before_it_is_read_again() {
    let overrun = Err(io::Error::from_raw_os_error(libc::ENOBUFS));
    let rest = [entry(1, 0), end(1, 0)].concat();
    let (mut socket, kernel) = socket([Ok(entry(1, 0)), overrun, Ok(rest), Ok(entry(2, 0)), Ok(end(2, 0))]);
    assert_eq!(dump(&mut socket).unwrap(), [7]);
    assert_eq!(kernel.lock().unwrap().sent.len(), 2);
    assert!(kernel.lock().unwrap().answers.is_empty());
}

#[test]
fn a_socket_that_overruns_without_end_is_given_up() {
    let overruns = (0..100).map(|_| Err(io::Error::from_raw_os_error(libc::ENOBUFS)));
    let error = dump(&mut socket(overruns).0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS));
}

#[test]
fn a_list_that_is_always_interrupted_ends_with_a_retryable_error() {
    let (mut socket, kernel) = socket((1..100).map(|sequence| Ok(end(sequence, NLM_F_DUMP_INTR))));
    assert!(dump(&mut socket).unwrap_err().is_retryable());
    assert_eq!(kernel.lock().unwrap().sent.len(), DUMP_ATTEMPTS_MAX as usize);
}

#[test]
fn a_refused_list_is_an_error_not_an_empty_list() {
    let refused = message(NLMSG_DONE, 0, 1, &(-libc::EINVAL).to_ne_bytes());
    let error = dump(&mut socket([Ok(refused)]).0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
}

#[test]
fn an_answer_that_is_cut_off_is_malformed() {
    let error = dump(&mut socket([Ok(end(1, 0)[..18].to_vec())]).0).unwrap_err();
    assert!(matches!(error.cause, Cause::Malformed(_)), "{error}");
}

/// A socket to a kernel that gives these answers.
fn socket(answers: impl IntoIterator<Item = io::Result<Vec<u8>>>) -> (Socket, Kernel) {
    let script = Script { answers: answers.into_iter().collect(), sent: Vec::new() };
    let kernel = Kernel::new(script.into());
    (Socket { wire: Box::new(kernel.clone()), port: 1, sequence: 0, buffer: Vec::new() }, kernel)
}

fn requests(count: usize) -> Requests {
    let mut requests = Requests::new();
    (0..count).for_each(|number| requests.add(subject(number), 18, 0, |payload| payload.extend([0; 16])));
    requests
}

fn subject(number: usize) -> Subject {
    Subject::new("read", format!("link{number}"))
}

/// The first bytes of the entries of a list.
fn dump(socket: &mut Socket) -> Result<Vec<u8>, Error> {
    socket.dump(&subject(0), 18, |_| (), |message| message.payload.first().copied())
}

fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(HEADER_LEN + payload.len()).unwrap().to_ne_bytes().to_vec();
    bytes.extend([kind.to_ne_bytes(), flags.to_ne_bytes()].concat());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

fn acknowledge(sequence: u32, errno: i32) -> Vec<u8> {
    let payload = [&(-errno).to_ne_bytes()[..], &[0; HEADER_LEN]].concat();
    message(NLMSG_ERROR, NLM_F_CAPPED, sequence, &payload)
}

fn entry(sequence: u32, flags: u16) -> Vec<u8> {
    message(16, flags, sequence, &[7, 0, 0, 0])
}

fn end(sequence: u32, flags: u16) -> Vec<u8> {
    message(NLMSG_DONE, flags, sequence, &[0; 4])
}
