//! Which places of a pool are free, held or reserved.

use std::collections::BTreeMap;

use netloft_types::EndpointId;

use crate::bitmap::Bitmap;
use crate::error::Reservation;
use crate::runs::Runs;

/// The places of a pool, numbered from its first address.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    reserved: BTreeMap<u128, Reservation>,
    holders: Holders,
}

/// What a place is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Free,
    Held(EndpointId),
    Reserved(Reservation),
}

/// Which places are taken, and by whom; a reserved place is taken, and its owner means nothing.
#[derive(Debug, Clone)]
enum Holders {
    /// Costs memory by the range and a few words per operation.
    Dense {
        taken: Bitmap,
        /// The number of the owner of each taken place. As plain numbers they are asked of the system as
        /// zeroed memory, which becomes real only where it is written: 8 bytes an address that was ever held.
        owners: Vec<u64>,
    },
    /// Costs memory by what is taken, so it suits ranges that no memory could hold.
    Sparse { taken: Runs, owners: BTreeMap<u128, EndpointId> },
}

impl Slots {
    /// Makes free places up to `last`, which is below 2^24.
    pub(crate) fn dense(last: u128) -> Self {
        let len = index(last) + 1;
        Self {
            reserved: BTreeMap::new(),
            holders: Holders::Dense { taken: Bitmap::new(len), owners: vec![0; len] },
        }
    }

    /// Makes free places up to `last`.
    pub(crate) fn sparse(last: u128) -> Self {
        let mut taken = Runs::default();
        // As in a bitmap, what lies beyond the end is taken for good.
        if let Some(beyond) = last.checked_add(1) {
            taken.insert(beyond, u128::MAX);
        }
        Self { reserved: BTreeMap::new(), holders: Holders::Sparse { taken, owners: BTreeMap::new() } }
    }

    /// Reserves a place that nobody holds, or gives another reason for it.
    pub(crate) fn reserve(&mut self, place: u128, reservation: Reservation) {
        self.reserved.insert(place, reservation);
        match &mut self.holders {
            Holders::Dense { taken, .. } => taken.take(index(place)),
            Holders::Sparse { taken, .. } => taken.insert(place, place),
        }
    }

    /// Gives a free place to an owner.
    pub(crate) fn take(&mut self, place: u128, owner: EndpointId) {
        match &mut self.holders {
            Holders::Dense { taken, owners } => {
                taken.take(index(place));
                owners[index(place)] = owner.number();
            }
            Holders::Sparse { taken, owners } => {
                taken.insert(place, place);
                owners.insert(place, owner);
            }
        }
    }

    /// Frees a place that is held.
    pub(crate) fn free(&mut self, place: u128) {
        match &mut self.holders {
            Holders::Dense { taken, .. } => taken.free(index(place)),
            Holders::Sparse { taken, owners } => {
                taken.remove(place);
                owners.remove(&place);
            }
        }
    }

    /// What a place is.
    pub(crate) fn look(&self, place: u128) -> Place {
        if let Some(&reservation) = self.reserved.get(&place) {
            return Place::Reserved(reservation);
        }
        let owner = match &self.holders {
            Holders::Dense { taken, owners } => {
                taken.is_taken(index(place)).then(|| EndpointId::from_number(owners[index(place)]))
            }
            Holders::Sparse { owners, .. } => owners.get(&place).copied(),
        };
        owner.map_or(Place::Free, Place::Held)
    }

    /// The lowest free place that is not below `from`.
    pub(crate) fn next_free(&self, from: u128) -> Option<u128> {
        match &self.holders {
            Holders::Dense { taken, .. } => taken.next_free(index(from)).map(|place| place as u128),
            Holders::Sparse { taken, .. } => taken.next_free(from),
        }
    }

    /// How many places are reserved.
    pub(crate) fn reserved(&self) -> u128 {
        self.reserved.len() as u128
    }

    /// The held places and their owners, lowest first.
    pub(crate) fn held(&self) -> impl Iterator<Item = (u128, EndpointId)> {
        let (dense, sparse) = match &self.holders {
            Holders::Dense { taken, .. } => (Some(taken.taken()), None),
            Holders::Sparse { owners, .. } => (None, Some(owners.keys().copied())),
        };
        let dense = dense.into_iter().flatten().map(|place| place as u128);
        let places = dense.chain(sparse.into_iter().flatten());
        places.filter_map(|place| match self.look(place) {
            Place::Held(owner) => Some((place, owner)),
            Place::Free | Place::Reserved(_) => None,
        })
    }
}

fn index(place: u128) -> usize {
    usize::try_from(place).expect("only pools of at most 2^24 places are dense")
}
