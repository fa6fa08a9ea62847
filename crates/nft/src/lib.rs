//! The packet filter of a host: published ports, networks kept apart, and a guard at the port of every sandbox.
//!
//! A [`Firewall`] owns two tables of nftables in a network namespace, `inet netloft` and `bridge netloft`, and speaks to
//! the kernel itself, over a netlink socket that was opened there. It is told [`Fact`]s, which are plain values, so that
//! a caller can compare those it wants with those it has. Each is a few elements of sets and maps; the rules are always
//! the same, however many facts there are, and a change costs the same with ten thousand ports published as with one.
//! Every change is one transaction: all of it holds or none, and no packet sees a part.
//!
//! What the tables do:
//!
//! - A published port answers at the host: to the host itself, also at 127.0.0.1 if the bridge has `route_localnet`, to
//!   its neighbours, and to sandboxes, the published one included. The sandbox sees who calls, unless that is a sandbox
//!   or a loopback address.
//! - The addresses of a network are reached over its own bridge and from the host. From anywhere else, other networks and
//!   the LAN included, packets for them are dropped before the kernel tracks a connection.
//! - Sandboxes of a network with egress reach the world behind the address of the host. Of the host they reach DNS at
//!   their bridge, and nothing else unless the network has host access.
//! - A guarded port passes only frames with the Ethernet and IP addresses of its sandbox, and nothing that only a router
//!   or a server of DHCP would send.
//! - A sandbox has at most [`CONNECTIONS_PER_ADDRESS_MAX`] connections open from each address.
//!
//! What they cannot do: an IPv6 port at `::1` ([`Publication::new`] says why); allow what another table drops
//! ([`Firewall::policies`] tells of those); give a sandbox its own published ports where `br_netfilter` looks at frames,
//! unless its port is in hairpin mode. All chains accept what they do not know: what touches no bridge of ours is not our
//! business.
//!
//! ```no_run
//! use std::collections::BTreeSet;
//!
//! use netloft_netns::{Enterer, Netns};
//! use netloft_nft::{Bridge, Fact, Firewall, Publication};
//! use netloft_types::PublishSpec;
//!
//! let mut firewall = Firewall::open(&Enterer::new()?, &Netns::current()?)?;
//! let blue = Bridge {
//!     name: "nl-blue".parse()?,
//!     subnets: vec!["10.89.0.0/24".parse()?],
//!     egress: true,
//!     host_access: false,
//! };
//! firewall.establish(&BTreeSet::from([Fact::Bridge(blue)]))?;
//!
//! let port: PublishSpec = "8080:80".parse()?;
//! let web = Publication::new(port.try_into()?, "10.89.0.2".parse()?)?;
//! firewall.change(&[Fact::Publication(web)], &[])?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Connections`] has the kernel forget what it tracks of an address that goes to somebody else.
//!
//! The crate is synchronous: the kernel answers before `send` returns. An async caller moves a `Firewall` to a blocking
//! thread, and waits for [`Firewall::events_fd`].

mod attribute;
mod audit;
mod chain;
mod connections;
mod error;
mod events;
mod expr;
mod fact;
mod firewall;
mod message;
mod object;
mod policy;
mod ruleset;
mod session;
mod set;
mod table;

pub use audit::Difference;
pub use connections::Connections;
pub use error::Error;
pub use fact::{Bridge, Fact, Guard, Publication};
pub use firewall::Firewall;
pub use policy::{DefaultDeny, Traffic};
pub use ruleset::CONNECTIONS_PER_ADDRESS_MAX;
