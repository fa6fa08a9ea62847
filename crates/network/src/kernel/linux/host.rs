//! What has to be known of the host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd as _;

use netloft_link::Switch;
use netloft_netns::{Enterer, Netns};
use netloft_nft::{Firewall, Traffic};
use netloft_types::{Family, InterfaceAddr, Mtu, Port, Protocol, Subnet};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, bind, setsockopt, socket,
    sockopt,
};

use super::LinuxKernel;
use crate::kernel::{HostFacts, KernelError};

/// What links carry unless somebody says otherwise, in bytes.
const ETHERNET_MTU: u32 = 1500;

impl LinuxKernel {
    pub(super) fn learn(&mut self) -> Result<HostFacts, KernelError> {
        let addresses = self.conn.addresses()?;
        let routes = self.conn.routes()?;
        let destinations = routes.iter().map(|route| route.destination);
        let subnets = addresses.iter().filter_map(|held| prefix(held.address)).chain(destinations);
        let outgoing_mtu = self.conn.outgoing_mtu(Family::V4)?.filter(|mtu| *mtu != ETHERNET_MTU);
        let mut forwards = Vec::new();
        for family in [Family::V4, Family::V6] {
            if self.conn.forwarding(family)? == Switch::On {
                forwards.push(family);
            }
        }
        Ok(HostFacts {
            addresses: addresses.iter().map(|held| held.address.address()).collect(),
            subnets: subnets.filter(|subnet| subnet.prefix_len() > 1).collect(),
            outgoing_mtu: outgoing_mtu.and_then(|mtu| Mtu::try_from(mtu).ok()),
            forwards,
        })
    }
}

pub(super) fn default_deny(firewall: &mut Firewall) -> Result<Vec<String>, KernelError> {
    let denies = firewall.policies()?;
    let for_host = denies.into_iter().filter(|deny| deny.of == Traffic::ToHost);
    Ok(for_host.map(|deny| format!("{} {} {}", deny.family, deny.table, deny.chain)).collect())
}

/// Tries to have the port, for a moment: the kernel knows best who has it.
pub(super) fn is_port_busy(
    enterer: &Enterer,
    host: &Netns,
    protocol: Protocol,
    address: Option<IpAddr>,
    port: Port,
) -> bool {
    let addresses = match address {
        Some(address) => vec![address],
        None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
    };
    let try_all = move || {
        let outcomes = addresses.into_iter().map(|address| {
            let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
            try_bind(protocol, family, SocketAddr::new(address, port.number()))
        });
        outcomes.into_iter().any(|outcome| outcome == Err(Errno::EADDRINUSE))
    };
    enterer.run(host, try_all).unwrap_or(false)
}

fn try_bind(protocol: Protocol, family: AddressFamily, address: SocketAddr) -> Result<(), Errno> {
    let kind = if protocol == Protocol::Udp { SockType::Datagram } else { SockType::Stream };
    let socket = match protocol {
        // Where the kernel has no such sockets nobody can have the port.
        Protocol::Sctp => socket(family, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::Sctp)?,
        _ => socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?,
    };
    if protocol == Protocol::Tcp {
        // A connection that ended a moment ago does not have the port; one who listens does.
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    if family == AddressFamily::Inet6 {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    match address {
        SocketAddr::V4(address) => bind(socket.as_raw_fd(), &SockaddrIn::from(address)),
        SocketAddr::V6(address) => bind(socket.as_raw_fd(), &SockaddrIn6::from(address)),
    }
}

/// The subnet that an address puts its interface in.
fn prefix(held: InterfaceAddr) -> Option<Subnet> {
    let host_bits = |bits: u32| bits - u32::from(held.prefix_len());
    let first: IpAddr = match held.address() {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(host_bits(32)).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(host_bits(128)).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    };
    Subnet::new(first, held.prefix_len()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_of_an_address_has_no_host_bits() {
        for (held, subnet) in [
            ("10.89.3.7/24", "10.89.3.0/24"),
            ("10.89.3.7/32", "10.89.3.7/32"),
            ("10.89.3.7/0", "0.0.0.0/0"),
            ("fd00:89::7/64", "fd00:89::/64"),
            ("::1/128", "::1/128"),
            ("::1/0", "::/0"),
        ] {
            let held: InterfaceAddr = held.parse().unwrap();
            assert_eq!(prefix(held).unwrap().to_string(), subnet);
        }
    }
}
