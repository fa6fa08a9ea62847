//! Those that are usable, unless too few are.

use netloft_types::Lifecycle;

use super::{Draft, Reason};
use crate::Roster;

/// Leaves out what the registry says does not work, wants no calls, or is kept out by an operator.
///
/// If that is everybody, nobody gets calls. A query that selects only usable instances has the registry leave them out; the
/// rest of a service is then not known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HealthOptions {
    /// The panic threshold (Envoy's): if a smaller percentage of those that want calls works, whether they work is not
    /// believed, and all of them get calls. The default of 0 believes everything, since the registry has a threshold of its
    /// own: what seems to fail all at once, it does not report. Envoy's default is 50.
    pub panic_percent: u8,
}

/// Which instances work and want calls.
pub(super) fn usable(roster: &Roster) -> Vec<bool> {
    roster.facts().iter().map(|fact| fact.is_usable).collect()
}

impl HealthOptions {
    pub(super) fn apply(self, draft: &mut Draft<'_>, is_usable: &[bool]) {
        if !is_usable.contains(&false) {
            return;
        }
        let instances = draft.roster.snapshot().instances();
        let left = draft.left();
        let asked_for = left.iter().filter(|index| instances[**index].wants_calls()).count();
        let working = left.iter().filter(|index| is_usable[**index]).count();
        let is_panic = working * 100 < asked_for * usize::from(self.panic_percent);
        for index in left.into_iter().filter(|index| !is_usable[*index]) {
            let (health, lifecycle) = (instances[index].health, instances[index].lifecycle);
            if instances[index].maintenance.is_some() {
                draft.leave_out(index, Reason::Maintenance);
            } else if is_panic && lifecycle == Lifecycle::Ready {
                draft.explain(index, Reason::Panic);
            } else {
                draft.leave_out(index, Reason::Unusable { health, lifecycle });
            }
        }
    }
}
