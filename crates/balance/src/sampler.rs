//! Draws by weight, in constant time.

use crate::Caller;
use crate::number::{place, split};

/// Draws indices as often as their weights demand: the alias method (Walker 1977, built as by Vose, A Linear
/// Algorithm For Generating Random Numbers With a Given Distribution, 1991). No share is off by more than
/// 2^-32.
#[derive(Debug)]
pub(crate) enum Sampler {
    /// All weigh the same.
    Even(usize),
    Alias(Box<[Column]>),
}

/// One of equally wide columns, cut in two: up to `own` of 2^32 belongs to its own index, the rest to another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    own: u32,
    other: u32,
}

impl Sampler {
    /// # Panics
    ///
    /// If all weights are 0; a roster has no such weights.
    pub(crate) fn new(weights: &[u32]) -> Self {
        let is_even = weights.windows(2).all(|pair| pair[0] == pair[1]);
        if is_even { Self::Even(weights.len()) } else { Self::Alias(columns(weights)) }
    }

    pub(crate) fn draw(&self, caller: &mut Caller) -> Option<usize> {
        match self {
            Self::Even(len) => caller.below(*len),
            Self::Alias(columns) => {
                let (index, fraction) = split(caller.draw(), columns.len());
                let column = columns[index];
                // Chosen without a branch, which would be guessed wrong as often as not.
                Some([column.other as usize, index][usize::from(fraction < column.own)])
            }
        }
    }

    /// Draws once more, for a second opinion. Among weights a few attempts at another one than the first will
    /// do; the first comes back when it has nearly all of the weight.
    pub(crate) fn draw_other(&self, caller: &mut Caller, first: usize) -> usize {
        match self {
            Self::Even(len) => {
                let step = caller.below(len - 1).map_or(0, |step| step + 1);
                if first + step < *len { first + step } else { first + step - len }
            }
            Self::Alias(_) => {
                let mut draws = std::iter::repeat_with(|| self.draw(caller).unwrap_or(first)).take(3);
                draws.find(|index| *index != first).unwrap_or(first)
            }
        }
    }
}

fn columns(weights: &[u32]) -> Box<[Column]> {
    // In units of which a column holds as many as there is weight.
    let width: u64 = weights.iter().copied().map(u64::from).sum();
    let mut left: Vec<u64> = weights.iter().map(|weight| u64::from(*weight) * weights.len() as u64).collect();
    let full = |index: usize| Column { own: u32::MAX, other: place(index) };
    let mut columns: Vec<Column> = (0..weights.len()).map(full).collect();
    let (mut short, mut long): (Vec<_>, Vec<_>) = (0..weights.len()).partition(|index| left[*index] < width);
    while let (Some(needy), Some(&giver)) = (short.pop(), long.last()) {
        columns[needy] = Column { own: part(left[needy], width), other: place(giver) };
        left[giver] -= width - left[needy];
        if left[giver] < width {
            short.extend(long.pop());
        }
    }
    columns.into()
}

/// What part of 2^32 it is of the width, which is more.
fn part(left: u64, width: u64) -> u32 {
    // Mostly 64 bits will do, by which is divided in a third of the time.
    let part = if width <= u32::MAX.into() {
        (left << 32) / width
    } else {
        u64::try_from((u128::from(left) << 32) / u128::from(width)).expect("less than 2^32")
    };
    u32::try_from(part).expect("less than a column")
}
