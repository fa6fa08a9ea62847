//! Plans and carries out attaching a sandbox to a network, and undoes it.
//!
//! A **network** is a named domain with subnets and gateways; here, a bridge on the host. A **sandbox** is a container's
//! network namespace. An **endpoint** is a sandbox's attachment to a network: a link, an Ethernet address, addresses.
//!
//! [`Host`] owns them all. What a call is to do is decided without touching the kernel and written down as a
//! [`plan::Plan`]; a plan happens wholly or not at all. It is carried out over a [`kernel::Kernel`]: the real one, or
//! [`testing::FakeKernel`], over which everything but the packets can be tried without privilege:
//!
//! ```
//! use netloft_network::testing::FakeKernel;
//! use netloft_network::{Host, HostOptions};
//! use netloft_types::{AttachSpec, NetworkSpec};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let kernel = FakeKernel::new()?;
//! let options = HostOptions { default_pools: vec!["10.89.0.0/16".parse()?], ..HostOptions::default() };
//! let host = Host::open_over(Box::new(kernel.clone()), options)?;
//!
//! host.create_network(NetworkSpec::new("blue".parse()?)).await?;
//! let endpoint = host.attach(AttachSpec::new("blue".parse()?, "api-1".parse()?)).await?.endpoint;
//! assert_eq!(endpoint.addresses[0].to_string(), "10.89.0.2/24");
//! assert_eq!(endpoint.gateways[0].to_string(), "10.89.0.1");
//! assert!(kernel.has_link("nl-blue"));
//!
//! host.close().await?;
//! assert!(kernel.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! Every link it makes says so in its alias: `netloft:<network>` on a bridge, `netloft:<network>/<endpoint id>` on the
//! host end of an endpoint's link.
//!
//! # What separates two networks
//!
//! The packet filter (`netloft-nft`), which is told of every network before anything is plugged into it, and of every
//! endpoint before its link is there. What comes in by a bridge and is for a subnet of another network is dropped, its
//! gateway included, although that is an address of the host like any other (the weak host model of RFC 1122, section
//! 3.3.4.2). The host forwards what is for the world, if the network has a way out; what is published; and no more. It
//! answers pings, and DNS at the gateway, and nothing else unless the network has host access. All of this holds whether
//! the host forwards anyway or because of us; in the latter case it does not forward for others.
//!
//! An internal network has no way out, and a second wall that needs no packet filter: for each family a routing-policy
//! rule that prohibits forwarding what comes in by its bridge, `iif <bridge> prohibit`, priority and protocol 110. The
//! sender is told at once, by ICMP. Rules, not the settings of the bridge: `conf/<bridge>/forwarding` is reset whenever
//! somebody switches forwarding on, and for IPv6 does not mean this. So published ports of an internal network answer the
//! host alone: an answer to anybody else would have to be forwarded.
//!
//! Sandboxes of a macvlan network are machines of the network that the parent link leads to. Nothing here separates them.
//!
//! # By which link a sandbox answers
//!
//! A sandbox leaves by one of its networks. On each of the others, unless it is internal, it has a way back: what has its
//! address there for a source, and would take a default route, goes to the gateway of that network. So published ports
//! answer everybody on all of them.
//!
//! # What outlives a process
//!
//! With a journal ([`HostOptions::state_dir`]) everything: what is about to be done is on disk before the kernel hears of
//! it, and that it is done before the caller does. Opening the next host takes over what was made whole, and takes away
//! what was on its way and what says it is ours and is in no journal.
//!
//! # What is made ahead
//!
//! Making a namespace takes half of the time of an attachment, so a host keeps eight of them ready from its first
//! network on, filled up while nobody waits. The ninth sandbox in a row waits for its own.
//!
//! A network can keep whole endpoints ready besides ([`NetworkSpec::ready`](netloft_types::NetworkSpec::ready)): an
//! attachment that asks for nothing in particular then gives one its name, in some ten microseconds. They are in no journal,
//! are gone with the process, and give way to whoever cannot be served because of them.

mod attached;
mod doctor;
mod driver;
mod error;
mod host;
mod journal;
pub mod kernel;
pub mod plan;
mod record;
mod state;
pub mod testing;

pub use attached::Attached;
pub use doctor::Finding;
pub use error::Error;
pub use host::{Host, HostOptions};
pub use journal::JournalError;
pub use kernel::Stray;
