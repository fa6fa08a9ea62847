//! The store in a directory of its own.
//!
//! What is registered lives in memory, in a [`State`](crate::State) and a [`Feed`](crate::Feed) as in the memory
//! store. Between the two is a disk: a thread of its own takes all commands that wait, carries them out, appends
//! what they did to a log in one write and one `fdatasync`, and only then publishes the changes and answers. Reads
//! never wait for the disk, and neither do renewals, which write nothing.
//!
//! From time to time a thread writes an image, all that there is, whose place in the files is that of the logs
//! before it. A backup is an image, too.
//!
//! Why a log of our own, and not a database: docs/adr/0008-own-log-for-the-registry.md.

mod backup;
mod clock;
mod disk;
mod entry;
mod error;
mod frame;
mod gathering;
mod image;
mod inbox;
mod ledger;
mod replay;
mod store;
mod writer;

#[cfg(test)]
mod tests;

pub use self::backup::{Backup, backup, restore};
pub(crate) use self::entry::{Names, read_instance, write_instance};
pub use self::error::{DiskFault, StorageError};
pub(crate) use self::replay::read_hostile;
pub use self::store::{Condition, EmbeddedOptions, EmbeddedStore};
