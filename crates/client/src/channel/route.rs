//! The instances that a call goes to, one after another.

use netloft_balance::{Key, Outcome};

use super::Shared;
use crate::{Candidates, Pick};

/// The instances of a call, each once, and from the start when a retry has none left.
pub(super) struct Route<'a> {
    shared: &'a Shared,
    key: Option<Key>,
    candidates: Candidates<'a>,
    /// Those that could not be reached a moment ago are tried all the same.
    insists: bool,
}

impl<'a> Route<'a> {
    pub(super) fn new(shared: &'a Shared, key: Option<Key>) -> Self {
        Self { shared, key, candidates: shared.candidates(key), insists: false }
    }

    /// The next one. `may_return` says whether it may be one that was tried, when there is no other.
    pub(super) fn next(&mut self, may_return: bool) -> Option<Pick> {
        if let Some(pick) = self.untried() {
            return Some(pick);
        }
        if !may_return {
            return None;
        }
        // All were tried, or rest.
        (self.candidates, self.insists) = (self.shared.candidates(self.key), true);
        self.candidates.next()
    }

    /// Leaves out who could not be reached a moment ago, without a wait.
    fn untried(&mut self) -> Option<Pick> {
        loop {
            let pick = self.candidates.next()?;
            let place = self.shared.pool.place(&pick);
            let is_resting = place.is_ok_and(|place| self.shared.pool.slot(&place).resting().is_some());
            if self.insists || !is_resting {
                return Some(pick);
            }
            pick.end(Outcome::Failure);
        }
    }
}
