//! Nanoseconds for a pick, and for a whole call: pick, begin and report. Beside what others do.
//!
//! `cargo bench -p netloft-balance --bench pick`. Medians of rounds that take turns, so that a busy machine is
//! busy for all. The time is made up: reading a clock is up to whoever calls.

#![expect(clippy::print_stdout, reason = "the table is the result")]
#![expect(clippy::disallowed_methods, reason = "a bench needs a clock")]

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant};

use netloft_balance::{
    Builtin, Call, Caller, Context, Key, Outcome, Picker, Roster, Snapshot, Strategy as _,
};
use netloft_types::{Instance, Revision};
use tower::Service;
use tower::balance::p2c::Balance;
use tower::discover::ServiceList;
use tower::load::{CompleteOnResponse, PeakEwma};

/// Does something so many times, as the thread of that number.
type Work = Box<dyn Fn(u64, u64) + Sync>;

const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(8);

fn main() {
    // `cargo test --benches` runs this too, without this argument.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    for count in [100, 10_000] {
        println!("\n{count} instances: ns, one thread / two threads\n");
        println!("| | pick | pick, begin, report |\n|---|---|---|");
        let rows = rows(count);
        let works: Vec<&Work> = rows.iter().flat_map(|(_, works)| works).collect();
        let medians = measure(&works);
        let mut medians = medians.into_iter();
        for (name, works) in &rows {
            let cells: Vec<String> = medians.by_ref().take(works.len()).collect();
            println!("| {name} | {} |", cells.join(" | "));
        }
        build(count);
    }
}

/// What is measured, with up to two things to do each.
fn rows(count: u32) -> Vec<(String, Vec<Work>)> {
    let mut rows = Vec::new();
    for strategy in Builtin::ALL {
        let roster = roster(count);
        // Everybody is a little busy, or some strategies would be done at the first look.
        let picker: Arc<dyn Picker> = Arc::from(strategy.picker(roster));
        let begin = |index| picker.roster().begin(index, Duration::ZERO);
        let busy: Arc<Vec<Call>> = Arc::new((0..picker.roster().weights().len()).map(begin).collect());
        let works: Vec<Work> = vec![pick(Arc::clone(&picker), Arc::clone(&busy)), call(picker, busy)];
        rows.push((strategy.to_string(), works));
    }
    rows.push(("a mutex and smooth weighted round robin".to_owned(), vec![naive(count)]));
    rows.push(("a mutex and tower's p2c with PeakEwma, with the answer".to_owned(), vec![tower(count)]));
    rows
}

fn pick(picker: Arc<dyn Picker>, busy: Arc<Vec<Call>>) -> Work {
    Box::new(move |count, seed| {
        let _busy = &busy;
        let mut caller = Caller::seeded(seed);
        for step in 0..count {
            black_box(picker.pick(&mut caller, &context(step)));
        }
    })
}

fn call(picker: Arc<dyn Picker>, busy: Arc<Vec<Call>>) -> Work {
    Box::new(move |count, seed| {
        let _busy = &busy;
        let mut caller = Caller::seeded(seed);
        for step in 0..count {
            let context = context(step);
            let index = picker.pick(&mut caller, &context).expect("there are instances");
            let call = picker.roster().begin(index, context.now);
            call.end(context.now + Duration::from_millis(1), Outcome::Success);
        }
    })
}

fn context(step: u64) -> Context {
    Context::at(Duration::from_micros(step)).with_key(Key::hashed(step.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

/// One lock around a scan of every instance.
fn naive(count: u32) -> Work {
    // The weight of each instance, and what it is owed.
    let weights = roster(count).weights().iter().map(|weight| (i64::from(*weight), 0)).collect();
    let state: Mutex<Vec<(i64, i64)>> = Mutex::new(weights);
    Box::new(move |count, _| {
        for _ in 0..count {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let total: i64 = state.iter().map(|(weight, _)| weight).sum();
            for (weight, owed) in state.iter_mut() {
                *owed += *weight;
            }
            let most = state.iter().enumerate().max_by_key(|(_, (_, owed))| *owed);
            let index = most.map_or(0, |(index, _)| index);
            state[index].1 -= total;
            black_box(index);
        }
    })
}

/// A service that answers at once.
#[derive(Debug)]
struct Echo;

impl Service<()> for Echo {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, _context: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(()))
    }
}

fn tower(count: u32) -> Work {
    let measured = |_| PeakEwma::new(Echo, Duration::from_millis(30), 10e9, CompleteOnResponse::default());
    let balance = Balance::new(ServiceList::new::<()>((0..count).map(measured).collect::<Vec<_>>()));
    let balance = Mutex::new(balance);
    Box::new(move |count, _| {
        let mut context = TaskContext::from_waker(Waker::noop());
        for _ in 0..count {
            let answer = {
                let mut balance = balance.lock().unwrap_or_else(PoisonError::into_inner);
                while balance.poll_ready(&mut context).is_pending() {}
                balance.call(())
            };
            black_box(pin!(answer).poll(&mut context).is_ready());
        }
    })
}

/// The median of each, by one thread and by two.
fn measure(works: &[&Work]) -> Vec<String> {
    let counts: Vec<u64> = works.iter().map(|work| calibrate(work)).collect();
    let mut samples = vec![[const { Vec::new() }; 2]; works.len()];
    for _ in 0..ROUNDS {
        for ((work, count), samples) in works.iter().zip(&counts).zip(&mut samples) {
            for (threads, samples) in (1..).zip(samples) {
                samples.push(time(work, *count, threads) * 10 / u128::from(*count));
            }
        }
    }
    let median = |samples: &mut Vec<u128>| {
        samples.sort_unstable();
        let tenths = samples[ROUNDS / 2];
        if tenths < 200 { format!("{}.{}", tenths / 10, tenths % 10) } else { (tenths / 10).to_string() }
    };
    samples.iter_mut().map(|[one, two]| format!("{} / {}", median(one), median(two))).collect()
}

/// How often it is done in a round.
fn calibrate(work: &Work) -> u64 {
    let mut count = 64;
    while time(work, count, 1) < ROUND.as_nanos() {
        count *= 2;
    }
    count
}

/// How long each of the threads took to do it so many times: the slowest, in nanoseconds.
fn time(work: &Work, count: u64, threads: u64) -> u128 {
    let barrier = Barrier::new(usize::try_from(threads).expect("a few"));
    let timed = |seed: u64| {
        barrier.wait();
        let begun = Instant::now();
        work(count, seed);
        begun.elapsed().as_nanos()
    };
    std::thread::scope(|scope| {
        let timed = &timed;
        let others: Vec<_> = (1..threads).map(|seed| scope.spawn(move || timed(seed))).collect();
        let own = timed(0);
        others.into_iter().map(|one| one.join().expect("it only counts")).fold(own, u128::max)
    })
}

/// How long it takes to build each picker.
fn build(count: u32) {
    let roster = roster(count);
    let costs = Builtin::ALL.map(|strategy| {
        let mut samples = [1, 2, 3, 4, 5].map(|_| {
            let begun = Instant::now();
            black_box(strategy.picker(roster.clone()));
            begun.elapsed()
        });
        samples.sort_unstable();
        format!("{strategy} {:.1?}", samples[2])
    });
    println!("\nto build: {}", costs.join(", "));
}

/// Instances with the weights 1 to 7 in turn: laid out ahead up to 100 instances, by the golden ratio beyond.
fn roster(count: u32) -> Roster {
    let instances = (0..count).map(|number| {
        let mut instance = Instance::new(
            format!("api-{number}").parse().expect("a legal id"),
            "api".parse().expect("a legal name"),
            Ipv4Addr::from_bits((10 << 24) + number).into(),
            "80".parse().expect("a legal port"),
        );
        instance.weight = (number % 7 + 1).try_into().expect("a legal weight");
        Arc::new(instance)
    });
    Roster::new(Snapshot::new(Revision::new(1), instances), Duration::ZERO)
}
