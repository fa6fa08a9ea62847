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
//! A packet from one network to another has to be forwarded by the host, which by default does not forward. If it does
//! (`net.ipv4.ip_forward=1`, `net.ipv6.conf.all.forwarding=1`, set before or after), one routing-policy rule for each
//! bridge and family still keeps what comes in by the bridge from leaving for anywhere but the host:
//! `iif <bridge> prohibit`, priority and protocol 110. The sender is told at once, by ICMP. Rules, not the settings of the bridge:
//! `conf/<bridge>/forwarding` is reset whenever somebody switches forwarding on, and for IPv6 does not mean this.
//!
//! So nothing that a sandbox sends leaves the host, and nothing from outside gets an answer from a sandbox: there is no
//! way out and nothing is published, for now. One thing needs a packet filter, which this crate does not bring: keeping
//! a sandbox from the *gateway addresses* of other networks, which belong to the host like any other of its addresses
//! (the weak host model of RFC 1122, section 3.3.4.2). A rule could do it only in front of the one that looks up local
//! addresses, at priority 0, and moving that one is not for us.
//!
//! # What is made ahead
//!
//! Making a namespace takes half of the time of an attachment, so a host keeps eight of them ready from its first
//! network on, filled up while nobody waits. The ninth sandbox in a row waits for its own.

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
