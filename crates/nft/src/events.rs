//! Whether somebody else has changed our tables.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::libc;

use crate::attribute::find_text;
use crate::message::{Message, messages};
use crate::object::TABLE_NAME;
use crate::table::{NAME, Table};
use crate::wire::EventSocket;

/// Datagrams that one look reads, so that it ends while others change their tables faster than we read of it. What is
/// left keeps the descriptor readable.
const LOOK_LEN_MAX: usize = 1024;

/// What a look at the events has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing that concerns us.
    Calm,
    /// Somebody else changed a table of ours.
    Changed,
    /// There were more events than the socket holds: what is lost may have concerned us.
    Lost,
}

/// The events of the namespace.
pub(crate) struct Events {
    socket: EventSocket,
    buffer: Vec<u8>,
}

impl Events {
    pub(crate) fn new(socket: EventSocket) -> Self {
        Self { socket, buffer: Vec::new() }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Forgets what has happened, and is told of nothing until [`Events::resume`].
    pub(crate) fn pause(&mut self) -> io::Result<()> {
        self.socket.pause()?;
        loop {
            match self.socket.receive(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.raw_os_error() != Some(libc::ENOBUFS) => return Err(error),
                _ => {}
            }
        }
    }

    pub(crate) fn resume(&self) -> io::Result<()> {
        self.socket.listen()
    }

    /// Looks at what has happened since the last look. What the socket of `own_port` did does not count.
    pub(crate) fn look(&mut self, own_port: u32) -> io::Result<Seen> {
        let mut seen = Seen::Calm;
        for _ in 0..LOOK_LEN_MAX {
            match self.socket.receive(&mut self.buffer) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    if seen == Seen::Calm {
                        seen = Seen::Lost;
                    }
                    continue;
                }
                Err(error) => return Err(error),
            }
            if messages(&self.buffer).flatten().any(|message| concerns_us(&message, own_port)) {
                seen = Seen::Changed;
            }
        }
        Ok(seen)
    }
}

fn concerns_us(message: &Message<'_>, own_port: u32) -> bool {
    message.port != own_port
        && message.family().and_then(Table::from_family).is_some()
        && find_text(message.attributes(), TABLE_NAME) == Some(NAME)
}
