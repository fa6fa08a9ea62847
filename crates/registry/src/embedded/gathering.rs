//! Whether to wait a moment before writing, so that more callers share a sync of the disk.
//!
//! Callers that are answered together come back together, while the disk is already busy for the others: so they fall
//! into two groups, and everybody waits for two syncs. A short wait before writing makes one group of them. It is no
//! longer than half a sync, and only as long as it brings somebody.

use std::time::Duration;

/// The longest wait, on however slow a disk.
const WAIT_MAX: Duration = Duration::from_millis(5);
/// Writes without a wait, at most, after waits that brought nobody.
const SKIPS_MAX: u32 = 64;

/// What the last writes tell about the next.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    /// Who was answered by the last write, and how long that took.
    answered: usize,
    took: Duration,
    /// Waits in a row that brought nobody.
    vain: u32,
    /// Writes still to come without a wait.
    skips: u32,
}

/// A wait that is worth it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait {
    /// Until so many callers wait,
    pub(crate) callers: usize,
    /// but not longer than this.
    pub(crate) limit: Duration,
}

impl Gathering {
    /// Whether to wait for others, with so many waiting already.
    pub(crate) fn wait(&mut self, waiting: usize) -> Option<Wait> {
        // Those who were answered may come back, and those who wait came meanwhile. Not all will.
        let callers = (self.answered + waiting) * 7 / 8;
        if waiting == 0 || waiting >= callers {
            return None;
        }
        if self.skips > 0 {
            self.skips -= 1;
            return None;
        }
        Some(Wait { callers, limit: (self.took / 2).min(WAIT_MAX) })
    }

    /// Tells what a wait brought.
    pub(crate) fn waited(&mut self, before: usize, after: usize) {
        if after - before > self.answered / 8 {
            self.vain = 0;
        } else {
            self.vain = (self.vain + 1).min(SKIPS_MAX.ilog2());
            self.skips = 1 << self.vain;
        }
    }

    /// Tells of a write.
    pub(crate) fn wrote(&mut self, answered: usize, took: Duration) {
        self.answered = answered;
        self.took = took;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNC: Duration = Duration::from_millis(2);

    #[test]
    fn those_who_were_answered_are_waited_for() {
        let mut gathering = Gathering::default();
        assert_eq!(gathering.wait(32), None, "of nobody is known that he comes back");
        gathering.wrote(32, SYNC);
        assert_eq!(gathering.wait(32), Some(Wait { callers: 56, limit: SYNC / 2 }));
        gathering.waited(32, 56);
        gathering.wrote(56, SYNC);
        // The rest came during the sync.
        assert_eq!(gathering.wait(8), Some(Wait { callers: 56, limit: SYNC / 2 }));
    }

    #[test]
    fn a_caller_alone_waits_for_nobody() {
        let mut gathering = Gathering::default();
        for _ in 0..4 {
            assert_eq!(gathering.wait(1), None);
            gathering.wrote(1, SYNC);
        }
    }

    #[test]
    fn a_slow_disk_is_not_made_much_slower() {
        let mut gathering = Gathering::default();
        gathering.wrote(40, Duration::from_secs(3));
        assert_eq!(gathering.wait(10).map(|wait| wait.limit), Some(WAIT_MAX));
    }

    #[test]
    fn when_nobody_comes_back_waiting_becomes_rare() {
        let mut gathering = Gathering::default();
        let mut waits = 0;
        for _ in 0..1_000 {
            if gathering.wait(8).is_some() {
                waits += 1;
                gathering.waited(8, 8);
            }
            gathering.wrote(8, SYNC);
        }
        assert!((5..30).contains(&waits), "{waits}");
        // And again usual once it helps.
        gathering.skips = 0;
        gathering.waited(8, 14);
        assert!(gathering.wait(8).is_some());
    }
}
