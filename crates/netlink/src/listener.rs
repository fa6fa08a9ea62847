//! The socket that hears what happens.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::libc;
use socket2::{SockFilter, SockRef};

use crate::wire::{KernelSocket, Wire as _};
use crate::{Messages, Protocol};

/// A socket that hears what the kernel tells everybody, and never waits.
///
/// Its descriptor ([`AsFd`]) is readable when there is something to hear.
pub struct Listener {
    socket: KernelSocket,
    buffer: Vec<u8>,
}

/// What a listener has heard.
#[derive(Debug)]
pub enum Heard<'a> {
    /// Nothing waits.
    Nothing,
    /// There was more than the socket holds, and the kernel threw something away.
    Lost,
    /// One datagram, in which there is mostly one notice.
    Notices(Messages<'a>),
}

impl Listener {
    /// Opens a socket in the network namespace of the calling thread, where it stays. It hears nothing until
    /// [`Listener::join`].
    pub fn open(protocol: Protocol) -> io::Result<Self> {
        let socket = KernelSocket::open(protocol)?;
        socket.socket.set_non_blocking(true)?;
        Ok(Self { socket, buffer: Vec::new() })
    }

    /// Hears what is told to a group: a number of the protocol, such as `RTNLGRP_LINK`.
    pub fn join(&self, group: u32) -> io::Result<()> {
        self.socket.socket.add_membership(group)
    }

    /// Hears no more of a group. What waits is still there.
    pub fn leave(&self, group: u32) -> io::Result<()> {
        self.socket.socket.drop_membership(group)
    }

    /// Has the kernel keep back what is not of one of these types, up to 255, from now on. What others do is often worth
    /// many notices, each of which would wake whoever listens.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if there are more.
    pub fn hear_only(&self, kinds: &[u16]) -> io::Result<()> {
        let program = program(kinds).ok_or(io::ErrorKind::InvalidInput)?;
        SockRef::from(&self.socket.socket).attach_filter(&program)
    }

    /// Takes one datagram, if there is one.
    pub fn read(&mut self) -> io::Result<Heard<'_>> {
        match self.socket.receive(&mut self.buffer) {
            Ok(()) => Ok(Heard::Notices(Messages::new(&self.buffer))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Heard::Nothing),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(Heard::Lost),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.socket.as_fd()
    }
}

/// The filter that lets messages of these types through; `None` if there are too many for its jumps.
fn program(kinds: &[u16]) -> Option<Vec<SockFilter>> {
    /// Of `linux/bpf_common.h`: loads a half-word; jumps if equal; returns.
    const LOAD: u16 = 0x28;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    /// Where a message has its type (`struct nlmsghdr`). A filter reads it in the byte order of the network.
    const TYPE_AT: u32 = 4;
    let step = |code, jt, k| SockFilter::new(code, jt, 0, k);
    let mut program = vec![step(LOAD, 0, TYPE_AT)];
    let count = u8::try_from(kinds.len()).ok()?;
    let jumps = (1..=count).rev().zip(kinds);
    program.extend(jumps.map(|(rest, kind)| step(JUMP_IF_EQUAL, rest, kind.to_be().into())));
    program.extend([step(RETURN, 0, 0), step(RETURN, 0, u32::MAX)]);
    Some(program)
}
