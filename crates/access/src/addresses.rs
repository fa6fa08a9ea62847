//! Where an identity may say that its instances are.

use std::net::IpAddr;

use netloft_types::Subnet;

/// The addresses at which an identity may register instances.
///
/// Whoever can register an address it does not have turns the calls of others against it: a database, a metadata
/// service, or the caller itself. So without a word of the operator it is the address from which it speaks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses(Kind);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Own,
    Within(Vec<Subnet>),
    Any,
}

impl Addresses {
    /// Those in one of `subnets`; the address it speaks from if there are none.
    pub fn within(subnets: Vec<Subnet>) -> Self {
        Self(if subnets.is_empty() { Kind::Own } else { Kind::Within(subnets) })
    }

    /// All of them.
    pub fn any() -> Self {
        Self(Kind::Any)
    }

    /// Whether an instance at `address` may be registered by somebody who speaks from `peer`.
    ///
    /// Loopback, link-local (where clouds keep their metadata), multicast and unspecified addresses are nobody's: only a
    /// subnet that has nothing else in it grants them, not one that merely contains them, such as `0.0.0.0/0`.
    pub fn admit(&self, address: IpAddr, peer: Option<IpAddr>) -> bool {
        let address = address.to_canonical();
        match &self.0 {
            Kind::Any => true,
            Kind::Own => peer.is_some_and(|peer| peer.to_canonical() == address),
            Kind::Within(subnets) => subnets
                .iter()
                .any(|subnet| subnet.contains(address) && (!is_nobodys(address) || is_all_nobodys(subnet))),
        }
    }
}

/// Both ends are, and it is not so wide that they are for different reasons.
fn is_all_nobodys(subnet: &Subnet) -> bool {
    subnet.prefix_len() >= 8 && is_nobodys(subnet.first()) && is_nobodys(subnet.last())
}

fn is_nobodys(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_unspecified()
                || v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            v6.is_loopback() || v6.is_unicast_link_local() || v6.is_multicast() || v6.is_unspecified()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(subnets: &[&str]) -> Addresses {
        Addresses::within(subnets.iter().map(|subnet| subnet.parse().unwrap()).collect())
    }

    fn admits(addresses: &Addresses, address: &str, peer: Option<&str>) -> bool {
        addresses.admit(address.parse().unwrap(), peer.map(|peer| peer.parse().unwrap()))
    }

    #[test]
    fn without_a_word_it_is_the_address_one_speaks_from() {
        let own = within(&[]);
        assert_eq!(own, Addresses::default());
        assert!(admits(&own, "10.0.0.2", Some("10.0.0.2")));
        assert!(admits(&own, "10.0.0.2", Some("::ffff:10.0.0.2")));
        assert!(!admits(&own, "10.0.0.3", Some("10.0.0.2")) && !admits(&own, "10.0.0.2", None));
    }

    #[test]
    fn nobodys_addresses_are_granted_only_on_purpose() {
        let wide = within(&["0.0.0.0/0", "::/0"]);
        assert!(admits(&wide, "10.0.0.2", None) && admits(&wide, "2001:db8::1", None));
        let nobodys = [
            "169.254.169.254",
            "127.0.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "fe80::1",
            "::ffff:127.0.0.1",
        ];
        for address in nobodys {
            assert!(!admits(&wide, address, None), "{address}");
        }
        assert!(admits(&within(&["127.0.0.0/8"]), "127.0.0.9", None));
        assert!(!admits(&within(&["127.0.0.0/8"]), "10.0.0.2", Some("10.0.0.2")));
    }
}
