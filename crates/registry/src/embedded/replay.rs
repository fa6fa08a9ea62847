//! Reads the files of a store: what it held when its process ended, however that ended.
//!
//! The newest image, then the logs from its generation on. What is read is decided by the sequence numbers of
//! frames: each is the next, or was there before and is skipped. So nothing is lost silently, wherever a process
//! was killed and how often:
//!
//! - The first frame of a log that cannot be read is where writing ended, if no later frame is in that log: a
//!   frame is written only after the one before it is on the disk. If there is a later one, the log is damaged.
//! - A log says the sequence number of its first frame. If the logs before it end earlier, frames are missing.
//! - A log without a header was never used, if no frame is in it. If one is, the header is not missed: it only says
//!   what the first frame does.

use std::collections::VecDeque;
use std::time::Duration;

use netloft_types::Revision;

use super::StorageError;
use super::disk::{Disk, DiskFile};
use super::entry::{Entry, Malformed, Names};
use super::frame::{FORMAT, Frame, Header, Kind, NewFrame, NoHeader, SECTOR, Window};
use crate::state::{Contents, Effect, Unfit};
use crate::{Change, Limits, State};

/// What the files say.
pub(crate) struct Replayed {
    pub(crate) state: State,
    pub(crate) history: History,
    pub(crate) origin: u64,
    /// The sequence number of the last frame.
    pub(crate) sequence: u64,
    /// The last frame with the revision before it, if the image does not contain its effect.
    pub(crate) last: Option<(Revision, NewFrame)>,
    /// The highest of any file.
    pub(crate) generation: u64,
    pub(crate) image_len: u64,
    /// Bytes of frames in the logs.
    pub(crate) logs_len: u64,
    /// Names of the files that were read.
    pub(crate) files: Vec<String>,
    /// Names of files that nothing builds on any more.
    pub(crate) stale: Vec<String>,
}

/// The last changes.
pub(crate) struct History {
    changes: VecDeque<Change>,
    len: usize,
    len_max: usize,
    /// The last change before them.
    pub(crate) lost: Revision,
}

impl History {
    fn push(&mut self, change: Change) {
        self.len += change.deltas.len();
        self.changes.push_back(change);
        while self.len > self.len_max {
            let Some(oldest) = self.changes.pop_front() else { return };
            self.len -= oldest.deltas.len();
            self.lost = oldest.at;
        }
    }

    pub(crate) fn into_changes(self) -> Vec<Change> {
        self.changes.into()
    }
}

/// How what is read is made into a state.
#[derive(Debug, Clone)]
pub(crate) struct ReplayOptions {
    pub(crate) limits: Limits,
    pub(crate) grace: Duration,
    pub(crate) history_len_max: usize,
}

/// The name of a file.
pub(crate) fn file_name(kind: Kind, generation: u64) -> String {
    match kind {
        Kind::Image => format!("image-{generation:016x}"),
        Kind::Log => format!("log-{generation:016x}"),
    }
}

fn generation_of(name: &str, kind: Kind) -> Option<u64> {
    let (_, digits) = name.split_once('-')?;
    let generation = u64::from_str_radix(digits, 16).ok()?;
    (file_name(kind, generation) == name).then_some(generation)
}

/// What an image that is being written is called.
pub(crate) const UNFINISHED: &str = ".unfinished";

/// Whether a directory holds anything of a store, readable or not.
pub(crate) fn has_store(disk: &dyn Disk) -> Result<bool, StorageError> {
    let names = disk.names().map_err(StorageError::io("list", &disk.path("")))?;
    let is_ours =
        |name: &String| [Kind::Image, Kind::Log].iter().any(|kind| generation_of(name, *kind).is_some());
    Ok(names.iter().any(is_ours))
}

/// Reads what a directory holds.
pub(crate) fn replay(disk: &dyn Disk, options: &ReplayOptions) -> Result<Replayed, StorageError> {
    let names = disk.names().map_err(StorageError::io("list", &disk.path("")))?;
    let generations = |kind| {
        let mut all: Vec<u64> = names.iter().filter_map(|name| generation_of(name, kind)).collect();
        all.sort_unstable();
        all
    };
    let (images, logs) = (generations(Kind::Image), generations(Kind::Log));
    let Some(&image) = images.last() else {
        return Err(match logs.first() {
            None => StorageError::Empty { directory: disk.path("") },
            Some(first) => StorageError::Missing { path: disk.path(&file_name(Kind::Image, *first)) },
        });
    };
    // All are opened before any is read: a file that is removed meanwhile stays readable.
    let image = Source::open(disk, Kind::Image, image)?;
    let (stale_logs, logs): (Vec<u64>, Vec<u64>) =
        logs.iter().partition(|generation| **generation < image.generation);
    let sources = logs.iter().map(|generation| Source::open(disk, Kind::Log, *generation));
    let sources = sources.collect::<Result<Vec<_>, _>>()?;

    let mut replayed = read_image(&image, options)?;
    replayed.generation = logs.last().copied().unwrap_or_default().max(image.generation);
    replayed.files = sources.iter().map(|log| file_name(Kind::Log, log.generation)).collect();
    replayed.files.insert(0, file_name(Kind::Image, image.generation));
    let mut names_read = Names::default();
    // Where reading ended; at first, where the image did.
    let mut end = (&image, replayed.image_len);
    for source in &sources {
        if let Some(offset) = replayed.read_log(source, end, &mut names_read, options.grace)? {
            end = (source, offset);
        }
    }
    let old_images = images.iter().filter(|generation| **generation < image.generation);
    replayed.stale.extend(old_images.map(|generation| file_name(Kind::Image, *generation)));
    replayed.stale.extend(stale_logs.iter().map(|generation| file_name(Kind::Log, *generation)));
    replayed.stale.extend(names.iter().filter(|name| name.ends_with(UNFINISHED)).cloned());
    Ok(replayed)
}

/// Reads one image, such as a backup.
pub(crate) fn replay_image(
    disk: &dyn Disk,
    name: &str,
    options: &ReplayOptions,
) -> Result<Replayed, StorageError> {
    read_image(&Source::open_as(disk, name, Kind::Image, 0)?, options)
}

/// A file that is read.
struct Source {
    path: std::path::PathBuf,
    kind: Kind,
    generation: u64,
    file: Box<dyn DiskFile>,
}

impl Source {
    fn open(disk: &dyn Disk, kind: Kind, generation: u64) -> Result<Self, StorageError> {
        Self::open_as(disk, &file_name(kind, generation), kind, generation)
    }

    fn open_as(disk: &dyn Disk, name: &str, kind: Kind, generation: u64) -> Result<Self, StorageError> {
        let path = disk.path(name);
        let file = disk.open(name).map_err(StorageError::io("open", &path))?;
        Ok(Self { path, kind, generation, file })
    }

    fn header(&self) -> Result<Result<Header, NoHeader>, StorageError> {
        let mut sector = [0; SECTOR];
        let read = self.file.read_at(&mut sector, 0).map_err(StorageError::io("read", &self.path))?;
        Ok(Header::from_sector(&sector[..read], self.kind))
    }

    fn damaged(&self, offset: u64, problem: &'static str) -> StorageError {
        StorageError::Damaged { path: self.path.clone(), offset, problem }
    }

    fn version(&self, found: u32) -> StorageError {
        StorageError::Version { path: self.path.clone(), found, expected: FORMAT }
    }

    /// Goes through the frames from `offset` on, until `take` has enough of them or one cannot be read; answers where
    /// that is.
    fn frames(
        &self,
        origin: u64,
        mut offset: u64,
        mut take: impl FnMut(u64, &Frame<'_>) -> Result<(), StorageError>,
    ) -> Result<u64, StorageError> {
        let mut window = Window::new(&*self.file);
        loop {
            let frame = window.frame_at(offset, origin).map_err(StorageError::io("read", &self.path))?;
            let Some(frame) = frame else { return Ok(offset) };
            take(offset, &frame)?;
            offset += frame.len();
        }
    }

    /// The sequence number of the frame after the header, if one is there.
    fn first_sequence(&self, origin: u64) -> Result<Option<u64>, StorageError> {
        let mut window = Window::new(&*self.file);
        let frame = window.frame_at(SECTOR as u64, origin).map_err(StorageError::io("read", &self.path))?;
        Ok(frame.map(|frame| frame.sequence))
    }

    /// Whether a frame later than `sequence` begins at any sector from `offset` on.
    fn has_later(&self, origin: u64, mut offset: u64, sequence: u64) -> Result<bool, StorageError> {
        let mut window = Window::new(&*self.file);
        let failed = || StorageError::io("read", &self.path);
        while !window.is_end(offset).map_err(failed())? {
            let frame = window.frame_at(offset, origin).map_err(failed())?;
            if frame.is_some_and(|frame| frame.sequence > sequence) {
                return Ok(true);
            }
            offset += SECTOR as u64;
        }
        Ok(false)
    }
}

fn read_image(source: &Source, options: &ReplayOptions) -> Result<Replayed, StorageError> {
    let header = match source.header()? {
        Ok(header) if source.generation == 0 || header.generation == source.generation => header,
        Ok(_) => return Err(source.damaged(24, "it is the image of another generation")),
        Err(NoHeader::Format(found)) => return Err(source.version(found)),
        Err(NoHeader::Damaged) => return Err(source.damaged(0, "the header cannot be read")),
    };
    let mut contents = Contents { revision: header.revision, sessions: Vec::new(), instances: Vec::new() };
    let mut names = Names::default();
    let mut next = 1;
    let end = source.frames(header.origin, SECTOR as u64, |offset, frame| {
        if frame.sequence != next {
            return Err(source.damaged(offset, "a frame is out of order"));
        }
        next += 1;
        let read = frame.for_each(&mut names, |entry| match entry {
            Entry::Open { session, ttl } => {
                contents.sessions.push((session, ttl));
                Ok(())
            }
            Entry::Put { session, instance } => {
                contents.instances.push((session, instance));
                Ok(())
            }
            Entry::Close { .. } | Entry::Delete { .. } => Err(Malformed("an entry does not belong here")),
        });
        read.map_err(|Malformed(problem)| source.damaged(offset, problem))
    })?;
    let counts = (contents.sessions.len() as u64, contents.instances.len() as u64);
    if counts != (header.sessions, header.instances) {
        return Err(source.damaged(end, "a frame cannot be read"));
    }
    let state = State::of(contents, options.limits.clone(), options.grace);
    let state = state.map_err(|Unfit(problem)| source.damaged(SECTOR as u64, problem))?;
    Ok(Replayed {
        state,
        history: History {
            changes: VecDeque::new(),
            len: 0,
            len_max: options.history_len_max,
            lost: header.revision,
        },
        origin: header.origin,
        sequence: header.sequence,
        last: None,
        generation: header.generation,
        image_len: end,
        logs_len: 0,
        files: Vec::new(),
        stale: Vec::new(),
    })
}

impl Replayed {
    /// Takes in a log. Answers where its frames end, if it was ever used; `before` is where those before it do.
    fn read_log(
        &mut self,
        source: &Source,
        before: (&Source, u64),
        names: &mut Names,
        grace: Duration,
    ) -> Result<Option<u64>, StorageError> {
        let mut next = match source.header()? {
            Ok(header) if header.origin != self.origin => {
                return Err(source.damaged(16, "it is the log of another store"));
            }
            Ok(header) if header.generation != source.generation => {
                return Err(source.damaged(24, "it is the log of another generation"));
            }
            Ok(header) if header.sequence > self.sequence + 1 => {
                let (source, end) = before;
                return Err(source.damaged(end, "a frame that later logs build on cannot be read"));
            }
            Ok(header) => header.sequence,
            Err(NoHeader::Format(found)) => return Err(source.version(found)),
            // The header and the first frame go to the disk together, in no order. What can be read counts.
            Err(NoHeader::Damaged) => match source.first_sequence(self.origin)? {
                Some(first) if first > self.sequence + 1 => {
                    return Err(source.damaged(0, "the header cannot be read, and frames are missing"));
                }
                Some(first) => first,
                None if source.has_later(self.origin, 0, self.sequence)? => {
                    return Err(source.damaged(0, "the header cannot be read, and there are frames"));
                }
                None => return Ok(None),
            },
        };
        let mut end = SECTOR as u64;
        let mut unread = None;
        loop {
            end = self.read_frames(source, end, &mut next, names, grace)?;
            if !source.has_later(self.origin, end, self.sequence)? {
                break;
            }
            // A backup may have read this frame while it was written. By now it is whole: a later one is there.
            if unread.replace(end) == Some(end) {
                return Err(source.damaged(end, "a frame cannot be read, and there are later ones"));
            }
        }
        self.logs_len += end - SECTOR as u64;
        Ok(Some(end))
    }

    /// Takes in the frames of a log from `offset` on, of which the first is `next`. Answers where they end.
    fn read_frames(
        &mut self,
        source: &Source,
        offset: u64,
        next: &mut u64,
        names: &mut Names,
        grace: Duration,
    ) -> Result<u64, StorageError> {
        source.frames(self.origin, offset, |offset, frame| {
            if frame.sequence != *next {
                return Err(source.damaged(offset, "a frame is out of order"));
            }
            *next += 1;
            // What the log before ended with is repeated at the beginning of the next.
            if frame.sequence <= self.sequence {
                return Ok(());
            }
            if frame.revision != self.state.revision() {
                return Err(source.damaged(offset, "a frame does not follow the one before"));
            }
            let redone = frame.for_each(names, |entry| {
                let change = redo(&mut self.state, entry, grace)?;
                if let Some(change) = change {
                    self.history.push(change);
                }
                Ok(())
            });
            self.sequence = frame.sequence;
            self.last = Some((frame.revision, NewFrame::from(frame)));
            redone.map_err(|Unfit(problem)| source.damaged(offset, problem))
        })
    }
}

/// Has an entry happen again. A session ends its time to live and `grace` after zero, unless it is renewed.
fn redo(state: &mut State, entry: Entry, grace: Duration) -> Result<Option<Change>, Unfit> {
    let effect = match entry {
        Entry::Open { session, ttl } => Effect::Open { session, ttl },
        Entry::Close { session } => Effect::Close { session },
        Entry::Put { session, instance } => Effect::Put { session, instance },
        Entry::Delete { id } => Effect::Delete { id },
    };
    state.carry_out(grace, effect)
}

impl From<Malformed> for Unfit {
    fn from(Malformed(problem): Malformed) -> Self {
        Self(problem)
    }
}

/// Reads bytes as everything that a file can hold: a header, a frame, and entries that happen one after another.
pub(crate) fn read_hostile(bytes: &[u8]) {
    let sector = &bytes[..bytes.len().min(SECTOR)];
    for kind in [Kind::Image, Kind::Log] {
        let _ = Header::from_sector(sector, kind);
    }
    let _ = Frame::at(bytes, 0);
    let mut state = State::new(Revision::ZERO, Limits::default());
    let (mut rest, mut names) = (bytes, Names::default());
    while let Ok(entry) = Entry::read(&mut rest, &mut names) {
        if redo(&mut state, entry, Duration::ZERO).is_err() {
            return;
        }
    }
}
