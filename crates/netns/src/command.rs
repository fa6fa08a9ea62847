//! Programs that start inside a namespace.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::libc;
use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};

use crate::replacement::Replacement;

use crate::{Netns, sys};

/// How a command enters a network namespace between fork and exec.
///
/// Unless a file is replaced, only the network changes. The program sees the mounts of its parent, so
/// `/sys/class/net` still shows the links of the namespace in which `/sys` was mounted. A program that reads them
/// there needs a `/sys` of its own, which is the business of whoever makes its root file system.
///
/// ```no_run
/// use std::process::Command;
///
/// use netloft_netns::{EnterOptions, Netns};
///
/// let sandbox = Netns::create()?;
/// let mut command = Command::new("ip");
/// EnterOptions::new(&sandbox).apply(command.arg("address"));
/// let status = command.status();
/// # let _ = status;
/// # Ok::<(), netloft_netns::Error>(())
/// ```
///
/// For a command of tokio, apply it to `as_std_mut()`.
#[derive(Debug)]
pub struct EnterOptions {
    netns: Netns,
    user_namespace: Option<OwnedFd>,
    replacement: Option<Replacement>,
    survival: Survival,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Survival {
    Independent,
    DiesWith { parent: Pid },
}

impl EnterOptions {
    /// Enters a network namespace, and nothing else.
    pub fn new(netns: &Netns) -> Self {
        Self {
            netns: netns.clone(),
            user_namespace: None,
            replacement: None,
            survival: Survival::Independent,
        }
    }

    /// Enters a user namespace first: the one that owns the network namespace, for a caller outside of it.
    ///
    /// A caller that is in it already stays there: the kernel refuses to enter one's own user namespace.
    #[must_use]
    pub fn user_namespace(mut self, user_namespace: OwnedFd) -> Self {
        let is_own = sys::is_own_user_namespace(user_namespace.as_fd());
        self.user_namespace = (!is_own).then_some(user_namespace);
        self
    }

    /// Shows the program a file with these contents at `path`, in a mount namespace of its own; nobody else sees it.
    ///
    /// Something must be at the path: a file, or a link to one. Its place in the memory of the kernel is given back
    /// when the last process in that mount namespace is gone.
    #[must_use]
    pub fn replace_file(mut self, path: CString, contents: Vec<u8>) -> Self {
        self.replacement = Some(Replacement::new(path, contents));
        self
    }

    /// Has the kernel kill the program when its parent dies (`PR_SET_PDEATHSIG`).
    ///
    /// The parent is the *thread* that spawns: do not use it on a thread that ends before the program should,
    /// such as a blocking thread of an async runtime.
    #[must_use]
    pub fn kill_with_parent(mut self) -> Self {
        self.survival = Survival::DiesWith { parent: Pid::this() };
        self
    }

    /// Makes `command` enter when it is spawned, by this process.
    ///
    /// The namespaces stay open as long as the command. If one cannot be entered, spawning fails with the
    /// kernel's answer.
    pub fn apply(self, command: &mut Command) {
        let enter = move || self.enter();
        #[expect(unsafe_code, reason = "there is no safe way to run code between fork and exec")]
        // SAFETY: between fork and exec only async-signal-safe calls are allowed, and no memory may be
        // allocated. `enter` makes the system calls setns, unshare, mount, umount2, open, write, close, prctl and
        // getppid, builds errors from plain numbers, takes no lock, and panics nowhere. Its descriptors and paths
        // are owned by the closure, hence open and alive.
        unsafe {
            command.pre_exec(enter)
        };
    }

    fn enter(&self) -> io::Result<()> {
        if let Some(user_namespace) = &self.user_namespace {
            sys::enter(user_namespace.as_fd(), CloneFlags::CLONE_NEWUSER)?;
        }
        sys::enter(self.netns.as_fd(), CloneFlags::CLONE_NEWNET)?;
        // After the user namespace, which has to own the mount namespace.
        if let Some(replacement) = &self.replacement {
            sys::leave(CloneFlags::CLONE_NEWNS)?;
            replacement.mount()?;
        }
        // After the user namespace, because a change of credentials clears the signal.
        match self.survival {
            Survival::Independent => Ok(()),
            Survival::DiesWith { parent } => die_with(parent),
        }
    }
}

fn die_with(parent: Pid) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    // If the parent died before the line above, no signal will ever come.
    if getppid() == parent { Ok(()) } else { Err(io::Error::from_raw_os_error(Errno::ESRCH as libc::c_int)) }
}
