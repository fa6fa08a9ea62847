//! A process that somebody else started, told from every other one even when its number is reused.

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

/// A handle to a running process (`pidfd_open(2)`).
#[derive(Debug)]
pub(crate) struct Process {
    trace: Trace,
    fd: AsyncFd<OwnedFd>,
}

/// What tells a process from every other one since the machine was started, in writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trace {
    /// Its number.
    pub(crate) pid: u32,
    /// When it started, in ticks since the machine did (`proc_pid_stat(5)`, field 22).
    pub(crate) started: u64,
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
        // Read while the descriptor keeps the number from naming another.
        let started = started(pid)?;
        Ok(Self { trace: Trace { pid, started }, fd })
    }

    /// Opens the process that left this trace, if it still runs.
    pub(crate) fn find(trace: Trace) -> Option<Self> {
        Self::open(trace.pid).ok().filter(|process| process.trace == trace && !process.has_ended())
    }

    /// What tells it from others, in writing.
    pub(crate) fn trace(&self) -> Trace {
        self.trace
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.trace.pid
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

/// When a process started, in ticks since the machine did.
fn started(pid: u32) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name of the program stands in parentheses, and may have any letter in it. The third field comes after.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = after_name.split_ascii_whitespace().nth(19).and_then(|field| field.parse().ok());
    field.ok_or_else(|| io::ErrorKind::InvalidData.into())
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
        let trace = process.trace();
        assert!(Process::find(trace).is_some());
        assert!(Process::find(Trace { started: trace.started + 1, ..trace }).is_none(), "another process");
        child.kill().unwrap();
        process.ended().await;
        assert!(process.has_ended());
        assert!(Process::find(trace).is_none());
        child.wait().unwrap();
        assert!(Process::open(child.id()).is_err(), "reaped, so its number names nothing");
    }
}
