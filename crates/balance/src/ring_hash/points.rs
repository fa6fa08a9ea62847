//! The points of a ring, of which most are shared with the ring before.

use crate::Roster;
use crate::context::mix;
use crate::number::place;

/// The points in the order of their places, cut into arcs of equal length, each of which is an array of its own.
///
/// When somebody comes or goes, only the arcs with points of it are made anew; the others are counted references. Points are
/// spread evenly, so the first one after a place is found near where the place is within its arc, where a search would
/// read ten cache lines one after the other.
#[derive(Debug)]
pub(super) struct Points {
    /// 2^n of them.
    arcs: Box<[Arc]>,
    /// What leaves of a 32-bit place its arc: 32 - n.
    shift: u32,
    heads: Vec<Head>,
}

/// What the points of one owner follow from.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Head {
    pub(super) seed: u64,
    pub(super) points: u32,
}

impl Head {
    fn place(self, number: u32) -> u32 {
        upper(mix(self.seed ^ mix(number.into())))
    }
}

/// The places of the points of an arc in order, and after them in the same order whose each is: so a search reads places alone.
type Arc = std::sync::Arc<[u32]>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Point {
    place: u32,
    /// The slot of who has it.
    owner: u32,
}

/// A point that comes or goes.
#[derive(Debug, Clone, Copy)]
struct Change {
    point: Point,
    is_there: bool,
}

/// The points of an arc when a ring is built, about; it stays cut like that until they are a quarter or four times as many.
const ARC: usize = 250;

impl Points {
    pub(super) fn new(heads: Vec<Head>, roster: &Roster) -> Self {
        let count = count(&heads);
        let arcs = (count / ARC).next_power_of_two();
        let shift = 32 - arcs.trailing_zeros();
        let mut begins = vec![0_usize; arcs + 1];
        each_point(&heads, |point| begins[arc_of(point.place, shift) + 1] += 1);
        for arc in 0..arcs {
            begins[arc + 1] += begins[arc];
        }
        // One step takes each to its arc, where they are few.
        let mut free = begins.clone();
        let mut sorted = vec![Point { place: 0, owner: 0 }; count];
        each_point(&heads, |point| {
            let free = &mut free[arc_of(point.place, shift)];
            sorted[*free] = point;
            *free += 1;
        });
        let mut sorted_arc = |ends: &[usize]| {
            let points = &mut sorted[ends[0]..ends[1]];
            points.sort_unstable_by(|one, other| order(roster, *one, *other));
            arc(points)
        };
        Self { arcs: begins.windows(2).map(&mut sorted_arc).collect(), shift, heads }
    }

    pub(super) fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// The points of other heads; `roster` is that of the new ones.
    pub(super) fn changed_to(&self, heads: Vec<Head>, roster: &Roster) -> Self {
        let count = count(&heads);
        let cut = self.arcs.len() * ARC;
        let mut changes = self.changes(&heads);
        if changes.len() > count / 8 || count > 4 * cut || 4 * count < cut {
            return Self::new(heads, roster);
        }
        changes.sort_unstable_by_key(|change| change.point.place);
        let mut arcs = self.arcs.clone();
        for changes in changes.chunk_by(|one, other| self.arc_of(one) == self.arc_of(other)) {
            let arc = &mut arcs[self.arc_of(&changes[0])];
            *arc = changed(arc, changes, roster);
        }
        Self { arcs, shift: self.shift, heads }
    }

    fn arc_of(&self, change: &Change) -> usize {
        arc_of(change.point.place, self.shift)
    }

    /// The points that go, and those that come.
    fn changes(&self, heads: &[Head]) -> Vec<Change> {
        let mut changes = Vec::new();
        for slot in 0..self.heads.len().max(heads.len()) {
            let head = |heads: &[Head]| heads.get(slot).copied().unwrap_or_default();
            let (before, after) = (head(&self.heads), head(heads));
            if before == after {
                continue;
            }
            // Of the same owner, the first ones stay.
            let kept = if before.seed == after.seed { before.points.min(after.points) } else { 0 };
            for (head, is_there) in [(before, false), (after, true)] {
                let point = |number| Point { place: head.place(number), owner: place(slot) };
                let numbers = kept..head.points;
                changes.extend(numbers.map(|number| Change { point: point(number), is_there }));
            }
        }
        changes
    }

    /// Whose the first point from a place on is; `None` if there is none in the same arc.
    pub(super) fn first(&self, hash: u64) -> Option<u32> {
        let key = upper(hash);
        let (places, owners) = halves(&self.arcs[arc_of(key, self.shift)]);
        owners.get(self.start(places, key)).copied()
    }

    /// The owners from a place on, once around. One comes as often as it has points.
    pub(super) fn from(&self, hash: u64) -> impl Iterator<Item = u32> {
        let key = upper(hash);
        let first = arc_of(key, self.shift);
        let (places, owners) = halves(&self.arcs[first]);
        let (head, tail) = owners.split_at(self.start(places, key));
        let others = self.arcs[first + 1..].iter().chain(&self.arcs[..first]);
        tail.iter().chain(others.flat_map(|arc| halves(arc).1)).chain(head).copied()
    }

    /// The first place of an arc that is not before another one of it.
    fn start(&self, places: &[u32], key: u32) -> usize {
        let part = u64::from(key) & ((1 << self.shift) - 1);
        let guess = (part * places.len() as u64) >> self.shift;
        let guess = usize::try_from(guess).expect("within the arc");
        let begin = guess.saturating_sub(WINDOW / 2).min(places.len().saturating_sub(WINDOW));
        let rest = &places[begin..];
        // Counting takes no branch, which would be guessed wrong as often as not.
        let before = |window: &[u32]| window.iter().map(|place| usize::from(*place < key)).sum();
        let count: usize = match rest.first_chunk::<WINDOW>() {
            Some(window) => before(window),
            None => before(rest),
        };
        if (count > 0 || begin == 0) && (count < WINDOW || rest.len() == WINDOW) {
            return begin + count;
        }
        places.partition_point(|place| *place < key)
    }
}

/// The places among which one is looked for at once: two standard deviations to each side.
const WINDOW: usize = 32;

fn arc(points: &[Point]) -> Arc {
    let places = points.iter().map(|point| point.place);
    places.chain(points.iter().map(|point| point.owner)).collect()
}

/// The places and the owners.
fn halves(arc: &Arc) -> (&[u32], &[u32]) {
    arc.split_at(arc.len() / 2)
}

/// An arc with points gone and come.
fn changed(before: &Arc, changes: &[Change], roster: &Roster) -> Arc {
    let mut arc = before.to_vec();
    for Change { point, is_there } in changes {
        let len = arc.len() / 2;
        let (places, owners) = arc.split_at(len);
        let first = places.partition_point(|place| *place < point.place);
        // Mostly there is nobody else in its place.
        let mut there = (first..len).take_while(|at| places[*at] == point.place);
        if *is_there {
            let next =
                |at: &usize| order(roster, *point, Point { place: places[*at], owner: owners[*at] }).is_lt();
            let at = there
                .find(next)
                .unwrap_or(first + places[first..].partition_point(|place| *place == point.place));
            arc.insert(len + at, point.owner);
            arc.insert(at, point.place);
        } else if let Some(at) = there.find(|at| owners[*at] == point.owner) {
            arc.remove(len + at);
            arc.remove(at);
        }
    }
    arc.into()
}

/// Of points in one place, the one of the lower id is first, for every client.
fn order(roster: &Roster, one: Point, other: Point) -> std::cmp::Ordering {
    let id = |point: Point| roster.snapshot().instances().in_slot(point.owner).map(|one| &one.id);
    one.place.cmp(&other.place).then_with(|| id(one).cmp(&id(other)))
}

fn each_point(heads: &[Head], mut then: impl FnMut(Point)) {
    for (owner, head) in (0..).zip(heads) {
        (0..head.points).for_each(|number| then(Point { place: head.place(number), owner }));
    }
}

fn count(heads: &[Head]) -> usize {
    heads.iter().map(|head| head.points as usize).sum()
}

fn arc_of(place: u32, shift: u32) -> usize {
    usize::try_from(u64::from(place) >> shift).expect("there are as many arcs")
}

fn upper(hash: u64) -> u32 {
    u32::try_from(hash >> 32).expect("32 bits")
}
