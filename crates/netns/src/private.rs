//! A private world: the network wing without privilege, and without a trace.
//!
//! An ordinary user may do in a user namespace of their own what only root may do on the host. A process can
//! enter one only before it has threads, and must start its program anew so that other processes of the same
//! user may look at its namespaces (a change of credentials makes `/proc/<pid>` root's; exec gives it back).

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;
use nix::unistd::{getegid, geteuid};

use crate::{Error, Netns, require_privilege, sys};

/// Tells the program, started anew, that it is private: its process id and the namespace it was put in. Both
/// must be true of the process that reads them, so a child that inherits the variable is not deceived.
const MARKER: &str = "NETLOFT_PRIVATE";

/// Puts this process into network and mount namespaces of its own, in which it is root, and starts its program anew.
///
/// Call it first thing in `main`: the first time it does not return but executes `/proc/self/exe` with the
/// same arguments; in the program started anew it returns at once. A process that already may administer
/// networks gets no user namespace, because that would take powers from it (such as reading files of other
/// users); any other one gets one in which its user and group are root and nobody else exists. Mounts made
/// inside are not seen outside. No interface is brought up. When the last process and handle is gone, so is
/// everything that was made inside.
///
/// # Errors
///
/// [`Error::MultiThreaded`] if it comes too late; [`Error::UserNamespace`], with a remedy, if the kernel
/// refuses. After an error the process may be in some of the namespaces, so it should end.
pub fn enter_private() -> Result<(), Error> {
    if is_private() {
        name_after_program();
        return Ok(());
    }
    check_single_threaded()?;
    let own = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    if require_privilege().is_ok() {
        sys::leave(own)
            .map_err(|source| Error::Private { step: "leaving the namespaces of the host", source })?;
    } else {
        become_root(own).map_err(|source| Error::UserNamespace { remedy: remedy(), source })?;
    }
    let (no_source, no_type, no_data) = (None::<&str>, None::<&str>, None::<&str>);
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(no_source, "/", no_type, flags, no_data)
        .map_err(|errno| Error::Private { step: "making the mounts private", source: errno.into() })?;
    Err(start_anew(&marker()?))
}

/// Whether this process went through [`enter_private`].
pub fn is_private() -> bool {
    let marked = std::env::var(MARKER);
    marked.is_ok_and(|text| marker().is_ok_and(|marker| marker == text))
}

fn check_single_threaded() -> Result<(), Error> {
    let threads = fs::read_dir("/proc/self/task").map_or_else(
        |source| Err(Error::Private { step: "counting threads", source }),
        |tasks| Ok(tasks.count()),
    )?;
    if threads == 1 { Ok(()) } else { Err(Error::MultiThreaded { threads }) }
}

fn become_root(own: CloneFlags) -> io::Result<()> {
    // Asked before: afterwards the kernel answers with the overflow ids.
    let (uid, gid) = (geteuid(), getegid());
    sys::leave(CloneFlags::CLONE_NEWUSER | own)?;
    // Without it the kernel refuses the map of groups: to drop a group can be to gain access.
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

fn remedy() -> &'static str {
    let holds = |sysctl: &str, value: &str| {
        fs::read_to_string(format!("/proc/sys/{sysctl}")).is_ok_and(|text| text.trim() == value)
    };
    if holds("user/max_user_namespaces", "0") {
        "set sysctl user.max_user_namespaces above 0, or run as root"
    } else if holds("kernel/unprivileged_userns_clone", "0") {
        "set sysctl kernel.unprivileged_userns_clone=1, or run as root"
    } else if holds("kernel/apparmor_restrict_unprivileged_userns", "1") {
        "give the program an AppArmor profile that allows userns, or set sysctl \
         kernel.apparmor_restrict_unprivileged_userns=0, or run as root"
    } else {
        "run as root, or where no seccomp filter or limit forbids user namespaces"
    }
}

fn marker() -> Result<String, Error> {
    let netns = Netns::current()?.id();
    Ok(format!("{} {netns}", std::process::id()))
}

/// Executes this program again, with a marker; returns only if that fails.
fn start_anew(marker: &str) -> Error {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let source = Command::new("/proc/self/exe").arg0(name).args(arguments).env(MARKER, marker).exec();
    Error::Private { step: "starting the program anew", source }
}

/// Gives the process the name under which it was started; the kernel named it after `/proc/self/exe`.
fn name_after_program() {
    let program = std::env::args_os().next().map(std::path::PathBuf::from);
    let name = program.as_deref().and_then(|path| path.file_name()?.to_str());
    if let Some(name) = name.and_then(|name| std::ffi::CString::new(name).ok()) {
        // Only for people who read `ps`.
        let _ = nix::sys::prctl::set_name(&name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_cannot_become_private() {
        let refused = std::thread::spawn(enter_private).join().unwrap().unwrap_err();
        assert!(matches!(refused, Error::MultiThreaded { .. }), "{refused}");
    }
}
