//! What must be known after a crash: an embedded database with one row for each network, endpoint and resting address.
//!
//! What is about to be done is on disk before the kernel hears of it, and that it is done before the caller does. A
//! transaction is one `fsync`, for as many changes as wait.
//!
//! Kernel objects do not outlive the machine, so after a loss of power only the networks are made anew.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use netloft_types::{EndpointId, Family, NetworkName};
use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::record::{EndpointRecord, NetworkRecord, RestRecord};

/// The layout of the tables below. A file of another one is refused, not guessed at.
const VERSION: u64 = 1;

/// What the database keeps of its file in memory. The journal of a thousand endpoints has half a megabyte.
const CACHE_LEN: usize = 1 << 20;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const NETWORKS: TableDefinition<&str, &[u8]> = TableDefinition::new("networks");
const ENDPOINTS: TableDefinition<u64, &[u8]> = TableDefinition::new("endpoints");
const RESTS: TableDefinition<&str, &[u8]> = TableDefinition::new("rests");

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The directory or file is not safe to use.
    #[error("cannot trust {path}: {problem}", path = .path.display())]
    Untrusted {
        /// What it is about.
        path: PathBuf,
        /// What is wrong with it, and the remedy.
        problem: String,
    },
    /// The directory or file cannot be opened.
    #[error("cannot open {path}", path = .path.display())]
    Open {
        /// What it is about.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file was written by another release.
    #[error("{path} has layout {found}, this release reads layout {VERSION}: use the release that wrote it", path = .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: u64,
    },
    /// The file is no database, or is damaged, or somebody else has it open.
    #[error("cannot use {path} as a journal", path = .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<redb::Error>,
    },
    /// The database failed, as when the disk is full.
    #[error("cannot {operation} the journal")]
    Database {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: Box<redb::Error>,
    },
    /// A row cannot be read.
    #[error("cannot read {row} in the journal")]
    Row {
        /// Which.
        row: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// One change to the journal.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    PutNetwork(NetworkRecord),
    DeleteNetwork(NetworkName),
    PutEndpoint(Box<EndpointRecord>),
    DeleteEndpoint(EndpointId),
    PutRest(RestRecord),
    DeleteRest(RestRecord),
    /// Whether the host forwards a family only because of us.
    Forwarding(Family, bool),
}

/// Everything the journal knows.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) networks: Vec<NetworkRecord>,
    pub(crate) endpoints: Vec<EndpointRecord>,
    pub(crate) rests: Vec<RestRecord>,
    /// The families that the host forwards only because of us.
    pub(crate) forwarding: Vec<Family>,
    /// Whether there was no journal before.
    pub(crate) is_new: bool,
}

/// The journal of a host.
pub(crate) struct Journal {
    path: PathBuf,
    /// Absent after it failed, until it can be opened again.
    database: Option<Database>,
    /// What need not be on disk before anybody is told; goes with the next transaction.
    later: Vec<Entry>,
    #[cfg(test)]
    fails: bool,
}

impl Journal {
    /// Opens the journal in a directory, which is made if it is missing, for its owner only.
    pub(crate) fn open(directory: &Path) -> Result<(Self, Contents), JournalError> {
        prepare_directory(directory)?;
        let path = directory.join("network.redb");
        let is_new = !path.exists();
        let database = open_database(&path)?;
        let journal = Self {
            path,
            database: Some(database),
            later: Vec::new(),
            #[cfg(test)]
            fails: false,
        };
        let contents = Contents { is_new, ..journal.load()? };
        Ok((journal, contents))
    }

    /// Writes changes, with those that were put off, in one transaction; when this returns they are on disk.
    ///
    /// # Errors
    ///
    /// If nothing was written.
    pub(crate) fn write(&mut self, entries: Vec<Entry>) -> Result<(), JournalError> {
        #[cfg(test)]
        if self.fails {
            let source = redb::Error::Io(io::ErrorKind::StorageFull.into());
            return Err(JournalError::Database { operation: "write", source: Box::new(source) });
        }
        let database = match self.database.take() {
            Some(database) => database,
            None => open_database(&self.path)?,
        };
        let outcome = commit(&database, &mut self.later.iter().chain(&entries));
        match outcome {
            Ok(()) => {
                self.later.clear();
                self.database = Some(database);
                Ok(())
            }
            // After a failed write the database refuses all others until it is opened anew, which the next call does.
            Err(source) => Err(JournalError::Database { operation: "write", source: Box::new(source) }),
        }
    }

    /// Puts changes off until the next transaction.
    pub(crate) fn write_later(&mut self, entries: impl IntoIterator<Item = Entry>) {
        self.later.extend(entries);
    }

    /// As on a disk that is full, or is so no more.
    #[cfg(test)]
    pub(crate) fn fail_from_now_on(&mut self, fails: bool) {
        self.fails = fails;
    }

    /// Whether changes were put off.
    pub(crate) fn is_behind(&self) -> bool {
        !self.later.is_empty()
    }

    fn load(&self) -> Result<Contents, JournalError> {
        let database = self.database.as_ref().expect("it was just opened");
        let rows = read_rows(database).map_err(failed("read"))?;
        let mut contents = Contents { forwarding: rows.forwarding, ..Contents::default() };
        for (name, row) in rows.networks {
            contents.networks.push(decode(&row, || format!("network {name}"))?);
        }
        for (id, row) in rows.endpoints {
            contents.endpoints.push(decode(&row, || format!("endpoint {}", EndpointId::from_number(id)))?);
        }
        for (key, row) in rows.rests {
            contents.rests.push(decode(&row, || format!("resting address {key}"))?);
        }
        Ok(contents)
    }
}

/// The rows as they are on disk.
struct Rows {
    networks: Vec<(String, Vec<u8>)>,
    endpoints: Vec<(u64, Vec<u8>)>,
    rests: Vec<(String, Vec<u8>)>,
    forwarding: Vec<Family>,
}

fn read_rows(database: &Database) -> Result<Rows, redb::Error> {
    let transaction = database.begin_read()?;
    let texts = |table: TableDefinition<'static, &str, &[u8]>| -> Result<Vec<_>, redb::Error> {
        let rows = transaction.open_table(table)?;
        let rows = rows.iter()?;
        rows.map(|row| Ok(row.map(|(key, value)| (key.value().to_owned(), value.value().to_vec()))?))
            .collect()
    };
    let endpoints = transaction.open_table(ENDPOINTS)?;
    let endpoints = endpoints.iter()?;
    let endpoints = endpoints.map(|row| Ok(row.map(|(id, value)| (id.value(), value.value().to_vec()))?));
    let meta = transaction.open_table(META)?;
    let mut forwarding = Vec::new();
    for family in [Family::V4, Family::V6] {
        if meta.get(forwarding_key(family))?.is_some_and(|value| value.value() == 1) {
            forwarding.push(family);
        }
    }
    Ok(Rows {
        networks: texts(NETWORKS)?,
        endpoints: endpoints.collect::<Result<_, redb::Error>>()?,
        rests: texts(RESTS)?,
        forwarding,
    })
}

fn commit(database: &Database, entries: &mut dyn Iterator<Item = &Entry>) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut meta = transaction.open_table(META)?;
        let mut networks = transaction.open_table(NETWORKS)?;
        let mut endpoints = transaction.open_table(ENDPOINTS)?;
        let mut rests = transaction.open_table(RESTS)?;
        for entry in entries {
            match entry {
                Entry::PutNetwork(record) => {
                    networks.insert(record.network.name.as_str(), &*encode(record))?;
                }
                Entry::DeleteNetwork(name) => drop(networks.remove(name.as_str())?),
                Entry::PutEndpoint(record) => drop(endpoints.insert(record.id.number(), &*encode(record))?),
                Entry::DeleteEndpoint(id) => drop(endpoints.remove(id.number())?),
                Entry::PutRest(record) => drop(rests.insert(&*rest_key(record), &*encode(record))?),
                Entry::DeleteRest(record) => {
                    let key = rest_key(record);
                    // The address may have been given and released again since.
                    let is_same = rests.get(&*key)?.is_some_and(|row| row.value() == encode(record));
                    if is_same {
                        rests.remove(&*key)?;
                    }
                }
                Entry::Forwarding(family, is_ours) => {
                    meta.insert(forwarding_key(*family), u64::from(*is_ours))?;
                }
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

fn open_database(path: &Path) -> Result<Database, JournalError> {
    let open = |source| JournalError::Open { path: path.to_owned(), source };
    // Opened here rather than by the database, so that neither a link nor somebody else's file is followed.
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC).open(path).map_err(open)?;
    let metadata = file.metadata().map_err(open)?;
    check_owner(path, metadata.uid(), metadata.permissions().mode())?;
    let unusable = |source| JournalError::Unusable { path: path.to_owned(), source: Box::new(source) };
    let mut builder = Database::builder();
    let database = FileBackend::new(file)
        .and_then(|backend| builder.set_cache_size(CACHE_LEN).create_with_backend(backend))
        .map_err(|error| unusable(error.into()))?;
    let found = prepare(&database).map_err(unusable)?;
    if found == VERSION { Ok(database) } else { Err(JournalError::Version { path: path.to_owned(), found }) }
}

/// Makes the tables of a new file, and tells the layout of the file.
fn prepare(database: &Database) -> Result<u64, redb::Error> {
    if let Ok(meta) = database.begin_read()?.open_table(META)
        && let Some(version) = meta.get("version")?
    {
        return Ok(version.value());
    }
    let transaction = database.begin_write()?;
    transaction.open_table(META)?.insert("version", VERSION)?;
    transaction.open_table(NETWORKS)?;
    transaction.open_table(ENDPOINTS)?;
    transaction.open_table(RESTS)?;
    transaction.commit()?;
    Ok(VERSION)
}

fn prepare_directory(directory: &Path) -> Result<(), JournalError> {
    let open = |source| JournalError::Open { path: directory.to_owned(), source };
    match fs::DirBuilder::new().recursive(true).mode(0o700).create(directory) {
        Ok(()) => {}
        Err(error) => return Err(open(error)),
    }
    let metadata = fs::symlink_metadata(directory).map_err(open)?;
    if !metadata.is_dir() {
        let problem = "is not a directory itself: name a directory, not a link to one".to_owned();
        return Err(JournalError::Untrusted { path: directory.to_owned(), problem });
    }
    check_owner(directory, metadata.uid(), metadata.permissions().mode())
}

/// Who can write here can have any address given to anyone.
fn check_owner(path: &Path, owner: u32, mode: u32) -> Result<(), JournalError> {
    let ours = nix::unistd::geteuid().as_raw();
    let problem = if owner != ours {
        format!(
            "belongs to user {owner}, not to user {ours}: give it to the user that runs this, or name another place"
        )
    } else if mode & 0o022 != 0 {
        format!("others can write to it (mode {:03o}): take that away with chmod go-w", mode & 0o777)
    } else {
        return Ok(());
    };
    Err(JournalError::Untrusted { path: path.to_owned(), problem })
}

fn failed(operation: &'static str) -> impl Fn(redb::Error) -> JournalError {
    move |source| JournalError::Database { operation, source: Box::new(source) }
}

fn forwarding_key(family: Family) -> &'static str {
    match family {
        Family::V4 => "forwarding-4",
        Family::V6 => "forwarding-6",
    }
}

fn rest_key(record: &RestRecord) -> String {
    format!("{} {}", record.network, record.address)
}

fn encode(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).expect("records are made of text and numbers, with text for keys")
}

fn decode<T: DeserializeOwned>(row: &[u8], name: impl Fn() -> String) -> Result<T, JournalError> {
    serde_json::from_slice(row).map_err(|source| JournalError::Row { row: name(), source })
}
