//! What can go wrong with the files of a store.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why the files of a store cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// Another store has the directory, in this process or in another.
    #[error("{directory} is in use by another store", directory = .directory.display())]
    InUse {
        /// The directory.
        directory: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {operation} {path}", path = .path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file is not as it was written. Nothing is guessed and nothing was changed.
    #[error(
        "{path} is damaged at byte {offset}: {problem}; restore a backup into an empty directory",
        path = .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What is wrong there.
        problem: &'static str,
    },
    /// A file that must be there is not. Nothing was changed.
    #[error(
        "{path} is missing, and the files after it build on it; restore a backup into an empty directory",
        path = .path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A file was written by another release.
    #[error(
        "{path} has format {found}, this release reads format {expected}: use the release that wrote it",
        path = .path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The format of this release.
        expected: u32,
    },
    /// What is to be written is there already, and is not overwritten.
    #[error("{path} is there already", path = .path.display())]
    Exists {
        /// The file, or the directory that has a store in it.
        path: PathBuf,
    },
    /// There is no store in the directory.
    #[error("there is no store in {directory}", directory = .directory.display())]
    Empty {
        /// The directory.
        directory: PathBuf,
    },
    /// No thread could be started.
    #[error("cannot start a thread for the files of the store")]
    Thread {
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl StorageError {
    /// Says what was tried with what when the file system refused.
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, path: path.to_owned(), source }
    }
}

/// How a disk failed: which call, and what the system said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskFault {
    operation: &'static str,
    said: String,
}

impl DiskFault {
    /// Notes what failed, such as `sync the log`, and what the system said.
    pub fn new(operation: &'static str, error: &io::Error) -> Self {
        Self { operation, said: error.to_string() }
    }
}

impl fmt::Display for DiskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.operation, self.said)
    }
}

impl std::error::Error for DiskFault {}
