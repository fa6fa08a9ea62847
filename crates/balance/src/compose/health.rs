//! Those that are usable, unless too few are.

use netloft_types::{Health, Lifecycle};

use super::{Draft, Reason};
use crate::Roster;

/// Leaves out what the registry says does not work or wants no calls.
///
/// A query that selects only usable instances has the registry do that; the rest of a service is then not known here, and
/// its panic threshold is the registry's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthOptions {
    /// The panic threshold (Envoy's; its default, 50 too): if a smaller percentage of those that want calls works, whether
    /// they work is not believed, and all of them get calls. 0 believes everything.
    pub panic_percent: u8,
}

impl Default for HealthOptions {
    fn default() -> Self {
        Self { panic_percent: 50 }
    }
}

/// Which instances work and want calls.
pub(super) fn usable(roster: &Roster) -> Vec<bool> {
    let instances = roster.snapshot().instances().iter();
    let is_usable = instances.map(|one| one.lifecycle == Lifecycle::Ready && one.health != Health::Critical);
    is_usable.collect()
}

impl HealthOptions {
    pub(super) fn apply(self, draft: &mut Draft<'_>, is_usable: &[bool]) {
        let instances = draft.roster.snapshot().instances();
        let left = draft.left();
        let wants_calls = |index: &&usize| instances[**index].lifecycle == Lifecycle::Ready;
        let asked_for = left.iter().filter(wants_calls).count();
        let working = left.iter().filter(|index| is_usable[**index]).count();
        let is_panic = working * 100 < asked_for * usize::from(self.panic_percent);
        for index in left {
            let (health, lifecycle) = (instances[index].health, instances[index].lifecycle);
            if is_usable[index] {
                continue;
            }
            if is_panic && lifecycle == Lifecycle::Ready {
                draft.reasons[index].push(Reason::Panic);
            } else {
                draft.leave_out(index, Reason::Unusable { health, lifecycle });
            }
        }
    }
}
