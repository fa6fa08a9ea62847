//! Which places of a pool are taken, and what is known of each.

use std::collections::BTreeMap;

use netloft_types::EndpointId;

use crate::allocation::Tenant;
use crate::bitmap::Bitmap;
use crate::clock::Moment;
use crate::queue::Release;
use crate::runs::Runs;

/// Who holds a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) owner: EndpointId,
    pub(crate) tenant: Tenant,
}

/// What is known of a place that is not free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record {
    Held(Holder),
    Released(Release),
}

/// The taken places. Some have a record; those without are taken for good.
#[derive(Debug, Clone)]
pub(crate) enum Store {
    /// Costs memory by the range and a few words per operation.
    Dense {
        taken: Bitmap,
        held: Bitmap,
        /// Of each place with a record the number of its owner, or the moment when its rest ends if it is not
        /// held, and the number of its tenant. As plain numbers they are asked of the system as zeroed memory,
        /// which becomes real only where it is written: 16 bytes a place that was ever held.
        records: Vec<[u64; 2]>,
    },
    /// Costs memory by what is taken, so it suits ranges that no memory could hold.
    Sparse { taken: Runs, records: BTreeMap<u128, Record> },
}

impl Store {
    /// Makes free places up to `last`, which is below 2^24.
    pub(crate) fn dense(last: u128) -> Self {
        let len = index(last) + 1;
        Self::Dense { taken: Bitmap::new(len), held: Bitmap::new(len), records: vec![[0; 2]; len] }
    }

    /// Makes free places up to `last`.
    pub(crate) fn sparse(last: u128) -> Self {
        let mut taken = Runs::default();
        // As in a bitmap, what lies beyond the end is taken for good.
        if let Some(beyond) = last.checked_add(1) {
            taken.insert(beyond, u128::MAX);
        }
        Self::Sparse { taken, records: BTreeMap::new() }
    }

    /// Takes a place for good.
    pub(crate) fn take(&mut self, place: u128) {
        match self {
            Self::Dense { taken, .. } => taken.take(index(place)),
            Self::Sparse { taken, .. } => taken.insert(place, place),
        }
    }

    /// Takes a place if it is free, and notes what it is now.
    pub(crate) fn put(&mut self, place: u128, record: Record) {
        self.take(place);
        match self {
            Self::Dense { held, records, .. } => {
                let place = index(place);
                records[place] = match record {
                    Record::Held(Holder { owner, tenant }) => {
                        held.take(place);
                        [owner.number(), tenant.number()]
                    }
                    Record::Released(Release { tenant, due }) => {
                        held.free(place);
                        [due.nanos(), tenant.number()]
                    }
                };
            }
            Self::Sparse { records, .. } => {
                records.insert(place, record);
            }
        }
    }

    /// Frees a place that was not taken for good.
    pub(crate) fn free(&mut self, place: u128) {
        match self {
            Self::Dense { taken, held, .. } => {
                taken.free(index(place));
                held.free(index(place));
            }
            Self::Sparse { taken, records } => {
                taken.remove(place);
                records.remove(&place);
            }
        }
    }

    /// What is known of a place that is not taken for good; `None` if it is free.
    pub(crate) fn record(&self, place: u128) -> Option<Record> {
        match self {
            Self::Dense { taken, held, records } => {
                let place = index(place);
                taken.is_taken(place).then(|| {
                    let [first, tenant] = records[place];
                    let tenant = Tenant::from_number(tenant);
                    if held.is_taken(place) {
                        Record::Held(Holder { owner: EndpointId::from_number(first), tenant })
                    } else {
                        Record::Released(Release { tenant, due: Moment::from_nanos(first) })
                    }
                })
            }
            Self::Sparse { records, .. } => records.get(&place).copied(),
        }
    }

    /// The lowest free place.
    pub(crate) fn first_free(&self) -> Option<u128> {
        match self {
            Self::Dense { taken, .. } => taken.first_free().map(|place| place as u128),
            Self::Sparse { taken, .. } => taken.first_free(),
        }
    }

    /// The held places and who holds them, lowest first.
    pub(crate) fn held(&self) -> impl Iterator<Item = (u128, Holder)> {
        let (dense, sparse) = match self {
            Self::Dense { held, .. } => (Some(held.taken()), None),
            Self::Sparse { records, .. } => (None, Some(records.keys().copied())),
        };
        let dense = dense.into_iter().flatten().map(|place| place as u128);
        let places = dense.chain(sparse.into_iter().flatten());
        places.filter_map(|place| match self.record(place)? {
            Record::Held(holder) => Some((place, holder)),
            Record::Released(_) => None,
        })
    }
}

fn index(place: u128) -> usize {
    usize::try_from(place).expect("only pools of at most 2^24 places are dense")
}
