//! Headers and frames: what the files of a store consist of.
//!
//! A file is a header, one sector long, and then frames. A frame holds the entries of one commit, and begins at a
//! sector: writing one never touches a sector in which something acknowledged is, so that a cut of power can
//! tear only what nobody was promised.
//!
//! ```text
//! header  0 kind, 8 bytes   8 format, 4   12 CRC, 4   16 origin, 8   24 generation, 8
//!        32 sequence, 8    40 revision, 8             48 sessions, 8 56 instances, 8    to 512: zeros
//! frame   0 mark, 8 bytes   8 CRC, 4      12 length of the entries, 4
//!        16 sequence, 8    24 revision, 8             32 entries     to a multiple of 512: zeros
//! ```
//!
//! Numbers are little-endian. A CRC is CRC-32C of all that follows it, in a frame begun with the origin of the
//! store, so that a frame of another store is none.

use std::io;

use netloft_types::Revision;

use super::disk::DiskFile;
use super::entry::{ENTRY_LEN_MAX, Entry, Malformed};

/// The format of the files. A file of another one is refused, not guessed at.
pub(crate) const FORMAT: u32 = 1;

/// What a disk writes wholly or not at all. Larger sectors hold whole numbers of it.
pub(crate) const SECTOR: usize = 512;

/// Bytes of entries after which a frame takes no more.
pub(crate) const ENTRIES_LEN: usize = 256 * 1_024;
/// Bytes of entries in the longest frame.
const ENTRIES_LEN_MAX: usize = ENTRIES_LEN + ENTRY_LEN_MAX;
/// Bytes of the longest frame, with what fills its last sector.
pub(crate) const FRAME_LEN_MAX: usize = (FRAME_HEADER_LEN + ENTRIES_LEN_MAX).next_multiple_of(SECTOR);

const FRAME_HEADER_LEN: usize = 32;
/// No text of the vocabulary contains it, for text has no control characters.
const FRAME_MARK: [u8; 8] = *b"\0nlframe";

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// All that a store held at one revision.
    Image,
    /// What happened since.
    Log,
}

impl Kind {
    fn mark(self) -> [u8; 8] {
        match self {
            Self::Image => *b"nlimage\0",
            Self::Log => *b"nlreglog",
        }
    }
}

/// The first sector of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    /// Drawn when the store was made, or restored: all its files have the same.
    pub(crate) origin: u64,
    /// The number of the file. An image takes the place of all logs of a lower one.
    pub(crate) generation: u64,
    /// Of an image, the last frame it contains the effect of; of a log, its first frame.
    pub(crate) sequence: u64,
    /// The revision before what the file contains; of an image, the one at which it is.
    pub(crate) revision: Revision,
    /// Of an image, how many sessions it holds.
    pub(crate) sessions: u64,
    /// Of an image, how many instances it holds.
    pub(crate) instances: u64,
}

/// Why there is no header where one should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoHeader {
    /// Not as it was written, or never written.
    Damaged,
    /// Of another format.
    Format(u32),
}

impl Header {
    /// The sector.
    pub(crate) fn to_sector(self) -> [u8; SECTOR] {
        let mut bytes = Vec::with_capacity(SECTOR);
        bytes.extend(self.kind.mark());
        bytes.extend(FORMAT.to_le_bytes());
        bytes.extend([0; 4]);
        for number in [
            self.origin,
            self.generation,
            self.sequence,
            self.revision.number(),
            self.sessions,
            self.instances,
        ] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.resize(SECTOR, 0);
        let crc = crc32c::crc32c(&bytes[16..]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes.try_into().expect("it has that length")
    }

    /// Reads a sector.
    pub(crate) fn from_sector(sector: &[u8], kind: Kind) -> Result<Self, NoHeader> {
        if sector.len() != SECTOR || sector[..8] != kind.mark() {
            return Err(NoHeader::Damaged);
        }
        let word = |at: usize| u32::from_le_bytes(sector[at..at + 4].try_into().expect("it is four bytes"));
        let number =
            |at: usize| u64::from_le_bytes(sector[at..at + 8].try_into().expect("it is eight bytes"));
        if word(8) != FORMAT {
            return Err(NoHeader::Format(word(8)));
        }
        if word(12) != crc32c::crc32c(&sector[16..]) {
            return Err(NoHeader::Damaged);
        }
        Ok(Self {
            kind,
            origin: number(16),
            generation: number(24),
            sequence: number(32),
            revision: Revision::new(number(40)),
            sessions: number(48),
            instances: number(56),
        })
    }
}

/// A frame to be written.
#[derive(Debug, Clone)]
pub(crate) struct NewFrame {
    /// Begins with room for the header.
    bytes: Vec<u8>,
}

impl NewFrame {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; FRAME_HEADER_LEN] }
    }

    pub(crate) fn push(&mut self, entry: &Entry) {
        entry.write(&mut self.bytes);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries_len() == 0
    }

    /// Bytes of the entries so far.
    pub(crate) fn entries_len(&self) -> usize {
        self.bytes.len() - FRAME_HEADER_LEN
    }

    /// The bytes of the frame, with what fills its last sector.
    pub(crate) fn seal(mut self, origin: u64, sequence: u64, revision: Revision) -> Vec<u8> {
        let len = u32::try_from(self.entries_len()).expect("a frame takes no more than its bound");
        self.bytes[..8].copy_from_slice(&FRAME_MARK);
        self.bytes[12..16].copy_from_slice(&len.to_le_bytes());
        self.bytes[16..24].copy_from_slice(&sequence.to_le_bytes());
        self.bytes[24..32].copy_from_slice(&revision.number().to_le_bytes());
        let crc = frame_crc(origin, &self.bytes);
        self.bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(SECTOR), 0);
        self.bytes
    }
}

impl From<&Frame<'_>> for NewFrame {
    fn from(frame: &Frame<'_>) -> Self {
        let mut bytes = vec![0; FRAME_HEADER_LEN];
        bytes.extend(frame.entries);
        Self { bytes }
    }
}

fn frame_crc(origin: u64, frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&origin.to_le_bytes()), &frame[12..])
}

/// A frame that was read.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) sequence: u64,
    /// The revision before its entries.
    pub(crate) revision: Revision,
    pub(crate) entries: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame at the beginning of `bytes`, if a whole one is there.
    pub(crate) fn at(bytes: &'a [u8], origin: u64) -> Option<Self> {
        let header = bytes.first_chunk::<FRAME_HEADER_LEN>()?;
        let len = Self::entries_len(header)?;
        let frame = bytes.get(..FRAME_HEADER_LEN + len)?;
        let crc = u32::from_le_bytes(header[8..12].try_into().expect("it is four bytes"));
        if crc != frame_crc(origin, frame) {
            return None;
        }
        let number =
            |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("it is eight bytes"));
        Some(Self {
            sequence: number(16),
            revision: Revision::new(number(24)),
            entries: &frame[FRAME_HEADER_LEN..],
        })
    }

    /// The bytes from its mark to the end of its entries, if a frame begins at the beginning of `sector`.
    pub(crate) fn unpadded_len(sector: &[u8]) -> Option<usize> {
        Self::entries_len(sector.first_chunk()?).map(|len| FRAME_HEADER_LEN + len)
    }

    /// How long the entries are, if this is the header of a frame.
    fn entries_len(header: &[u8; FRAME_HEADER_LEN]) -> Option<usize> {
        let len = u32::from_le_bytes(header[12..16].try_into().expect("it is four bytes"));
        let len = usize::try_from(len).ok().filter(|len| *len <= ENTRIES_LEN_MAX)?;
        (header[..8] == FRAME_MARK).then_some(len)
    }

    /// The bytes it takes in its file.
    pub(crate) fn len(&self) -> u64 {
        (FRAME_HEADER_LEN + self.entries.len()).next_multiple_of(SECTOR) as u64
    }

    /// Reads the entries one by one.
    pub(crate) fn for_each<E>(
        &self,
        names: &mut super::entry::Names,
        mut take: impl FnMut(Entry) -> Result<(), E>,
    ) -> Result<(), E>
    where
        E: From<Malformed>,
    {
        let mut bytes = self.entries;
        while !bytes.is_empty() {
            take(Entry::read(&mut bytes, names)?)?;
        }
        Ok(())
    }
}

/// Reads a file a piece at a time.
pub(crate) struct Window<'a> {
    file: &'a dyn DiskFile,
    /// Where the piece begins.
    start: u64,
    piece: Vec<u8>,
    /// Whether the file ends where the piece does.
    is_last: bool,
}

impl<'a> Window<'a> {
    /// Bytes read at a time, unless more are asked for.
    const LEN: usize = 32 * 1_024;

    pub(crate) fn new(file: &'a dyn DiskFile) -> Self {
        Self { file, start: 0, piece: Vec::new(), is_last: false }
    }

    /// The frame at `offset`, if a whole one is there.
    pub(crate) fn frame_at(&mut self, offset: u64, origin: u64) -> io::Result<Option<Frame<'_>>> {
        match Frame::unpadded_len(self.at(offset, SECTOR)?) {
            Some(len) => Ok(Frame::at(self.at(offset, len)?, origin)),
            None => Ok(None),
        }
    }

    /// Whether the file ends at `offset` or before.
    pub(crate) fn is_end(&mut self, offset: u64) -> io::Result<bool> {
        Ok(self.at(offset, 1)?.is_empty())
    }

    /// What is at `offset`: at least `len` bytes, as far as the file goes.
    fn at(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let end = self.start + self.piece.len() as u64;
        let is_covered = self.is_last || offset + len as u64 <= end;
        if !(self.start..end).contains(&offset) || !is_covered {
            let asked = Self::LEN.max(len);
            self.piece = vec![0; asked];
            let read = self.file.read_at(&mut self.piece, offset)?;
            self.piece.truncate(read);
            self.is_last = read < asked;
            self.start = offset;
        }
        let skipped = usize::try_from(offset - self.start).expect("it is within the piece");
        Ok(&self.piece[skipped..])
    }
}

#[cfg(test)]
mod tests {
    use netloft_types::SessionId;
    use proptest::prelude::*;

    use super::*;
    use crate::embedded::entry::Names;

    const HEADER: Header = Header {
        kind: Kind::Log,
        origin: 7,
        generation: 3,
        sequence: 11,
        revision: Revision::new(1_000),
        sessions: 0,
        instances: 0,
    };

    fn frame() -> Vec<u8> {
        let mut frame = NewFrame::new();
        for number in 0..40 {
            frame.push(&Entry::Close { session: SessionId::from_number(number) });
        }
        frame.seal(7, 11, Revision::new(1_000))
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        assert_eq!(Header::from_sector(&HEADER.to_sector(), Kind::Log), Ok(HEADER));
        assert_eq!(Header::from_sector(&HEADER.to_sector(), Kind::Image), Err(NoHeader::Damaged));
        assert_eq!(Header::from_sector(&[0; SECTOR], Kind::Log), Err(NoHeader::Damaged));
        let mut next = HEADER.to_sector();
        next[8] = 2;
        assert_eq!(Header::from_sector(&next, Kind::Log), Err(NoHeader::Format(2)));
    }

    #[test]
    fn a_header_with_any_bit_flipped_is_refused() {
        for bit in 0..SECTOR * 8 {
            let mut sector = HEADER.to_sector();
            sector[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::from_sector(&sector, Kind::Log).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_frame_is_read_as_it_was_written_and_by_its_own_store_only() {
        let bytes = frame();
        assert_eq!(bytes.len() % SECTOR, 0);
        let read = Frame::at(&bytes, 7).unwrap();
        assert_eq!((read.sequence, read.revision, read.len()), (11, HEADER.revision, bytes.len() as u64));
        let mut sessions = Vec::new();
        let read_all = read.for_each(&mut Names::default(), |entry| match entry {
            Entry::Close { session } => {
                sessions.push(session.number());
                Ok(())
            }
            _ => Err(Malformed("not written")),
        });
        assert_eq!((read_all, sessions), (Ok(()), (0..40).collect::<Vec<_>>()));
        assert!(Frame::at(&bytes, 8).is_none());
    }

    #[test]
    fn a_frame_with_any_bit_flipped_or_cut_off_is_none() {
        let bytes = frame();
        let len = FRAME_HEADER_LEN + 40 * 17;
        for bit in 0..len * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Frame::at(&flipped, 7).is_none(), "bit {bit}");
        }
        for cut in 0..len {
            assert!(Frame::at(&bytes[..cut], 7).is_none(), "cut at {cut}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_make_reading_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..700),
            is_marked in any::<bool>(),
            origin in any::<u64>(),
        ) {
            if let (true, Some(mark)) = (is_marked, bytes.first_chunk_mut()) {
                *mark = FRAME_MARK;
            }
            prop_assert!(Frame::at(&bytes, origin).is_none());
            let _ = Header::from_sector(&bytes, Kind::Image);
        }
    }
}
