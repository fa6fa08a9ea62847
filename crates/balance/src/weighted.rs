//! By turns, as often as the weights demand.
//!
//! Smooth weighted round robin as everyone knows it scans all instances for each pick and changes a number in
//! each, so it needs a lock. Both forms here move that work to the building: a pick computes from the turn
//! alone. A slot per unit of weight, in the order of the instances, would be as fast and is not smooth; a
//! table of a fixed size would round the weights, and the error would grow with every lap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::roster::Eligible;
use crate::{Caller, Context, Picker, Roster};

/// The most turns that are laid out ahead: 32 KiB, which stays in the nearest caches, built in about a
/// millisecond.
const TURNS_MAX: u64 = 1 << 14;

/// The most instances, those of weight 0 too, for whom that is done, unless they weigh the same: with more it takes
/// longer than a change of a large set should.
const INSTANCES_MAX: usize = 1 << 10;

/// The picker of [`Builtin::Weighted`](crate::Builtin::Weighted).
#[derive(Debug)]
pub(crate) struct Weighted {
    order: Order,
    roster: Roster,
}

/// Whose turn it is.
#[derive(Debug)]
enum Order {
    /// All who have a weight have the same.
    Even(Eligible),
    Lap(Box<[u16]>),
    Golden(Golden),
}

impl Weighted {
    pub(crate) fn new(roster: Roster) -> Self {
        let weights = roster.weights().iter().map(|weight| u64::from(*weight));
        let divisor = weights.clone().fold(0, greatest_common_divisor);
        let weights: Vec<u64> = weights.map(|weight| weight / divisor).collect();
        let order = if weights.iter().all(|weight| *weight <= 1) {
            Order::Even(roster.eligible())
        } else if weights.iter().sum::<u64>() <= TURNS_MAX && weights.len() <= INSTANCES_MAX {
            Order::Lap(lap(&weights))
        } else {
            Order::Golden(Golden::new(&weights))
        };
        Self { order, roster }
    }
}

impl Picker for Weighted {
    fn roster(&self) -> &Roster {
        &self.roster
    }

    fn pick(&self, caller: &mut Caller, _context: &Context) -> Option<usize> {
        let turn = caller.turn();
        match &self.order {
            Order::Even(eligible) => eligible.by_turns(turn),
            Order::Lap(turns) => {
                let place = usize::try_from(turn.checked_rem(turns.len() as u64)?).ok()?;
                Some(turns[place].into())
            }
            Order::Golden(golden) => Some(golden.at(turn)),
        }
    }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// Lays out one lap of turns, as many for each instance as its weight says.
///
/// With W turns in the lap, the k-th of the w turns of an instance belongs into the span from kW/w to
/// (k+1)W/w. At every turn, of the instances whose span has begun, the one whose span ends first gets it
/// (`WF²Q`, with every flow always backlogged). Its theorem bounds the service of each from both sides by one
/// turn around the ideal, at every turn since the start, and so by two in any window.
fn lap(weights: &[u64]) -> Box<[u16]> {
    let total: u64 = weights.iter().sum();
    let mut waiting = BinaryHeap::new();
    let mut ready = BinaryHeap::new();
    for index in (0..weights.len()).filter(|index| weights[*index] > 0) {
        waiting.push(Reverse((0, index, 0)));
    }
    let mut turns = Vec::new();
    for turn in 0..total {
        while let Some(&Reverse((begin, index, k))) = waiting.peek()
            && begin <= turn
        {
            waiting.pop();
            // Spans end at fractions of the lap. Their denominators have at most 14 bits, so 32 bits after the
            // point tell any two different ones apart.
            let end = ((k + 1) << 32) / weights[index];
            ready.push(Reverse((end, index, k)));
        }
        // More spans have begun by any turn than turns have passed, so someone is always ready.
        if let Some(Reverse((_, index, k))) = ready.pop() {
            turns.push(u16::try_from(index).expect("a lap is laid out for at most 2^10 instances"));
            let begin = ((k + 1) * total).div_ceil(weights[index]);
            waiting.push(Reverse((begin, index, k + 1)));
        }
    }
    turns.into()
}

/// The instances side by side, each as wide as its weight, and a step by the golden ratio of the whole width
/// for each turn. Steps by that ratio leave no part of the width unvisited for long.
#[derive(Debug)]
struct Golden {
    /// Where each instance ends.
    ends: Box<[u64]>,
    /// For each of 2^n equal parts of the width, the first instance that reaches into it.
    guide: Box<[u32]>,
    /// What leaves of a 64-bit place its part: 64 - n.
    shift: u32,
}

/// 2^64 divided by the golden ratio.
const GOLDEN_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Golden {
    fn new(weights: &[u64]) -> Self {
        let mut width = 0;
        let mut ends = Vec::with_capacity(weights.len());
        for weight in weights {
            width += weight;
            ends.push(width);
        }
        // As many parts as instances, and at least two: a shift by all 64 bits is not defined.
        let parts = weights.len().next_power_of_two().max(2) as u64;
        let shift = 64 - parts.trailing_zeros();
        let mut guide = Vec::new();
        let mut index: u32 = 0;
        for part in 0..parts {
            let begin = scale(part << shift, width);
            while ends[index as usize] <= begin {
                index += 1;
            }
            guide.push(index);
        }
        Self { ends: ends.into(), guide: guide.into(), shift }
    }

    fn at(&self, turn: u64) -> usize {
        let place = turn.wrapping_mul(GOLDEN_STEP);
        let width = self.ends.last().copied().unwrap_or(0);
        let point = scale(place, width);
        let part = usize::try_from(place >> self.shift).expect("there are as many parts");
        // At most two steps on average, as there are no fewer parts than instances. The first two take no branch, which would
        // be guessed wrong as often as not.
        let mut index = self.guide[part] as usize;
        index += usize::from(self.ends[index] <= point);
        index += usize::from(self.ends[index] <= point);
        while self.ends[index] <= point {
            index += 1;
        }
        index
    }
}

/// A place among 2^64, as one among `width`.
fn scale(place: u64, width: u64) -> u64 {
    let product = u128::from(place) * u128::from(width);
    u64::try_from(product >> 64).expect("the upper half of 128 bits has 64")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The extreme discrepancy (Kuipers and Niederreiter, Uniform Distribution of Sequences, chapter 2): over
    /// all weights there can be, and all windows of that length, since a later window is the same points
    /// turned. The lengths are the worst of those tried up to a million, and a million.
    #[test]
    fn golden_steps_miss_no_share_of_the_width_by_eight_in_a_million() {
        for count in [602_069_u32, 974_169, 1_000_000] {
            let step = |turn: u32| u64::from(turn).wrapping_mul(GOLDEN_STEP);
            let mut places: Vec<u64> = (0..count).map(step).collect();
            places.sort_unstable();
            let ahead = |(rank, &place): (u32, &u64)| {
                let expected = scale(place, u64::from(count) << 10);
                (i64::from(rank) << 10) - i64::try_from(expected).unwrap()
            };
            let ahead: Vec<i64> = (0..).zip(&places).map(ahead).collect();
            let spread = ahead.iter().max().unwrap() - ahead.iter().min().unwrap();
            assert!(spread + (1 << 10) < 8 << 10, "{count} steps: {spread}/1024");
        }
    }
}
