//! To who follows the key on a ring, unless it is full.

mod points;

use self::points::{Head, Points};
use crate::options::RingHash;
use crate::{Caller, Context, Key, Picker, Roster};

/// The picker of [`Builtin::RingHash`](crate::Builtin::RingHash).
#[derive(Debug)]
pub(crate) struct Ring {
    options: RingHash,
    points: Points,
    /// The sum of the weights.
    width: u64,
    roster: Roster,
}

impl Ring {
    pub(crate) fn new(options: RingHash, roster: Roster) -> Self {
        Self::with(options, roster, None)
    }

    /// Builds the ring that follows another: what did not change is shared with it.
    pub(crate) fn following(&self, options: RingHash, roster: Roster) -> Self {
        Self::with(options, roster, (options.points() == self.options.points()).then_some(self))
    }

    fn with(options: RingHash, roster: Roster, before: Option<&Self>) -> Self {
        if options.bound_percent().is_some() {
            roster.fleet().keep_total();
        }
        let width = roster.weights().iter().copied().map(u64::from).sum();
        let heads = heads(options, &roster, width, before);
        let points = match before {
            Some(before) => before.points.changed_to(heads, &roster),
            None => Points::new(heads, &roster),
        };
        Self { options, points, width, roster }
    }

    /// Whether the one in a slot, with one call more, has no more than its share of all calls in flight allows.
    fn has_room(&self, slot: u32, index: usize, percent: u32) -> bool {
        // Of calls that began before there was a total, neither side knows: else nobody might have room.
        let load = self.roster.stats().in_slot(slot).map_or(0, |stats| stats.in_total());
        if load == 0 {
            return true;
        }
        let total = u128::from(self.roster.fleet().total()) + 1;
        let share = total * u128::from(percent) * u128::from(self.roster.weights()[index]);
        // As load < share.div_ceil(width * 100), without a division.
        u128::from(load) * u128::from(self.width) * 100 < share
    }

    /// Whether a call may go to the one in a slot, and its index.
    fn with_room(&self, slot: u32) -> Option<usize> {
        let index = self.roster.index_of(slot)?;
        let has_room = self.options.bound_percent().is_none_or(|percent| self.has_room(slot, index, percent));
        has_room.then_some(index)
    }

    fn choose(&self, hash: u64, tried: &[usize]) -> Option<usize> {
        let round = self.points.from(hash);
        let mut untried =
            round.filter(|slot| self.roster.index_of(*slot).is_some_and(|index| !tried.contains(&index)));
        let first = untried.next()?;
        // Somebody has room, unless others pick at this moment or the tried ones had it all.
        let found = self.with_room(first).or_else(|| untried.find_map(|slot| self.with_room(slot)));
        found.or_else(|| self.roster.index_of(first))
    }
}

/// How many points everybody has, by slot of the lists of the roster.
fn heads(options: RingHash, roster: &Roster, width: u64, before: Option<&Ring>) -> Vec<Head> {
    let instances = roster.snapshot().instances();
    let mut heads = before.map_or_else(Vec::new, |before| before.points.heads().to_vec());
    heads.resize(instances.slots(), Head::default());
    let nobody = Roster::default();
    let last = before.map_or(&nobody, |before| &before.roster).snapshot().instances();
    // Who is gone has none, and who is there now is found at the same place.
    for (slot, _) in last.unshared(instances) {
        if let Some(head) = heads.get_mut(slot as usize) {
            *head = Head::default();
        }
    }
    for (slot, instance) in instances.unshared(last) {
        heads[slot as usize].seed = Key::of(instance.id.as_str()).hash();
    }
    // As many points as asked for at the mean weight, rounded, and at least one.
    let weights = roster.weights();
    let used = weights.iter().filter(|weight| **weight > 0).count();
    let each = f64::from(options.points()) * float(used as u64) / float(width.max(1));
    for (slot, weight) in instances.order().iter().zip(weights) {
        heads[*slot as usize].points =
            if *weight > 0 { rounded(f64::from(*weight) * each).max(1) } else { 0 };
    }
    heads
}

#[expect(clippy::cast_precision_loss, reason = "a sum of weights is below 2^53")]
fn float(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 1,000 for each of all")]
fn rounded(number: f64) -> u32 {
    (number + 0.5) as u32
}

impl Picker for Ring {
    fn roster(&self) -> &Roster {
        &self.roster
    }

    fn pick(&self, caller: &mut Caller, context: &Context) -> Option<usize> {
        let hash = hash_for(caller, context);
        // Mostly it is the first one.
        let first = self.points.first(hash).and_then(|slot| self.with_room(slot));
        first.or_else(|| self.choose(hash, &[]))
    }

    /// The next one on the ring, so that a key falls back to the same instance each time.
    fn pick_untried(&self, caller: &mut Caller, context: &Context, tried: &[usize]) -> Option<usize> {
        self.choose(hash_for(caller, context), tried)
    }
}

/// The hash of the key; any for a call that has none.
pub(crate) fn hash_for(caller: &mut Caller, context: &Context) -> u64 {
    context.key.map_or_else(|| caller.draw(), Key::hash)
}
