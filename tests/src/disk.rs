//! A disk that fills up soon.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A disk of some mebibytes in memory, gone when it is dropped. The kernel keeps what a killed process wrote to it.
#[derive(Debug)]
pub struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    /// Makes a directory that is such a disk.
    ///
    /// # Panics
    ///
    /// If there is such a directory, or this process must not mount.
    pub fn mount(path: &'a Path, size_mib: u32) -> Self {
        std::fs::create_dir(path).expect("nothing has the name");
        let size = format!("size={size_mib}m");
        let mounted = mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(size.as_str()));
        mounted.expect("whoever has a private world may mount in it");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = umount2(self.0, MntFlags::MNT_DETACH);
        let _ = std::fs::remove_dir(self.0);
    }
}

/// Writes to a file until there is no room.
///
/// # Panics
///
/// If the disk fails in another way than by being full.
pub fn fill(path: &Path) {
    let mut file = File::create(path).expect("the directory is there");
    loop {
        match file.write(&[1; 4_096]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return,
            Err(error) => panic!("{error}"),
        }
    }
}
