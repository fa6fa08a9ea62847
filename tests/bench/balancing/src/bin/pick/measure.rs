//! Times work that takes turns, by one thread and by two.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Does something so many times, as the thread of that number.
pub type Work = Box<dyn Fn(u64, u64) + Sync>;

/// Nanoseconds for one, by one thread and by two at once.
#[derive(Debug, Clone, Copy)]
pub struct Cost(pub [f64; 2]);

/// A round is that long: long enough to warm the caches, and short enough to end before the thread is taken off its processor.
const ROUND: Duration = Duration::from_millis(2);
/// Rounds of two threads that do not run at the same time are made again, this often.
const ATTEMPTS: usize = 3;

/// The fastest of so many rounds counts, since whatever else the machine does makes the others slower.
pub fn measure(works: &[&Work], rounds: usize) -> Vec<Cost> {
    let counts: Vec<u64> = works.iter().map(|work| calibrate(work)).collect();
    let mut samples = vec![[const { Vec::new() }; 2]; works.len()];
    for _ in 0..rounds {
        for ((work, count), samples) in works.iter().zip(&counts).zip(&mut samples) {
            for (threads, samples) in [1, 2].into_iter().zip(samples) {
                samples.extend((0..ATTEMPTS).find_map(|_| time(work, *count, threads)));
            }
        }
    }
    let least = |samples: &mut Vec<f64>| samples.iter().copied().reduce(f64::min).unwrap_or(f64::NAN);
    samples.iter_mut().map(|both| Cost(both.each_mut().map(least))).collect()
}

/// How often it is done in a round.
fn calibrate(work: &Work) -> u64 {
    let mut count = 16;
    loop {
        let begun = Instant::now();
        work(count, 0);
        if begun.elapsed() >= ROUND {
            return count;
        }
        count *= 2;
    }
}

/// Nanoseconds for one. By two threads, the mean of what both took; `None` if they did not do it at the same time.
fn time(work: &Work, count: u64, threads: u64) -> Option<f64> {
    let arrived = AtomicUsize::new(0);
    let timed = |number: u64| {
        // What others did in between is not to be in its caches.
        work(count / 2, number);
        // A thread that sleeps at a barrier begins late; one that spins does not.
        arrived.fetch_add(1, Ordering::AcqRel);
        while arrived.load(Ordering::Acquire) < threads as usize {
            std::hint::spin_loop();
        }
        let begun = Instant::now();
        work(count, number);
        (begun, Instant::now())
    };
    let spans: Vec<(Instant, Instant)> = std::thread::scope(|scope| {
        let timed = &timed;
        let others: Vec<_> = (1..threads).map(|number| scope.spawn(move || timed(number))).collect();
        let own = timed(0);
        let others = others.into_iter().map(|one| one.join().expect("it only counts"));
        std::iter::once(own).chain(others).collect()
    });
    let all = spans.iter().map(|span| span.1 - span.0).sum::<Duration>() / threads as u32;
    let begun = spans.iter().map(|span| span.0).max()?;
    let ended = spans.iter().map(|span| span.1).min()?;
    let is_at_once = ended.saturating_duration_since(begun) > all.mul_f64(0.8);
    is_at_once.then(|| all.as_nanos() as f64 / count as f64)
}
