//! What links and their addresses are called by.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::str::FromStr;

use netloft_types::Invalid;

/// The index of a link, unique in its network namespace. The kernel counts up and does not reuse numbers
/// soon, so a stale index names nothing rather than another link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkIndex(NonZeroU32);

impl LinkIndex {
    /// Makes an index of its number; `None` for 0, which the kernel gives to no link.
    pub fn from_number(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// The number.
    pub const fn number(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for LinkIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A group of links (`ip link set ... group`), deleted in one act.
///
/// Never 0: that is the kernel's default group, and to delete it is to delete every link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkGroup(NonZeroU32);

impl LinkGroup {
    /// Makes a group of its number.
    pub const fn new(number: NonZeroU32) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn number(self) -> u32 {
        self.0.get()
    }
}

/// An address of an interface with the length of its on-link prefix, such as `10.89.0.1/24`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceAddr {
    address: IpAddr,
    prefix_len: u8,
}

impl InterfaceAddr {
    /// Makes an interface address; the prefix length is at most 32 for IPv4 and 128 for IPv6.
    pub fn new(address: IpAddr, prefix_len: u8) -> Result<Self, Invalid> {
        if prefix_len <= bits(address) {
            Ok(Self { address, prefix_len })
        } else {
            Err(Invalid::new(
                "interface address",
                format_args!("{address}/{prefix_len}"),
                "prefix length must be at most 32 for IPv4 and 128 for IPv6",
            ))
        }
    }

    /// The address.
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// The length of the on-link prefix in bits.
    pub const fn prefix_len(self) -> u8 {
        self.prefix_len
    }

    /// The broadcast address: IPv4 only, and not in prefixes of two addresses (RFC 3021) or one.
    pub(crate) fn broadcast(self) -> Option<Ipv4Addr> {
        match self.address {
            IpAddr::V4(address) if self.prefix_len < 31 => {
                let host_bits = u32::MAX >> self.prefix_len;
                Some(Ipv4Addr::from_bits(address.to_bits() | host_bits))
            }
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        }
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl FromStr for InterfaceAddr {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || {
            Invalid::new(
                "interface address",
                text,
                "must be an address, '/' and a prefix length, as in 10.89.0.1/24",
            )
        };
        let (address, prefix_len) = text.split_once('/').ok_or_else(malformed)?;
        Self::new(address.parse().map_err(|_| malformed())?, prefix_len.parse().map_err(|_| malformed())?)
    }
}

impl fmt::Display for InterfaceAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

impl fmt::Debug for InterfaceAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_address_keeps_its_host_bits_and_refuses_long_prefixes() {
        for good in ["10.89.0.1/24", "10.0.0.0/32", "fd00:89::1/64", "0.0.0.0/0"] {
            assert_eq!(good.parse::<InterfaceAddr>().unwrap().to_string(), good);
        }
        for bad in ["10.89.0.1", "10.89.0.1/33", "fd00::1/129", "/24", "a/24", "10.0.0.1/-1"] {
            assert!(bad.parse::<InterfaceAddr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn broadcast_is_the_last_address_and_only_of_ipv4_prefixes_that_have_one() {
        let broadcast = |text: &str| text.parse::<InterfaceAddr>().unwrap().broadcast();
        assert_eq!(broadcast("10.89.0.1/24"), Some([10, 89, 0, 255].into()));
        assert_eq!(broadcast("10.89.0.1/0"), Some([255; 4].into()));
        for without in ["10.89.0.1/31", "10.89.0.1/32", "fd00::1/64"] {
            assert_eq!(broadcast(without), None, "{without}");
        }
    }
}
