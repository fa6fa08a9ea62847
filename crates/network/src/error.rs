//! The one error of this crate.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use netloft_types::{
    EndpointId, Family, InterfaceName, Invalid, MacAddr, NetworkName, PublishSpec, SandboxName, Subnet,
};

use crate::journal::JournalError;
use crate::kernel::KernelError;
use crate::plan::{Failure, Leftover};

/// Why a network was not made, a sandbox not attached, or something not taken away.
///
/// Unless a variant says otherwise, everything is as it was before the call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The host could not be opened for work.
    #[error("cannot prepare the host's network namespace")]
    Open(#[source] KernelError),
    /// Subnets of networks cannot be carved from this.
    #[error("cannot use a default pool")]
    DefaultPool(#[source] Invalid),
    /// The thread that does the kernel work could not be started.
    #[error("cannot start the thread that does the kernel work")]
    StartThread(#[source] io::Error),
    /// The journal cannot be used, or what is about to be done cannot be written to it.
    #[error("cannot use the journal")]
    Journal(#[from] JournalError),
    /// The journal failed for several calls at once; the first of them says why.
    #[error("the journal failed: see the log, and try again")]
    JournalFailed,
    /// A journal is of no use for sandboxes that nobody can find again.
    #[error("a journal needs a directory for the namespaces of sandboxes: set netns_dir")]
    NetnsDirNeeded,
    /// The packet filter cannot be told what passes.
    #[error("cannot tell the packet filter what passes")]
    Filter(#[source] KernelError),
    /// The host cannot be made to forward packets.
    #[error("cannot have the host forward {family}")]
    Forward {
        /// The family.
        family: Family,
        /// Why.
        #[source]
        source: KernelError,
    },
    /// A value makes no sense for this network.
    #[error(transparent)]
    Invalid(Invalid),
    /// The host was closed.
    #[error("the host is closed")]
    Closed,
    /// The addresses and routes of the host could not be read.
    #[error("cannot read the addresses and routes of the host")]
    ReadHost(#[source] KernelError),
    /// A network of that name exists.
    #[error("network {network} exists: choose another name, or remove it first")]
    NetworkExists {
        /// The name.
        network: NetworkName,
    },
    /// No network of that name exists.
    #[error("there is no network {network}: create it, or name another")]
    NoSuchNetwork {
        /// The name.
        network: NetworkName,
    },
    /// A network cannot be removed while endpoints are attached.
    #[error("network {network} is in use by {}: detach first", list(.endpoints))]
    NetworkInUse {
        /// The network.
        network: NetworkName,
        /// What is attached, in order of id.
        endpoints: Vec<EndpointId>,
    },
    /// The sandbox has an interface of that name: every one has a loopback interface.
    #[error("interface {interface} is in the sandbox already: choose another name")]
    InterfaceTaken {
        /// The interface.
        interface: InterfaceName,
    },
    /// Two networks cannot share a bridge.
    #[error("bridge {bridge} belongs to network {owner}: choose another name for the bridge")]
    BridgeTaken {
        /// The name of the bridge.
        bridge: InterfaceName,
        /// The network that has it.
        owner: NetworkName,
    },
    /// A network was to have two subnets of one family.
    #[error(
        "subnets {first} and {second} are of one family: give network {network} one of each family at most"
    )]
    FamilyTwice {
        /// The network.
        network: NetworkName,
        /// A subnet.
        first: Subnet,
        /// Another subnet of the same family.
        second: Subnet,
    },
    /// The host uses addresses of the subnet itself, or has a route to them.
    #[error(
        "subnet {subnet} overlaps {used}, which the host has an address in or a route to: choose another"
    )]
    SubnetInUse {
        /// The subnet asked for.
        subnet: Subnet,
        /// What the host uses.
        used: Subnet,
    },
    /// The subnet cannot be had: another network has it, or nothing is left to carve from.
    #[error("cannot give network {network} a subnet")]
    Subnet {
        /// The network.
        network: NetworkName,
        /// Why, and what would do.
        #[source]
        source: netloft_ipam::Error,
    },
    /// The bridge of a network could not be made.
    #[error("cannot create network {network}")]
    CreateNetwork {
        /// The network.
        network: NetworkName,
        /// The step that failed, and what could not be undone.
        #[source]
        source: Box<Failure>,
    },
    /// The network is partly removed and still known: removing it again takes up where this stopped.
    #[error("network {network} is not wholly removed: remove it again")]
    RemoveNetwork {
        /// The network.
        network: NetworkName,
        /// What remains.
        #[source]
        source: Leftover,
    },
    /// Nothing can be chosen for a network that shares a link of the host.
    #[error("network {network} needs a subnet: that of the link it shares")]
    SubnetNeeded {
        /// The network.
        network: NetworkName,
    },
    /// A network was to share a link that is not there.
    #[error("there is no link {link} for network {network} to share: name one of the host's")]
    NoSuchLink {
        /// The network.
        network: NetworkName,
        /// The link.
        link: InterfaceName,
    },
    /// The driver of a network cannot do something.
    #[error("network {network} cannot {what}")]
    Unsupported {
        /// The network.
        network: NetworkName,
        /// What it cannot do, and what to do instead.
        what: &'static str,
    },
    /// A port cannot be published.
    #[error("cannot publish {spec}")]
    Port {
        /// What was asked for.
        spec: PublishSpec,
        /// Why, and what would do.
        #[source]
        source: netloft_ipam::Error,
    },
    /// A namespace was named for a sandbox that has one.
    #[error("sandbox {sandbox} is attached already and has a namespace: do not name {netns}", netns = .netns.display())]
    SandboxKnown {
        /// The sandbox.
        sandbox: SandboxName,
        /// What was named.
        netns: PathBuf,
    },
    /// A sandbox has one interface on each network.
    #[error("sandbox {sandbox} is attached to network {network} as endpoint {endpoint}: detach it first")]
    SandboxAttached {
        /// The sandbox.
        sandbox: SandboxName,
        /// The network it is attached to.
        network: NetworkName,
        /// Its endpoint there.
        endpoint: EndpointId,
    },
    /// An address asked for lies in no subnet of the network.
    #[error("address {address} is in no subnet of network {network}: choose one in {}", list(.subnets))]
    AddressOutside {
        /// The address.
        address: IpAddr,
        /// The network.
        network: NetworkName,
        /// Its subnets.
        subnets: Vec<Subnet>,
    },
    /// Two addresses were asked for in one subnet.
    #[error("addresses {first} and {second} are both in subnet {subnet}: ask for one in each subnet at most")]
    SubnetTwice {
        /// The subnet.
        subnet: Subnet,
        /// An address.
        first: IpAddr,
        /// Another address.
        second: IpAddr,
    },
    /// An address cannot be had: it is held or reserved, or the subnet is exhausted.
    #[error("cannot give sandbox {sandbox} an address in network {network}")]
    Address {
        /// The network.
        network: NetworkName,
        /// The sandbox.
        sandbox: SandboxName,
        /// Why, and what would do.
        #[source]
        source: netloft_ipam::Error,
    },
    /// Two endpoints of a network cannot share an Ethernet address.
    #[error("MAC address {mac} is held by endpoint {owner} of network {network}: choose another")]
    MacTaken {
        /// The Ethernet address.
        mac: MacAddr,
        /// The network.
        network: NetworkName,
        /// Who has it.
        owner: EndpointId,
    },
    /// The link of an endpoint could not be made.
    #[error("cannot attach sandbox {sandbox} to network {network}")]
    Attach {
        /// The network.
        network: NetworkName,
        /// The sandbox.
        sandbox: SandboxName,
        /// The step that failed, and what could not be undone.
        #[source]
        source: Box<Failure>,
    },
    /// No such endpoint is attached (any more).
    #[error("there is no endpoint {endpoint}")]
    NoSuchEndpoint {
        /// The id.
        endpoint: EndpointId,
    },
    /// The endpoint is partly detached and still known: detaching it again takes up where this stopped.
    #[error("endpoint {endpoint} is not wholly detached: detach it again")]
    Detach {
        /// The endpoint.
        endpoint: EndpointId,
        /// What remains.
        #[source]
        source: Leftover,
    },
    /// What a failed call left behind could still not be undone.
    #[error("a failed call is not wholly undone")]
    Unwind(#[source] Leftover),
    /// Links that were cut could not be deleted.
    #[error("cannot delete the links that were cut")]
    Reap(#[source] KernelError),
    /// The host is partly closed, and still open: closing it again takes up where this stopped.
    #[error("the host is not wholly closed: {}", chains(.failures))]
    Close {
        /// What failed, in the order it was tried.
        failures: Vec<Self>,
    },
}

impl Error {
    /// Whether what the call was about does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NoSuchNetwork { .. } | Self::NoSuchEndpoint { .. })
    }

    /// Whether something else has the name, the address or the use of what was asked for.
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::NetworkExists { .. }
            | Self::NetworkInUse { .. }
            | Self::BridgeTaken { .. }
            | Self::InterfaceTaken { .. }
            | Self::SubnetInUse { .. }
            | Self::SandboxAttached { .. }
            | Self::SandboxKnown { .. }
            | Self::MacTaken { .. } => true,
            Self::Subnet { source, .. } | Self::Address { source, .. } | Self::Port { source, .. } => {
                source.is_conflict()
            }
            Self::CreateNetwork { source, .. } | Self::Attach { source, .. } => source.error.is_conflict(),
            _ => false,
        }
    }

    /// Whether what was asked for makes no sense, whatever else exists.
    pub fn is_invalid(&self) -> bool {
        match self {
            Self::FamilyTwice { .. }
            | Self::AddressOutside { .. }
            | Self::SubnetTwice { .. }
            | Self::SubnetNeeded { .. }
            | Self::NoSuchLink { .. }
            | Self::Unsupported { .. }
            | Self::Invalid(_) => true,
            Self::Subnet { source, .. } | Self::Address { source, .. } | Self::Port { source, .. } => {
                !source.is_conflict() && !source.is_exhausted()
            }
            _ => false,
        }
    }

    /// Whether this process may not do it.
    pub fn is_permission_denied(&self) -> bool {
        match self {
            Self::Open(source) | Self::ReadHost(source) | Self::Filter(source) => {
                source.is_permission_denied()
            }
            Self::CreateNetwork { source, .. } | Self::Attach { source, .. } => {
                source.error.is_permission_denied()
            }
            _ => false,
        }
    }

    /// Whether the same call can succeed after something is detached or removed.
    pub fn is_exhausted(&self) -> bool {
        match self {
            Self::Subnet { source, .. } | Self::Address { source, .. } | Self::Port { source, .. } => {
                source.is_exhausted()
            }
            Self::Attach { source, .. } => source.error.is_exhausted(),
            _ => false,
        }
    }
}

fn list(items: &[impl fmt::Display]) -> String {
    let texts: Vec<String> = items.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

/// Failures that have no common source, each with its causes.
fn chains(failures: &[Error]) -> String {
    let texts: Vec<String> = failures.iter().map(|failure| chain(failure)).collect();
    texts.join("; ")
}

/// An error and its causes, as one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes: Vec<String> =
        std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect();
    causes.join(": ")
}
