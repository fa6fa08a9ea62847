//! The subnets in use and which network uses them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use netloft_types::{NetworkName, Subnet};

use crate::error::Error;
use crate::number;
use crate::runs::Runs;

/// Hands out subnets to networks, no two of which share an address.
#[derive(Debug, Clone, Default)]
pub struct Space {
    /// By first address. They do not overlap, so the one before an address is the only one that can hold it.
    in_use: BTreeMap<IpAddr, (Subnet, NetworkName)>,
}

impl Space {
    /// Marks a subnet as in use by a network.
    ///
    /// # Errors
    ///
    /// [`Error::Overlap`] if it shares an address with one in use, be it of the same network.
    pub fn reserve(&mut self, owner: NetworkName, subnet: Subnet) -> Result<(), Error> {
        if let Some((with, holder)) = self.meeting(subnet).next() {
            return Err(Error::Overlap { subnet, with: *with, owner: holder.clone() });
        }
        self.in_use.insert(subnet.first(), (subnet, owner));
        Ok(())
    }

    /// Finds a free subnet of the given prefix length and marks it as in use by a network: the lowest in the
    /// first range that has one.
    ///
    /// It overlaps neither a subnet in use nor any of `foreign`, the prefixes that the host routes
    /// elsewhere. A default route is not counted among them, nor are the two halves (`0.0.0.0/1` and
    /// `128.0.0.0/1`) that virtual private networks put over it: they claim no address in particular. Takes
    /// O(n log n) for n subnets in use and foreign. For IPv6 give a range made by [`ula`] and 64.
    ///
    /// # Errors
    ///
    /// [`Error::PrefixMisfit`] if no range is wide enough for such a subnet, [`Error::NoSubnet`] if none is
    /// free.
    pub fn carve(
        &mut self,
        owner: NetworkName,
        ranges: &[Subnet],
        prefix_len: u8,
        foreign: &[Subnet],
    ) -> Result<Subnet, Error> {
        let wide_enough =
            |range: &&Subnet| (range.prefix_len()..=number::width(**range)).contains(&prefix_len);
        let mut candidates = ranges.iter().filter(wide_enough).peekable();
        if candidates.peek().is_none() {
            return Err(Error::PrefixMisfit { prefix_len, ranges: ranges.to_vec() });
        }
        let found =
            candidates.find_map(|&range| lowest_free(range, prefix_len, &self.blocked(range, foreign)));
        let subnet = found.ok_or_else(|| Error::NoSubnet { prefix_len, ranges: ranges.to_vec() })?;
        self.in_use.insert(subnet.first(), (subnet, owner));
        Ok(subnet)
    }

    /// Takes a subnet back from its network and says whether the network had exactly this one.
    pub fn release(&mut self, owner: &NetworkName, subnet: Subnet) -> bool {
        let held = self.in_use.get(&subnet.first());
        let is_held = held.is_some_and(|(other, holder)| *other == subnet && holder == owner);
        if is_held {
            self.in_use.remove(&subnet.first());
        }
        is_held
    }

    /// The subnets in use and their networks, in order of address, IPv4 first.
    pub fn in_use(&self) -> impl ExactSizeIterator<Item = (Subnet, &NetworkName)> {
        self.in_use.values().map(|(subnet, owner)| (*subnet, owner))
    }

    /// Which subnets in use share addresses with which of `foreign`, the prefixes that the host routes elsewhere:
    /// those that came after the subnets, for [`Space::carve`] goes round what is there.
    ///
    /// As there, default routes and their halves do not count. The routes of the networks themselves do, so the
    /// caller leaves them out. Takes O(log n) for each route and each answer.
    pub fn overlaps(&self, foreign: &[Subnet]) -> impl Iterator<Item = Overlap<'_>> {
        foreign.iter().copied().filter(claims_addresses).flat_map(|route| {
            self.meeting(route).map(move |(subnet, owner)| Overlap { subnet: *subnet, owner, route })
        })
    }

    /// The subnets in use that share an address with `subnet`, highest first.
    fn meeting(&self, subnet: Subnet) -> impl Iterator<Item = &(Subnet, NetworkName)> {
        let below = self.in_use.range(..=subnet.last()).map(|(_, entry)| entry);
        below.rev().take_while(move |(other, _)| other.overlaps(&subnet))
    }

    /// The addresses of `range` that cannot be carved.
    fn blocked(&self, range: Subnet, foreign: &[Subnet]) -> Runs {
        let ours = self.in_use.values().map(|(subnet, _)| subnet);
        let theirs = foreign.iter().filter(|route| claims_addresses(route));
        let mut blocked = Runs::default();
        for subnet in ours.chain(theirs).filter(|subnet| subnet.overlaps(&range)) {
            blocked.insert(number::of(subnet.first()), number::of(subnet.last()));
        }
        blocked
    }
}

/// A route that shares addresses with a subnet in use, which one of the two will not reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap<'a> {
    /// The subnet in use.
    pub subnet: Subnet,
    /// The network that uses it.
    pub owner: &'a NetworkName,
    /// The route.
    pub route: Subnet,
}

/// The /48 of unique local IPv6 addresses with this global id (RFC 4193, section 3.2): room for 65,536 subnets
/// of the usual /64.
///
/// The global id is the low 40 bits; the others do not matter. They are to be drawn at random, once for a
/// site, so that two sites can be joined later without a clash.
///
/// ```
/// use netloft_ipam::{Space, ula};
///
/// let site = ula(0x12_3456_789a);
/// assert_eq!(site.to_string(), "fd12:3456:789a::/48");
/// let subnet = Space::default().carve("blue".parse()?, &[site], 64, &[])?;
/// assert_eq!(subnet.to_string(), "fd12:3456:789a::/64");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[expect(clippy::missing_panics_doc, reason = "it does not panic")]
pub fn ula(random_bits: u64) -> Subnet {
    const GLOBAL_ID_MASK: u64 = (1 << 40) - 1;
    let global_id = u128::from(random_bits & GLOBAL_ID_MASK);
    let first = Ipv6Addr::from_bits((0xfd << 120) | (global_id << 80));
    Subnet::new(first.into(), 48).expect("no bits are set behind the prefix")
}

/// Whether a route is for addresses in particular, and not a default route or half of one.
fn claims_addresses(route: &Subnet) -> bool {
    route.prefix_len() > 1
}

fn lowest_free(range: Subnet, prefix_len: u8, blocked: &Runs) -> Option<Subnet> {
    let host_mask = number::host_mask(number::width(range), prefix_len);
    let last = number::of(range.last());
    let mut first = number::of(range.first());
    while let Some((_, end)) = blocked.meeting(first, first | host_mask) {
        first = (end | host_mask).checked_add(1)?;
        if first > last {
            return None;
        }
    }
    Subnet::new(number::address_in(range, first), prefix_len).ok()
}
