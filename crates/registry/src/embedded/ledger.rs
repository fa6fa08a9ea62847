//! The files of an open store: the log that is written, and when an image takes the place of logs.
//!
//! A log is filled with zeros ahead of what is written. So a frame overwrites what the file has already: the file
//! system has no metadata to write with it, and a disk that fills up is noticed before a command is carried out
//! and not after. The last of the room is for what makes room: the ends of sessions, and removals.
//!
//! Every process begins a log of its own, and never writes to one of a process before: what that one wrote last may
//! be in the kernel's memory and not on the disk, whatever `fsync` says after a failure. It begins with a copy of
//! the last frame it read. All frames before that one were on the disk before it was written.

use std::io;
use std::sync::Arc;

use netloft_types::Revision;
use tracing::warn;

use super::disk::{Disk, DiskFile};
use super::frame::{ENTRIES_LEN, FRAME_LEN_MAX, Header, Kind, NewFrame};
use super::image::{ImageJob, remove_all};
use super::replay::{Replayed, file_name};
use super::{DiskFault, StorageError};
use crate::state::Contents;

/// Sizes, which tests make small.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// Bytes of entries after which a frame takes no more.
    pub(crate) entries_len: usize,
    /// Bytes of the longest frame.
    pub(crate) frame_len_max: u64,
    /// Bytes of entries after which a frame takes no more while the disk is full.
    pub(crate) small_entries_len: usize,
    /// Bytes of the longest frame then.
    pub(crate) small_frame_len_max: u64,
    /// Bytes of zeros written ahead at a time. More would hold up callers for longer.
    pub(crate) chunk_len: u64,
    /// Bytes kept for what makes room.
    pub(crate) reserve_len: u64,
    /// An image is written when the logs behind the last one are as long as it, but not before they are this long.
    pub(crate) logs_len_min: u64,
    /// Or when they are more than this, as after many restarts.
    pub(crate) logs_max: usize,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            entries_len: ENTRIES_LEN,
            frame_len_max: FRAME_LEN_MAX as u64,
            small_entries_len: 4 * 1_024,
            small_frame_len_max: 8 * 1_024,
            chunk_len: 1 << 20,
            reserve_len: 256 * 1_024,
            logs_len_min: 8 << 20,
            logs_max: 8,
        }
    }
}

/// How much can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// Any frame.
    Ample,
    /// Small frames that make room.
    Reserve,
    /// Nothing.
    None,
}

/// The files of an open store.
pub(crate) struct Ledger {
    disk: Arc<dyn Disk>,
    layout: Layout,
    origin: u64,
    log: Log,
    /// The sequence number of the last frame.
    sequence: u64,
    /// What a reader would need: an image, the logs behind it, and the log that is written.
    files: Vec<String>,
    /// Bytes of frames in those logs.
    logs_len: u64,
    image_len: u64,
    /// The image that is being written.
    imaging: Option<Imaging>,
    /// After an image failed, how long the logs must be before another is tried.
    retry_len: u64,
}

/// The log that is written.
struct Log {
    file: Box<dyn DiskFile>,
    generation: u64,
    /// Where the next frame goes.
    end: u64,
    /// How far the file is filled with zeros, or with what was written over them.
    filled: u64,
}

/// What an image that is being written will replace.
struct Imaging {
    generation: u64,
    replaces: Vec<String>,
    replaces_len: u64,
}

impl Ledger {
    /// Begins a log after what was read. When it returns, all that was read is on the disk for certain.
    pub(crate) fn begin(
        disk: Arc<dyn Disk>,
        layout: Layout,
        replayed: &mut Replayed,
    ) -> Result<Self, StorageError> {
        // What the process before named may not be so on the disk yet, and is now built on.
        disk.sync().map_err(StorageError::io("sync", &disk.path("")))?;
        let origin = replayed.origin;
        let (sequence, revision, repeated) = match replayed.last.take() {
            Some((revision, frame)) => {
                let sequence = replayed.sequence;
                (sequence, revision, frame.seal(origin, sequence, revision))
            }
            None => (replayed.sequence + 1, replayed.state.revision(), Vec::new()),
        };
        let header = log_header(origin, replayed.generation + 1, sequence, revision);
        let log = Log::create(&*disk, layout.chunk_len, header, repeated)?;
        remove_all(&*disk, &replayed.stale);
        let mut files = std::mem::take(&mut replayed.files);
        files.push(log.name());
        Ok(Self {
            disk,
            layout,
            origin,
            log,
            sequence: replayed.sequence,
            files,
            logs_len: replayed.logs_len,
            image_len: replayed.image_len,
            imaging: None,
            retry_len: 0,
        })
    }

    /// The sizes it keeps to.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Sees to it that there is room for the next frame.
    ///
    /// # Errors
    ///
    /// If the disk fails in another way than by being full.
    pub(crate) fn make_room(&mut self) -> Result<Room, DiskFault> {
        let wanted = self.layout.frame_len_max + self.layout.reserve_len;
        while self.log.room() < wanted {
            match self.log.fill(self.layout.chunk_len) {
                Ok(()) => {}
                Err(error) if is_full(&error) && self.log.room() >= self.layout.small_frame_len_max => {
                    return Ok(Room::Reserve);
                }
                Err(error) if is_full(&error) => return Ok(Room::None),
                Err(error) => return Err(DiskFault::new("make room in the log", &error)),
            }
        }
        Ok(Room::Ample)
    }

    /// Writes a frame for which there is room; when it returns, the frame is on the disk.
    ///
    /// # Errors
    ///
    /// If it may not be. Then nothing more must be written: what the file holds is not known any more.
    pub(crate) fn append(&mut self, frame: NewFrame, revision: Revision) -> Result<(), DiskFault> {
        let bytes = frame.seal(self.origin, self.sequence + 1, revision);
        assert!(bytes.len() as u64 <= self.log.room(), "a frame is longer than the room made for it");
        let written = self.log.file.write_at(&bytes, self.log.end);
        written.map_err(|error| DiskFault::new("write to the log", &error))?;
        self.log.file.sync().map_err(|error| DiskFault::new("sync the log", &error))?;
        self.sequence += 1;
        self.log.end += bytes.len() as u64;
        self.logs_len += bytes.len() as u64;
        Ok(())
    }

    /// Whether an image should take the place of the logs.
    pub(crate) fn is_image_due(&self) -> bool {
        let is_long = self.logs_len >= self.layout.logs_len_min.max(self.image_len);
        let is_many = self.files.len() > self.layout.logs_max + 1;
        self.imaging.is_none() && (is_long || is_many) && self.logs_len >= self.retry_len
    }

    /// Begins another log, and makes the job of writing an image that takes the place of everything before.
    ///
    /// # Errors
    ///
    /// If there is no other log. Writing goes on in the one there is.
    pub(crate) fn begin_image(&mut self, contents: Contents) -> Result<ImageJob, StorageError> {
        self.retry_len = self.logs_len + self.layout.logs_len_min;
        let generation = self.log.generation + 1;
        let header = log_header(self.origin, generation, self.sequence + 1, contents.revision);
        self.log = Log::create(&*self.disk, self.layout.chunk_len, header, Vec::new())?;
        let replaces = self.files.clone();
        self.files.push(self.log.name());
        self.imaging = Some(Imaging { generation, replaces: replaces.clone(), replaces_len: self.logs_len });
        let (origin, sequence) = (self.origin, self.sequence);
        Ok(ImageJob { disk: Arc::clone(&self.disk), origin, generation, sequence, contents, replaces })
    }

    /// Takes note of how the image ended.
    pub(crate) fn end_image(&mut self, written: Result<u64, StorageError>) {
        let Some(imaging) = self.imaging.take() else { return };
        match written {
            Ok(len) => {
                self.files.retain(|name| !imaging.replaces.contains(name));
                self.files.insert(0, file_name(Kind::Image, imaging.generation));
                self.logs_len -= imaging.replaces_len;
                self.image_len = len;
                self.retry_len = 0;
            }
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                warn!(error, "image not written; the logs it would replace stay");
            }
        }
    }
}

impl Log {
    /// Creates a log that is on the disk, name and all, when it is returned.
    fn create(
        disk: &dyn Disk,
        chunk_len: u64,
        header: Header,
        first_frame: Vec<u8>,
    ) -> Result<Self, StorageError> {
        let name = file_name(Kind::Log, header.generation);
        let path = disk.path(&name);
        let file = disk.create(&name).map_err(StorageError::io("create", &path))?;
        let mut bytes = header.to_sector().to_vec();
        bytes.extend(first_frame);
        let end = bytes.len() as u64;
        let filled = end.next_multiple_of(chunk_len);
        bytes.resize(usize::try_from(filled).expect("it is a small multiple of a chunk"), 0);
        file.write_at(&bytes, 0).map_err(StorageError::io("write", &path))?;
        file.sync().map_err(StorageError::io("sync", &path))?;
        disk.sync().map_err(StorageError::io("sync", &disk.path("")))?;
        Ok(Self { file, generation: header.generation, end, filled })
    }

    fn name(&self) -> String {
        file_name(Kind::Log, self.generation)
    }

    fn room(&self) -> u64 {
        self.filled - self.end
    }

    /// Writes zeros ahead.
    fn fill(&mut self, len: u64) -> io::Result<()> {
        let zeros = vec![0; usize::try_from(len).expect("a chunk is small")];
        let filled = self.file.write_at(&zeros, self.filled).and_then(|()| self.file.sync());
        match &filled {
            Ok(()) => self.filled += len,
            // What did fit is given back, for others on the disk. If that fails, it is written over next time.
            Err(_) => drop(self.file.cut(self.filled)),
        }
        filled
    }
}

fn log_header(origin: u64, generation: u64, sequence: u64, revision: Revision) -> Header {
    Header { kind: Kind::Log, origin, generation, sequence, revision, sessions: 0, instances: 0 }
}

/// Whether the disk would have taken it if there had been room.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
