//! Which places of a pool are free, held, released or reserved.

use std::collections::BTreeMap;

use crate::allocation::Tenant;
use crate::clock::Moment;
use crate::error::Reservation;
use crate::queue::{Queue, Release};
use crate::store::{Holder, Record, Store};

/// The places of a pool, numbered from its first address.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    reserved: BTreeMap<u128, Reservation>,
    /// Reserved places are taken in it for good.
    store: Store,
    /// The places that are released in `store`.
    queue: Queue,
    held: u128,
}

/// What a place is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Free,
    Held(Holder),
    Released(Release),
    Reserved(Reservation),
}

impl Slots {
    /// Makes places of which all in `store` are free.
    pub(crate) fn new(store: Store) -> Self {
        Self { reserved: BTreeMap::new(), store, queue: Queue::default(), held: 0 }
    }

    /// Reserves a free place, or gives another reason for a reserved one.
    pub(crate) fn reserve(&mut self, place: u128, reservation: Reservation) {
        self.reserved.insert(place, reservation);
        self.store.take(place);
    }

    /// Gives a free or released place to a holder.
    pub(crate) fn hold(&mut self, place: u128, holder: Holder) {
        self.unqueue(place);
        self.store.put(place, Record::Held(holder));
        self.held += 1;
    }

    /// Takes a place back from its holder.
    pub(crate) fn release(&mut self, place: u128, release: Release) {
        self.held -= 1;
        self.enqueue(place, release);
    }

    /// Gives a held place to another holder.
    pub(crate) fn hand_over(&mut self, place: u128, holder: Holder) {
        self.store.put(place, Record::Held(holder));
    }

    /// Frees a held place.
    pub(crate) fn give_back(&mut self, place: u128) {
        self.held -= 1;
        self.store.free(place);
    }

    /// Keeps a free or released place for a tenant.
    pub(crate) fn keep(&mut self, place: u128, release: Release) {
        self.unqueue(place);
        self.enqueue(place, release);
    }

    /// Frees a released place, and with it forgets who had it.
    pub(crate) fn forget(&mut self, place: u128) {
        self.unqueue(place);
        self.store.free(place);
    }

    fn enqueue(&mut self, place: u128, release: Release) {
        self.store.put(place, Record::Released(release));
        self.queue.insert(place, release);
    }

    fn unqueue(&mut self, place: u128) {
        if let Some(Record::Released(release)) = self.store.record(place) {
            self.queue.remove(place, release);
        }
    }

    /// What a place is.
    pub(crate) fn look(&self, place: u128) -> Place {
        if let Some(&reservation) = self.reserved.get(&place) {
            return Place::Reserved(reservation);
        }
        match self.store.record(place) {
            None => Place::Free,
            Some(Record::Held(holder)) => Place::Held(holder),
            Some(Record::Released(release)) => Place::Released(release),
        }
    }

    /// The lowest free place.
    pub(crate) fn first_free(&self) -> Option<u128> {
        self.store.first_free()
    }

    /// The released place that has rested longest, and when its rest ends.
    pub(crate) fn first_due(&self) -> Option<(Moment, u128)> {
        self.queue.first()
    }

    /// The released place that a tenant had last.
    pub(crate) fn last_of(&self, tenant: Tenant) -> Option<u128> {
        self.queue.last_of(tenant)
    }

    /// How many places are held or reserved.
    pub(crate) fn unavailable(&self) -> u128 {
        self.held + self.reserved.len() as u128
    }

    /// The held places and who holds them, lowest first.
    pub(crate) fn held(&self) -> impl Iterator<Item = (u128, Holder)> {
        self.store.held()
    }

    /// The released places, in the order in which their rests end.
    pub(crate) fn released(&self) -> impl ExactSizeIterator<Item = (u128, Release)> {
        self.queue.iter()
    }
}
