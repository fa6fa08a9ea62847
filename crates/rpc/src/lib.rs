//! Serves a registry store over gRPC.
//!
//! [`serve`] puts a [`Store`](netloft_registry::Store) on a [`Listener`], with the gRPC health protocol and
//! server reflection beside it. A program with more services of its own composes them with [`Server`].
//!
//! ```
//! use netloft_registry::{MemoryStore, StoreOptions};
//! use netloft_rpc::{Listener, ServerOptions, serve};
//! use std::sync::Arc;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = Listener::tcp("127.0.0.1:0".parse()?).await?;
//! println!("listening on {listener}");
//!
//! let store = Arc::new(MemoryStore::start(StoreOptions::default()));
//! let shutdown = async { /* In earnest: a signal. */ };
//! serve(listener, store, ServerOptions::default(), shutdown).await?;
//! # Ok(())
//! # }
//! ```
//!
//! A [`Server::new`] has no access control: whoever can connect can register anything and read everything. Listen on
//! loopback or on a unix socket. A [`Server::guarded`] lets nobody do what its [`Access`] does not say, over TLS
//! ([`Listener::tls`]) beyond loopback. What one peer can cost is bounded either way; see [`limits`].

mod access;
mod care;
mod directory;
mod dispatch;
mod error;
mod incoming;
pub mod limits;
mod listen;
mod loads;
mod peer;
mod phase;
mod server;
mod service;
mod signal;
pub mod status;
mod stream;
mod tls;
mod trace;
mod unsent;

pub use access::{Access, AccessOptions, Audit, AuditOptions, AuditWriter};
pub use directory::{run_directory, state_directory};
pub use dispatch::AnyService;
pub use error::Error;
pub use listen::{Listener, SocketAccess};
pub use loads::LoadStats;
pub use peer::Peer;
pub use phase::Phases;
pub use server::{CHANGES, Server, ServerOptions, serve};
pub use signal::shutdown_requested;
pub use tls::{ClientCertificates, TlsConfig, TlsError};
