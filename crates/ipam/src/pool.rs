//! The addresses of one subnet, who holds them and which of them rest.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use netloft_types::{EndpointId, Subnet};

use crate::allocation::{Allocated, Allocation, Released, Request, Rested, Tenant};
use crate::clock::{Clock, Moment};
use crate::error::{Error, Reservation};
use crate::number;
use crate::queue::Release;
use crate::slots::{Place, Slots};
use crate::store::{Holder, Store};

/// The shortest IPv4 prefix of a pool: 2^24 addresses, 4 MiB of bitmaps.
const IPV4_PREFIX_LEN_MIN: u8 = 8;

/// How many released addresses one call makes free. Each call releases at most one, so two keep up with any
/// load, and none pays for a thousand that were released together.
const FORGOTTEN_PER_CALL: usize = 2;

/// Hands out the addresses of one subnet, each to one owner at a time, and rests them before another tenant
/// gets them.
///
/// **Rest.** An address that was released rests: whoever spoke with its last owner may still send to it, and
/// must meet nobody rather than a stranger. Its own tenant may take it back at once. Another is refused it by
/// name, and gets it unasked only if no other address is left.
///
/// **Order.** A tenant gets the address that it had last, unless somebody has it now. Otherwise free addresses
/// are handed out, the lowest first; then, when none is free, those that were released, the one that has rested
/// longest first. So an address goes to another tenant as late as can be.
///
/// **Reserved.** The first address is never handed out, nor is the last in IPv4: they are the network and
/// the broadcast address, or the subnet-router anycast address in IPv6. A point-to-point subnet has neither:
/// both addresses of a /31 (RFC 3021) and of a /127 (RFC 6164), and the one of a /32 and of a /128, are
/// handed out, unless the gateway takes one.
///
/// **Size.** IPv4 prefixes from /8 to /32 live in two bitmaps of little more than a bit an address and take 16 bytes for each
/// address that was ever held; those are no more than were held and released at one time. IPv6 prefixes of any
/// length live in ordered runs, in memory by what is held and released and not by the range: some 80 bytes an
/// address. While an address is released it takes some 140 bytes more, in either family;
/// [`PoolOptions::remembered_max`] bounds how many there are. A call costs a few words and O(log n) for n released
/// addresses at any load.
///
/// **Time** is told by the caller and may be set back: a rest then lasts longer by as much as passed since the
/// call before, never until the old time comes again. A clock that is set forward ends rests early.
///
/// **Owners** are endpoints. A pool generic over its owner would spread the parameter to the error and to
/// everything that keeps a pool, for no one in this house; whoever links this crate alone has 64 bits to put a
/// key of their own into.
///
/// A pool is not a journal: to have it again after a restart, remember what [`Pool::allocations`] and
/// [`Pool::released`] list and give it to [`Pool::restore`] and [`Pool::restore_released`].
#[derive(Debug, Clone)]
pub struct Pool {
    subnet: Subnet,
    gateway: Option<IpAddr>,
    rest: Duration,
    remembered_max: usize,
    /// By place, which is the distance of an address from the first.
    slots: Slots,
    clock: Clock,
}

/// What a pool sets aside beyond what its family demands, and how it treats what was released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolOptions {
    /// Which address the gateway has.
    pub gateway: Gateway,
    /// Addresses in use by others; each must lie in the subnet.
    pub reserved: BTreeSet<IpAddr>,
    /// How long a released address is kept from other tenants; zero for not at all. 130 s by default: the kernel
    /// tracks a connection that was asked for and not answered for 120 s (`nf_conntrack_tcp_timeout_syn_sent`),
    /// and for as long sends what belongs to it to the address it was asked of.
    pub rest: Duration,
    /// How many released addresses are kept for their tenants. More are there only as long as they rest; of the
    /// others the oldest are then forgotten and free. 4,096 by default.
    pub remembered_max: usize,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            gateway: Gateway::default(),
            reserved: BTreeSet::new(),
            rest: Duration::from_secs(130),
            remembered_max: 4_096,
        }
    }
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
        let store = if subnet.is_ipv4() { Store::dense(last) } else { Store::sparse(last) };
        let mut pool = Self {
            subnet,
            gateway: None,
            rest: options.rest,
            remembered_max: options.remembered_max,
            slots: Slots::new(store),
            clock: Clock::new(),
        };
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

    /// Hands out an address, and says whether it has rested.
    ///
    /// # Errors
    ///
    /// [`Error::Exhausted`] if any would do and all are held, or must rest for [`Request::Rested`];
    /// [`Error::OutOfRange`], [`Error::Reserved`], [`Error::Taken`] or [`Error::Resting`] if one is wanted that cannot
    /// be had. Nothing is handed out then.
    pub fn allocate(
        &mut self,
        owner: EndpointId,
        tenant: Tenant,
        request: Request,
        now: SystemTime,
    ) -> Result<Allocated, Error> {
        let now = self.pass_time(now);
        let place = match request {
            Request::Any | Request::Rested => self.next_place(tenant)?,
            Request::Exact(address) => self.rested_place(address, tenant, now)?,
        };
        let rested = match self.rest_left(place, tenant, now) {
            None => Rested::Fully,
            Some(_) if request == Request::Rested => return Err(Error::Exhausted { subnet: self.subnet }),
            Some(by) => Rested::CutShort { by },
        };
        self.slots.hold(place, Holder { owner, tenant });
        Ok(Allocated { address: self.address(place), rested })
    }

    /// Takes an address back from its owner and lets it rest; `None` if the owner did not hold it.
    ///
    /// Naming the owner makes it safe to repeat at any time: a release that comes late, when the address has
    /// gone to someone else, changes nothing.
    pub fn release(&mut self, owner: EndpointId, address: IpAddr, now: SystemTime) -> Option<Released> {
        let now = self.pass_time(now);
        let (place, holder) = self.held_place(owner, address)?;
        let release = Release { tenant: holder.tenant, due: now.plus(self.rest) };
        self.slots.release(place, release);
        Some(self.released_at(place, release))
    }

    /// Has an address that is held kept for another tenant from now on, as when it was taken before it was known for
    /// whom; tells whether the owner held it.
    pub fn hand_over(&mut self, owner: EndpointId, address: IpAddr, tenant: Tenant) -> bool {
        let held = self.held_place(owner, address);
        if let Some((place, _)) = held {
            self.slots.hand_over(place, Holder { owner, tenant });
        }
        held.is_some()
    }

    /// Takes back an address that its owner never used, and frees it: nobody knows it, so it need not rest. Tells
    /// whether the owner held it.
    pub fn give_back(&mut self, owner: EndpointId, address: IpAddr) -> bool {
        let held = self.held_place(owner, address);
        if let Some((place, _)) = held {
            self.slots.give_back(place);
        }
        held.is_some()
    }

    /// Gives an address to the owner who held it before a restart, whoever it may be kept for.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`], [`Error::Reserved`] or [`Error::Taken`], if the subnet or what it reserves is not
    /// what it was, or the address is restored twice.
    pub fn restore(&mut self, Allocation { address, owner, tenant }: Allocation) -> Result<(), Error> {
        let place = self.vacant_place(address)?;
        self.slots.hold(place, Holder { owner, tenant });
        Ok(())
    }

    /// Keeps an address for the tenant it was kept for before a restart, and lets it rest for as long as is left,
    /// but no longer than one that is released `now`: the clock may have been set back meanwhile.
    ///
    /// # Errors
    ///
    /// As [`Pool::restore`]. The address may be kept for somebody already; the last call counts.
    pub fn restore_released(&mut self, released: Released, now: SystemTime) -> Result<(), Error> {
        let now = self.clock.read(now);
        let place = self.vacant_place(released.address)?;
        let due = self.clock.moment_of(released.rest_until).min(now.plus(self.rest));
        self.slots.keep(place, Release { tenant: released.tenant, due });
        Ok(())
    }

    /// The subnet whose addresses are handed out.
    pub fn subnet(&self) -> Subnet {
        self.subnet
    }

    /// The address of the gateway.
    pub fn gateway(&self) -> Option<IpAddr> {
        self.gateway
    }

    /// How many addresses can be handed out, those that rest among them.
    pub fn free(&self) -> u128 {
        // `::/0` has 2^128 addresses, one more than can be counted; its first is always taken, so the two
        // steps together never leave the range.
        last_place(self.subnet).wrapping_sub(self.slots.unavailable()).wrapping_add(1)
    }

    /// Who holds an address.
    pub fn owner(&self, address: IpAddr) -> Option<EndpointId> {
        match self.slots.look(self.place(address).ok()?) {
            Place::Held(holder) => Some(holder.owner),
            Place::Free | Place::Released(_) | Place::Reserved(_) => None,
        }
    }

    /// The address that a tenant had last, if it gets that again: it was released and is not forgotten, and nobody has it
    /// now.
    pub fn kept_for(&self, tenant: Tenant) -> Option<IpAddr> {
        self.slots.last_of(tenant).map(|place| self.address(place))
    }

    /// What is held, in order of address.
    pub fn allocations(&self) -> impl Iterator<Item = Allocation> {
        self.slots.held().map(|(place, Holder { owner, tenant })| {
            let address = self.address(place);
            Allocation { address, owner, tenant }
        })
    }

    /// What was released and is kept for its tenants, in the order in which it goes to others: what rests, and
    /// what has rested. Times are by the clock that the last call told.
    pub fn released(&self) -> impl ExactSizeIterator<Item = Released> {
        self.slots.released().map(|(place, release)| self.released_at(place, release))
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
            Gateway::First => self.slots.first_free().ok_or(Error::NoRoom { subnet: self.subnet })?,
            Gateway::At(address) => {
                let place = self.place(address)?;
                let by_hand = Place::Reserved(Reservation::Configured);
                // Whoever reserves the gateway's address by hand means the same thing.
                if self.slots.look(place) == by_hand { place } else { self.vacant_place(address)? }
            }
        };
        self.slots.reserve(place, Reservation::Gateway);
        self.gateway = Some(self.address(place));
        Ok(())
    }

    /// Reads the clock and forgets some of what need not be remembered any longer.
    fn pass_time(&mut self, now: SystemTime) -> Moment {
        let now = self.clock.read(now);
        for _ in 0..FORGOTTEN_PER_CALL {
            let is_too_many = self.slots.released().len() > self.remembered_max;
            match self.slots.first_due() {
                Some((due, place)) if is_too_many && due <= now => self.slots.forget(place),
                _ => break,
            }
        }
        now
    }

    /// The place that a tenant gets who takes any.
    fn next_place(&self, tenant: Tenant) -> Result<u128, Error> {
        let own = self.slots.last_of(tenant);
        let place = own.or_else(|| self.slots.first_free());
        let place = place.or_else(|| self.slots.first_due().map(|(_, place)| place));
        place.ok_or(Error::Exhausted { subnet: self.subnet })
    }

    /// The place of an address, if a tenant may have it now.
    fn rested_place(&self, address: IpAddr, tenant: Tenant, now: Moment) -> Result<u128, Error> {
        let place = self.vacant_place(address)?;
        match self.rest_left(place, tenant, now) {
            None => Ok(place),
            Some(left) => Err(Error::Resting { address, left }),
        }
    }

    /// How long a place has still to rest before a tenant should have it, if at all.
    fn rest_left(&self, place: u128, tenant: Tenant, now: Moment) -> Option<Duration> {
        match self.slots.look(place) {
            Place::Released(release) if release.tenant != tenant && release.due > now => {
                Some(now.until(release.due))
            }
            _ => None,
        }
    }

    /// The place of an address, if nobody holds it.
    fn vacant_place(&self, address: IpAddr) -> Result<u128, Error> {
        let place = self.place(address)?;
        match self.slots.look(place) {
            Place::Free | Place::Released(_) => Ok(place),
            Place::Held(Holder { owner, .. }) => Err(Error::Taken { address, owner }),
            Place::Reserved(reservation) => {
                Err(Error::Reserved { address, subnet: self.subnet, reservation })
            }
        }
    }

    /// The place of an address, if that owner holds it.
    fn held_place(&self, owner: EndpointId, address: IpAddr) -> Option<(u128, Holder)> {
        let place = self.place(address).ok()?;
        match self.slots.look(place) {
            Place::Held(holder) if holder.owner == owner => Some((place, holder)),
            _ => None,
        }
    }

    fn released_at(&self, place: u128, Release { tenant, due }: Release) -> Released {
        Released { address: self.address(place), tenant, rest_until: self.clock.time_of(due) }
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
}

/// The place of the last address of a subnet.
fn last_place(subnet: Subnet) -> u128 {
    number::host_mask(number::width(subnet), subnet.prefix_len())
}
