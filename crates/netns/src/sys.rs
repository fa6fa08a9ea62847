//! The system calls that move a thread between namespaces, and those that no safe wrapper covers.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::libc;
use nix::sched::CloneFlags;

/// `NS_GET_USERNS` and `NS_GET_NSTYPE` of `linux/nsfs.h`: `_IO(0xb7, 1)` and `_IO(0xb7, 3)`.
const NS_GET_USERNS: libc::Ioctl = 0xb701;
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;

/// Moves the calling thread into a namespace. The only call of setns in the house.
///
/// Safe between fork and exec: one system call, no allocation.
#[expect(
    clippy::disallowed_methods,
    reason = "this crate calls it only on threads it made, or in a child before exec"
)]
pub(crate) fn enter(namespace: BorrowedFd<'_>, kind: CloneFlags) -> io::Result<()> {
    nix::sched::setns(namespace, kind).map_err(io::Error::from)
}

/// Gives the calling thread namespaces of its own. The only call of unshare in the house.
#[expect(
    clippy::disallowed_methods,
    reason = "this crate calls it only on threads it made, or in a process that has no other thread"
)]
pub(crate) fn leave(kinds: CloneFlags) -> io::Result<()> {
    nix::sched::unshare(kinds).map_err(io::Error::from)
}

/// Opens the network namespace of the calling thread.
pub(crate) fn current() -> io::Result<File> {
    File::open("/proc/thread-self/ns/net")
}

/// Whether `file` is a network namespace.
pub(crate) fn is_netns(file: BorrowedFd<'_>) -> io::Result<bool> {
    match namespace_ioctl(file, NS_GET_NSTYPE) {
        Ok(kind) => Ok(kind == CloneFlags::CLONE_NEWNET.bits()),
        // A file that is no namespace does not know the request.
        Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the user namespace that owns `namespace` is that of the caller, or made within it: only then do
/// capabilities of the caller count there. The kernel answers exactly that question before it opens the owner.
pub(crate) fn is_owned_here(namespace: impl AsFd) -> io::Result<bool> {
    match namespace_ioctl(namespace.as_fd(), NS_GET_USERNS) {
        Ok(owner) => {
            nix::unistd::close(owner)?;
            Ok(true)
        }
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether `namespace` is the user namespace of this process. Unknown counts as no: to enter it will tell.
pub(crate) fn is_own_user_namespace(namespace: BorrowedFd<'_>) -> bool {
    let own = nix::sys::stat::stat("/proc/self/ns/user");
    let given = nix::sys::stat::fstat(namespace);
    matches!((own, given), (Ok(own), Ok(given)) if (own.st_dev, own.st_ino) == (given.st_dev, given.st_ino))
}

fn namespace_ioctl(file: BorrowedFd<'_>, request: libc::Ioctl) -> io::Result<libc::c_int> {
    #[expect(unsafe_code, reason = "there is no safe wrapper for these requests")]
    // SAFETY: the descriptor is borrowed, so it is open for the whole call; both requests take no argument,
    // so the kernel reads and writes no memory of ours.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), request) };
    nix::errno::Errno::result(answer).map_err(io::Error::from)
}
