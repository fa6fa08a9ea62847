//! Netlink, the protocol by which the kernel is configured: requests, their answers, lists, and notices.
//!
//! A [`Socket`] asks and is answered, over any protocol that speaks netlink; payloads are bytes, which the caller writes
//! and understands. It carries out [`Requests`], many in one datagram, each with an outcome of its own
//! ([`Socket::carry_out`]) or all of them or none ([`Socket::transact`]), and reads whole lists ([`Socket::dump`]): one that
//! changed meanwhile is read again. A [`Listener`] hears what happens, whoever did it.
//!
//! A socket acts in the network namespace in which it was opened, whichever thread uses it. So it is opened on a thread
//! that is there, and carried out. All calls block; the kernel answers before `send` returns, so there is nothing to
//! wait for.
//!
//! ```no_run
//! use netloft_netlink::{Protocol, Requests, Socket, Subject};
//! use netloft_netns::{Enterer, Netns};
//!
//! const RTM_GETLINK: u16 = 18;
//! const RTM_SETLINK: u16 = 19;
//! /// An `ifinfomsg` about the link of an index: with flags to set, and which of them.
//! fn write_link(payload: &mut Vec<u8>, index: i32, flags: u32) {
//!     payload.extend([0; 4]);
//!     payload.extend(index.to_ne_bytes());
//!     payload.extend(flags.to_ne_bytes());
//!     payload.extend(flags.to_ne_bytes());
//! }
//!
//! let netns = Netns::create()?;
//! let mut socket = Enterer::new()?.run(&netns, || Socket::open(Protocol::ROUTE))??;
//!
//! // Two requests in one datagram: the loopback interface is there, link 7 is not.
//! let mut set_up = Requests::new();
//! for index in [1, 7] {
//!     let subject = Subject::new("set up", format!("link {index}"));
//!     set_up.add(subject, RTM_SETLINK, 0, |payload| write_link(payload, index, 1));
//! }
//! let outcomes = socket.carry_out(&mut set_up, |_, _| ());
//! assert!(outcomes[0].is_ok());
//! assert_eq!(outcomes[1].as_ref().unwrap_err().to_string(), "cannot set up link 7");
//!
//! let all = Subject::new("list", "links");
//! let links = socket.dump(&all, RTM_GETLINK, |it| write_link(it, 0, 0), |link| Some(link.payload.len()))?;
//! assert_eq!(links.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod attribute;
mod error;
mod listener;
mod message;
mod request;
mod socket;
mod wire;

pub use attribute::attributes;
pub use error::{Cause, Error, Refusal, Rejected, Subject};
pub use listener::{Heard, Listener};
pub use message::{Message, Messages};
pub use request::{APPEND, CREATE, EXCLUSIVE, REPLACE, Requests};
pub use socket::{Protocol, Socket};
