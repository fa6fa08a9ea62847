//! `strace`, which counts the system calls of one thread and has one of them fail, or the agent die of it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use netloft_tests::programs::tool;
use netloft_tests::running::{Running, eventually, signal, until};
use nix::sys::signal::Signal;

/// The calls by which something becomes true outside of the agent, or by which it opens what it does so with.
const SYSCALLS: &str = "sendto,sendmsg,mount,umount2,openat,unlinkat,?unlink,?rename,renameat,renameat2,?mkdir,mkdirat,write,writev,\
                        pwrite64,pwritev,fsync,fdatasync,ftruncate,fallocate,setns,unshare,socket";

/// What a thread of the agent sits in while it waits for work: it shows that `strace` has it.
const WAITS: &str = "futex,restart_syscall";

/// A thread of the agent, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thread {
    /// The one that starts the agent, and takes over.
    Main,
    /// The one that decides, writes the journal and does the work.
    Network,
    /// The one that enters namespaces.
    Enterer,
    /// The one that deletes what was cut.
    Reaper,
}

impl Thread {
    fn comm(self) -> &'static str {
        match self {
            Self::Main => "netloftd",
            Self::Network => "netloft-network",
            Self::Enterer => "netns-enterer",
            Self::Reaper => "netloft-reaper",
        }
    }

    /// Its number in a process, if it has started one.
    fn find(self, pid: u32) -> Option<u32> {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        let mut ids = tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse::<u32>().ok());
        ids.find(|id| {
            let comm = fs::read_to_string(format!("/proc/{pid}/task/{id}/comm"));
            comm.is_ok_and(|comm| comm.trim_end() == self.comm())
        })
    }
}

impl fmt::Display for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.comm())
    }
}

/// What is to happen to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Doom {
    /// The call.
    pub(crate) syscall: String,
    /// The first, the second...
    pub(crate) nth: usize,
    /// What `strace` is to do to it, as it takes it.
    pub(crate) fate: String,
}

impl Doom {
    /// The agent dies as it enters the call.
    pub(crate) fn kill(syscall: &str, nth: usize) -> Self {
        Self { syscall: syscall.to_owned(), nth, fate: "signal=SIGKILL".to_owned() }
    }

    /// The call is not carried out, and fails.
    pub(crate) fn error(syscall: &str, nth: usize, errno: &str) -> Self {
        Self { syscall: syscall.to_owned(), nth, fate: format!("error={errno}") }
    }

    /// The call takes longer.
    pub(crate) fn delay(syscall: &str, nth: usize, micros: u32) -> Self {
        Self { syscall: syscall.to_owned(), nth, fate: format!("delay_enter={micros}") }
    }

    fn expression(&self) -> String {
        format!("inject={}:{}:when={}", self.syscall, self.fate, self.nth)
    }
}

impl fmt::Display for Doom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} number {}", self.fate, self.syscall, self.nth)
    }
}

/// A thread under `strace`.
pub(crate) struct Watched {
    strace: Running,
    log: PathBuf,
}

impl Watched {
    /// Has `strace` follow a thread of a process, with what is to happen to it.
    pub(crate) fn thread(pid: u32, thread: Thread, dooms: &[Doom], log: &Path) -> Self {
        let id = eventually(&format!("{thread} runs"), || thread.find(pid));
        let mut command = strace(dooms, log);
        command.args(["-p", &id.to_string()]);
        let strace = Running::spawn(command);
        // From its first line on no call is missed.
        until("strace has the thread", || fs::metadata(log).is_ok_and(|log| log.len() > 0));
        Self { strace, log: log.to_owned() }
    }

    /// Lets go of the thread, if it still runs; tells what it did.
    pub(crate) fn release(self) -> Calls {
        if netloft_tests::running::is_running(self.strace.pid()) {
            signal(self.strace.pid(), Signal::SIGINT);
        }
        self.strace.wait();
        Calls::read(&self.log)
    }

    /// What it did so far.
    pub(crate) fn so_far(&self) -> Calls {
        Calls::read(&self.log)
    }
}

/// A command under `strace` from its beginning; only of its first thread the calls count.
pub(crate) fn doomed(command: &Command, dooms: &[Doom], log: &Path) -> Command {
    let mut strace = strace(dooms, log);
    strace.arg(command.get_program()).args(command.get_args());
    strace.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    strace
}

fn strace(dooms: &[Doom], log: &Path) -> Command {
    let _ = fs::remove_file(log);
    let mut command = Command::new(tool("strace"));
    command.arg("-q").arg("-o").arg(log).arg("-e").arg(format!("trace={SYSCALLS},{WAITS}"));
    for doom in dooms {
        command.arg("-e").arg(doom.expression());
    }
    command
}

/// What a thread did, in the words of `strace`.
pub(crate) struct Calls(String);

impl Calls {
    pub(crate) fn read(log: &Path) -> Self {
        Self(fs::read_to_string(log).unwrap())
    }

    /// The kinds of calls it made, except for waiting, and how many of each.
    pub(crate) fn kinds(&self) -> Vec<(String, usize)> {
        let mut kinds: Vec<(String, usize)> = Vec::new();
        let names = self.0.lines().filter_map(|line| line.split_once('(').map(|(name, _)| name));
        for name in names.filter(|name| !WAITS.split(',').any(|wait| wait == *name)) {
            match kinds.iter_mut().find(|(kind, _)| kind == name) {
                Some((_, count)) => *count += 1,
                None => kinds.push((name.to_owned(), 1)),
            }
        }
        kinds
    }

    /// Whether a call was made to fail.
    pub(crate) fn has_failed(&self) -> bool {
        self.0.contains("(INJECTED)")
    }
}
