//! The addresses of the host itself.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tracing::warn;

/// Every address that a link of this host has now. If they cannot be read, none: what else is refused still is.
pub(crate) fn of_this_host() -> BTreeSet<IpAddr> {
    match nix::ifaddrs::getifaddrs() {
        Ok(links) => links.filter_map(|link| ip_of(&link.address?)).collect(),
        Err(error) => {
            warn!(%error, "the addresses of this host are unknown, so health checks may reach it");
            BTreeSet::new()
        }
    }
}

fn ip_of(address: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_can_be_bound_is_one_of_them() {
        let own = of_this_host();
        for address in &own {
            let is_link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
            assert!(is_link_local || std::net::UdpSocket::bind((*address, 0)).is_ok(), "{address}");
        }
        assert!(own.contains(&"127.0.0.1".parse().unwrap()), "{own:?}");
    }
}
