//! A list of which most is shared with the one before it.

use std::fmt;
use std::ops::Index;
use std::sync::Arc;

use crate::number::place;

/// An immutable list, of which a changed copy shares all but a few places with the one before.
///
/// Everybody keeps its slot for as long as it is in the list, and slots lie in blocks, of which a change copies
/// those it touches. The order is a list of slots, so what a change copies for each of the others is 4 bytes. A
/// plain array of counted references would count up and down for all of them, which takes 90 us for 10,000.
pub struct List<T> {
    /// In which slot each one is, in order.
    order: Arc<[u32]>,
    blocks: Arc<[Arc<Block<T>>]>,
    /// The slots that nobody has.
    free: Arc<[u32]>,
}

type Block<T> = [Option<T>; BLOCK];

/// The slots of a block: of 10,000 in 157 blocks, a change copies 64 and 157 references.
const BLOCK: usize = 64;

impl<T> List<T> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The one at an index; `None` beyond the last.
    pub fn get(&self, index: usize) -> Option<&T> {
        self.in_slot(*self.order.get(index)?)
    }

    /// All of them, in order.
    pub fn iter(&self) -> ListIter<'_, T> {
        ListIter { list: self, slots: self.order.iter() }
    }

    /// Whether it is the very same list, and not only one of equal content.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.order, &other.order) && Arc::ptr_eq(&self.blocks, &other.blocks)
    }

    pub(crate) fn in_slot(&self, slot: u32) -> Option<&T> {
        let slot = slot as usize;
        self.blocks.get(slot / BLOCK)?[slot % BLOCK].as_ref()
    }

    /// In which slot each one is, in order.
    pub(crate) fn order(&self) -> &[u32] {
        &self.order
    }

    /// How many slots there are, with the free ones.
    pub(crate) fn slots(&self) -> usize {
        self.blocks.len() * BLOCK
    }

    /// The index of each slot; beyond the last for the free ones.
    pub(crate) fn indices(&self) -> Arc<[u32]> {
        let mut indices = vec![u32::MAX; self.slots()];
        for (slot, index) in self.order.iter().zip(0..) {
            indices[*slot as usize] = index;
        }
        indices.into()
    }

    /// The slots that may hold somebody else than in the other list, and who is there.
    pub(crate) fn unshared<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (u32, &'a T)> {
        let is_shared =
            |index: usize, block| other.blocks.get(index).is_some_and(|one| Arc::ptr_eq(one, block));
        let blocks = self.blocks.iter().enumerate().filter(move |(index, block)| !is_shared(*index, block));
        blocks.flat_map(|(index, block)| {
            let slots = block.iter().zip(place(index * BLOCK)..);
            slots.filter_map(|(one, slot)| Some((slot, one.as_ref()?)))
        })
    }
}

impl<T: Clone + PartialEq> List<T> {
    /// Merges changes into the list. `compare` orders one of the list and a change; the changes are in that order, each of
    /// another one. `decide` says who is there after a change.
    pub(crate) fn merge<C>(
        &self,
        changes: &[C],
        compare: impl Fn(&T, &C) -> std::cmp::Ordering,
        decide: impl Fn(&C) -> Option<T>,
    ) -> Self {
        let mut draft = Draft { blocks: self.blocks.to_vec(), free: self.free.to_vec(), is_changed: false };
        let mut order = Vec::with_capacity(self.order.len() + changes.len());
        let mut rest = &*self.order;
        for change in changes {
            let is_before = |slot: &u32| self.in_slot(*slot).is_some_and(|one| compare(one, change).is_lt());
            // Mostly there are few changes far from each other, or one for each.
            let skipped =
                if rest.first().is_some_and(is_before) { rest.partition_point(is_before) } else { 0 };
            order.extend_from_slice(&rest[..skipped]);
            rest = &rest[skipped..];
            let found = rest.first().copied();
            let found =
                found.filter(|slot| self.in_slot(*slot).is_some_and(|one| compare(one, change).is_eq()));
            if found.is_some() {
                rest = &rest[1..];
            }
            let before = found.and_then(|slot| self.in_slot(slot));
            let next = decide(change);
            order.extend(if before == next.as_ref() { found } else { draft.settle(found, next) });
        }
        order.extend_from_slice(rest);
        if draft.is_changed { draft.finish(order) } else { self.clone() }
    }
}

impl<T> List<T> {
    /// Makes the list of what belongs to each of `all`, at the same index and in the same slot. Where `all` shares blocks
    /// with `before`, so does this with `self`, which is what belongs to `before`.
    pub(crate) fn along<U>(&self, before: &List<U>, all: &List<U>, make: impl Fn(u32, &U) -> T) -> Self {
        let block = |index: usize, theirs: &Arc<Block<U>>| {
            let shared = before.blocks.get(index).filter(|before| Arc::ptr_eq(before, theirs));
            if let Some(ours) = shared.and(self.blocks.get(index)) {
                return Arc::clone(ours);
            }
            let first = index * BLOCK;
            Arc::new(std::array::from_fn(|offset| {
                theirs[offset].as_ref().map(|one| make(place(first + offset), one))
            }))
        };
        let blocks = all.blocks.iter().enumerate().map(|(index, theirs)| block(index, theirs)).collect();
        Self { order: Arc::clone(&all.order), blocks, free: Arc::clone(&all.free) }
    }
}

/// The places of a list while it changes.
struct Draft<T> {
    blocks: Vec<Arc<Block<T>>>,
    free: Vec<u32>,
    is_changed: bool,
}

impl<T: Clone> Draft<T> {
    /// Puts somebody into a slot, or a free one, or frees it. Returns the slot if there is somebody in it.
    fn settle(&mut self, slot: Option<u32>, next: Option<T>) -> Option<u32> {
        if next.is_none() {
            self.free.extend(slot);
        }
        let is_there = next.is_some();
        self.is_changed |= is_there || slot.is_some();
        let slot = slot.or_else(|| is_there.then(|| self.free_slot()))?;
        let place = &mut Arc::make_mut(&mut self.blocks[slot as usize / BLOCK])[slot as usize % BLOCK];
        *place = next;
        is_there.then_some(slot)
    }

    fn free_slot(&mut self) -> u32 {
        if self.free.is_empty() {
            let first = self.blocks.len() * BLOCK;
            self.blocks.push(Arc::new([const { None }; BLOCK]));
            self.free.extend((first..first + BLOCK).rev().map(place));
        }
        self.free.pop().expect("a block was added")
    }

    fn finish(self, order: Vec<u32>) -> List<T> {
        if self.free.len() > order.len() + BLOCK {
            return self.closed_up(&order);
        }
        List { order: order.into(), blocks: self.blocks.into(), free: self.free.into() }
    }

    /// After most have gone, the others move together.
    fn closed_up(&self, order: &[u32]) -> List<T> {
        let mut all = Self { blocks: Vec::new(), free: Vec::new(), is_changed: false };
        let in_slot = |slot: &u32| self.blocks[*slot as usize / BLOCK][*slot as usize % BLOCK].clone();
        let order = order.iter().filter_map(|slot| all.settle(None, in_slot(slot))).collect();
        all.finish(order)
    }
}

impl<T> Clone for List<T> {
    fn clone(&self) -> Self {
        let [order, free] = [&self.order, &self.free].map(Arc::clone);
        Self { order, blocks: Arc::clone(&self.blocks), free }
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { order: Arc::default(), blocks: Arc::new([]), free: Arc::default() }
    }
}

impl<T> Index<usize> for List<T> {
    type Output = T;

    /// # Panics
    ///
    /// Beyond the last.
    fn index(&self, index: usize) -> &T {
        self.get(index).expect("an index into this list")
    }
}

impl<T: fmt::Debug> fmt::Debug for List<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl<T: PartialEq> PartialEq for List<T> {
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other) || self.iter().eq(other)
    }
}

impl<T: Eq> Eq for List<T> {}

impl<T: PartialEq, const N: usize> PartialEq<[T; N]> for List<T> {
    fn eq(&self, other: &[T; N]) -> bool {
        self.iter().eq(other)
    }
}

impl<'a, T> IntoIterator for &'a List<T> {
    type Item = &'a T;
    type IntoIter = ListIter<'a, T>;

    fn into_iter(self) -> ListIter<'a, T> {
        self.iter()
    }
}

/// All of a [`List`], in order.
#[derive(Debug, Clone)]
pub struct ListIter<'a, T> {
    list: &'a List<T>,
    slots: std::slice::Iter<'a, u32>,
}

impl<'a, T> Iterator for ListIter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        self.list.in_slot(*self.slots.next()?)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.slots.size_hint()
    }
}

impl<T> ExactSizeIterator for ListIter<'_, T> {}
