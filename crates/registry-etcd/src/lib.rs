//! Keeps the registrations of several registry servers in one etcd cluster.
//!
//! An [`EtcdStore`] is a [`Store`](netloft_registry::Store) like those of `netloft-registry`, passes the same suite, and
//! decides by the same rules. What is registered is in etcd; every server that opens the same prefix serves all of it
//! from memory.
//!
//! ```no_run
//! use netloft_registry::{Command, Store};
//! use netloft_registry_etcd::{EtcdOptions, EtcdStore};
//! use netloft_types::{Query, ReadMode, SessionId};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let endpoints = ["http://192.0.2.1:2379", "http://192.0.2.2:2379", "http://192.0.2.3:2379"];
//! let store = EtcdStore::open(&endpoints.map(str::to_owned), EtcdOptions::default()).await?;
//!
//! let session = SessionId::from_number(0x5eed); // In earnest: 128 random bits.
//! let ttl = Some(std::time::Duration::from_secs(15));
//! store.apply(Command::OpenSession { session, ttl }).await?;
//!
//! let found = store.list(&Query::everything(), ReadMode::Stale).await?;
//! println!("{} instances, as of {:?} ago", found.instances.len(), found.age);
//! # Ok(())
//! # }
//! ```
//!
//! The layout in etcd, and how servers agree on who counts a session, are told in docs/adr/0009-etcd-store.md.

mod assembly;
mod cache;
mod cluster;
mod commands;
mod door;
mod error;
mod history;
mod keeper;
mod keys;
mod lease;
mod liveness;
mod options;
mod pb;
mod pulse;
mod records;
mod shared;
mod store;
mod transaction;

pub use error::{ContentsError, CredentialError, OpenError};
pub use options::{EtcdIdentity, EtcdOptions, EtcdPassword, EtcdTls, EtcdUser};
pub use store::EtcdStore;
