//! A pretended disk: it remembers what was synced and what was not, dies or fails at the call it is told to, and
//! after a cut of power keeps of what was not synced only some.
//!
//! What it allows is all that a file system may do to a program that trusts nothing but `sync`: of writes that
//! were not synced any sectors may survive, of names that were not synced any changes, in no order. After a sync
//! that failed, what it did not write is still read, is written by no later sync, and is gone after a cut of power.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::embedded::disk::{Disk, DiskFile};
use crate::embedded::frame::SECTOR;

/// What happens at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process is killed, or the power cut, before it.
    Die,
    /// The same, when half of what is to be written is.
    DieHalfway,
    /// It fails, halfway.
    Fail(io::ErrorKind),
}

/// What survives of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Survival {
    /// All, and it still is not on the disk: the process was killed and nothing else happened.
    Killed,
    /// Power was cut. Of the changes of names those survive that are ones in the number, from the oldest on; of the
    /// sectors written, those that are chosen.
    PowerCut { names: u32, sectors: Sectors },
}

/// Which sectors survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sectors {
    None,
    All,
    Even,
    Odd,
    Random(u64),
}

/// Where files are pretended to be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pretended(Arc<Mutex<Machine>>);

#[derive(Debug, Clone, Default)]
struct Machine {
    files: Vec<Contents>,
    /// Names as they are seen.
    names: BTreeMap<String, usize>,
    names_on_disk: BTreeMap<String, usize>,
    name_changes: Vec<Vec<(String, Option<usize>)>>,
    capacity: Option<usize>,
    /// Calls that change or sync something, so far.
    calls: usize,
    faults: VecDeque<(usize, Fault)>,
    is_dead: bool,
}

#[derive(Debug, Clone, Default)]
struct Contents {
    seen: Vec<u8>,
    on_disk: Vec<u8>,
    unsynced: Vec<Write>,
    /// What a sync failed to write, in sectors, until it is written again and synced.
    lost: Vec<Write>,
}

#[derive(Debug, Clone)]
enum Write {
    Bytes(usize, Vec<u8>),
    Cut(usize),
}

impl Write {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Bytes(offset, written) => {
                let end = offset + written.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(written);
            }
            Self::Cut(len) => bytes.truncate(*len),
        }
    }

    /// Whether nothing of `other` is seen after it.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bytes(offset, written), Self::Bytes(other, _)) => {
                (*offset..offset + written.len()).contains(other)
            }
            _ => true,
        }
    }

    /// What of it survives, a sector at a time.
    fn surviving(&self, sectors: Sectors) -> Vec<Self> {
        let Self::Bytes(offset, written) = self else {
            return if sectors.survives(0) { vec![self.clone()] } else { Vec::new() };
        };
        let parts = (*offset..offset + written.len()).step_by(SECTOR);
        let part = |at: usize| {
            let end = (at + SECTOR).min(offset + written.len());
            Self::Bytes(at, written[at - offset..end - offset].to_vec())
        };
        parts.filter(|at| sectors.survives(at / SECTOR)).map(part).collect()
    }
}

impl Sectors {
    fn survives(self, number: usize) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Even => number.is_multiple_of(2),
            Self::Odd => !number.is_multiple_of(2),
            Self::Random(seed) => {
                let mixed = (number as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 63 == 1
            }
        }
    }
}

impl Pretended {
    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.0.lock().unwrap()
    }

    /// Has things happen at calls, counted from 1 and from now on.
    pub(crate) fn plan(&self, faults: impl IntoIterator<Item = (usize, Fault)>) {
        let mut machine = self.machine();
        machine.calls = 0;
        machine.faults = faults.into_iter().collect();
    }

    /// How many calls there were since faults were planned.
    pub(crate) fn calls(&self) -> usize {
        self.machine().calls
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.machine().is_dead
    }

    /// Bounds the bytes of all files together, or does not.
    pub(crate) fn set_capacity(&self, capacity: Option<usize>) {
        self.machine().capacity = capacity;
    }

    /// Bytes of all files together.
    pub(crate) fn used(&self) -> usize {
        self.machine().used()
    }

    /// How many changes of names were not synced.
    pub(crate) fn unsynced_names(&self) -> usize {
        self.machine().name_changes.len()
    }

    /// The disk as the next process finds it. This one is as it was.
    pub(crate) fn after(&self, survival: Survival) -> Self {
        let mut machine = self.machine().clone();
        machine.is_dead = false;
        machine.faults.clear();
        if let Survival::PowerCut { names, sectors } = survival {
            let changes = machine.name_changes.drain(..).enumerate();
            let surviving = changes.filter(|(number, _)| names >> number & 1 == 1);
            for (name, file) in surviving.flat_map(|(_, change)| change).collect::<Vec<_>>() {
                set(&mut machine.names_on_disk, &name, file);
            }
            machine.names = machine.names_on_disk.clone();
            for file in &mut machine.files {
                let unsynced = file.lost.drain(..).chain(file.unsynced.drain(..));
                let surviving: Vec<_> = unsynced.flat_map(|write| write.surviving(sectors)).collect();
                for write in surviving {
                    write.apply(&mut file.on_disk);
                }
                file.seen = file.on_disk.clone();
            }
        }
        Self(Arc::new(Mutex::new(machine)))
    }

    /// Changes a byte where it is; answers whether there is one.
    pub(crate) fn flip(&self, name: &str, offset: usize, bits: u8) -> bool {
        let mut machine = self.machine();
        let file = machine.names[name];
        let byte = machine.files[file].seen.get_mut(offset);
        byte.map(|byte| *byte ^= bits).is_some()
    }

    /// The bytes of a file.
    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        let machine = self.machine();
        machine.files[machine.names[name]].seen.clone()
    }

    /// Puts other bytes into a file.
    pub(crate) fn replace(&self, name: &str, bytes: Vec<u8>) {
        let mut machine = self.machine();
        let file = machine.names[name];
        machine.files[file].seen = bytes;
    }
}

fn set(names: &mut BTreeMap<String, usize>, name: &str, file: Option<usize>) {
    match file {
        Some(file) => names.insert(name.to_owned(), file),
        None => names.remove(name),
    };
}

impl Machine {
    /// Counts a call, and says how it goes wrong, if it does.
    fn call(&mut self) -> io::Result<Option<Fault>> {
        if self.is_dead {
            return Err(io::Error::other("the process is dead"));
        }
        self.calls += 1;
        let Some((_, fault)) = self.faults.pop_front_if(|(call, _)| *call == self.calls) else {
            return Ok(None);
        };
        match fault {
            Fault::Die => {
                self.is_dead = true;
                Err(io::Error::other("the process is dead"))
            }
            Fault::DieHalfway => {
                self.is_dead = true;
                Ok(Some(fault))
            }
            Fault::Fail(_) => Ok(Some(fault)),
        }
    }

    /// The same, for calls that have no half.
    fn whole_call(&mut self) -> io::Result<()> {
        self.call()?.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn change_names(&mut self, change: Vec<(String, Option<usize>)>) {
        for (name, file) in &change {
            set(&mut self.names, name, *file);
        }
        self.name_changes.push(change);
    }

    fn used(&self) -> usize {
        self.names.values().map(|file| self.files[*file].seen.len()).sum()
    }
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Self::Die | Self::DieHalfway => io::Error::other("the process is dead"),
            Self::Fail(kind) => kind.into(),
        }
    }
}

impl Disk for Pretended {
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/pretended").join(name)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.machine().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = self.machine().names.get(name).copied();
        let file = file.ok_or(io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Box::new(PretendedFile { disk: self.clone(), file }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut machine = self.machine();
        machine.whole_call()?;
        let file = machine.files.len();
        machine.files.push(Contents::default());
        machine.change_names(vec![(name.to_owned(), Some(file))]);
        Ok(Box::new(PretendedFile { disk: self.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut machine = self.machine();
        machine.whole_call()?;
        let file = machine.names[from];
        machine.change_names(vec![(from.to_owned(), None), (to.to_owned(), Some(file))]);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut machine = self.machine();
        machine.whole_call()?;
        machine.change_names(vec![(name.to_owned(), None)]);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut machine = self.machine();
        machine.whole_call()?;
        for (name, file) in std::mem::take(&mut machine.name_changes).into_iter().flatten() {
            set(&mut machine.names_on_disk, &name, file);
        }
        Ok(())
    }
}

struct PretendedFile {
    disk: Pretended,
    file: usize,
}

impl DiskFile for PretendedFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let machine = self.disk.machine();
        let seen = &machine.files[self.file].seen;
        let there = seen.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let len = there.len().min(bytes.len());
        bytes[..len].copy_from_slice(&there[..len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut machine = self.disk.machine();
        let fault = machine.call()?;
        let offset = usize::try_from(offset).unwrap();
        let len = machine.files[self.file].seen.len();
        let room = machine.capacity.map(|capacity| capacity.saturating_sub(machine.used()) + len);
        let end = room.unwrap_or(usize::MAX).max(len);
        let fits = bytes.len().min(end.saturating_sub(offset));
        let error = match fault {
            Some(fault) => Some(fault.error()),
            None if fits < bytes.len() => Some(io::ErrorKind::StorageFull.into()),
            None => None,
        };
        let written = if fault.is_some() { bytes.len() / 2 } else { fits };
        let write = Write::Bytes(offset, bytes[..written].to_vec());
        let file = &mut machine.files[self.file];
        write.apply(&mut file.seen);
        file.unsynced.push(write);
        error.map_or(Ok(()), Err)
    }

    fn cut(&self, len: u64) -> io::Result<()> {
        let mut machine = self.disk.machine();
        machine.whole_call()?;
        let write = Write::Cut(usize::try_from(len).unwrap());
        let file = &mut machine.files[self.file];
        write.apply(&mut file.seen);
        file.unsynced.push(write);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut machine = self.disk.machine();
        let fault = machine.call()?;
        let file = &mut machine.files[self.file];
        let unsynced = std::mem::take(&mut file.unsynced);
        match fault {
            None => {
                for write in unsynced {
                    write.apply(&mut file.on_disk);
                    file.lost.retain(|lost| !write.covers(lost));
                }
            }
            Some(Fault::Fail(_)) => {
                file.lost.extend(unsynced.iter().flat_map(|write| write.surviving(Sectors::All)));
            }
            Some(_) => file.unsynced = unsynced,
        }
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }
}
