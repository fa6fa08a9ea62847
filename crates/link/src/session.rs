//! Requests and their answers, in the types of rtnetlink.

use std::io;

use netloft_netlink::{Cause, Message, Protocol, Requests, Socket, Subject};
use rtnetlink::packet_core::{DecodeError, NetlinkSerializable, ParseableParametrized};
use rtnetlink::packet_route::RouteNetlinkMessage;

use crate::Error;
use crate::request::Request;

/// A conversation with the kernel.
pub(crate) struct Session {
    socket: Socket,
    /// Where requests are written, again and again.
    written: Requests,
}

impl Session {
    /// Opens a socket in the namespace of the calling thread, where it stays.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self { socket: Socket::open(Protocol::ROUTE)?, written: Requests::new() })
    }

    /// Carries out requests in order.
    ///
    /// The kernel does not stop at a refused request. The first refusal is returned, after all answers are in.
    pub(crate) fn batch(&mut self, requests: impl IntoIterator<Item = Request>) -> Result<(), Error> {
        self.carry_out(requests, |_| ())
    }

    /// Carries out requests, as [`Session::batch`], and returns what they asked for.
    pub(crate) fn ask(
        &mut self,
        requests: impl IntoIterator<Item = Request>,
    ) -> Result<Vec<RouteNetlinkMessage>, Error> {
        let (mut replies, mut unreadable) = (Vec::new(), None);
        self.carry_out(requests, |message| match parse(message) {
            Ok(reply) => replies.push(reply),
            Err(source) => drop(unreadable.get_or_insert(source)),
        })?;
        match unreadable {
            None => Ok(replies),
            Some(source) => Err(malformed(self.written.subject(0), source)),
        }
    }

    /// Carries out requests, as [`Session::batch`], and shows what comes in answer as it comes: to understand all that is
    /// told of a link takes a twentieth of the time of making it.
    pub(crate) fn carry_out(
        &mut self,
        requests: impl IntoIterator<Item = Request>,
        mut reply: impl FnMut(&Message<'_>),
    ) -> Result<(), Error> {
        self.written.clear();
        for Request { subject, flags, message } in requests {
            self.written.add(subject, message.message_type(), flags, |payload| append(&message, payload));
        }
        let outcomes = self.socket.carry_out(&mut self.written, |_, message| reply(message));
        Ok(outcomes.into_iter().collect::<Result<(), _>>()?)
    }

    /// Asks for a list. One that changed while it was read is read again.
    pub(crate) fn dump(&mut self, request: &Request) -> Result<Vec<RouteNetlinkMessage>, Error> {
        let list = self.dump_as(request, |message| Some(parse(message)))?;
        list.into_iter().collect::<Result<_, _>>().map_err(|source| malformed(&request.subject, source))
    }

    /// Asks how long a list is, without understanding what is in it.
    pub(crate) fn count(&mut self, request: &Request) -> Result<usize, Error> {
        self.dump_as(request, |_| Some(())).map(|list| list.len())
    }

    fn dump_as<T>(
        &mut self,
        Request { subject, message, .. }: &Request,
        read: impl FnMut(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let write = |payload: &mut Vec<u8>| append(message, payload);
        Ok(self.socket.dump(subject, message.message_type(), write, read)?)
    }
}

/// Appends what follows the header of a message.
fn append(message: &RouteNetlinkMessage, payload: &mut Vec<u8>) {
    let start = payload.len();
    payload.resize(start + message.buffer_len(), 0);
    message.serialize(&mut payload[start..]);
}

/// Understands a message of the kernel.
pub(crate) fn parse(message: &Message<'_>) -> Result<RouteNetlinkMessage, DecodeError> {
    RouteNetlinkMessage::parse_with_param(message.payload, message.kind)
}

fn malformed(subject: &Subject, source: DecodeError) -> Error {
    subject.failed(Cause::Malformed(source.into())).into()
}
