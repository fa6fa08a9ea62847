//! Which ports are covered by ranges, of which any number may overlap.

use netloft_types::PortRange;

/// One more than the highest port.
const LEN: u32 = 1 << 16;

/// Port ranges, counted as often as they were added.
///
/// A binary tree over all port numbers (a segment tree): a range is kept at the at most 30 nodes that make it up,
/// as a count, and each node knows the gaps below it. So adding, removing, asking and the search for a gap of any
/// length take a few dozen steps, whatever is there. Nodes under which nothing was added do not
/// exist; a port by itself costs at most 1 KiB, many side by side 64 bytes each.
#[derive(Debug, Clone, Default)]
pub(crate) struct Coverage {
    root: Node,
}

#[derive(Debug, Clone, Default)]
struct Node {
    /// How many ranges are kept here.
    count: u32,
    /// What is below; `None` if nothing is.
    below: Option<Box<Below>>,
}

#[derive(Debug, Clone, Default)]
struct Below {
    gaps: Gaps,
    halves: [Node; 2],
}

/// The ports of a node that nothing in it or below covers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Gaps {
    /// How many there are before the first that is covered.
    leading: u32,
    /// How many there are after the last that is covered.
    trailing: u32,
    /// How many there are in a row at most.
    longest: u32,
}

/// A search for the first gap that is long enough, which goes through the nodes from left to right.
struct Search {
    from: u32,
    len: u32,
    /// How many ports right before the node at hand are not covered.
    open: u32,
}

impl Coverage {
    /// Adds a range.
    pub(crate) fn add(&mut self, range: PortRange) {
        self.root.change(LEN, bounds(range), |count| count + 1);
    }

    /// Removes a range that was added.
    pub(crate) fn remove(&mut self, range: PortRange) {
        self.root.change(LEN, bounds(range), |count| count - 1);
    }

    /// Whether any port of a range is covered.
    pub(crate) fn meets(&self, range: PortRange) -> bool {
        self.root.meets(LEN, bounds(range))
    }

    /// The lowest port not below `from` from which on `len` ports in a row are not covered.
    pub(crate) fn first_gap(&self, from: u32, len: u32) -> Option<u32> {
        let mut search = Search { from, len, open: 0 };
        self.root.find(0, LEN, &mut search)
    }
}

impl Node {
    /// Changes the counts of the nodes that make up a range, in a node of `len` ports; bounds are relative to its
    /// first.
    fn change(&mut self, len: u32, (first, last): (u32, u32), count: fn(u32) -> u32) {
        if (first, last) == (0, len - 1) {
            self.count = count(self.count);
            return;
        }
        let half = len / 2;
        let below = self.below.get_or_insert_default();
        let [left, right] = &mut below.halves;
        if first < half {
            left.change(half, (first, last.min(half - 1)), count);
        }
        if last >= half {
            right.change(half, (first.saturating_sub(half), last - half), count);
        }
        if left.is_blank() && right.is_blank() {
            self.below = None;
        } else {
            below.gaps = Gaps::joined(left.gaps(half), right.gaps(half), half);
        }
    }

    fn is_blank(&self) -> bool {
        self.count == 0 && self.below.is_none()
    }

    fn gaps(&self, len: u32) -> Gaps {
        match &self.below {
            _ if self.count > 0 => Gaps::default(),
            None => Gaps { leading: len, trailing: len, longest: len },
            Some(below) => below.gaps,
        }
    }

    fn meets(&self, len: u32, (first, last): (u32, u32)) -> bool {
        if self.count > 0 {
            return true;
        }
        let Some(below) = &self.below else {
            return false;
        };
        if (first, last) == (0, len - 1) {
            // A node with something below it is covered somewhere.
            return true;
        }
        let half = len / 2;
        let [left, right] = &below.halves;
        (first < half && left.meets(half, (first, last.min(half - 1))))
            || (last >= half && right.meets(half, (first.saturating_sub(half), last - half)))
    }

    /// Goes on with a search in this node, whose first port is `base`.
    fn find(&self, base: u32, len: u32, search: &mut Search) -> Option<u32> {
        if base + len <= search.from {
            return None;
        }
        let gaps = self.gaps(len);
        if search.from <= base {
            if search.open + gaps.leading >= search.len {
                return Some(base - search.open);
            }
            if gaps.longest < search.len {
                search.open = if gaps.leading == len { search.open + len } else { gaps.trailing };
                return None;
            }
        } else if gaps.longest == len || gaps.longest == 0 {
            // The search begins in the middle of a node that is the same throughout.
            search.open = gaps.longest.min(base + len - search.from);
            return (search.open >= search.len).then_some(search.from);
        }
        let half = len / 2;
        let [left, right] = &self.below.as_ref()?.halves;
        left.find(base, half, search).or_else(|| right.find(base + half, half, search))
    }
}

impl Gaps {
    /// The gaps of two halves of `half` ports side by side.
    fn joined(left: Self, right: Self, half: u32) -> Self {
        Self {
            leading: if left.leading == half { half + right.leading } else { left.leading },
            trailing: if right.trailing == half { half + left.trailing } else { right.trailing },
            longest: left.longest.max(right.longest).max(left.trailing + right.leading),
        }
    }
}

fn bounds(range: PortRange) -> (u32, u32) {
    (range.first().number().into(), range.last().number().into())
}

#[cfg(test)]
mod tests {
    use netloft_types::Port;
    use proptest::prelude::*;

    use super::*;

    fn range(first: u32, last: u32) -> PortRange {
        PortRange::new(Port::try_from(first).unwrap(), Port::try_from(last).unwrap()).unwrap()
    }

    #[test]
    fn a_gap_is_found_anywhere_and_none_in_what_is_full() {
        let mut coverage = Coverage::default();
        coverage.add(range(1, 65_535));
        assert_eq!(coverage.first_gap(1, 1), None);
        coverage.remove(range(1, 65_535));
        assert_eq!(coverage.first_gap(1, 65_535), Some(1));
        for (first, last) in [(1, 32_766), (32_769, 65_535)] {
            coverage.add(range(first, last));
        }
        assert_eq!(coverage.first_gap(1, 2), Some(32_767), "across the middle");
        assert_eq!(coverage.first_gap(32_768, 2), None);
        assert_eq!(coverage.first_gap(32_768, 1), Some(32_768));
        assert_eq!(coverage.first_gap(1, 3), None);
    }

    #[test]
    fn what_is_removed_leaves_nothing_behind() {
        let mut coverage = Coverage::default();
        let ranges = [(1, 65_535), (1, 1), (80, 443), (443, 8_080), (1, 65_535)];
        for (first, last) in ranges {
            coverage.add(range(first, last));
        }
        for (first, last) in ranges {
            coverage.remove(range(first, last));
        }
        assert!(coverage.root.is_blank());
    }

    proptest! {
        #[test]
        fn behaves_as_a_list_of_ranges(
            base in prop::sample::select(vec![1_u32, 2_040, 32_700, 65_400]),
            operations in prop::collection::vec(
                (any::<bool>(), 0_u32..100, 0_u32..20, any::<prop::sample::Index>()), 1..60
            ),
        ) {
            let mut coverage = Coverage::default();
            let mut model: Vec<PortRange> = Vec::new();
            for (add, first, more, index) in operations {
                if add || model.is_empty() {
                    let range = range(base + first, base + first + more);
                    coverage.add(range);
                    model.push(range);
                } else {
                    let index = index.index(model.len());
                    coverage.remove(model.swap_remove(index));
                }
                let is_free = |range| !model.iter().any(|other| other.overlaps(range));
                for first in base..base + 110 {
                    let asked = range(first, first + 3);
                    prop_assert_eq!(coverage.meets(asked), !is_free(asked));
                }
                for (from, len) in [(base, 1), (base + 40, 2), (base + 7, 5), (base + 60, 11)] {
                    let starts = (from..).take_while(|start| start + len <= LEN);
                    let gap = starts.take(200).find(|&start| is_free(range(start, start + len - 1)));
                    prop_assert_eq!(coverage.first_gap(from, len), gap, "{} from {}", len, from);
                }
            }
        }
    }
}
