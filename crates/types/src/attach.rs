//! Attachments that are wanted: which sandbox joins which network, and how.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::{InterfaceName, Invalid, MacAddr, NetworkName, PublishSpec, SandboxName, Subnet};

/// A sandbox that is to be attached to a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachSpec {
    /// The network.
    pub network: NetworkName,
    /// The sandbox; made if it is new. One that exists gets a further interface.
    pub sandbox: SandboxName,
    /// The network namespace of the sandbox, if somebody else made it: it is then used and not taken away. Absent
    /// for a sandbox that is new, or attached already.
    pub netns: Option<PathBuf>,
    /// What the link is called inside the sandbox; the first of `eth0`, `eth1` and so on that is free if absent.
    pub interface: Option<InterfaceName>,
    /// Addresses it must get, at most one for each segment of the network. In every other segment it gets the
    /// one it had last, if that is still free, or else the next.
    pub addresses: Vec<IpAddr>,
    /// The Ethernet address it must get. If absent, it is derived from the first address, so that neighbours who
    /// remember another sandbox at that address still reach this one.
    pub mac: Option<MacAddr>,
    /// Ports that are to answer at the host.
    pub publish: Vec<PublishSpec>,
    /// Whether, and how readily, the sandbox leaves by this network.
    pub default_route: DefaultRoute,
    /// Further routes through this network.
    pub routes: Vec<RouteSpec>,
    /// How much it may send and receive.
    pub bandwidth: Bandwidth,
    /// Settings of the sandbox's network below `net.`, such as `net.ipv4.tcp_keepalive_time`.
    pub sysctls: BTreeMap<String, String>,
    /// What the sandbox asks for names.
    pub dns: Dns,
}

impl AttachSpec {
    /// An attachment of which nothing more is chosen: the interface is the next `eth`, the addresses are the next free.
    pub fn new(network: NetworkName, sandbox: SandboxName) -> Self {
        Self {
            network,
            sandbox,
            netns: None,
            interface: None,
            addresses: Vec::new(),
            mac: None,
            publish: Vec::new(),
            default_route: DefaultRoute::default(),
            routes: Vec::new(),
            bandwidth: Bandwidth::default(),
            sysctls: BTreeMap::new(),
            dns: Dns::default(),
        }
    }
}

/// Whether, and how readily, a sandbox leaves by a network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum DefaultRoute {
    /// By the first network it is attached to; by a later one when that is gone.
    #[default]
    Auto,
    /// With this metric: of several, the lowest counts.
    Metric(u32),
    /// Never.
    Never,
}

/// A route of a sandbox through a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RouteSpec {
    /// Where it leads.
    pub destination: Subnet,
    /// The next hop, an address of the network; the network's gateway if absent.
    pub via: Option<IpAddr>,
}

/// `PREFIX` or `PREFIX via ADDRESS`.
impl FromStr for RouteSpec {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((destination, via)) = text.split_once(" via ") else {
            return Ok(Self { destination: text.parse()?, via: None });
        };
        let via = via.trim();
        let hop = via.parse().map_err(|_| Invalid::new("next hop", via, "must be an IP address"))?;
        Ok(Self { destination: destination.trim().parse()?, via: Some(hop) })
    }
}

impl fmt::Display for RouteSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.via {
            Some(via) => write!(f, "{} via {via}", self.destination),
            None => fmt::Display::fmt(&self.destination, f),
        }
    }
}

/// How much an endpoint may send and receive; what is absent is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Bandwidth {
    /// What reaches the sandbox.
    pub to_sandbox: Option<Rate>,
    /// What the sandbox sends.
    pub from_sandbox: Option<Rate>,
}

impl Bandwidth {
    /// Whether anything is limited.
    pub fn is_limited(&self) -> bool {
        self.to_sandbox.is_some() || self.from_sandbox.is_some()
    }
}

/// A rate in bits per second, of Ethernet frames: at least 8 kbit/s. Written as a number with `k`, `M` or `G`
/// (powers of 1000) behind it, as in `20M`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "u64", try_from = "u64"))]
pub struct Rate(u64);

const RATE_RULE: &str =
    "must be a number of bits per second from 8000 up, with k, M or G for thousands, as in 20M";

impl Rate {
    /// Bits per second.
    pub const fn bits_per_second(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for Rate {
    type Error = Invalid;

    fn try_from(bits_per_second: u64) -> Result<Self, Self::Error> {
        if bits_per_second >= 8_000 {
            Ok(Self(bits_per_second))
        } else {
            Err(Invalid::new("rate", bits_per_second, RATE_RULE))
        }
    }
}

impl From<Rate> for u64 {
    fn from(rate: Rate) -> Self {
        rate.0
    }
}

impl FromStr for Rate {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || Invalid::new("rate", text, RATE_RULE);
        let units = [('k', 1_000), ('M', 1_000_000), ('G', 1_000_000_000)];
        let scaled = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(*unit)?, *factor)));
        let (number, factor) = scaled.unwrap_or((text, 1));
        if number.starts_with('+') {
            return Err(refused());
        }
        let number: u64 = number.parse().map_err(|_| refused())?;
        number.checked_mul(factor).ok_or_else(refused)?.try_into().map_err(|_| refused())
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
        match units.iter().find(|(factor, _)| self.0.is_multiple_of(*factor)) {
            Some((factor, unit)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

/// What a sandbox asks for names: the lines of its `resolv.conf` (`resolv.conf(5)`). Nothing of the host's own is
/// inherited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Dns {
    /// The servers, asked in this order.
    pub servers: Vec<IpAddr>,
    /// The domains that short names are looked up in.
    pub search: Vec<String>,
    /// Options of the resolver, such as `ndots:2`.
    pub options: Vec<String>,
}

impl Dns {
    /// Whether anything is chosen.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.search.is_empty() && self.options.is_empty()
    }
}

/// The text of a `resolv.conf`.
impl fmt::Display for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for server in &self.servers {
            writeln!(f, "nameserver {server}")?;
        }
        if !self.search.is_empty() {
            writeln!(f, "search {}", self.search.join(" "))?;
        }
        if !self.options.is_empty() {
            writeln!(f, "options {}", self.options.join(" "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_read_back_as_they_were_written() {
        for text in ["8k", "20M", "1G", "8001", "1500k"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        for bad in ["", "7999", "20m", "+20M", "-1", "99999999999999G", "1.5M"] {
            assert_eq!(bad.parse::<Rate>().unwrap_err().rule(), RATE_RULE, "{bad}");
        }
    }

    #[test]
    fn routes_read_back_as_they_were_written() {
        for text in ["10.0.0.0/8", "10.0.0.0/8 via 10.89.0.7", "fd00::/8 via fd00:89::7"] {
            assert_eq!(text.parse::<RouteSpec>().unwrap().to_string(), text);
        }
        assert_eq!("10.0.0.0/8 via x".parse::<RouteSpec>().unwrap_err().field(), "next hop");
    }
}
