//! To who follows the key on a ring, unless it is full.

use crate::context::mix;
use crate::options::RingHash;
use crate::{Caller, Context, Key, Picker, Roster};

/// The picker of [`Builtin::RingHash`](crate::Builtin::RingHash).
#[derive(Debug)]
pub(crate) struct Ring {
    options: RingHash,
    /// Where each point lies, in order, and whose it is.
    points: Box<[Point]>,
    /// For each of 2^n equal parts of the ring, the first point in it or after it.
    guide: Box<[u32]>,
    /// What leaves of a 64-bit place its part: 64 - n.
    shift: u32,
    /// The sum of the weights.
    width: u64,
    roster: Roster,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    hash: u64,
    owner: u32,
}

impl Ring {
    pub(crate) fn new(options: RingHash, roster: Roster) -> Self {
        if options.bound_percent().is_some() {
            roster.fleet().keep_total();
        }
        let weights = roster.weights().iter().copied().map(u64::from);
        let width: u64 = weights.clone().sum();
        let heads = weights.clone().filter(|weight| *weight > 0).count() as u64;
        let mut points = Vec::new();
        for ((instance, weight), owner) in roster.snapshot().instances().iter().zip(weights).zip(0..) {
            // As many points as asked for at the mean weight, rounded, and at least one.
            let share = u128::from(options.points()) * u128::from(weight * heads);
            let count = (share + u128::from(width) / 2) / u128::from(width.max(1));
            let count = u64::try_from(count).unwrap_or(u64::MAX).max(u64::from(weight > 0));
            let seed = Key::of(instance.id.as_str()).hash();
            points.extend((0..count).map(|number| Point { hash: mix(seed ^ mix(number)), owner }));
        }
        let parts = points.len().next_power_of_two().max(2);
        let shift = 64 - parts.trailing_zeros();
        let (points, guide) = sort(&points, parts, shift);
        Self { options, points, guide, shift, width, roster }
    }

    /// The owners from a place on, once around. One comes as often as it has points.
    fn from(&self, hash: u64) -> impl Iterator<Item = usize> {
        let mut start = self.guide[part_of(hash, self.shift)] as usize;
        while self.points.get(start).is_some_and(|point| point.hash < hash) {
            start += 1;
        }
        let round = self.points[start..].iter().chain(&self.points[..start]);
        round.map(|point| point.owner as usize)
    }

    /// Whether an instance with one call more has no more than its share of all calls in flight allows.
    fn has_room(&self, index: usize, percent: u32) -> bool {
        // Of calls that began before there was a total, neither side knows: else nobody might have room.
        let load = self.roster.stats()[index].in_total();
        if load == 0 {
            return true;
        }
        let total = u128::from(self.roster.fleet().total()) + 1;
        let share = total * u128::from(percent) * u128::from(self.roster.weights()[index]);
        u128::from(load) < share.div_ceil(u128::from(self.width) * 100)
    }

    fn choose(&self, hash: u64, tried: &[usize]) -> Option<usize> {
        let mut untried = self.from(hash).filter(|index| !tried.contains(index));
        let Some(percent) = self.options.bound_percent() else {
            return untried.next();
        };
        let first = untried.next()?;
        if self.has_room(first, percent) {
            return Some(first);
        }
        // Somebody has room, unless others pick at this moment or the tried ones had it all.
        Some(untried.find(|index| self.has_room(*index, percent)).unwrap_or(first))
    }
}

/// Sorts points that are spread evenly, as hashes are: one step takes them to their parts, where they are few.
fn sort(points: &[Point], parts: usize, shift: u32) -> (Box<[Point]>, Box<[u32]>) {
    let mut guide = vec![0_u32; parts + 1];
    for point in points {
        guide[part_of(point.hash, shift) + 1] += 1;
    }
    for part in 0..parts {
        guide[part + 1] += guide[part];
    }
    let mut free = guide.clone();
    let mut sorted = points.to_vec();
    for point in points {
        let free = &mut free[part_of(point.hash, shift)];
        sorted[*free as usize] = *point;
        *free += 1;
    }
    for ends in guide.windows(2) {
        sorted[ends[0] as usize..ends[1] as usize].sort_unstable();
    }
    (sorted.into(), guide.into())
}

fn part_of(hash: u64, shift: u32) -> usize {
    usize::try_from(hash >> shift).expect("there are as many parts")
}

impl Picker for Ring {
    fn roster(&self) -> &Roster {
        &self.roster
    }

    fn pick(&self, caller: &mut Caller, context: &Context) -> Option<usize> {
        self.pick_untried(caller, context, &[])
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
