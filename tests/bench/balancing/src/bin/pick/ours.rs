//! Ours, and the floor that no pick can be below.

use std::cell::RefCell;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use netloft_balance::{
    Builtin, Call, Caller, Context, Key, Outcome, Picker, Roster, Snapshot, Strategy as _,
};
use netloft_types::{Instance, Revision};

use crate::measure::Work;

/// What all threads pick from, and which version of it that is.
struct Published<T: ?Sized> {
    version: AtomicU64,
    now: Arc<T>,
}

/// What a thread keeps of it.
struct Kept<T: ?Sized> {
    version: u64,
    now: Arc<T>,
    caller: Caller,
}

impl<T: ?Sized> Kept<T> {
    /// As in the client: whoever picks looks whether the version is still the same.
    fn look(&mut self, published: &Published<T>) {
        let version = published.version.load(Ordering::Acquire);
        if version != self.version {
            (self.version, self.now) = (version, Arc::clone(&published.now));
        }
    }
}

thread_local! {
    static FLOOR: RefCell<Option<Kept<[u32]>>> = const { RefCell::new(None) };
    static OURS: RefCell<Option<Kept<dyn Picker>>> = const { RefCell::new(None) };
}

/// A version-checked snapshot and a cursor, both of the thread: the least with which a pick can see a change.
pub fn floor(count: u32) -> Work {
    let published: Published<[u32]> = Published { version: AtomicU64::new(1), now: (0..count).collect() };
    Box::new(move |times, thread| {
        let kept = Kept { version: 0, now: Arc::clone(&published.now), caller: Caller::seeded(thread) };
        FLOOR.set(Some(kept));
        for _ in 0..times {
            FLOOR.with_borrow_mut(|kept| {
                let kept = kept.as_mut().expect("it was set");
                kept.look(&published);
                let turn = kept.caller.turn() as usize;
                black_box(kept.now[turn % kept.now.len()]);
            });
        }
    })
}

/// A pick, with the look at the version.
pub fn pick(strategy: Builtin, roster: Roster) -> Work {
    let picker: Arc<dyn Picker> = strategy.picker(roster).into();
    let busy = busy(&*picker);
    let published = Published { version: AtomicU64::new(1), now: picker };
    Box::new(move |times, thread| {
        let _busy = &busy;
        let kept = Kept { version: 0, now: Arc::clone(&published.now), caller: Caller::seeded(thread) };
        OURS.set(Some(kept));
        for step in 0..times {
            OURS.with_borrow_mut(|kept| {
                let kept = kept.as_mut().expect("it was set");
                kept.look(&published);
                black_box(kept.now.pick(&mut kept.caller, &context(step, thread)));
            });
        }
    })
}

/// A pick, the begin of the call and the report at its end, at each of which a precise clock is read.
pub fn call(strategy: Builtin, roster: Roster) -> Work {
    let picker: Arc<dyn Picker> = strategy.picker(roster).into();
    let busy = busy(&*picker);
    let epoch = Instant::now();
    let published = Published { version: AtomicU64::new(1), now: picker };
    Box::new(move |times, thread| {
        let _busy = &busy;
        let kept = Kept { version: 0, now: Arc::clone(&published.now), caller: Caller::seeded(thread) };
        OURS.set(Some(kept));
        for step in 0..times {
            let call = OURS.with_borrow_mut(|kept| {
                let kept = kept.as_mut().expect("it was set");
                kept.look(&published);
                let context = Context::at(epoch.elapsed()).with_key(key(step, thread));
                let index = kept.now.pick(&mut kept.caller, &context).expect("there are instances");
                kept.now.roster().begin(index, context.now)
            });
            call.end(epoch.elapsed(), Outcome::Success);
        }
    })
}

/// Everybody is a little busy, or some strategies would be done at the first look.
fn busy(picker: &dyn Picker) -> Vec<Call> {
    let all = 0..picker.roster().weights().len();
    all.map(|index| picker.roster().begin(index, Duration::ZERO)).collect()
}

/// What a pick is for, at a made-up time.
fn context(step: u64, thread: u64) -> Context {
    Context { now: EPOCH, key: Some(key(step, thread)) }
}

const EPOCH: Duration = Duration::from_millis(1);

/// Another one for each call.
pub fn key(step: u64, thread: u64) -> Key {
    Key::hashed((step + (thread << 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Instances of weight 1, or of the weights 1 to 7 by turns.
pub fn roster(count: u32, is_weighted: bool) -> Roster {
    let instances =
        (0..count).map(|number| instance(2 * number, if is_weighted { number % 7 + 1 } else { 1 }));
    Roster::new(Snapshot::new(Revision::new(1), instances), Duration::ZERO)
}

pub fn instance(number: u32, weight: u32) -> Arc<Instance> {
    let mut instance = Instance::new(
        format!("api-{number:05}").parse().expect("a legal id"),
        "api".parse().expect("a legal name"),
        address(number).into(),
        "80".parse().expect("a legal port"),
    );
    instance.weight = weight.try_into().expect("a legal weight");
    Arc::new(instance)
}

pub fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits((10 << 24) + number)
}
