//! Runs the health checks of the instances in a registry store, and amends what they find.
//!
//! A [`Checker`] watches a [`Store`](netloft_registry::Store), asks a [`Monitor`](netloft_health::Monitor) what to do,
//! and does it: it probes over TCP, HTTP/1.1 and gRPC, and changes instances. It also ends the windows of draining
//! instances. All decisions are the monitor's; what is here has sockets and a clock, and no opinion.
//!
//! ```
//! use std::sync::Arc;
//!
//! use netloft_checker::Checker;
//! use netloft_health::{MonitorOptions, Targets};
//! use netloft_registry::{Command, MemoryStore, Store, StoreOptions};
//! use netloft_types::{Check, Checks, Instance, Lifecycle, Query, ReadMode, SessionId};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let place = listener.local_addr()?;
//! let store: Arc<dyn Store> = Arc::new(MemoryStore::start(StoreOptions::default()));
//! // Loopback is not probed unless it is allowed.
//! let targets = Targets { allow: vec!["127.0.0.0/8".parse()?], ..Targets::default() };
//! let checker = Checker::start(Arc::clone(&store), MonitorOptions { targets, ..MonitorOptions::default() });
//!
//! let port = u32::from(place.port()).try_into()?;
//! let bare = Instance::new("api-1".parse()?, "api".parse()?, place.ip(), port);
//! let instance = Instance { lifecycle: Lifecycle::Starting, checks: Checks::from(Check::tcp()), ..bare };
//! let session = SessionId::from_number(0x5eed); // In earnest: 128 random bits.
//! store.apply(Command::OpenSession { session, ttl: None }).await?;
//! store.apply(Command::Register { session, instance }).await?;
//!
//! let mut watch = store.watch(Query::service("api".parse()?), None)?;
//! while store.list(watch.query(), ReadMode::Linearizable).await?.instances.is_empty() {
//!     watch.next().await?;
//! }
//! assert_eq!(checker.reports(&"api-1".parse()?)[0].output.as_str(), "connected");
//! # Ok(())
//! # }
//! ```
//!
//! What is connected to is the address of the instance itself, at its port or one that the check names, and nothing
//! else: no name is looked up and no redirect followed. Loopback, link-local addresses and the host's own are refused
//! unless they are allowed. Of an HTTP answer the status counts and its body is not read, so nobody can use a checker to
//! read what only the registry can reach.

mod addresses;
mod checker;
mod probe;

pub use checker::Checker;
pub use probe::probe;
