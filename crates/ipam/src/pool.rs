//! The addresses of one subnet and who holds them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netloft_types::{EndpointId, Subnet};

use crate::error::{Error, Reservation};
use crate::number;
use crate::slots::{Place, Slots};

/// The shortest IPv4 prefix of a pool: 2^24 addresses, 2 MiB of bitmap.
const IPV4_PREFIX_LEN_MIN: u8 = 8;

/// Hands out the addresses of one subnet, each to one owner at a time.
///
/// **Order.** Free addresses are handed out in order from a cursor that goes round the subnet, so an address
/// comes up again only after a lap. The address released last is passed over as long as any other is free: a
/// connection that still points at it meets nobody rather than a stranger. An address that was asked for by
/// name may lie just before the cursor and so rest for less than a lap.
///
/// **Reserved.** The first address is never handed out, nor is the last in IPv4: they are the network and
/// the broadcast address, or the subnet-router anycast address in IPv6. A point-to-point subnet has neither:
/// both addresses of a /31 (RFC 3021) and of a /127 (RFC 6164), and the one of a /32 and of a /128, are
/// handed out, unless the gateway takes one.
///
/// **Size.** IPv4 prefixes from /8 to /32 live in a bitmap, whose cost is a few words per operation at any
/// load, and take 8 bytes for each address that was ever held. IPv6 prefixes of any length live in ordered runs, in memory by what is held and not by the range.
///
/// **Owners** are endpoints. A pool generic over its owner would spread the parameter to the error and to
/// everything that keeps a pool, for no one in this house; whoever links this crate alone has 64 bits to put a
/// key of their own into.
///
/// A pool is not a journal: to restore one, ask for each remembered address by [`Request::Exact`].
#[derive(Debug, Clone)]
pub struct Pool {
    subnet: Subnet,
    gateway: Option<IpAddr>,
    /// By place, which is the distance of an address from the first.
    slots: Slots,
    held: u128,
    /// Where the search for a free place begins.
    cursor: u128,
    released_last: Option<u128>,
}

/// What a pool sets aside beyond what its family demands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolOptions {
    /// Which address the gateway has.
    pub gateway: Gateway,
    /// Addresses in use by others; each must lie in the subnet.
    pub reserved: BTreeSet<IpAddr>,
}

/// Which address of a pool belongs to the gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Gateway {
    /// The first that is not reserved.
    #[default]
    First,
    /// This one.
    At(IpAddr),
    /// None, as in a network that leads nowhere.
    Absent,
}

/// Which address is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Whichever comes next.
    Any,
    /// This one and no other.
    Exact(IpAddr),
}

/// An address held by an owner until released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocation {
    /// The address.
    pub address: IpAddr,
    /// Who holds it.
    pub owner: EndpointId,
}

impl Pool {
    /// Makes a pool in which nothing is held.
    ///
    /// # Errors
    ///
    /// [`Error::TooWide`] for an IPv4 prefix shorter than /8, [`Error::OutOfRange`] for a gateway or a
    /// reserved address outside the subnet, [`Error::Reserved`] for a gateway on an address that its family
    /// reserves, and [`Error::NoRoom`] if nothing would be left to hand out.
    pub fn new(subnet: Subnet, options: &PoolOptions) -> Result<Self, Error> {
        if subnet.is_ipv4() && subnet.prefix_len() < IPV4_PREFIX_LEN_MIN {
            return Err(Error::TooWide { subnet });
        }
        let last = last_place(subnet);
        let slots = if subnet.is_ipv4() { Slots::dense(last) } else { Slots::sparse(last) };
        let mut pool = Self { subnet, gateway: None, slots, held: 0, cursor: 0, released_last: None };
        pool.reserve_special();
        for &address in &options.reserved {
            let place = pool.place(address)?;
            if pool.slots.look(place) == Place::Free {
                pool.slots.reserve(place, Reservation::Configured);
            }
        }
        pool.reserve_gateway(options.gateway)?;
        if pool.free() == 0 {
            return Err(Error::NoRoom { subnet });
        }
        Ok(pool)
    }

    /// Hands out an address.
    ///
    /// # Errors
    ///
    /// [`Error::Exhausted`] if any would do and none is free; [`Error::OutOfRange`], [`Error::Reserved`] or
    /// [`Error::Taken`] if one is wanted that cannot be had. The pool is then as it was.
    pub fn allocate(&mut self, owner: EndpointId, request: Request) -> Result<IpAddr, Error> {
        let place = match request {
            Request::Any => self.next_place()?,
            Request::Exact(address) => self.place_if_free(address)?,
        };
        if request == Request::Any {
            self.cursor = self.place_after(place);
        }
        self.slots.take(place, owner);
        self.held += 1;
        Ok(self.address(place))
    }

    /// Takes an address back from its owner and says whether the owner held it.
    ///
    /// Naming the owner makes it safe to repeat at any time: a release that comes late, when the address has
    /// gone to someone else, changes nothing.
    pub fn release(&mut self, owner: EndpointId, address: IpAddr) -> bool {
        let Ok(place) = self.place(address) else {
            return false;
        };
        if self.slots.look(place) != Place::Held(owner) {
            return false;
        }
        self.slots.free(place);
        self.held -= 1;
        self.released_last = Some(place);
        true
    }

    /// The subnet whose addresses are handed out.
    pub fn subnet(&self) -> Subnet {
        self.subnet
    }

    /// The address of the gateway.
    pub fn gateway(&self) -> Option<IpAddr> {
        self.gateway
    }

    /// How many addresses are free.
    pub fn free(&self) -> u128 {
        let taken = self.slots.reserved() + self.held;
        // `::/0` has 2^128 addresses, one more than can be counted; its first is always taken, so the two
        // steps together never leave the range.
        last_place(self.subnet).wrapping_sub(taken).wrapping_add(1)
    }

    /// Who holds an address.
    pub fn owner(&self, address: IpAddr) -> Option<EndpointId> {
        match self.slots.look(self.place(address).ok()?) {
            Place::Held(owner) => Some(owner),
            Place::Free | Place::Reserved(_) => None,
        }
    }

    /// What is held, in order of address.
    pub fn allocations(&self) -> impl Iterator<Item = Allocation> {
        self.slots.held().map(|(place, owner)| Allocation { address: self.address(place), owner })
    }

    /// Reserves what the family demands.
    fn reserve_special(&mut self) {
        let last = last_place(self.subnet);
        if last < 2 {
            return;
        }
        if self.subnet.is_ipv4() {
            self.slots.reserve(0, Reservation::Network);
            self.slots.reserve(last, Reservation::Broadcast);
        } else {
            self.slots.reserve(0, Reservation::RouterAnycast);
        }
    }

    fn reserve_gateway(&mut self, gateway: Gateway) -> Result<(), Error> {
        let place = match gateway {
            Gateway::Absent => return Ok(()),
            Gateway::First => self.next_place().map_err(|_| Error::NoRoom { subnet: self.subnet })?,
            Gateway::At(address) => {
                let place = self.place(address)?;
                let by_hand = Place::Reserved(Reservation::Configured);
                // Whoever reserves the gateway's address by hand means the same thing.
                if self.slots.look(place) == by_hand { place } else { self.place_if_free(address)? }
            }
        };
        self.slots.reserve(place, Reservation::Gateway);
        self.gateway = Some(self.address(place));
        Ok(())
    }

    /// The free place whose turn it is.
    fn next_place(&self) -> Result<u128, Error> {
        let round_from = |place| {
            let ahead = self.slots.next_free(place);
            ahead.or_else(|| self.slots.next_free(0))
        };
        let next = round_from(self.cursor).ok_or(Error::Exhausted { subnet: self.subnet })?;
        if self.released_last != Some(next) {
            return Ok(next);
        }
        // Going round comes back to it if no other is free.
        Ok(round_from(self.place_after(next)).unwrap_or(next))
    }

    fn place_if_free(&self, address: IpAddr) -> Result<u128, Error> {
        let place = self.place(address)?;
        match self.slots.look(place) {
            Place::Free => Ok(place),
            Place::Held(owner) => Err(Error::Taken { address, owner }),
            Place::Reserved(reservation) => {
                Err(Error::Reserved { address, subnet: self.subnet, reservation })
            }
        }
    }

    fn place(&self, address: IpAddr) -> Result<u128, Error> {
        if !self.subnet.contains(address) {
            return Err(Error::OutOfRange { address, subnet: self.subnet });
        }
        Ok(number::of(address) - number::of(self.subnet.first()))
    }

    fn address(&self, place: u128) -> IpAddr {
        number::address_in(self.subnet, number::of(self.subnet.first()) + place)
    }

    fn place_after(&self, place: u128) -> u128 {
        if place == last_place(self.subnet) { 0 } else { place + 1 }
    }
}

/// The place of the last address of a subnet.
fn last_place(subnet: Subnet) -> u128 {
    number::host_mask(number::width(subnet), subnet.prefix_len())
}
