//! Addresses: subnets, MAC addresses, ports.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::str::FromStr;

use ipnetwork::IpNetwork;

use crate::Invalid;
use crate::name::through_text;

/// An IP prefix with no host bits set, such as `10.89.0.0/24` or `fd00:89::/64`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "String", try_from = "String"))]
pub struct Subnet(IpNetwork);

impl Subnet {
    /// Makes a subnet of a first address and a prefix length.
    pub fn new(first: IpAddr, prefix_len: u8) -> Result<Self, Invalid> {
        let text = || format!("{first}/{prefix_len}");
        let network = IpNetwork::new(first, prefix_len).map_err(|_| {
            Invalid::new("subnet", text(), "prefix length must be at most 32 for IPv4 and 128 for IPv6")
        })?;
        if network.network() == first {
            Ok(Self(network))
        } else {
            let rule =
                format!("has bits set after the prefix; did you mean {}/{prefix_len}?", network.network());
            Err(Invalid::new("subnet", text(), rule))
        }
    }

    /// The first address of the prefix.
    pub fn first(&self) -> IpAddr {
        self.0.network()
    }

    /// The last address of the prefix; in IPv4, its broadcast address.
    pub fn last(&self) -> IpAddr {
        self.0.broadcast()
    }

    /// The length of the prefix in bits.
    pub fn prefix_len(&self) -> u8 {
        self.0.prefix()
    }

    /// Whether this is an IPv4 prefix.
    pub fn is_ipv4(&self) -> bool {
        self.0.is_ipv4()
    }

    /// Whether `address` lies in the prefix.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(address)
    }

    /// Whether the two prefixes share an address.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.first()) || other.contains(self.first())
    }
}

impl FromStr for Subnet {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || {
            Invalid::new("subnet", text, "must be an address, '/' and a prefix length, as in 10.89.0.0/24")
        };
        let (first, prefix_len) = text.split_once('/').ok_or_else(malformed)?;
        Self::new(first.parse().map_err(|_| malformed())?, prefix_len.parse().map_err(|_| malformed())?)
    }
}

through_text!(Subnet);

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A version of the Internet Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// That of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "String", try_from = "String"))]
pub struct MacAddr([u8; 6]);

impl MacAddr {
    /// A unicast, locally administered address (IEEE 802, second bit of the first byte) from 48 bits, two of
    /// which are overwritten. Drawn from random or hashed bits it cannot collide with a vendor's range.
    pub const fn local(bits: u64) -> Self {
        let [_, _, first, second, third, fourth, fifth, sixth] = bits.to_be_bytes();
        Self([(first & 0b1111_1100) | 0b10, second, third, fourth, fifth, sixth])
    }

    /// The six bytes, in the order they are written.
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for MacAddr {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || {
            Invalid::new(
                "MAC address",
                text,
                "must be six pairs of hexadecimal digits, as in 02:42:0a:00:00:02",
            )
        };
        let mut bytes = [0; 6];
        let mut pairs = text.split(':');
        for byte in &mut bytes {
            let pair = pairs.next().filter(|pair| pair.len() == 2).ok_or_else(malformed)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| malformed())?;
        }
        if pairs.next().is_some() {
            return Err(malformed());
        }
        Self::try_from(bytes)
    }
}

impl TryFrom<[u8; 6]> for MacAddr {
    type Error = Invalid;

    fn try_from(bytes: [u8; 6]) -> Result<Self, Self::Error> {
        if bytes[0] & 1 == 1 || bytes == [0; 6] {
            return Err(Invalid::new(
                "MAC address",
                Self(bytes),
                "must be a unicast address other than all zeros",
            ));
        }
        Ok(Self(bytes))
    }
}

through_text!(MacAddr);

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self.0.map(|byte| format!("{byte:02x}"));
        f.pad(&pairs.join(":"))
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A port that can be connected to: 1 to 65535.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "u16", try_from = "u32"))]
pub struct Port(NonZeroU16);

const PORT_RULE: &str = "must be a number from 1 to 65535";

impl Port {
    /// The number.
    pub const fn number(self) -> u16 {
        self.0.get()
    }
}

impl TryFrom<u32> for Port {
    type Error = Invalid;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        let refused = || Invalid::new("port", number, PORT_RULE);
        let port = u16::try_from(number).ok().and_then(NonZeroU16::new).ok_or_else(refused)?;
        Ok(Self(port))
    }
}

impl From<Port> for u16 {
    fn from(port: Port) -> Self {
        port.number()
    }
}

impl FromStr for Port {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || Invalid::new("port", text, PORT_RULE);
        if text.starts_with('+') {
            return Err(refused());
        }
        text.parse().map(Self).map_err(|_| refused())
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnet_with_host_bits_is_refused_with_the_prefix_meant() {
        let error = "10.89.0.7/24".parse::<Subnet>().unwrap_err();
        assert!(error.to_string().contains("did you mean 10.89.0.0/24?"), "{error}");
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "fd00::/129", "10.0.0/8", "/8", "10.0.0.0/x"] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }

    #[test]
    fn overlap_is_symmetric_and_never_across_families() {
        let parse = |text: &str| text.parse::<Subnet>().unwrap();
        let (wide, narrow, other) = (parse("10.0.0.0/8"), parse("10.89.0.0/24"), parse("10.90.0.0/24"));
        assert!(wide.overlaps(&narrow) && narrow.overlaps(&wide));
        assert!(!narrow.overlaps(&other) && !other.overlaps(&narrow));
        assert!(!parse("::/0").overlaps(&wide));
    }

    #[test]
    fn port_zero_and_65536_are_refused() {
        for bad in ["0", "65536", "-1", "+80", "", "http"] {
            assert_eq!(bad.parse::<Port>().unwrap_err().rule(), PORT_RULE, "{bad}");
        }
        assert!(Port::try_from(0).is_err() && Port::try_from(65_536).is_err());
        assert_eq!(Port::try_from(65_535).unwrap().number(), 65_535);
    }

    #[test]
    fn local_mac_is_unicast_and_locally_administered() {
        for bits in [0, u64::MAX, 0x1234_5678_9abc] {
            let mac = MacAddr::local(bits);
            assert_eq!(mac.bytes()[0] & 0b11, 0b10);
            assert_eq!(mac.to_string().parse::<MacAddr>().unwrap(), mac);
        }
        assert!("01:00:5e:00:00:01".parse::<MacAddr>().is_err(), "multicast");
    }
}
