//! Those that have just come get few calls at first.

use std::time::Duration;

use super::{Draft, Reason};
use crate::number::nanos;

/// Lets the weight of a new instance grow while it warms up: caches, connections, compilers.
///
/// The part of its weight is `(age / window) ^ (1 / aggression)`, and at least [`part_min`](Self::part_min) (Envoy's slow
/// start). When all are new, as when the caller starts, nobody waits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowStartOptions {
    /// How long it takes. The default is 10 s.
    pub window: Duration,
    /// 1, the default, grows by the same amount each moment; more grows faster at first.
    pub aggression: f64,
    /// The part of the weight with which it begins, from above 0 to 1; the default is 0.1 (Envoy's).
    pub part_min: f64,
}

impl Default for SlowStartOptions {
    fn default() -> Self {
        Self { window: Duration::from_secs(10), aggression: 1.0, part_min: 0.1 }
    }
}

/// The weight of who warms up is set so often in a window.
const STEPS: u32 = 10;

impl SlowStartOptions {
    pub(super) fn apply(self, draft: &mut Draft<'_>) {
        let (now, window) = (nanos(draft.now), nanos(self.window));
        let each = draft.roster.facts().iter().zip(&draft.weights).enumerate();
        let (mut new, mut count) = (Vec::new(), 0);
        for (index, (fact, _)) in each.filter(|(_, (_, weight))| **weight > 0.0) {
            count += 1;
            if fact.since.saturating_add(window) > now {
                new.push((index, Duration::from_nanos(now.saturating_sub(fact.since))));
            }
        }
        if new.is_empty() || new.len() == count {
            return;
        }
        for (index, age) in new {
            let part = (age.as_secs_f64() / self.window.as_secs_f64()).powf(1.0 / self.aggression);
            let part = part.clamp(self.part_min, 1.0);
            draft.weights[index] *= part;
            draft.explain(index, Reason::SlowStart { part });
            let ends = self.window.saturating_sub(age);
            draft.look_again_at(draft.now + ends.min(self.window / STEPS));
        }
    }
}
