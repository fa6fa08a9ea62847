//! What may be probed.
//!
//! Whoever registers an instance chooses where the observer connects to, so the observer must not become a way to reach
//! what only it can reach: its own host, the metadata service of its cloud, its link (server-side request forgery).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netloft_types::Subnet;

/// Which addresses may be probed, unless they are refused to everybody.
///
/// What is denied is denied; what is allowed besides is allowed, whatever it is; of the rest, what no instance of
/// somebody else can be is refused: [`Refusal`] lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets {
    /// Probed even though they would be refused by themselves.
    pub allow: Vec<Subnet>,
    /// Never probed.
    pub deny: Vec<Subnet>,
}

/// Why an address is not probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The operator denies it.
    #[error("is denied to health checks")]
    Denied,
    /// It is the observer's host to itself.
    #[error("is a loopback address, which is not checked unless it is allowed")]
    Loopback,
    /// It is one of the observer's own addresses.
    #[error("is an address of the registry itself, which is not checked unless it is allowed")]
    Own,
    /// It is of the link only, as the metadata services of clouds are.
    #[error("is a link-local address, which is not checked unless it is allowed")]
    LinkLocal,
    /// It is known for a metadata service or the like of some cloud.
    #[error("is the address of a cloud's metadata service, which is not checked unless it is allowed")]
    Metadata,
    /// It is not the address of one host.
    #[error("is not the address of one host")]
    NotOneHost,
}

/// Addresses that answer to a virtual machine with its secrets, or do what it says, and are not of its link: Alibaba
/// Cloud, Oracle Cloud, Azure's agent, AWS over IPv6.
const METADATA: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)),
];

impl Targets {
    /// Whether `address` may be probed by an observer whose own addresses are `own`.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn admit(&self, address: IpAddr, own: &BTreeSet<IpAddr>) -> Result<(), Refusal> {
        let faces = faces(address);
        let any = |list: &[Subnet]| list.iter().any(|subnet| faces.iter().any(|face| subnet.contains(*face)));
        if any(&self.deny) {
            return Err(Refusal::Denied);
        }
        // Of an address that carries another one, only the one that was written can be meant.
        if self.allow.iter().any(|subnet| subnet.contains(faces[0])) {
            return Ok(());
        }
        faces.iter().try_for_each(|face| admit_face(*face, own))
    }
}

fn admit_face(address: IpAddr, own: &BTreeSet<IpAddr>) -> Result<(), Refusal> {
    let is_one_host = !address.is_unspecified() && !address.is_multicast() && !is_reserved(address);
    let refusals = [
        (!is_one_host, Refusal::NotOneHost),
        (address.is_loopback(), Refusal::Loopback),
        (is_link_local(address), Refusal::LinkLocal),
        (METADATA.contains(&address), Refusal::Metadata),
        (own.contains(&address), Refusal::Own),
    ];
    match refusals.into_iter().find(|(applies, _)| *applies) {
        Some((_, refusal)) => Err(refusal),
        None => Ok(()),
    }
}

/// 0.0.0.0/8 is this host to Linux; from 240.0.0.0 on nothing is a host, the broadcast address included.
fn is_reserved(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 0 || v4.octets()[0] >= 240)
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        // fec0::/10 was site-local once (RFC 3879).
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.segments()[0] & 0xffc0 == 0xfec0,
    }
}

/// The address, and what a translator on the way makes of it: IPv4 mapped or embedded in IPv6 (RFC 4291, section 2.5.5),
/// NAT64 (RFC 6052, section 2.1, and RFC 8215), 6to4 (RFC 3056), Teredo (RFC 4380).
fn faces(address: IpAddr) -> Vec<IpAddr> {
    let address = address.to_canonical();
    let IpAddr::V6(v6) = address else { return vec![address] };
    let segments = v6.segments();
    let low = || {
        let [.., a, b, c, d] = v6.octets();
        Ipv4Addr::new(a, b, c, d)
    };
    let pair = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    let carried = match segments {
        [0, 0, 0, 0, 0, 0, high, _] if high != 0 => Some(low()),
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 1, ..] => Some(low()),
        [0x2002, high, low, ..] => Some(pair(high, low)),
        [0x2001, 0, ..] => Some(Ipv4Addr::from_bits(!low().to_bits())),
        _ => None,
    };
    std::iter::once(address).chain(carried.map(IpAddr::V4)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> BTreeSet<IpAddr> {
        BTreeSet::from(["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()])
    }

    fn admit(targets: &Targets, address: &str) -> Result<(), Refusal> {
        targets.admit(address.parse().unwrap(), &own())
    }

    #[test]
    fn what_only_the_observer_can_reach_is_refused() {
        let table = [
            ("127.0.0.1", Refusal::Loopback),
            ("127.255.0.7", Refusal::Loopback),
            ("::1", Refusal::Loopback),
            ("::ffff:127.0.0.1", Refusal::Loopback),
            ("::127.0.0.1", Refusal::Loopback),
            ("64:ff9b::7f00:1", Refusal::Loopback),
            ("64:ff9b:1::7f00:1", Refusal::Loopback),
            ("2002:7f00:1::1", Refusal::Loopback),
            ("2001:0:1234::80ff:fffe", Refusal::Loopback),
            ("169.254.169.254", Refusal::LinkLocal),
            ("::ffff:169.254.169.254", Refusal::LinkLocal),
            ("2002:a9fe:a9fe::", Refusal::LinkLocal),
            ("64:ff9b::169.254.169.254", Refusal::LinkLocal),
            ("fe80::1", Refusal::LinkLocal),
            ("fec0::1", Refusal::LinkLocal),
            ("fd00:ec2::254", Refusal::Metadata),
            ("100.100.100.200", Refusal::Metadata),
            ("168.63.129.16", Refusal::Metadata),
            ("192.0.0.192", Refusal::Metadata),
            ("192.0.2.1", Refusal::Own),
            ("::ffff:192.0.2.1", Refusal::Own),
            ("2001:db8::1", Refusal::Own),
            ("0.0.0.0", Refusal::NotOneHost),
            ("0.1.2.3", Refusal::NotOneHost),
            ("::", Refusal::NotOneHost),
            ("224.0.0.1", Refusal::NotOneHost),
            ("ff02::1", Refusal::NotOneHost),
            ("255.255.255.255", Refusal::NotOneHost),
            ("240.0.0.1", Refusal::NotOneHost),
        ];
        for (address, refusal) in table {
            assert_eq!(admit(&Targets::default(), address), Err(refusal), "{address}");
        }
        for address in
            ["10.0.0.2", "172.17.0.5", "192.168.1.9", "192.0.2.2", "fd12::2", "2001:db8::2", "8.8.8.8"]
        {
            assert_eq!(admit(&Targets::default(), address), Ok(()), "{address}");
        }
    }

    #[test]
    fn operators_allow_and_deny_and_denying_counts_more() {
        let subnets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let targets = Targets {
            allow: subnets(&["127.0.0.0/8", "10.0.0.0/8"]),
            deny: subnets(&["10.1.0.0/16", "127.0.0.53/32"]),
        };
        assert_eq!(admit(&targets, "127.0.0.1"), Ok(()));
        assert_eq!(admit(&targets, "::ffff:127.0.0.1"), Ok(()));
        assert_eq!(admit(&targets, "64:ff9b::7f00:1"), Err(Refusal::Loopback));
        for denied in ["127.0.0.53", "10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "2002:a01:203::"] {
            assert_eq!(admit(&targets, denied), Err(Refusal::Denied), "{denied}");
        }
        assert_eq!(admit(&targets, "::1"), Err(Refusal::Loopback));
        assert_eq!(admit(&targets, "169.254.169.254"), Err(Refusal::LinkLocal));
    }
}
