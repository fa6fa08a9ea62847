//! Requests and their answers, in the messages of netfilter.

use std::io;

use netloft_netlink::{Protocol, Rejected, Requests, Socket, Subject};
use netloft_netns::{Enterer, Netns};

use crate::Error;
use crate::attribute::Writer;
use crate::message::{Message, write};

/// What brackets a transaction (`NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`), and the part of netfilter it is for.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NFTABLES: u16 = 10;

/// The type of a message of nftables (`NFT_MSG_*`) among those of all of netfilter.
pub(crate) const fn nft(kind: u16) -> u16 {
    (NFTABLES << 8) | kind
}

/// Changes that the kernel makes all together or not at all, behind the request that opens the transaction.
pub(crate) struct Transaction(Requests);

impl Transaction {
    pub(crate) fn new() -> Self {
        let mut transaction = Self(Requests::new());
        transaction.bracket(BATCH_BEGIN, Subject::new("change", "the packet filter"));
        transaction
    }

    /// Adds a change of nftables: a kind (`NFT_MSG_*`), flags, and a family.
    pub(crate) fn add(
        &mut self,
        subject: Subject,
        (kind, flags, family): (u16, u16, u8),
        fill: impl FnOnce(&mut Writer<'_>),
    ) {
        self.0.add(subject, nft(kind), flags, |payload| write(payload, (family, 0), fill));
    }

    /// The position of the next change: the first has 1.
    pub(crate) fn next_position(&self) -> usize {
        self.0.len()
    }

    fn bracket(&mut self, kind: u16, subject: Subject) {
        self.0.add(subject, kind, 0, |payload| write(payload, (0, NFTABLES), |_| ()));
    }
}

/// A conversation with the kernel.
pub(crate) struct Session {
    pub(crate) socket: Socket,
}

impl Session {
    /// Opens a socket in the namespace of the calling thread, where it stays.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self { socket: Socket::open(Protocol::NETFILTER)? })
    }

    /// Carries out a transaction, in one datagram.
    ///
    /// The kernel judges every change before it gives up; the first refusal is told, at position 0 if it was not about
    /// one.
    pub(crate) fn transact(&mut self, mut transaction: Transaction) -> Result<(), Rejected> {
        transaction.bracket(BATCH_END, Subject::new("commit", "the change"));
        self.socket.transact(&mut transaction.0)
    }

    /// Asks for a list, and keeps what `read` makes of it. One that changed while it was read is read again.
    pub(crate) fn dump<T>(
        &mut self,
        (operation, object): (&'static str, &'static str),
        (kind, family): (u16, u8),
        fill: impl FnOnce(&mut Writer<'_>),
        read: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let subject = Subject::new(operation, object);
        let write = |payload: &mut Vec<u8>| write(payload, (family, 0), fill);
        Ok(self.socket.dump(&subject, kind, write, |message| read(&Message(message.payload)))?)
    }
}

/// Opens sockets in a namespace.
pub(crate) fn open_in<T: Send + 'static>(
    enterer: &Enterer,
    netns: &Netns,
    open: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let opened = enterer.run(netns, open).map_err(|source| Error::Enter { source })?;
    opened.map_err(|source| Error::Open { netns: netns.id(), source })
}
