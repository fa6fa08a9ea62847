//! Addresses as numbers, so that both families share one arithmetic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netloft_types::Subnet;

/// The number of an address. The families overlap: compare numbers of one family only.
pub(crate) fn of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The address in `subnet` of this number.
///
/// # Panics
///
/// If `subnet` is IPv4 and the number has more than 32 bits, so it cannot lie in it.
pub(crate) fn address_in(subnet: Subnet, number: u128) -> IpAddr {
    if subnet.is_ipv4() {
        let bits = u32::try_from(number).expect("the caller counts within the subnet");
        Ipv4Addr::from_bits(bits).into()
    } else {
        Ipv6Addr::from_bits(number).into()
    }
}

/// The length of an address in the family of `subnet`, in bits.
pub(crate) fn width(subnet: Subnet) -> u8 {
    if subnet.is_ipv4() { 32 } else { 128 }
}

/// The number of the last address of a prefix of this length, counted from its first: all host bits set.
pub(crate) fn host_mask(width: u8, prefix_len: u8) -> u128 {
    let host_bits = u32::from(width - prefix_len);
    u128::MAX.checked_shr(128 - host_bits).unwrap_or(0)
}
