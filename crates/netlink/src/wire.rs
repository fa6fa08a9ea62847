//! The socket of the system: datagrams to the kernel and back.

use std::io;

use netlink_sys::SocketAddr;
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::Protocol;

/// Something that carries netlink datagrams: the socket, and in unit tests a script.
pub(crate) trait Wire: Send + Sync {
    /// Sends one datagram.
    fn send(&mut self, datagram: &[u8]) -> io::Result<()>;

    /// Receives one datagram from the kernel into `buffer`, in place of what is there.
    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<()>;
}

/// How long to wait for an answer. The kernel answers before `send` returns, so this bounds only a bug; it
/// is not a pace.
const ANSWER_TIMEOUT_SECONDS: i64 = 5;

/// The largest datagram the kernel sends in a list is 32 KiB, and it looks at the size of this buffer first
/// (`netlink_recvmsg`, `max_recvmsg_len`).
const BUFFER_LEN: usize = 64 * 1024;

/// What a datagram may hold before the socket is told to take more: well below the kernel's default, 208 KiB.
const SEND_LEN_DEFAULT: usize = 100 * 1024;

/// A socket that is bound to a port of its own.
pub(crate) struct KernelSocket {
    pub(crate) socket: netlink_sys::Socket,
    pub(crate) port: u32,
    send_len_max: usize,
}

impl KernelSocket {
    /// Opens a socket in the namespace of the calling thread, where it stays.
    pub(crate) fn open(protocol: Protocol) -> io::Result<Self> {
        let mut socket = netlink_sys::Socket::new(protocol.0.into())?;
        let port = socket.bind_auto()?.port_number();
        Ok(Self { socket, port, send_len_max: SEND_LEN_DEFAULT })
    }

    /// Has the kernel say more to requests than it does by default, and answer in time.
    pub(crate) fn expect_answers(&self) -> io::Result<()> {
        // The kernel's own words with each refusal, without an echo of the request in front of them.
        self.socket.set_ext_ack(true)?;
        self.socket.set_cap_ack(true)?;
        // Without it the kernel ignores what it does not understand in a request for a list.
        self.socket.set_netlink_get_strict_chk(true)?;
        let timeout = TimeVal::seconds(ANSWER_TIMEOUT_SECONDS);
        Ok(setsockopt(&self.socket, sockopt::ReceiveTimeout, &timeout)?)
    }

    /// A transaction is one datagram, however large, because it is all or nothing.
    fn make_room(&mut self, len: usize) -> io::Result<()> {
        if len <= self.send_len_max {
            return Ok(());
        }
        // The kernel doubles what it is told. The first call takes privilege over the machine; without it, the second
        // goes up to `net.core.wmem_max`, and `send` says if that is too little.
        if setsockopt(&self.socket, sockopt::SndBufForce, &len).is_err() {
            setsockopt(&self.socket, sockopt::SndBuf, &len)?;
        }
        self.send_len_max = len;
        Ok(())
    }
}

impl Wire for KernelSocket {
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        self.make_room(datagram.len())?;
        let kernel = SocketAddr::new(0, 0);
        retry_interrupted(|| self.socket.send_to(datagram, &kernel, 0))?;
        Ok(())
    }

    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        loop {
            buffer.clear();
            buffer.reserve(BUFFER_LEN);
            // With MSG_TRUNC the length is that of the datagram, not of the part that fitted.
            let (len, sender) = retry_interrupted(|| self.socket.recv_from(buffer, libc::MSG_TRUNC))?;
            if len > buffer.len() {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            // Other programs can send to our port; only port 0 is the kernel.
            if sender.port_number() == 0 {
                return Ok(());
            }
        }
    }
}

fn retry_interrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            answer => return answer,
        }
    }
}
