//! The handle of a namespace: an open file and an identity.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sched::CloneFlags;

use crate::enterer::on_fresh_thread;
use crate::{Error, sys};

/// An open network namespace.
///
/// Clones share one descriptor. The namespace lives while a handle, a process, a socket or a bind mount of
/// it does; after the last of them the kernel deletes it, with every link in it, in its own time.
#[derive(Clone)]
pub struct Netns {
    fd: Arc<OwnedFd>,
    id: NetnsId,
}

impl Netns {
    /// The namespace of the calling thread.
    pub fn current() -> Result<Self, Error> {
        let path = PathBuf::from("/proc/thread-self/ns/net");
        match sys::current().and_then(Self::identify) {
            Ok(netns) => Ok(netns),
            Err(source) => Err(Error::Open { path, source }),
        }
    }

    /// Makes a namespace: nothing in it but a loopback interface that is down.
    ///
    /// A thread made for it leaves for the new namespace, opens it and dies; [`crate::Enterer::create`] keeps
    /// its thread. That the new namespace differs from the caller's is proved by identity, not believed.
    pub fn create() -> Result<Self, Error> {
        let old = Self::current()?;
        on_fresh_thread(Self::leave_for_new)??.differing_from(&old)
    }

    /// Opens the namespace that a file stands for, such as `/proc/<pid>/ns/net` or a bind mount.
    ///
    /// # Errors
    ///
    /// [`Error::NotNetns`] if the file is something else; `is_not_found()` if it is not there.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let failed = |source| Error::Open { path: path.to_owned(), source };
        // Never waits: a path from outside may be a pipe.
        let flags = nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_CLOEXEC;
        let fd = nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty())
            .map_err(|errno| failed(errno.into()))?;
        Self::check(fd, path)
    }

    /// Takes a descriptor of a namespace, for instance one received over a socket.
    ///
    /// # Errors
    ///
    /// [`Error::NotNetns`] if it is something else.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, Error> {
        let path = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        Self::check(fd, &path)
    }

    /// What tells this namespace from every other one.
    pub fn id(&self) -> NetnsId {
        self.id
    }

    /// A path by which other processes, as well as this one, can open the namespace while this handle lives.
    pub fn path(&self) -> PathBuf {
        let fd = self.fd.as_raw_fd();
        PathBuf::from(format!("/proc/{}/fd/{fd}", std::process::id()))
    }

    /// Runs a job in the namespace, on a fresh thread that dies afterwards, and waits for it.
    ///
    /// Whatever the job does to its thread is therefore harmless, and it may take its time. For short,
    /// well-behaved jobs [`crate::Enterer`] is faster.
    ///
    /// # Panics
    ///
    /// If the job panics, in the caller, with the same payload.
    pub fn run<T: Send>(&self, job: impl FnOnce() -> T + Send) -> Result<T, Error> {
        on_fresh_thread(|| self.enter().map(|()| job()))?
    }

    /// Moves the calling thread into the namespace. For threads of this crate only.
    pub(crate) fn enter(&self) -> Result<(), Error> {
        sys::enter(self.as_fd(), CloneFlags::CLONE_NEWNET)
            .map_err(|source| Error::Enter { id: self.id, source })
    }

    /// Moves the calling thread into a new namespace. For threads of this crate only.
    pub(crate) fn leave_for_new() -> Result<Self, Error> {
        sys::leave(CloneFlags::CLONE_NEWNET)
            .and_then(|()| sys::current())
            .and_then(Self::identify)
            .map_err(|source| Error::Create { source })
    }

    pub(crate) fn differing_from(self, old: &Self) -> Result<Self, Error> {
        if self == *old { Err(Error::NotIsolated { id: self.id }) } else { Ok(self) }
    }

    pub(crate) fn check(fd: OwnedFd, path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Open { path: path.to_owned(), source };
        if sys::is_netns(fd.as_fd()).map_err(failed)? {
            Self::identify(File::from(fd)).map_err(failed)
        } else {
            Err(Error::NotNetns { path: path.to_owned() })
        }
    }

    fn identify(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { id: NetnsId { device: metadata.dev(), inode: metadata.ino() }, fd: Arc::new(file.into()) })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Two handles are equal if they are of the same namespace. While both are open this cannot be an accident
/// of reused inode numbers.
impl PartialEq for Netns {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Netns {}

impl fmt::Debug for Netns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.id, f)
    }
}

/// The identity of a network namespace: the device and inode number of its file (`namespaces(7)`).
///
/// Prints as the kernel prints it, `net:[4026531840]`. The numbers are reused after the namespace is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetnsId {
    device: u64,
    inode: u64,
}

impl fmt::Display for NetnsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.inode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn current_namespace_prints_as_the_kernel_names_it() {
        let link = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        assert_eq!(Netns::current().unwrap().id().to_string(), link.display().to_string());
    }

    #[test]
    fn current_namespace_can_be_opened_by_the_path_of_its_handle() {
        let current = Netns::current().unwrap();
        assert_eq!(Netns::open(current.path()).unwrap(), current);
    }

    #[test]
    fn other_files_are_refused() {
        for path in ["/proc/self/ns/user", "/proc/self/status", "/dev/null", "/"] {
            let refused = Netns::open(path).unwrap_err();
            assert!(matches!(refused, Error::NotNetns { .. }), "{path}: {refused}");
        }
        assert!(Netns::open("/nonexistent").unwrap_err().is_not_found());
    }
}
