//! How many keys move when one of many leaves, and how evenly the keys are shared.

use std::time::Duration;

use netloft_balance::{Builtin, Caller, Context, Key, Roster, Strategy as _};

use crate::ours::snapshot;

/// What happens to a million keys.
#[derive(Debug, Clone, Copy)]
pub struct Moved {
    /// Keys of the one who leaves, over the mean: they have to move.
    pub forced: f64,
    /// Other keys that move, over the mean.
    pub needless: f64,
    /// Keys of who has most, over the mean.
    pub peak: f64,
}

const KEYS: u32 = 1_000_000;

/// Looks whose each key is among so many, and again without one of them. Read backwards, one joins.
///
/// # Panics
///
/// If there are fewer than two.
pub fn moved(strategy: Builtin, count: usize) -> Moved {
    assert!(count > 1, "one has to be left");
    let gone = count / 2;
    let before = owners(strategy, &(0..count).collect::<Vec<_>>());
    let after = owners(strategy, &(0..count).filter(|server| *server != gone).collect::<Vec<_>>());
    let mut keys = vec![0_u32; count];
    for owner in &before {
        keys[*owner] += 1;
    }
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after && **before != gone);
    let needless = u32::try_from(moved.count()).expect("no more than there are");
    let most = keys.iter().copied().max().unwrap_or_default();
    let [forced, needless, peak] = [keys[gone], needless, most].map(|keys| f64::from(keys) / mean(count));
    Moved { forced, needless, peak }
}

/// The most keys that one of many has on a ring, over the mean, as theory has it: what each has is the sum of so many
/// gaps, of which each deviates by its mean, and of N such sums the largest is off by `sqrt(2 ln N)` deviations.
/// Keys by chance deviate, too. Maglev's table gives everybody the same but for one place.
pub fn peak_expected(points: Option<u32>, count: usize) -> f64 {
    let of_gaps = points.map_or(0.0, |points| 1.0 / f64::from(points));
    let variance = of_gaps + 1.0 / mean(count);
    1.0 + (2.0 * number(count).ln() * variance).sqrt()
}

fn mean(count: usize) -> f64 {
    f64::from(KEYS) / number(count)
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("a fleet is small"))
}

fn owners(strategy: Builtin, servers: &[usize]) -> Vec<usize> {
    let weights = vec![1; servers.last().map_or(0, |last| last + 1)];
    let picker = strategy.picker(Roster::new(snapshot(servers, &weights), Duration::ZERO));
    let mut caller = Caller::seeded(1);
    let owner = |key: u32| {
        let context = Context::default().with_key(Key::of(key.to_be_bytes()));
        servers[picker.pick(&mut caller, &context).expect("there are servers")]
    };
    (0..KEYS).map(owner).collect()
}
