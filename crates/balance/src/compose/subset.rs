//! A few of many.

use super::{Draft, Reason};
use crate::Key;
use crate::context::mix;

/// Lets a caller use only a few of a large service, always the same ones as long as they are there: so that thousands of
/// callers do not all keep connections to thousands of instances.
///
/// Those with the highest hash of caller and instance are used (rendezvous hashing: Thaler and Ravishankar 1998; gRPC
/// proposal A68). When one goes, one other takes its place; over many callers, every instance has about the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubsetOptions {
    /// How many. More callers times this than instances keeps the load even: 20 to 100 (Google's SRE book, chapter 20).
    pub size: usize,
    /// Of the caller: another one for each, the same after a restart if it is to use the same ones.
    pub caller: Key,
}

impl SubsetOptions {
    pub(super) fn apply(self, draft: &mut Draft<'_>) {
        let mut left = draft.left();
        if left.len() <= self.size.max(1) {
            return;
        }
        let instances = draft.roster.snapshot().instances();
        let rank = |index: &usize| mix(Key::of(instances[*index].id.as_str()).hash() ^ self.caller.hash());
        left.sort_by_cached_key(|index| std::cmp::Reverse(rank(index)));
        for index in left.split_off(self.size.max(1)) {
            draft.leave_out(index, Reason::OutsideSubset);
        }
    }
}
