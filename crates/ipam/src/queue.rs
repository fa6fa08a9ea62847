//! The released places, in the order in which their rests end.

use std::collections::{BTreeMap, BTreeSet};

use crate::allocation::Tenant;
use crate::clock::Moment;

/// Who had a place last, and when it may go to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Release {
    pub(crate) tenant: Tenant,
    pub(crate) due: Moment,
}

/// A set of released places that knows which has rested longest and which a tenant had last. Every operation
/// is O(log n).
#[derive(Debug, Clone, Default)]
pub(crate) struct Queue {
    by_due: BTreeMap<(Moment, u128), Tenant>,
    by_tenant: BTreeSet<(Tenant, Moment, u128)>,
}

impl Queue {
    pub(crate) fn insert(&mut self, place: u128, Release { tenant, due }: Release) {
        self.by_due.insert((due, place), tenant);
        self.by_tenant.insert((tenant, due, place));
    }

    pub(crate) fn remove(&mut self, place: u128, Release { tenant, due }: Release) {
        self.by_due.remove(&(due, place));
        self.by_tenant.remove(&(tenant, due, place));
    }

    /// The place whose rest ends first, and when. Of several, the lowest.
    pub(crate) fn first(&self) -> Option<(Moment, u128)> {
        self.by_due.first_key_value().map(|(&first, _)| first)
    }

    /// The place that a tenant had last. Of several released at once, the highest.
    pub(crate) fn last_of(&self, tenant: Tenant) -> Option<u128> {
        let latest = (tenant, Moment::from_nanos(u64::MAX), u128::MAX);
        let (of, _, place) = *self.by_tenant.range(..=latest).next_back()?;
        (of == tenant).then_some(place)
    }

    /// The places and their releases, in the order in which their rests end.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (u128, Release)> {
        self.by_due.iter().map(|(&(due, place), &tenant)| (place, Release { tenant, due }))
    }
}
