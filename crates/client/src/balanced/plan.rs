//! What is picked from, made anew whenever something changes what it should be.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use netloft_balance::{Composed, Composer, Composition, Picker, Roster, Snapshot, Strategy};
use netloft_types::{Advice, InstanceId};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

/// The shortest time between two looks at who fails: many failures at once are looked at once.
const PAUSE: Duration = Duration::from_millis(100);
/// How often it is looked whether threads have let go of plans of before.
const SWEEP: Duration = Duration::from_secs(10);
/// Far enough for whom nothing is due.
const IDLE: Duration = Duration::from_hours(1);

/// What picks are made from, swapped whole.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) picker: Arc<dyn Picker>,
    pub(super) composed: Composed,
}

/// The plan of now.
#[derive(Debug)]
pub(super) struct Published {
    plan: ArcSwap<Plan>,
    /// Another one for each plan, once that is there.
    version: AtomicU64,
    reporter: Reporter,
}

/// What a pick says at its end how it went to.
#[derive(Debug, Clone)]
pub(super) struct Reporter {
    /// When the clock of the calls began.
    begun: Instant,
    /// That a call failed, or that an instance began to report its load.
    failed: Arc<Notify>,
}

impl Reporter {
    pub(super) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Has it looked soon at what an instance says of its load.
    pub(super) fn note_load(&self) {
        self.failed.notify_one();
    }

    /// Has it looked soon who fails.
    pub(super) fn note_failure(&self) {
        self.failed.notify_one();
    }
}

impl Published {
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The plan, which is not older than the version.
    pub(super) fn latest(&self) -> (u64, Arc<Plan>) {
        (self.version(), self.plan.load_full())
    }

    /// One more to report to.
    pub(super) fn reporter(&self) -> Arc<Reporter> {
        Arc::new(self.reporter.clone())
    }

    /// Whoever picks after this picks from the new plan. Returns the one before.
    fn publish(&self, plan: Plan) -> Arc<Plan> {
        let before = self.plan.swap(Arc::new(plan));
        self.version.fetch_add(1, Ordering::Release);
        before
    }
}

/// Makes plans.
#[derive(Debug)]
pub(super) struct Planner {
    strategy: Box<dyn Strategy>,
    state: Mutex<State>,
    published: Arc<Published>,
    /// That there is another plan, which may be due earlier.
    followed: Notify,
}

#[derive(Debug)]
struct State {
    composer: Composer,
    /// With the weights of the registry.
    roster: Roster,
    /// Plans of before that threads still have. Whoever lets go of one last takes it apart, which is not for a pick to do.
    retired: Vec<Arc<Plan>>,
}

impl State {
    fn compose(&mut self, now: Duration) -> Composed {
        self.composer.compose(&self.roster, now)
    }

    /// Takes apart what no thread has any more.
    fn sweep(&mut self) {
        self.retired.retain(|plan| Arc::strong_count(plan) > 1);
    }
}

impl Planner {
    pub(super) fn new(composition: Composition, strategy: Box<dyn Strategy>) -> Self {
        let mut state =
            State { composer: Composer::new(composition), roster: Roster::default(), retired: Vec::new() };
        let composed = state.compose(Duration::ZERO);
        let picker = strategy.picker(composed.roster.clone()).into();
        let published = Published {
            plan: ArcSwap::from_pointee(Plan { picker, composed }),
            version: AtomicU64::new(0),
            reporter: Reporter { begun: Instant::now(), failed: Arc::new(Notify::new()) },
        };
        let (state, followed) = (Mutex::new(state), Notify::new());
        Self { strategy, state, published: Arc::new(published), followed }
    }

    pub(super) fn published(&self) -> &Arc<Published> {
        &self.published
    }

    pub(super) fn plan(&self) -> Arc<Plan> {
        self.published.plan.load_full()
    }

    pub(super) fn now(&self) -> Duration {
        self.published.reporter.now()
    }

    /// Goes on from another set.
    pub(super) fn follow(&self, snapshot: &Snapshot) {
        self.change(|state, now| state.roster = state.roster.follow(snapshot.clone(), now));
        self.followed.notify_one();
    }

    /// Goes by what the registry advises, for so long.
    pub(super) fn advise(&self, advice: BTreeMap<InstanceId, Advice>, lasting: Duration) {
        self.change(|state, now| state.composer.advise(advice, now + lasting));
        self.followed.notify_one();
    }

    fn change(&self, change: impl FnOnce(&mut State, Duration)) {
        let mut state = self.state();
        let now = self.now();
        change(&mut state, now);
        let composed = state.compose(now);
        let before = self.plan();
        let is_same_set =
            before.composed.roster.snapshot().instances().is_same(composed.roster.snapshot().instances());
        // Mostly time has only passed, and what it takes to build a picker need not be spent again.
        let was_closed = before.composed.is_closed();
        let picker = if composed.is_closed() {
            self.strategy.picker(Roster::default()).into()
        } else if was_closed {
            self.strategy.picker(composed.roster.clone()).into()
        } else if is_same_set && before.composed.roster.weights() == composed.roster.weights() {
            Arc::clone(&before.picker)
        } else {
            self.strategy.follow(&*before.picker, composed.roster.clone()).into()
        };
        drop(before);
        let before = self.published.publish(Plan { picker, composed });
        state.retired.push(before);
        state.sweep();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whatever a strategy that panics leaves behind is made anew when it changes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks when something is due: a slow start goes on, an ejection ends, a call has failed.
    pub(super) async fn keep_up(self: Arc<Self>) {
        let mut swept = Instant::now();
        loop {
            let due = self.plan().composed.due.unwrap_or(self.now() + IDLE);
            let has_retired = !self.state().retired.is_empty();
            let reporter = &self.published.reporter;
            tokio::select! {
                () = sleep_until(reporter.begun + due) => {}
                () = self.followed.notified() => continue,
                () = reporter.failed.notified() => sleep(PAUSE).await,
                () = sleep_until(swept + SWEEP), if has_retired => {
                    self.state().sweep();
                    swept = Instant::now();
                    continue;
                }
            }
            self.change(|_, _| {});
        }
    }
}
