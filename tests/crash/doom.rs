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

/// The call by which the file of the journal grows.
pub(crate) const GROWTH: &str = "ftruncate";

/// What `strace` says of a call that it had fail.
const FAILED: &str = "(INJECTED)";

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
    /// Those that carry out operations.
    pub(crate) const WORKERS: [Self; 3] = [Self::Network, Self::Enterer, Self::Reaper];

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

/// How often a thread made a call.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) syscall: String,
    pub(crate) count: usize,
    /// How many of them it must make every time.
    pub(crate) owed: usize,
}

impl Made {
    /// What was made in either of two runs; owed is what was in both.
    pub(crate) fn merge(first: &[Self], second: Vec<Self>) -> Vec<Self> {
        let mut all = second;
        for made in &mut all {
            made.owed =
                first.iter().find(|it| it.syscall == made.syscall).map_or(0, |it| it.owed.min(made.owed));
        }
        for made in first {
            match all.iter_mut().find(|it| it.syscall == made.syscall) {
                Some(it) => it.count = it.count.max(made.count),
                None => all.push(Self { owed: 0, ..made.clone() }),
            }
        }
        all
    }
}

/// Whether a call adds one to an `eventfd(2)`: another thread is woken, if it sleeps.
fn is_wake(line: &str) -> bool {
    line.starts_with("write(") && line.contains(r#", "\1\0\0\0\0\0\0\0", 8)"#)
}

fn is_wait(syscall: &str) -> bool {
    WAITS.split(',').any(|wait| wait == syscall)
}

/// What a thread did, in the words of `strace`.
pub(crate) struct Calls(String);

impl Calls {
    pub(crate) fn read(log: &Path) -> Self {
        Self(fs::read_to_string(log).unwrap())
    }

    /// What it did until it said something to the world.
    pub(crate) fn until(self, said: &str) -> Self {
        let lines = self.0.lines().take_while(|line| !line.contains(said));
        Self(lines.collect::<Vec<_>>().join("\n"))
    }

    /// What it did until a call was made to fail, with that one.
    pub(crate) fn until_failure(&self) -> Self {
        let end = self.0.find(FAILED).unwrap_or(self.0.len());
        Self(self.0[..end].to_owned())
    }

    /// The calls it entered, by name and line; once if the kernel had it enter one again.
    fn entered(&self) -> impl Iterator<Item = (&str, &str)> {
        let calls = self.0.lines().filter_map(|line| Some((line.split_once('(')?.0, line)));
        calls.filter(|(_, line)| !line.contains("ERESTARTNOINTR"))
    }

    /// The last call it entered, and how many of the kind it had entered then.
    pub(crate) fn last(&self) -> (String, usize) {
        let calls = self.entered().filter(|(name, _)| !is_wait(name));
        let name = calls.last().map_or("", |(name, _)| name);
        (name.to_owned(), self.count(name))
    }

    /// How many calls of a kind it entered.
    pub(crate) fn count(&self, syscall: &str) -> usize {
        self.entered().filter(|(name, _)| *name == syscall).count()
    }

    /// The kinds of calls it made, except for waiting.
    pub(crate) fn made(&self) -> Vec<Made> {
        let mut kinds: Vec<Made> = Vec::new();
        for (name, line) in self.entered().filter(|(name, _)| !is_wait(name)) {
            let index = kinds.iter().position(|kind| kind.syscall == name).unwrap_or_else(|| {
                kinds.push(Made { syscall: name.to_owned(), count: 0, owed: 0 });
                kinds.len() - 1
            });
            kinds[index].count += 1;
            kinds[index].owed += usize::from(!is_wake(line));
        }
        // Whether the file of the journal grows depends on what was written before; then it is written out once more.
        let grown = self.count(GROWTH);
        for kind in [GROWTH, "fdatasync"] {
            for made in kinds.iter_mut().filter(|made| made.syscall == kind) {
                made.owed = made.owed.saturating_sub(grown);
            }
        }
        kinds
    }

    /// Whether a call was entered.
    pub(crate) fn has_begun(&self, syscall: &str) -> bool {
        self.count(syscall) > 0
    }

    /// Whether a call was made to fail.
    pub(crate) fn has_failed(&self) -> bool {
        self.0.contains(FAILED)
    }
}
