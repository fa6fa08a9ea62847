//! The socket: datagrams to the kernel and back.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

/// Something that carries netlink datagrams: the socket, and in unit tests a script.
pub(crate) trait Wire {
    /// Sends one datagram.
    fn send(&mut self, datagram: &[u8]) -> io::Result<()>;

    /// Receives one datagram from the kernel into `buffer`, in place of what is there.
    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<()>;
}

/// How long to wait for an answer. The kernel answers before `send` returns, so this bounds only a bug; it
/// is not a pace.
const ANSWER_TIMEOUT_SECONDS: i64 = 5;

/// The largest datagram the kernel sends in a dump is 32 KiB, and it looks at the size of this buffer first
/// (`netlink_recvmsg`, `max_recvmsg_len`).
const BUFFER_LEN: usize = 64 * 1024;

/// A netlink socket for links, addresses and routes.
pub(crate) struct RouteSocket(Socket);

impl RouteSocket {
    /// Opens a socket in the namespace of the calling thread, where it stays.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        // The kernel's own words with each refusal, without an echo of the request in front of them.
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        // Without it the kernel ignores what it does not understand in a dump request.
        socket.set_netlink_get_strict_chk(true)?;
        let timeout = TimeVal::seconds(ANSWER_TIMEOUT_SECONDS);
        setsockopt(&socket, sockopt::ReceiveTimeout, &timeout)?;
        Ok(Self(socket))
    }

    /// Opens a socket in the namespace of the calling thread that hears the notices of `groups`, of these types only, and
    /// does not block.
    pub(crate) fn listen(groups: &[u32], types: &[u16]) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        // First of all: to be bound sets the groups anew.
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        hear_only(&socket, types)?;
        for group in groups {
            socket.add_membership(*group)?;
        }
        Ok(Self(socket))
    }
}

/// Has the kernel keep from a socket what is of other types. One attachment is worth some twenty notices, each of which
/// would wake whoever listens.
#[expect(unsafe_code, reason = "no safe wrapper attaches a filter (socket(7), SO_ATTACH_FILTER)")]
fn hear_only(socket: &Socket, types: &[u16]) -> io::Result<()> {
    /// Of `linux/bpf_common.h`: loads a half-word; jumps if equal; returns.
    const LOAD: u16 = 0x28;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    /// Where a message has its type (`struct nlmsghdr`). A filter reads it in the byte order of the network.
    const TYPE_AT: u32 = 4;
    let step = |code, jt, k| libc::sock_filter { code, jt, jf: 0, k };
    let mut program = vec![step(LOAD, 0, TYPE_AT)];
    for (index, kind) in types.iter().enumerate() {
        let rest = u8::try_from(types.len() - index).expect("there are few types");
        program.push(step(JUMP_IF_EQUAL, rest, u16::to_be(*kind).into()));
    }
    program.extend([step(RETURN, 0, 0), step(RETURN, 0, u32::MAX)]);
    let program_len = u16::try_from(program.len()).expect("there are few types");
    let filter = libc::sock_fprog { len: program_len, filter: program.as_mut_ptr() };
    let filter_len = libc::socklen_t::try_from(size_of_val(&filter)).expect("it is 16 bytes");
    let (level, option) = (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER);
    // SAFETY: `filter` and the program it points to outlive the call, which copies both; the lengths are theirs.
    let outcome = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const filter).cast(), filter_len)
    };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

impl AsFd for RouteSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Wire for RouteSocket {
    fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        let kernel = SocketAddr::new(0, 0);
        retry_interrupted(|| self.0.send_to(datagram, &kernel, 0))?;
        Ok(())
    }

    fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        loop {
            buffer.clear();
            buffer.reserve(BUFFER_LEN);
            // With MSG_TRUNC the length is that of the datagram, not of the part that fitted.
            let receive = || self.0.recv_from(buffer, libc::MSG_TRUNC);
            let (len, sender) = retry_interrupted(receive)?;
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
