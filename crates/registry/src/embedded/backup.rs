//! Backups: taken from under a running store, and put where none is.

use std::io;
use std::path::Path;
use std::time::Duration;

use netloft_types::Revision;

use super::StorageError;
use super::disk::Directory;
use super::image::{header_of, write_first_image, write_image};
use super::replay::{ReplayOptions, Replayed, has_store, replay, replay_image};
use crate::Limits;
use crate::memory::first_revision;
use crate::state::Contents;

/// What a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backup {
    /// The revision of the store at which it was taken.
    pub at: Revision,
    /// How many sessions it holds.
    pub sessions: usize,
    /// How many instances it holds.
    pub instances: usize,
}

/// How often reading is tried while a store replaces the files that are read.
const ATTEMPTS_MAX: usize = 5;

/// Writes what the store in `directory` holds to a new file, at a revision not before the last one that was answered
/// when it began. The store may be open meanwhile, in any process; it is not touched.
///
/// The file tells the ids of sessions, so that their owners can go on after restoring. Whoever can read it can end
/// them: it is made for its owner only.
///
/// # Errors
///
/// If there is no store, if its files are damaged or cannot be read, if the file is there already or cannot be
/// written.
pub fn backup(directory: &Path, to: &Path) -> Result<Backup, StorageError> {
    let (target, name) = place_of(to)?;
    if to.exists() {
        return Err(StorageError::Exists { path: to.to_owned() });
    }
    let replayed = read_quietly(directory)?;
    let contents = replayed.state.contents();
    let header = header_of(&contents, replayed.origin, 0, replayed.sequence);
    write_image(&target, &name, header, &contents)?;
    Ok(Backup::of(&contents))
}

/// Puts what a backup holds into a directory where no store is.
///
/// The revision goes on from the present time, beyond everything the store ever told before it was lost. So a watch
/// that is resumed begins with a `Reset`.
///
/// # Errors
///
/// If the file is no backup or is damaged, if there is a store in the directory, or if it cannot be written.
pub fn restore(from: &Path, directory: &Path) -> Result<Backup, StorageError> {
    let (source, name) = place_of(from)?;
    let replayed = replay_image(&source, &name, &as_it_is())?;
    let target = Directory::take(directory)?;
    if has_store(&target)? {
        return Err(StorageError::Exists { path: directory.to_owned() });
    }
    let mut contents = replayed.state.contents();
    let backup = Backup::of(&contents);
    contents.revision = contents.revision.max(first_revision());
    write_first_image(&target, &contents)?;
    Ok(backup)
}

impl Backup {
    fn of(contents: &Contents) -> Self {
        Self { at: contents.revision, sessions: contents.sessions.len(), instances: contents.instances.len() }
    }
}

/// How to read what is only to be copied.
fn as_it_is() -> ReplayOptions {
    ReplayOptions { limits: Limits::default(), grace: Duration::ZERO, history_len_max: 0 }
}

/// The directory of a file, and its name in it.
fn place_of(path: &Path) -> Result<(Directory, String), StorageError> {
    let refused = || StorageError::Io {
        operation: "use",
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidInput, "it is not the name of a file"),
    };
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(refused)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((Directory::look_into(directory), name.to_owned()))
}

/// Reads what a store may be writing at the same time. What looks damaged or missing may be so for a moment only,
/// while a frame is written, or an image takes the place of logs.
fn read_quietly(directory: &Path) -> Result<Replayed, StorageError> {
    let disk = Directory::look_into(directory);
    let mut attempts = 1;
    loop {
        match replay(&disk, &as_it_is()) {
            Ok(replayed) => return Ok(replayed),
            Err(StorageError::Damaged { .. } | StorageError::Missing { .. } | StorageError::Io { .. })
                if attempts < ATTEMPTS_MAX =>
            {
                attempts += 1;
            }
            Err(error) => return Err(error),
        }
    }
}
