//! A process that somebody else started, told from every other one even when its number is reused.

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;

/// A handle to a running process (`pidfd_open(2)`).
#[derive(Debug)]
pub(crate) struct Process {
    pid: u32,
    fd: AsyncFd<OwnedFd>,
}

impl Process {
    /// Opens the process that has this number now. Exact only while the number cannot be reused: while the
    /// caller's own parenthood, or a socket credential, keeps it.
    pub(crate) fn open(pid: u32) -> io::Result<Self> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let number = number.ok_or(io::ErrorKind::NotFound)?;
        let fd = pidfd_open(number, PidfdFlags::empty())?;
        #[expect(
            deprecated,
            reason = "unsound for types that close their descriptor early; OwnedFd does not"
        )]
        let fd = AsyncFd::new(fd)?;
        Ok(Self { pid, fd })
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether the process has ended.
    pub(crate) fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(self.fd.get_ref(), PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// Waits until the process has ended. Nothing is lost if the future is dropped.
    pub(crate) async fn ended(&self) {
        // A pidfd is readable from the end of its process on. If the runtime can no longer watch it, the agent is
        // shutting down, and then every process counts as ended.
        drop(self.fd.readable().await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_a_process_is_noticed() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::open(child.id()).unwrap();
        assert!(tokio::time::timeout(std::time::Duration::from_millis(20), process.ended()).await.is_err());
        assert!(!process.has_ended());
        child.kill().unwrap();
        process.ended().await;
        assert!(process.has_ended());
        child.wait().unwrap();
        assert!(Process::open(child.id()).is_err(), "reaped, so its number names nothing");
    }
}
