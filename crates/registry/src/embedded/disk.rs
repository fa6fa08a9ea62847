//! The one door to files: a directory, and the files in it.
//!
//! Behind it is the file system, or a pretended one that loses what was not synced and fails when it is told to.
//! What is promised is little, and is what file systems keep: what was written, or renamed, or removed, is seen at
//! once by whoever looks, and outlives a power cut only after a `sync` of the file, or of the directory.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::StorageError;

/// A directory of a store's own, without directories in it.
pub(crate) trait Disk: Send + Sync {
    /// Where a file is, for whoever is told of it.
    fn path(&self, name: &str) -> PathBuf;

    /// The names in the directory.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Opens a file to be read.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Creates an empty file; what had its name is lost.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name; what had that name is lost.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Returns when all the names are as they are on the disk, too.
    fn sync(&self) -> io::Result<()>;
}

/// An open file.
pub(crate) trait DiskFile: Send {
    /// Fills `bytes` with what is at `offset`, as far as the file goes; answers how many.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file off.
    fn cut(&self, len: u64) -> io::Result<()>;

    /// Returns when all that was written is on the disk.
    fn sync(&self) -> io::Result<()>;
}

/// A directory of the file system. Its files are for their owner only: whoever knows a session can end it.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Locked for as long as it is open.
    _lock: Option<File>,
}

/// What is locked, so that a directory has one store at a time. It stays; who holds it, the kernel knows.
const LOCK: &str = "LOCK";

impl Directory {
    /// Takes a directory for this process alone; makes it, if it is missing, so that it outlives a power cut.
    pub(crate) fn take(path: &Path) -> Result<Self, StorageError> {
        make_directory(path)?;
        let lock_path = path.join(LOCK);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(&lock_path).map_err(StorageError::io("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: Some(lock) }),
            Err(TryLockError::WouldBlock) => Err(StorageError::InUse { directory: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(StorageError::io("lock", &lock_path)(source)),
        }
    }

    /// Looks into a directory that a store may be using, which is safe as long as it is only read.
    pub(crate) fn look_into(path: &Path) -> Self {
        Self { path: path.to_owned(), _lock: None }
    }
}

/// Makes a directory with those above it, each on the disk before there is anything in it.
fn make_directory(path: &Path) -> Result<(), StorageError> {
    if path.is_dir() {
        return Ok(());
    }
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_directory(above)?;
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(StorageError::io("create", path)(error));
        }
        _ => {}
    }
    sync_directory(above).map_err(StorageError::io("sync", above))
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

impl Disk for Directory {
    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // What is not UTF-8 is not ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(File::open(self.path(name))?))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        Ok(Box::new(options.open(self.path(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync(&self) -> io::Result<()> {
        sync_directory(&self.path)
    }
}

impl DiskFile for File {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < bytes.len() {
            match FileExt::read_at(self, &mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(len) => filled += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn cut(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
