//! A set of large numbers that finds its gaps fast.

use std::collections::BTreeMap;

/// A set of numbers, kept as its runs: costs memory by the run and not by the range, and every operation is
/// O(log runs). Runs that touch are joined, so the number after a run is always free.
#[derive(Debug, Clone, Default)]
pub(crate) struct Runs {
    /// The first number of each run, and its last.
    runs: BTreeMap<u128, u128>,
}

impl Runs {
    /// Adds the numbers from `first` to `last`, some of which may be there.
    pub(crate) fn insert(&mut self, first: u128, last: u128) {
        let (mut first, mut last) = (first, last);
        let reach = last.saturating_add(1);
        while let Some((&start, &end)) = self.runs.range(..=reach).next_back() {
            if end.saturating_add(1) < first {
                break;
            }
            self.runs.remove(&start);
            first = first.min(start);
            last = last.max(end);
        }
        self.runs.insert(first, last);
    }

    /// Removes one number, if it is there.
    pub(crate) fn remove(&mut self, number: u128) {
        let Some((start, end)) = self.meeting(number, number) else {
            return;
        };
        self.runs.remove(&start);
        if start < number {
            self.runs.insert(start, number - 1);
        }
        if number < end {
            self.runs.insert(number + 1, end);
        }
    }

    /// The last run that holds any number from `first` to `last`.
    pub(crate) fn meeting(&self, first: u128, last: u128) -> Option<(u128, u128)> {
        let (&start, &end) = self.runs.range(..=last).next_back()?;
        (end >= first).then_some((start, end))
    }

    /// The lowest number that is not there.
    pub(crate) fn first_free(&self) -> Option<u128> {
        match self.meeting(0, 0) {
            None => Some(0),
            Some((_, end)) => end.checked_add(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ends_of_the_number_range_are_numbers_like_any_other() {
        let mut runs = Runs::default();
        runs.insert(u128::MAX, u128::MAX);
        runs.insert(0, 0);
        assert_eq!(runs.first_free(), Some(1));
        runs.insert(0, u128::MAX);
        assert_eq!(runs.first_free(), None);
        runs.remove(u128::MAX);
        assert_eq!(runs.first_free(), Some(u128::MAX));
    }

    proptest! {
        #[test]
        fn behaves_as_a_set_of_the_numbers(
            operations in prop::collection::vec((any::<bool>(), 0_u128..40, 0_u128..6), 1..100),
        ) {
            let mut runs = Runs::default();
            let mut model = BTreeSet::new();
            for (insert, first, more) in operations {
                if insert {
                    runs.insert(first, first + more);
                    model.extend(first..=first + more);
                } else {
                    runs.remove(first);
                    model.remove(&first);
                }
                for number in 0..50 {
                    prop_assert_eq!(runs.meeting(number, number).is_some(), model.contains(&number));
                }
                prop_assert_eq!(runs.first_free(), (0..100).find(|free| !model.contains(free)));
                let starts = model.iter().filter(|&&number| number == 0 || !model.contains(&(number - 1)));
                prop_assert_eq!(runs.runs.len(), starts.count(), "runs that touch are joined");
            }
        }
    }
}
