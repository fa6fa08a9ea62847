//! What attacks are tried on: a host with networks, made by one of two hands.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netloft_netns::Netns;
use netloft_tests::attacker::Mac;

/// Makes networks and sandboxes on one host.
pub(crate) trait Ground {
    /// The host.
    fn host(&self) -> &Netns;

    /// Makes a network.
    fn create_network(&mut self, network: &str, subnets: &[&str], reach: Reach);

    /// Makes a sandbox and attaches it. Published ports are written as `PublishSpec` is.
    fn attach(&mut self, network: &str, sandbox: &str, published: &[&str]) -> Sandbox;

    /// Detaches a sandbox.
    fn detach(&mut self, sandbox: &Sandbox);

    /// The name of a network's bridge.
    fn bridge(&self, network: &str) -> String;
}

/// How far the sandboxes of a network reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// To whatever the host reaches.
    Outward,
    /// To each other.
    Internal,
}

/// A sandbox, whose only link is `eth0`.
#[derive(Debug, Clone)]
pub(crate) struct Sandbox {
    pub(crate) name: String,
    pub(crate) netns: Netns,
    pub(crate) mac: Mac,
    /// One of each family that its network has, and the gateways in the same order.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) gateways: Vec<IpAddr>,
    pub(crate) gateway_mac: Mac,
    pub(crate) host_link: String,
}

impl Sandbox {
    pub(crate) fn v4(&self) -> Ipv4Addr {
        v4(&self.addresses)
    }

    pub(crate) fn v6(&self) -> Ipv6Addr {
        v6(&self.addresses)
    }

    pub(crate) fn gateway_v4(&self) -> Ipv4Addr {
        v4(&self.gateways)
    }

    pub(crate) fn gateway_v6(&self) -> Ipv6Addr {
        v6(&self.gateways)
    }

    /// Its address and gateway of the family of another address.
    pub(crate) fn like(&self, other: IpAddr) -> (IpAddr, IpAddr) {
        if other.is_ipv4() {
            (self.v4().into(), self.gateway_v4().into())
        } else {
            (self.v6().into(), self.gateway_v6().into())
        }
    }
}

fn v4(addresses: &[IpAddr]) -> Ipv4Addr {
    let found = addresses.iter().find_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    found.expect("the network has an IPv4 subnet")
}

fn v6(addresses: &[IpAddr]) -> Ipv6Addr {
    let found = addresses.iter().find_map(|address| match address {
        IpAddr::V6(address) => Some(*address),
        IpAddr::V4(_) => None,
    });
    found.expect("the network has an IPv6 subnet")
}
