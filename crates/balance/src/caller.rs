//! What changes from pick to pick.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::number::split;

/// The memory of one caller: whose turn it is, and a source of chance.
///
/// Give every thread a caller of its own for every picker it uses, and keep it when the picker is replaced.
/// A caller used with two pickers by turns would show each of them only every other turn, and round robin
/// over two instances would then always choose the same one.
///
/// Strategies that count turns are exact for each caller. Callers begin at a random turn, so that many of them
/// together do not all begin with the first instance.
#[derive(Debug, Clone)]
pub struct Caller {
    turn: u64,
    rng: SmallRng,
}

impl Caller {
    /// Makes a caller. Callers of one seed pick alike; draw the seed at random outside tests.
    pub fn seeded(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        // From 32 bits, so that counting on never wraps in the life of a process.
        let turn = rng.next_u32().into();
        Self { turn, rng }
    }

    /// Takes a turn: each call returns one more than the call before.
    pub fn turn(&mut self) -> u64 {
        let turn = self.turn;
        self.turn = turn.wrapping_add(1);
        turn
    }

    /// Draws 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// Draws one of the numbers below `len`, each as likely as the others; `None` if there are none.
    pub fn below(&mut self, len: usize) -> Option<usize> {
        (len > 0).then(|| split(self.draw(), len).0)
    }
}
