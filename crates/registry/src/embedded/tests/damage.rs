//! What was damaged after it was written is found, told with its place, and never taken for the end.

use super::crashes::first_life;
use super::pretended::{Pretended, Survival};
use super::world::{Life, Step, contents, inherited, live, open, open_session, register};
use crate::embedded::StorageError;
use crate::embedded::disk::Disk;
use crate::embedded::frame::{Frame, Header, Kind, SECTOR};
use crate::state::Contents;

/// A disk after a life, with the images of it written or not.
fn lived(image_delay: usize) -> (Pretended, Life) {
    let disk = Pretended::default();
    let life = live(&disk, &first_life(), image_delay);
    assert_eq!(life.promised, first_life().len());
    (disk.after(Survival::Killed), life)
}

fn opened(disk: &Pretended) -> Result<Contents, StorageError> {
    open(disk).map(|writer| contents(&writer))
}

/// The sequence number and the place of each frame in a file, as long as there are any.
fn frames(disk: &Pretended, name: &str) -> Vec<(u64, usize)> {
    let bytes = disk.bytes(name);
    let mut offset = SECTOR;
    let mut found = Vec::new();
    while let Some(frame) = bytes.get(offset..).and_then(|bytes| Frame::at(bytes, 1_000)) {
        found.push((frame.sequence, offset));
        offset += usize::try_from(frame.len()).unwrap();
    }
    found
}

#[test]
fn no_flipped_bit_changes_what_is_found_or_is_taken_for_the_end() {
    let (mut damaged, mut harmless, mut last) = (0, 0, 0);
    for image_delay in [0, 100] {
        let (disk, life) = lived(image_delay);
        let whole = inherited(life.held.last().unwrap());
        let before_last = inherited(&life.held[life.promised - 1]);
        let names = disk.names().unwrap();
        let ends = names.iter().filter(|name| name.starts_with("log")).flat_map(|name| frames(&disk, name));
        let end = ends.map(|(sequence, _)| sequence).max().unwrap();
        for name in &names {
            let is_last = frames(&disk, name).last().is_some_and(|(sequence, _)| *sequence == end);
            let last_frame = frames(&disk, name).last().map_or(usize::MAX, |(_, offset)| *offset);
            for offset in 0..disk.bytes(name).len() {
                let disk = disk.after(Survival::Killed);
                assert!(disk.flip(name, offset, 1 << (offset % 8)));
                match opened(&disk) {
                    Err(StorageError::Damaged { path, offset: told, .. }) => {
                        assert_eq!(path, disk.path(name), "at {offset}");
                        assert!(told <= offset as u64, "{name}: told {told} of {offset}");
                        damaged += 1;
                    }
                    Err(StorageError::Version { .. }) => {
                        assert!((8..12).contains(&offset), "{name}: {offset}");
                    }
                    Err(other) => panic!("{name}, {offset}: {other}"),
                    Ok(found) if found == whole => harmless += 1,
                    // That it was the last to be written, only a later one could tell.
                    Ok(found) => {
                        assert!(is_last && offset >= last_frame, "{name}: {offset} of {last_frame}");
                        assert_eq!(found, before_last, "{name}: {offset}");
                        last += 1;
                    }
                }
            }
        }
    }
    assert!(damaged > 500 && harmless > 500 && last > 20, "{damaged} {harmless} {last}");
}

#[test]
fn a_file_that_is_missing_is_missed() {
    let (disk, life) = lived(100);
    let whole = inherited(life.held.last().unwrap());
    let logs: Vec<_> = disk.names().unwrap().into_iter().filter(|name| name.starts_with("log")).collect();
    let image = disk.names().unwrap().into_iter().find(|name| name.starts_with("image")).unwrap();
    assert!(logs.len() >= 2, "{logs:?}");

    let without = |name: &str| {
        let disk = disk.after(Survival::Killed);
        disk.remove(name).unwrap();
        opened(&disk)
    };
    let error = without(&image).unwrap_err();
    assert!(matches!(error, StorageError::Missing { .. }), "{error}");
    let error = without(&logs[0]).unwrap_err();
    assert!(error.to_string().contains("later logs build on"), "{error}");
    assert_eq!(opened(&disk).unwrap(), whole);
}

#[test]
fn the_files_of_another_store_are_not_mixed_in() {
    let (disk, _) = lived(100);
    let stranger = Pretended::default();
    let step = Step {
        at: std::time::Duration::ZERO,
        commands: vec![open_session(1, Some(60)), register(1, "x", "api")],
    };
    live(&stranger, &[step], 0);
    let log = disk.names().unwrap().into_iter().rfind(|name| name.starts_with("log")).unwrap();
    let theirs = stranger.names().unwrap().into_iter().rfind(|name| name.starts_with("log")).unwrap();
    let mut bytes = stranger.bytes(&theirs);
    // As if it had been made at another time.
    let header = Header::from_sector(&bytes[..SECTOR], Kind::Log).unwrap();
    bytes[..SECTOR].copy_from_slice(&Header { origin: 1_001, ..header }.to_sector());
    disk.replace(&log, bytes);
    let error = opened(&disk).unwrap_err();
    assert!(error.to_string().contains("another store"), "{error}");
}
