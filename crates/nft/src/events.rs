//! Whether somebody else has changed our tables.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netloft_netlink::{Heard, Listener, Protocol};

use crate::attribute::find_text;
use crate::message::Message;
use crate::object::TABLE_NAME;
use crate::table::{NAME, Table};

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
pub(crate) struct Events(Listener);

/// The group that is told of changes to tables (`NFNLGRP_NFTABLES`).
const GROUP: u32 = 7;

impl Events {
    /// Listens in the namespace of the calling thread.
    pub(crate) fn open() -> io::Result<Self> {
        let events = Self(Listener::open(Protocol::NETFILTER)?);
        events.resume()?;
        Ok(events)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Forgets what has happened, and is told of nothing until [`Events::resume`].
    pub(crate) fn pause(&mut self) -> io::Result<()> {
        self.0.leave(GROUP)?;
        while !matches!(self.0.read()?, Heard::Nothing) {}
        Ok(())
    }

    pub(crate) fn resume(&self) -> io::Result<()> {
        self.0.join(GROUP)
    }

    /// Looks at what has happened since the last look. What the socket of `own_port` did does not count.
    pub(crate) fn look(&mut self, own_port: u32) -> io::Result<Seen> {
        let mut seen = Seen::Calm;
        for _ in 0..LOOK_LEN_MAX {
            match self.0.read()? {
                Heard::Nothing => break,
                Heard::Lost if seen == Seen::Calm => seen = Seen::Lost,
                Heard::Lost => {}
                Heard::Notices(messages) => {
                    if messages.flatten().any(|message| concerns_us(&message, own_port)) {
                        seen = Seen::Changed;
                    }
                }
            }
        }
        Ok(seen)
    }
}

fn concerns_us(notice: &netloft_netlink::Message<'_>, own_port: u32) -> bool {
    let told = Message(notice.payload);
    notice.port != own_port
        && told.family().and_then(Table::from_family).is_some()
        && find_text(told.attributes(), TABLE_NAME) == Some(NAME)
}
