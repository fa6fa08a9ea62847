//! Network namespaces: make them, open them, name them, and run code in them.
//!
//! A namespace belongs to a thread. This crate is the only one that moves threads between namespaces, and
//! it moves only threads it made for that: a fresh one that dies afterwards ([`Netns::run`]), or one that
//! lives on only as long as it finds its way home ([`Enterer`]). A thread of the caller, and so a worker of
//! an async runtime, never changes its namespace. Sockets stay in the namespace they were opened in, so the
//! usual pattern is to open a socket there and carry it out.
//!
//! Making a namespace takes privilege ([`require_privilege`]); a program without it can first give itself a
//! small world of its own ([`private`]).
//!
//! ```no_run
//! use std::net::UdpSocket;
//!
//! use netloft_netns::Enterer;
//!
//! let enterer = Enterer::new()?;
//! let sandbox = enterer.create()?;
//! let socket = enterer.run(&sandbox, || UdpSocket::bind("0.0.0.0:53"))?;
//! # let _ = socket;
//! # Ok::<(), netloft_netns::Error>(())
//! ```

mod command;
mod enterer;
mod error;
mod handle;
mod named;
pub mod private;
mod privilege;
mod replacement;
mod sys;

pub use command::EnterOptions;
pub use enterer::Enterer;
pub use error::Error;
pub use handle::{Netns, NetnsId};
pub use named::NetnsDir;
pub use privilege::require_privilege;
