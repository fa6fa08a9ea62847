//! What is due when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use netloft_types::InstanceId;

/// Items by the awake time at which they are due. One that is not true any more is noticed when it is due, or when such
/// items are the most of what there is.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    heap: BinaryHeap<Reverse<(Duration, u64, Item)>>,
    sequence: u64,
    /// How many of them are not true any more, at least.
    stale: usize,
}

/// Something that is due at a time, for one generation of a ward.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Item {
    pub(super) instance: InstanceId,
    pub(super) generation: u64,
    pub(super) what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// The check of this index.
    Check(usize),
    /// The whole: a window ends, a hold, a wait.
    Ward,
}

/// Items that are not worth being cleared away.
const STALE_MIN: usize = 1_024;

impl Agenda {
    pub(super) fn push(&mut self, at: Duration, item: Item) {
        self.sequence += 1;
        self.heap.push(Reverse((at, self.sequence, item)));
    }

    pub(super) fn next_due(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse((due, ..))| *due)
    }

    /// Takes the item that is due the longest.
    pub(super) fn pop_due(&mut self, awake: Duration) -> Option<Item> {
        self.next_due().filter(|due| *due <= awake)?;
        self.heap.pop().map(|Reverse((_, _, item))| item)
    }

    /// Takes note that some items are not true any more, and clears such away before they are the most of what there
    /// is: they may be due only tomorrow.
    pub(super) fn outdate(&mut self, count: usize, is_true: impl Fn(&Item) -> bool) {
        self.stale += count;
        if self.stale >= STALE_MIN.max(self.heap.len() / 2) {
            self.heap.retain(|Reverse((_, _, item))| is_true(item));
            self.stale = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_and_goes_leaves_nothing_behind() {
        let mut agenda = Agenda::default();
        for generation in 0..100_000 {
            let instance = "api-1".parse().unwrap();
            agenda.push(Duration::from_hours(24), Item { instance, generation, what: What::Ward });
            agenda.outdate(1, |_| false);
        }
        assert!(agenda.heap.len() <= STALE_MIN, "{}", agenda.heap.len());
    }
}
