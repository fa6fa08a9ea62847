//! The set of instances at a revision.

use std::sync::Arc;

use netloft_types::{Instance, InstanceId, Revision, Update};

use crate::List;

/// An immutable set of instances, in order of id: what a picker chooses from.
///
/// It holds what the watch selects and judges none of it: leave instances that want no calls to the query.
/// Cloning it is cheap. The default has no instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    at: Revision,
    instances: List<Arc<Instance>>,
}

impl Snapshot {
    /// Makes a snapshot. Of instances with the same id, the last one counts.
    pub fn new(at: Revision, instances: impl IntoIterator<Item = Arc<Instance>>) -> Self {
        let all: Vec<_> = instances.into_iter().collect();
        let changes = all.iter().map(|instance| (&instance.id, Some(instance))).collect();
        Self { at, instances: merged(&List::default(), changes) }
    }

    /// The snapshot after a batch of updates; `self` stays as it is, for those who still pick from it.
    ///
    /// A whole batch makes one snapshot, so nobody ever sees half a revision. What did not change is shared: for u updates
    /// among n instances, 4 bytes for each of them and a few hundred bytes for each update are copied, in
    /// O(n + u log n). If nothing but progress was made, the set is shared whole.
    #[must_use]
    pub fn apply(&self, batch: &[Update]) -> Self {
        let at = batch.last().map_or(self.at, Update::at);
        let mut changes: Vec<Change<'_>> = Vec::new();
        for update in batch {
            match update {
                Update::Reset { all, .. } => {
                    changes.clear();
                    changes.extend(self.instances.iter().map(|instance| (&instance.id, None)));
                    changes.extend(all.iter().map(|instance| (&instance.id, Some(instance))));
                }
                Update::Put { instance, .. } => changes.push((&instance.id, Some(instance))),
                Update::Delete { id, .. } => changes.push((id, None)),
                Update::Progress { .. } => {}
            }
        }
        if changes.is_empty() {
            return Self { at, instances: self.instances.clone() };
        }
        Self { at, instances: merged(&self.instances, changes) }
    }

    /// The revision up to which changes are in it.
    pub fn at(&self) -> Revision {
        self.at
    }

    /// The instances, in order of id. A pick is an index into them.
    pub fn instances(&self) -> &List<Arc<Instance>> {
        &self.instances
    }
}

impl Default for Snapshot {
    fn default() -> Self {
        Self::new(Revision::ZERO, [])
    }
}

/// Somebody's id, and who has it afterwards.
type Change<'a> = (&'a InstanceId, Option<&'a Arc<Instance>>);

/// Of changes to one id, the last one counts.
fn merged(before: &List<Arc<Instance>>, mut changes: Vec<Change<'_>>) -> List<Arc<Instance>> {
    changes.sort_by_key(|change| change.0);
    let is_last = |pair: &[Change<'_>]| pair.get(1).is_none_or(|next| next.0 != pair[0].0);
    let last = (0..changes.len()).filter(|index| is_last(&changes[*index..]));
    let changes: Vec<_> = last.map(|index| changes[index]).collect();
    let compare = |instance: &Arc<Instance>, change: &Change<'_>| instance.id.cmp(change.0);
    before.merge(&changes, compare, |change| change.1.cloned())
}
