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
//! There is no authentication: whoever can connect can register anything and read everything. Listen on
//! loopback, on a unix socket, or where only friends are. What one peer can cost is bounded; see [`limits`].

mod care;
mod directory;
mod error;
mod incoming;
pub mod limits;
mod listen;
mod phase;
mod server;
mod service;
mod signal;
pub mod status;
mod stream;
mod unsent;

pub use directory::{run_directory, state_directory};
pub use error::Error;
pub use incoming::Peer;
pub use listen::{Listener, SocketAccess};
pub use phase::Phases;
pub use server::{CHANGES, Server, ServerOptions, serve};
pub use signal::shutdown_requested;
