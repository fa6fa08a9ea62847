//! Netlink by hand: messages as bytes, and a socket that is open already. Nothing can cost less.

use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Result, bail};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, socket,
};

/// Of `linux/netlink.h`.
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
/// The message was done, or refused.
const NLMSG_ERROR: u16 = 2;
/// Of `linux/netfilter/nfnetlink.h` and `nf_tables.h`.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYS_NFTABLES: u16 = 10;
const NEWSETELEM: u16 = 12;
const DELSETELEM: u16 = 14;
const NESTED: u16 = 0x8000;

/// Says that the object is to be made, and must not be there.
pub(crate) const CREATE: u16 = 0x600;

/// A netlink socket, in the namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    pub(crate) fn route() -> Result<Self> {
        Self::open(SockProtocol::NetlinkRoute)
    }

    pub(crate) fn netfilter() -> Result<Self> {
        Self::open(SockProtocol::NetlinkNetFilter)
    }

    fn open(protocol: SockProtocol) -> Result<Self> {
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self(socket))
    }

    /// Sends messages in one datagram and reads their acknowledgements, none of which may be a refusal.
    pub(crate) fn talk(&self, messages: &[Vec<u8>]) -> Result<()> {
        self.send(&messages.concat())?;
        messages.iter().try_for_each(|_| self.acknowledged())
    }

    /// Adds elements to a map of the filter, or deletes them, as one transaction.
    pub(crate) fn change_map(
        &self,
        change: MapChange,
        table: &str,
        map: &str,
        elements: &[Vec<u8>],
    ) -> Result<()> {
        let (kind, flags) = match change {
            MapChange::Add => (NEWSETELEM, CREATE | ACK),
            MapChange::Delete => (DELSETELEM, ACK),
        };
        let elements: Vec<u8> = elements.iter().flat_map(|element| nested(1 | NESTED, element)).collect();
        let body = [text(1, table), text(2, map), nested(3 | NESTED, &elements)].concat();
        let batch = [
            plain(BATCH_BEGIN, 0, &netfilter_header(0, SUBSYS_NFTABLES)),
            plain(SUBSYS_NFTABLES << 8 | kind, flags, &[netfilter_header(2, 0), body].concat()),
            plain(BATCH_END, 0, &netfilter_header(0, SUBSYS_NFTABLES)),
        ];
        self.send(&batch.concat())?;
        self.acknowledged()
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        sendto(self.0.as_raw_fd(), bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        Ok(())
    }

    fn acknowledged(&self) -> Result<()> {
        let mut buffer = [0; 4096];
        let len = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let [a, b, c, d] = buffer[16..20] else { bail!("an answer of {len} bytes") };
        let kind = u16::from_ne_bytes([buffer[4], buffer[5]]);
        match i32::from_ne_bytes([a, b, c, d]) {
            0 if kind == NLMSG_ERROR => Ok(()),
            errno => bail!("the kernel refused: {}", nix::errno::Errno::from_raw(-errno)),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MapChange {
    Add,
    Delete,
}

/// The element of a map `inet_service : ipv4_addr . inet_service`; to delete it, its key is enough.
pub(crate) fn port_element(change: MapChange, port: u16, to: [u8; 4], to_port: u16) -> Vec<u8> {
    let key = nested(1 | NESTED, &nested(1, &port.to_be_bytes()));
    if change == MapChange::Delete {
        return key;
    }
    // Each part of a concatenation fills four bytes.
    let value = [&to[..], &to_port.to_be_bytes(), &[0, 0]].concat();
    [key, nested(2 | NESTED, &nested(1, &value))].concat()
}

fn netfilter_header(family: u8, resource: u16) -> Vec<u8> {
    [[family, 0], resource.to_be_bytes()].concat()
}

/// A message that wants an acknowledgement.
pub(crate) fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    plain(kind, flags | ACK, body)
}

fn plain(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(16 + body.len()).expect("no message is that long");
    let mut message = len.to_ne_bytes().to_vec();
    message.extend([kind.to_ne_bytes(), (REQUEST | flags).to_ne_bytes()].concat());
    message.extend([0; 8]);
    message.extend(body);
    message
}

pub(crate) fn number(kind: u16, value: u32) -> Vec<u8> {
    nested(kind, &value.to_ne_bytes())
}

pub(crate) fn text(kind: u16, value: &str) -> Vec<u8> {
    nested(kind, &[value.as_bytes(), &[0]].concat())
}

/// An attribute, padded to four bytes.
pub(crate) fn nested(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + value.len()).expect("no attribute is that long");
    let mut attribute = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}
