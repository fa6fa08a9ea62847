//! Keeps registrations, expires them, orders changes, answers queries and watches.
//!
//! A [`Store`] takes [`Command`]s and answers lists and watches. A client opens a session and registers
//! instances in it; when the session ends, closed or not renewed in time, its instances go, all at once.
//! Every change has a revision, and a [`Watch`] tells them in order.
//!
//! ```
//! use netloft_registry::{Command, MemoryStore, Store, StoreOptions};
//! use netloft_types::{Instance, Query, ReadMode, ServiceName, SessionId, Update};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = MemoryStore::start(StoreOptions::default());
//! let session = SessionId::from_number(0x5eed); // In earnest: 128 random bits.
//! store.apply(Command::OpenSession { session, ttl: None }).await?;
//!
//! let service: ServiceName = "api".parse()?;
//! let instance = Instance::new("api-1".parse()?, service.clone(), "10.0.0.2".parse()?, "8080".parse()?);
//! store.apply(Command::Register { session, instance }).await?;
//!
//! let found = store.list(&Query::service(service.clone()), ReadMode::Linearizable).await?;
//! assert_eq!(found.instances.len(), 1);
//!
//! let mut watch = store.watch(Query::service(service), Some(found.at))?;
//! store.apply(Command::CloseSession { session }).await?;
//! assert!(matches!(&watch.next().await?[..], [Update::Delete { .. }]));
//! # Ok(())
//! # }
//! ```
//!
//! A store is made of two parts that know nothing of each other: [`State`] decides what a command changes,
//! and [`Feed`] publishes changes to readers. [`MemoryStore`] joins them by a function call; [`EmbeddedStore`]
//! puts a disk between them, so that what was answered outlives the process. Whatever a store is made of, it
//! passes [`testing::conformance`].

mod charge;
pub mod codec;
mod command;
pub mod embedded;
mod error;
mod memory;
mod state;
mod store;
pub mod testing;
mod view;
mod watch;

pub use charge::{Charge, Handover, Handovers};
pub use command::{Change, Command, Delta};
pub use embedded::{EmbeddedOptions, EmbeddedStore};
pub use error::{Closed, ClusterFault, Error};
pub use memory::MemoryStore;
pub use state::{Effect, Expired, Limits, State, Unfit};
pub use store::{
    Applied, BoxFuture, EXPIRY_DELAY_MAX, Found, ServiceSummary, Services, Snapshot, Store, StoreOptions,
    Usage,
};
pub use watch::{Feed, FeedOptions, Watch};
