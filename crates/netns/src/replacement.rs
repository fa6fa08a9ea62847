//! A file that one program sees in the place of another.

use std::ffi::{CStr, CString};
use std::io;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, fchmod};

/// A directory that is always there and that nobody looks into meanwhile.
const SCAFFOLD: &CStr = c"/dev";
const SCAFFOLD_FILE: &CStr = c"/dev/file";

/// Contents to be shown in the place of a file.
#[derive(Debug)]
pub(crate) struct Replacement {
    path: CString,
    contents: Vec<u8>,
}

impl Replacement {
    pub(crate) fn new(path: CString, contents: Vec<u8>) -> Self {
        Self { path, contents }
    }

    /// Mounts it, in a mount namespace that belongs to the caller alone.
    ///
    /// The file lies in a file system in memory, of which the mount at `path` is all that remains: so it is on no
    /// disk, and there is nothing for anybody to take away. Safe between fork and exec: system calls, no allocation.
    pub(crate) fn mount(&self) -> io::Result<()> {
        let none = None::<&CStr>;
        // Otherwise what is mounted below would show in the namespace that this one was copied from.
        mount(none, c"/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        let memory = Some(c"tmpfs");
        mount(memory, SCAFFOLD, memory, MsFlags::empty(), Some(c"mode=755"))?;
        self.write()?;
        mount(Some(SCAFFOLD_FILE), self.path.as_c_str(), none, MsFlags::MS_BIND, none)?;
        // The file keeps its file system.
        Ok(umount2(SCAFFOLD, MntFlags::MNT_DETACH)?)
    }

    fn write(&self) -> io::Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let for_all = Mode::S_IRUSR | Mode::S_IWUSR | Mode::S_IRGRP | Mode::S_IROTH;
        let file = open(SCAFFOLD_FILE, flags, for_all)?;
        // Whatever the caller's umask takes from the mode of new files.
        fchmod(&file, for_all)?;
        let mut rest = self.contents.as_slice();
        while !rest.is_empty() {
            match nix::unistd::write(&file, rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
