//! What each thread keeps of the balancers it picks from: its caller, and the plan as it last was.
//!
//! A pick looks whether the plan is still the published one, which is a load of a number that all threads have in their
//! caches; it takes no lock and counts no reference. So a thread keeps a plan alive: of each balancer the one of its last
//! pick, no more. It lets go of it at its next pick, at its end, and when it takes a new plan of any other balancer, at which
//! it looks after all it has. A thread that has stopped to pick and goes on living keeps what it has: one plan of each balancer
//! that is no longer new, of which most is shared with the new one.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use netloft_balance::Caller;
use rand::RngExt as _;

use super::plan::{Plan, Published, Reporter};

/// The seats of a balancer, one for each thread that picks from it.
#[derive(Debug)]
pub(super) struct Seats {
    /// Where each thread has its seat. It is another balancer's after this one is gone.
    number: usize,
    /// Which no other balancer ever has.
    id: u64,
}

/// The seat of a thread at a balancer.
#[derive(Debug)]
pub(super) struct Seat {
    id: u64,
    version: u64,
    pub(super) plan: Arc<Plan>,
    /// A strategy is exact for each caller, so one thread's picks are.
    pub(super) caller: Caller,
    /// Of its own, so that threads do not count its references on one cache line.
    pub(super) reporter: Arc<Reporter>,
    source: Weak<Published>,
}

thread_local! {
    static SEATS: RefCell<Vec<Option<Seat>>> = const { RefCell::new(Vec::new()) };
}

impl Seats {
    pub(super) fn new() -> Self {
        static IDS: AtomicU64 = AtomicU64::new(0);
        Self { number: take_number(), id: IDS.fetch_add(1, Ordering::Relaxed) }
    }

    /// Lends the seat of this thread, with the plan that is published now.
    pub(super) fn with<T>(&self, source: &Arc<Published>, then: impl FnOnce(&mut Seat) -> T) -> T {
        let mut then = Some(then);
        let done = SEATS.try_with(|seats| {
            let mut seats = seats.try_borrow_mut().ok()?;
            let seat = match seats.get(self.number) {
                Some(Some(seat)) if seat.id == self.id && seat.version == source.version() => {
                    seats[self.number].as_mut()
                }
                _ => self.renewed(&mut seats, source),
            };
            seat.zip(then.take()).map(|(seat, then)| then(seat))
        });
        match (done, then) {
            (Ok(Some(done)), _) => done,
            // A strategy that picks while it picks, and a thread that ends.
            (_, Some(then)) => then(&mut Seat::new(self.id, source)),
            (_, None) => unreachable!("whoever takes it uses it"),
        }
    }

    #[cold]
    fn renewed<'a>(&self, seats: &'a mut Vec<Option<Seat>>, source: &Arc<Published>) -> Option<&'a mut Seat> {
        seats.iter_mut().for_each(Seat::look_after);
        if seats.len() <= self.number {
            seats.resize_with(self.number + 1, || None);
        }
        let seat = &mut seats[self.number];
        if seat.as_ref().is_none_or(|seat| seat.id != self.id) {
            *seat = Some(Seat::new(self.id, source));
        }
        seat.as_mut()
    }
}

impl Drop for Seats {
    fn drop(&mut self) {
        numbers().free.push(self.number);
    }
}

impl Seat {
    fn new(id: u64, source: &Arc<Published>) -> Self {
        let (version, plan) = source.latest();
        let caller = Caller::seeded(rand::rng().random());
        Self { id, version, plan, caller, reporter: source.reporter(), source: Arc::downgrade(source) }
    }

    /// Takes the plan of now, or gives up the seat of a balancer that is gone.
    fn look_after(seat: &mut Option<Self>) {
        let source = seat.as_ref().and_then(|seat| seat.source.upgrade());
        match (&mut *seat, source) {
            (Some(seat), Some(source)) if seat.version != source.version() => {
                (seat.version, seat.plan) = source.latest();
            }
            (Some(_), None) => *seat = None,
            _ => {}
        }
    }
}

/// The numbers that balancers have, and how many there have been at once.
struct Numbers {
    free: Vec<usize>,
    count: usize,
}

fn numbers() -> std::sync::MutexGuard<'static, Numbers> {
    static NUMBERS: Mutex<Numbers> = Mutex::new(Numbers { free: Vec::new(), count: 0 });
    NUMBERS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take_number() -> usize {
    let mut numbers = numbers();
    numbers.free.pop().unwrap_or_else(|| {
        numbers.count += 1;
        numbers.count - 1
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use netloft_balance::{Builtin, Composition, Context, Key, Snapshot};
    use netloft_types::{Instance, Revision};

    use super::super::plan::Planner;
    use super::*;

    fn planner(strategy: Builtin) -> Planner {
        Planner::new(Composition::default(), Box::new(strategy))
    }

    /// The set that is nothing but these.
    fn set(numbers: std::ops::Range<u8>) -> Snapshot {
        let instance = |number: u8| {
            let id = format!("api-{number:03}").parse().unwrap();
            let address = [10, 0, 0, number].into();
            Arc::new(Instance::new(id, "api".parse().unwrap(), address, "80".parse().unwrap()))
        };
        Snapshot::new(Revision::new(1), numbers.map(instance))
    }

    fn pick(planner: &Planner, seats: &Seats) -> Option<String> {
        seats.with(planner.published(), |seat| {
            let index = seat.plan.picker.pick(&mut seat.caller, &Context::default())?;
            Some(seat.plan.picker.roster().snapshot().instances()[index].id.to_string())
        })
    }

    #[test]
    fn a_pick_after_a_change_is_from_the_new_set_in_every_thread() {
        let (planner, seats) = (planner(Builtin::Random), Seats::new());
        let (before, after) = (Barrier::new(4), Barrier::new(4));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for round in 1..=200_u8 {
                        before.wait();
                        for _ in 0..3 {
                            assert_eq!(pick(&planner, &seats).unwrap(), format!("api-{round:03}"));
                        }
                        after.wait();
                    }
                });
            }
            for round in 1..=200 {
                planner.follow(&set(round..round + 1));
                before.wait();
                after.wait();
            }
        });
    }

    #[test]
    fn a_thread_keeps_one_plan_until_it_picks_again_from_any_balancer() {
        let [(one, its_seats), (other, other_seats)] =
            [(); 2].map(|()| (planner(Builtin::Random), Seats::new()));
        one.follow(&set(0..2));
        let first = Arc::downgrade(&one.plan());
        pick(&one, &its_seats);
        one.follow(&set(0..3));
        assert!(first.strong_count() > 0, "this thread has it");
        pick(&other, &other_seats);
        let second = Arc::downgrade(&one.plan());
        one.follow(&set(0..4));
        assert_eq!(first.strong_count(), 0);
        pick(&one, &its_seats);
        one.follow(&set(0..5));
        assert_eq!(second.strong_count(), 0);
    }

    #[test]
    fn the_plan_of_a_thread_goes_with_the_thread_and_that_of_a_balancer_with_it() {
        let (planner, seats) = (planner(Builtin::Random), Seats::new());
        planner.follow(&set(0..2));
        let first = Arc::downgrade(&planner.plan());
        thread::scope(|scope| scope.spawn(|| pick(&planner, &seats)).join()).unwrap();
        planner.follow(&set(0..3));
        assert_eq!(first.strong_count(), 0);
        pick(&planner, &seats);
        let last = Arc::downgrade(&planner.plan());
        drop((planner, seats));
        assert_eq!(last.strong_count(), 1, "this thread has it");
        let (next, its_seats) = (super::tests::planner(Builtin::Random), Seats::new());
        assert_eq!(pick(&next, &its_seats), None, "another one, in the same place");
        assert_eq!(last.strong_count(), 0);
    }

    #[test]
    fn turns_go_on_when_the_set_changes_and_when_balancers_are_used_by_turns() {
        let balancers = [(); 3].map(|()| (planner(Builtin::RoundRobin), Seats::new()));
        for (planner, _) in &balancers {
            planner.follow(&set(0..4));
        }
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..40 {
            for (planner, seats) in &balancers {
                *counts.entry(pick(planner, seats).unwrap()).or_insert(0) += 1;
                planner.follow(&set(0..4));
            }
        }
        assert_eq!(counts.into_values().collect::<Vec<_>>(), [30; 4]);
    }

    #[test]
    fn a_strategy_that_picks_while_it_picks_gets_an_answer() {
        let (planner, seats) = (planner(Builtin::Random), Seats::new());
        planner.follow(&set(7..8));
        let inner = seats.with(planner.published(), |_| pick(&planner, &seats));
        assert_eq!(inner.as_deref(), Some("api-007"));
    }

    #[test]
    fn a_pick_allocates_nothing_and_neither_does_its_end() {
        let (planner, seats) = (planner(Builtin::Adaptive), Seats::new());
        planner.follow(&set(0..9));
        let pick = || {
            seats.with(planner.published(), |seat| {
                let context = Context::at(seat.reporter.now()).with_key(Key::of("user-42"));
                let index = seat.plan.picker.pick(&mut seat.caller, &context).unwrap();
                let pick = crate::Pick::begin(&seat.plan, index, context.now, &seat.reporter);
                pick.end(netloft_balance::Outcome::Success);
            });
        };
        pick();
        let info = allocation_counter::measure(|| (0..1_000).for_each(|_| pick()));
        assert_eq!(info.count_total, 0);
        let info = allocation_counter::measure(|| drop(std::hint::black_box(Box::new(1))));
        assert_eq!(info.count_total, 1, "and the counter counts");
    }
}
