//! Images: all that a store holds at one revision, in one file.

use std::io;
use std::sync::Arc;

use tracing::debug;

use super::StorageError;
use super::disk::Disk;
use super::entry::Entry;
use super::frame::{ENTRIES_LEN, Header, Kind, NewFrame, SECTOR};
use super::replay::{UNFINISHED, file_name};
use crate::state::Contents;

/// Bytes after which what was written of an image is synced, so that the log, which shares the disk with it and
/// for which callers wait, never waits for all of it.
const SYNC_EVERY: u64 = 1 << 20;

/// An image that is to be written.
pub(crate) struct ImageJob {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) origin: u64,
    pub(crate) generation: u64,
    pub(crate) sequence: u64,
    pub(crate) contents: Contents,
    /// The files whose place the image takes.
    pub(crate) replaces: Vec<String>,
}

impl ImageJob {
    /// Writes the image, and removes what it takes the place of; answers its length.
    pub(crate) fn run(self) -> Result<u64, StorageError> {
        let name = file_name(Kind::Image, self.generation);
        let header = header_of(&self.contents, self.origin, self.generation, self.sequence);
        let len = write_image(&*self.disk, &name, header, &self.contents)?;
        remove_all(&*self.disk, &self.replaces);
        Ok(len)
    }
}

/// Writes the image that a store begins with. Its origin is its revision, which is drawn from the clock: nobody mixes
/// the files of two stores that were made in the same microsecond.
pub(crate) fn write_first_image(disk: &dyn Disk, contents: &Contents) -> Result<(), StorageError> {
    let header = header_of(contents, contents.revision.number(), 1, 0);
    write_image(disk, &file_name(Kind::Image, 1), header, contents)?;
    Ok(())
}

pub(crate) fn header_of(contents: &Contents, origin: u64, generation: u64, sequence: u64) -> Header {
    Header {
        kind: Kind::Image,
        origin,
        generation,
        sequence,
        revision: contents.revision,
        sessions: contents.sessions.len() as u64,
        instances: contents.instances.len() as u64,
    }
}

/// Removes files that nothing builds on. One that stays does no harm, and goes at the next start.
pub(crate) fn remove_all(disk: &dyn Disk, names: &[String]) {
    for name in names {
        if let Err(error) = disk.remove(name) {
            debug!(path = %disk.path(name).display(), %error, "file not removed");
        }
    }
}

/// Writes an image under another name and then gives it its own, so that it is there wholly or not at all, also
/// after a cut of power. Answers its length.
pub(crate) fn write_image(
    disk: &dyn Disk,
    name: &str,
    header: Header,
    contents: &Contents,
) -> Result<u64, StorageError> {
    let unfinished = format!("{name}{UNFINISHED}");
    let path = disk.path(&unfinished);
    let len = write_frames(disk, &unfinished, header, contents).map_err(|error| {
        remove_all(disk, std::slice::from_ref(&unfinished));
        StorageError::io("write", &path)(error)
    })?;
    disk.rename(&unfinished, name).map_err(StorageError::io("rename", &path))?;
    disk.sync().map_err(StorageError::io("sync", &disk.path("")))?;
    Ok(len)
}

fn write_frames(disk: &dyn Disk, name: &str, header: Header, contents: &Contents) -> io::Result<u64> {
    let file = disk.create(name)?;
    file.write_at(&header.to_sector(), 0)?;
    let mut end = SECTOR as u64;
    let mut synced = 0;
    let mut sequence = 1;
    let mut frame = NewFrame::new();
    let mut write = |frame: NewFrame| {
        let bytes = frame.seal(header.origin, sequence, header.revision);
        file.write_at(&bytes, end)?;
        end += bytes.len() as u64;
        sequence += 1;
        if end - synced >= SYNC_EVERY {
            file.sync()?;
            synced = end;
        }
        io::Result::Ok(end)
    };
    let sessions = contents.sessions.iter().map(|&(session, ttl)| Entry::Open { session, ttl });
    let instances = contents.instances.iter();
    let instances =
        instances.map(|&(session, ref instance)| Entry::Put { session, instance: Arc::clone(instance) });
    for entry in sessions.chain(instances) {
        frame.push(&entry);
        if frame.entries_len() >= ENTRIES_LEN {
            write(std::mem::replace(&mut frame, NewFrame::new()))?;
        }
    }
    // An empty frame at the end is a frame like others.
    let end = write(frame)?;
    file.sync()?;
    Ok(end)
}
