//! The subnets in use and which network uses them.

use std::collections::BTreeMap;
use std::net::IpAddr;

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
        let nearest = self.in_use.range(..=subnet.last()).next_back();
        if let Some((_, (with, holder))) = nearest
            && with.overlaps(&subnet)
        {
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
    /// O(n log n) for n subnets in use and foreign.
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

    /// The addresses of `range` that cannot be carved.
    fn blocked(&self, range: Subnet, foreign: &[Subnet]) -> Runs {
        let ours = self.in_use.values().map(|(subnet, _)| subnet);
        let theirs = foreign.iter().filter(|route| route.prefix_len() > 1);
        let mut blocked = Runs::default();
        for subnet in ours.chain(theirs).filter(|subnet| subnet.overlaps(&range)) {
            blocked.insert(number::of(subnet.first()), number::of(subnet.last()));
        }
        blocked
    }
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
