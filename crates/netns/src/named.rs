//! Names for namespaces: bind mounts in a directory of ours, which keep a namespace alive without a process.
//!
//! The directory is not made a mount point of its own. Where its file system is shared with other mount
//! namespaces, as systemd has it, that is useful: a runtime in another one finds the namespace by its path.
//! Nor does it make deletion unsure: unmounting propagates the same way, and since Linux 3.18 removing the
//! file detaches whatever copies were left behind in mount namespaces that get no propagation.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use netloft_types::SandboxName;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use crate::{Error, Netns};

/// How many mounts over one name are taken away at a time.
const MOUNTS_MAX: usize = 16;

/// A directory in which namespaces are kept by name.
///
/// Opened once and then used by descriptor, so nobody can put another directory in its place. It belongs to
/// the user of this process and nobody else can write to it; that is checked.
#[derive(Debug)]
pub struct NetnsDir {
    path: PathBuf,
    directory: File,
}

impl NetnsDir {
    /// Opens a directory, after making it, open to its owner only, if it is not there. Its parent must exist.
    ///
    /// # Errors
    ///
    /// [`Error::ForeignDirectory`] if others own it or may write to it; [`Error::Directory`] if it is a
    /// symbolic link or no directory.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let uid = geteuid().as_raw();
        let (directory, metadata) = match open_directory(&path) {
            Ok(opened) => opened,
            Err(source) => return Err(Error::Directory { path, source }),
        };
        if metadata.uid() != uid || metadata.mode() & 0o022 != 0 {
            return Err(Error::ForeignDirectory { path, uid });
        }
        Ok(Self { path, directory })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file of a name, whether it exists or not.
    pub fn path_of(&self, name: &SandboxName) -> PathBuf {
        self.path.join(name.as_str())
    }

    /// Makes a namespace and names it: [`Netns::create`], then [`NetnsDir::bind`].
    pub fn create(&self, name: &SandboxName) -> Result<Netns, Error> {
        let netns = Netns::create()?;
        self.bind(name, &netns)?;
        Ok(netns)
    }

    /// Names a namespace.
    ///
    /// # Errors
    ///
    /// `is_exists()` if the name is taken. Whatever fails, no file is left behind.
    pub fn bind(&self, name: &SandboxName, netns: &Netns) -> Result<(), Error> {
        let failed = |errno: Errno| Error::Bind { id: netns.id(), name: name.clone(), source: errno.into() };
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        openat(&self.directory, name.as_str(), flags, Mode::empty()).map_err(failed)?;
        let target = self.here().join(name.as_str());
        bind_mount(netns, &target).map_err(|errno| {
            // The first failure is the one to report; `delete` copes with what this leaves, if anything.
            let _ = self.unlink(name);
            failed(errno)
        })
    }

    /// Opens the namespace of a name.
    ///
    /// # Errors
    ///
    /// `is_not_found()` if there is none; [`Error::NotNetns`] for the empty file that a crash can leave
    /// between making the file and mounting on it, which [`NetnsDir::delete`] removes.
    pub fn find(&self, name: &SandboxName) -> Result<Netns, Error> {
        let failed = |errno: Errno| Error::Open { path: self.path_of(name), source: errno.into() };
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let fd = openat(&self.directory, name.as_str(), flags, Mode::empty()).map_err(failed)?;
        Netns::check(fd, &self.path_of(name))
    }

    /// The names in use. Files whose names are not ours to give are not mentioned.
    pub fn list(&self) -> Result<BTreeSet<SandboxName>, Error> {
        let failed = |source| Error::Directory { path: self.path.clone(), source };
        let mut names = BTreeSet::new();
        for entry in std::fs::read_dir(self.here()).map_err(failed)? {
            let file_name = entry.map_err(failed)?.file_name();
            names.extend(file_name.to_str().and_then(|text| text.parse().ok()));
        }
        Ok(names)
    }

    /// Deletes a name; that there is none is success. The namespace itself lives on while anything uses it.
    pub fn delete(&self, name: &SandboxName) -> Result<(), Error> {
        let failed = |errno: Errno| Error::Delete { name: name.clone(), source: errno.into() };
        let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
        for _ in 0..MOUNTS_MAX {
            match umount2(&self.here().join(name.as_str()), flags) {
                // Somebody may have mounted something over ours, which a file cannot be removed under.
                Ok(()) => {}
                // Not a mount point, or not there: someone came before us, or never got further.
                Err(Errno::EINVAL | Errno::ENOENT) => break,
                Err(errno) => return Err(failed(errno)),
            }
        }
        match self.unlink(name) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(failed(errno)),
        }
    }

    fn unlink(&self, name: &SandboxName) -> nix::Result<()> {
        unlinkat(&self.directory, name.as_str(), UnlinkatFlags::NoRemoveDir)
    }

    /// The directory by its descriptor, for calls that take only a path.
    fn here(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.directory.as_raw_fd()))
    }
}

fn bind_mount(netns: &Netns, target: &Path) -> nix::Result<()> {
    let source = format!("/proc/self/fd/{}", netns.as_fd().as_raw_fd());
    let (no_type, no_data) = (None::<&str>, None::<&str>);
    mount(Some(source.as_str()), target, no_type, MsFlags::MS_BIND, no_data)
}

fn open_directory(path: &Path) -> io::Result<(File, std::fs::Metadata)> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let directory = File::from(nix::fcntl::open(path, flags, Mode::empty())?);
    let metadata = directory.metadata()?;
    Ok((directory, metadata))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbolic_links_and_writable_directories_are_refused() {
        let base = std::env::temp_dir().join(format!("netloft-netns-{}", std::process::id()));
        let (real, link) = (base.join("real"), base.join("link"));
        std::fs::create_dir(&base).unwrap();
        NetnsDir::open(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let through_link = NetnsDir::open(&link);
        std::fs::set_permissions(&real, std::os::unix::fs::PermissionsExt::from_mode(0o770)).unwrap();
        let writable = NetnsDir::open(&real);
        std::fs::remove_dir_all(&base).unwrap();

        assert!(matches!(through_link, Err(Error::Directory { .. })));
        assert!(matches!(writable, Err(Error::ForeignDirectory { .. })));
    }

    #[test]
    fn a_new_directory_is_open_to_its_owner_only_and_has_no_names() {
        let path = std::env::temp_dir().join(format!("netloft-netns-new-{}", std::process::id()));
        let directory = NetnsDir::open(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().mode();
        let names = directory.list().unwrap();
        let nobody = directory.find(&"nobody".parse().unwrap()).unwrap_err();
        std::fs::remove_dir(&path).unwrap();

        assert_eq!(mode & 0o777, 0o700);
        assert!(names.is_empty());
        assert!(nobody.is_not_found());
    }
}
