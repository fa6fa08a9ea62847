//! The set of instances at a revision.

use std::collections::BTreeMap;
use std::sync::Arc;

use netloft_types::{Instance, InstanceId, Revision, Update};

/// An immutable set of instances, in order of id: what a picker chooses from.
///
/// It holds what the watch selects and judges none of it: leave instances that want no calls to the query.
/// Cloning it is cheap. The default has no instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    at: Revision,
    instances: Arc<[Arc<Instance>]>,
}

impl Snapshot {
    /// Makes a snapshot. Of instances with the same id, the last one counts.
    pub fn new(at: Revision, instances: impl IntoIterator<Item = Arc<Instance>>) -> Self {
        let all: Vec<_> = instances.into_iter().collect();
        Self { at, instances: by_id(&all).into_values().cloned().collect() }
    }

    /// The snapshot after a batch of updates; `self` stays as it is, for those who still pick from it.
    ///
    /// A whole batch makes one snapshot, so nobody ever sees half a revision. Instances that did not change
    /// are shared. Takes O(n + u log n) for n instances and u updates; if nothing but progress was made, the
    /// set is shared whole.
    #[must_use]
    pub fn apply(&self, batch: &[Update]) -> Self {
        let at = batch.last().map_or(self.at, Update::at);
        let is_progress = |update: &Update| matches!(update, Update::Progress { .. });
        if batch.iter().all(is_progress) {
            let instances = Arc::clone(&self.instances);
            return Self { at, instances };
        }
        let mut all = by_id(&self.instances);
        for update in batch {
            match update {
                Update::Reset { all: fresh, .. } => all = by_id(fresh),
                Update::Put { instance, .. } => {
                    all.insert(&instance.id, instance);
                }
                Update::Delete { id, .. } => {
                    all.remove(id);
                }
                Update::Progress { .. } => {}
            }
        }
        Self { at, instances: all.into_values().cloned().collect() }
    }

    /// The revision up to which changes are in it.
    pub fn at(&self) -> Revision {
        self.at
    }

    /// The instances, in order of id. A pick is an index into them.
    pub fn instances(&self) -> &[Arc<Instance>] {
        &self.instances
    }
}

impl Default for Snapshot {
    fn default() -> Self {
        Self::new(Revision::ZERO, [])
    }
}

fn by_id(instances: &[Arc<Instance>]) -> BTreeMap<&InstanceId, &Arc<Instance>> {
    instances.iter().map(|instance| (&instance.id, instance)).collect()
}
