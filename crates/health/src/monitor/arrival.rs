//! Many at once: after a restart, or from another monitor.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use netloft_types::{Instance, InstanceId, Lifecycle};

use super::{FIRST_WITHIN, Monitor};

impl Monitor {
    /// Looks after `instance` from now on, which another monitor did until now: from the health that it has, with all
    /// thresholds ahead. A ttl check has its whole interval, a drain window its whole length, and probes begin within
    /// their interval.
    pub fn take_over(&mut self, now: Duration, instance: &Arc<Instance>) {
        self.tick(now);
        self.put_in_turn(instance);
    }

    pub(super) fn reset(&mut self, all: &[Arc<Instance>]) {
        let there: BTreeSet<&InstanceId> = all.iter().map(|instance| &instance.id).collect();
        let gone: Vec<_> = self.wards.keys().filter(|id| !there.contains(id)).cloned().collect();
        for id in &gone {
            self.forget(id);
        }
        for instance in all {
            self.put_in_turn(instance);
        }
    }

    /// Looks after `instance`, of which there may be many at once: after a restart everything is due, and what calls go
    /// to already can wait for its turn.
    fn put_in_turn(&mut self, instance: &Arc<Instance>) {
        let is_waited_for = instance.lifecycle == Lifecycle::Starting;
        let longest = instance.checks.iter().map(|check| check.interval.length()).max();
        self.put(instance, longest.filter(|_| !is_waited_for).unwrap_or(FIRST_WITHIN));
    }
}
