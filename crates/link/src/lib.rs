//! Links, addresses, routes and rules of a network namespace, in few netlink datagrams.
//!
//! A [`Conn`] is a netlink socket that was opened inside a namespace, so it acts there whichever thread uses
//! it. Its operations are named by intent. Each sends as few datagrams as the kernel permits, many requests
//! in one, and reads the answer to every request: the kernel goes on after a failed one, so a datagram is
//! not a transaction, and whatever a failed operation made it deletes again.
//!
//! Two rules come from measurement. Links are made where they will live, because to move one to another
//! namespace costs the whole host some 17 ms; and the remains of many are deleted as one group, because each
//! deletion waits as long. The crate is synchronous: the kernel answers before `send` returns, so there is
//! nothing to wait for. An async caller moves a `Conn` to a blocking thread.
//!
//! ```no_run
//! use netloft_link::{BridgeSpec, Conn};
//! use netloft_netns::{Enterer, Netns};
//! use netloft_types::MacAddr;
//!
//! let host = Netns::create()?;
//! let mut conn = Conn::open(&Enterer::new()?, &host)?;
//! let bridge = conn.create_bridge(&BridgeSpec {
//!     name: "nl-blue".parse()?,
//!     mac: MacAddr::local(0x5eed),
//!     mtu: None,
//!     alias: "netloft blue".to_owned(),
//!     addresses: vec!["10.89.0.1/24".parse()?],
//! })?;
//! assert_eq!(conn.links()?[1].index, bridge);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod announce;
mod bridge;
mod conn;
mod error;
mod index;
mod inside;
mod macvlan;
mod observed;
mod rate;
mod read;
mod request;
mod rule;
mod session;
mod setting;
mod shape;
mod spec;
mod sysctl;
mod veth;
mod watch;
mod way_back;

pub use conn::Conn;
pub use error::{Error, ParentFault};
pub use index::{LinkGroup, LinkIndex};
pub use observed::{Address, ForwardingEntry, Link, LinkKind, NetnsNumber, Origin};
pub use rate::Rate;
pub use rule::Prohibition;
pub use spec::{BridgeSpec, InsideSpec, Ipv6, MacvlanSpec, Route, ShapeSpec, Switch, Veth, VethSpec};
pub use sysctl::Sysctl;
pub use watch::{Notice, Watcher};
pub use way_back::WayBack;
