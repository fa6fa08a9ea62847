//! The one error of handing out.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use netloft_types::{EndpointId, NetworkName, Port, PortRange, Protocol, PublishedPort, Subnet};

/// Why an address, a subnet or a port was not handed out. Each says what would be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A pool was asked for over an IPv4 prefix shorter than 8 bits.
    #[error("subnet {subnet} is too wide for a pool: its prefix length must be 8 or more")]
    TooWide {
        /// The subnet of the pool.
        subnet: Subnet,
    },
    /// A pool was asked for in which everything would be reserved.
    #[error(
        "subnet {subnet} leaves no address to hand out: use a wider one, reserve less, or do without a gateway"
    )]
    NoRoom {
        /// The subnet of the pool.
        subnet: Subnet,
    },
    /// The address does not lie in the pool.
    #[error("address {address} is outside subnet {subnet}: choose one from {} to {}", .subnet.first(), .subnet.last())]
    OutOfRange {
        /// The address asked for.
        address: IpAddr,
        /// The subnet of the pool.
        subnet: Subnet,
    },
    /// The address is never handed out.
    #[error("address {address} is {reservation} of subnet {subnet}: choose another")]
    Reserved {
        /// The address asked for.
        address: IpAddr,
        /// The subnet of the pool.
        subnet: Subnet,
        /// What the address is set aside for.
        reservation: Reservation,
    },
    /// The address is held already, maybe by the one who asks.
    #[error("address {address} is held by endpoint {owner}: choose another")]
    Taken {
        /// The address asked for.
        address: IpAddr,
        /// Who holds it.
        owner: EndpointId,
    },
    /// The address was released lately and is kept for the tenant that had it.
    #[error(
        "address {address} rests after its last owner for {} s more: wait or choose another",
        .left.as_millis().div_ceil(1000)
    )]
    Resting {
        /// The address asked for.
        address: IpAddr,
        /// How long it has still to rest.
        left: Duration,
    },
    /// Every address of the pool is held; or all that are left rest, and one that has rested is wanted.
    #[error("subnet {subnet} has no free address: release one or use a wider subnet")]
    Exhausted {
        /// The subnet of the pool.
        subnet: Subnet,
    },
    /// The subnet shares addresses with one that is in use.
    #[error("subnet {subnet} overlaps {with} of network {owner}: choose another")]
    Overlap {
        /// The subnet asked for.
        subnet: Subnet,
        /// The subnet in use.
        with: Subnet,
        /// The network that uses it.
        owner: NetworkName,
    },
    /// No range to carve from can hold a subnet of this size.
    #[error(
        "prefix length {prefix_len} does not fit into {}: choose a longer prefix or give a wider range",
        list(.ranges)
    )]
    PrefixMisfit {
        /// The prefix length asked for.
        prefix_len: u8,
        /// The ranges to carve from.
        ranges: Vec<Subnet>,
    },
    /// Every subnet of this size is in use, here or elsewhere.
    #[error(
        "no subnet of prefix length {prefix_len} is free in {}: release one, give another range or choose a longer prefix",
        list(.ranges)
    )]
    NoSubnet {
        /// The prefix length asked for.
        prefix_len: u8,
        /// The ranges to carve from.
        ranges: Vec<Subnet>,
    },
    /// The ports at the host, or some of them, are published already, maybe by the one who asks.
    #[error("ports {asked} meet {with} of endpoint {owner}: choose other ports or another address")]
    PortTaken {
        /// The ports asked for.
        asked: PublishedPort,
        /// The ports in the way.
        with: PublishedPort,
        /// Who published them.
        owner: EndpointId,
    },
    /// The port at the host is in use by somebody else.
    #[error("port {port} for {protocol} is in use on the host: end what listens there or choose another")]
    PortBusy {
        /// The protocol.
        protocol: Protocol,
        /// The address of the host asked for; all of them if absent.
        address: Option<IpAddr>,
        /// The port, the lowest of those asked for.
        port: Port,
    },
    /// No ports are left to choose from, or not so many in a row.
    #[error("no {} in a row free for {protocol} in {range}: release some, name them or give another range", ports((*.count).into()))]
    NoPorts {
        /// The protocol.
        protocol: Protocol,
        /// How many were wanted in a row.
        count: u16,
        /// The ports to choose from.
        range: PortRange,
    },
    /// So many ports to choose from were in use by others that the search was ended.
    #[error("{} tried for {protocol} and too many in use on the host: try again or give a range other than {range}", ports(*.tried))]
    PortsBusy {
        /// The protocol.
        protocol: Protocol,
        /// How many were tried. The next search goes on behind them.
        tried: u32,
        /// The ports to choose from.
        range: PortRange,
    },
}

impl Error {
    /// Whether someone else has what was asked for.
    pub fn is_conflict(&self) -> bool {
        matches!(
            self,
            Self::Taken { .. }
                | Self::Resting { .. }
                | Self::Overlap { .. }
                | Self::PortTaken { .. }
                | Self::PortBusy { .. }
        )
    }

    /// Whether the same request can succeed after something is released.
    pub fn is_exhausted(&self) -> bool {
        matches!(self, Self::Exhausted { .. } | Self::NoSubnet { .. } | Self::NoPorts { .. })
    }

    /// Whether the same request can succeed later though nothing is released.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Resting { .. } | Self::PortsBusy { .. })
    }
}

/// Why a pool never hands out an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reservation {
    /// It names the network itself (RFC 1122, section 3.2.1.3).
    Network,
    /// It reaches every host of the subnet (RFC 919).
    Broadcast,
    /// It reaches any router of the subnet (RFC 4291, section 2.6.1).
    RouterAnycast,
    /// It belongs to the gateway of the pool.
    Gateway,
    /// It was reserved when the pool was made.
    Configured,
}

impl fmt::Display for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Network => "the network address",
            Self::Broadcast => "the broadcast address",
            Self::RouterAnycast => "the subnet-router anycast address",
            Self::Gateway => "the gateway",
            Self::Configured => "a reserved address",
        })
    }
}

fn ports(count: u32) -> String {
    if count == 1 { "1 port".into() } else { format!("{count} ports") }
}

fn list(ranges: &[Subnet]) -> String {
    if ranges.is_empty() {
        return "an empty list of ranges".into();
    }
    let texts: Vec<String> = ranges.iter().map(Subnet::to_string).collect();
    texts.join(", ")
}
