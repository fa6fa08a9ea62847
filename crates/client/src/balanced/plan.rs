//! What is picked from, made anew whenever something changes what it should be.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use netloft_balance::{Composed, Composer, Composition, Picker, Roster, Snapshot, Strategy};
use netloft_types::{Advice, InstanceId};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

/// The shortest time between two looks at who fails: many failures at once are looked at once.
const PAUSE: Duration = Duration::from_millis(100);
/// Far enough for whom nothing is due.
const IDLE: Duration = Duration::from_hours(1);

/// What picks are made from, swapped whole.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) picker: Arc<dyn Picker>,
    pub(super) composed: Composed,
}

/// Makes plans.
#[derive(Debug)]
pub(super) struct Planner {
    strategy: Box<dyn Strategy>,
    state: Mutex<State>,
    plan: ArcSwap<Plan>,
    /// When the clock of the calls began.
    begun: Instant,
    /// That there is another plan, which may be due earlier.
    followed: Notify,
    /// That a call failed, or that an instance began to report its load.
    failed: Notify,
}

#[derive(Debug)]
struct State {
    composer: Composer,
    /// With the weights of the registry.
    roster: Roster,
}

impl State {
    fn compose(&mut self, now: Duration) -> Composed {
        self.composer.compose(&self.roster, now)
    }
}

impl Planner {
    pub(super) fn new(composition: Composition, strategy: Box<dyn Strategy>) -> Self {
        let mut state = State { composer: Composer::new(composition), roster: Roster::default() };
        let composed = state.compose(Duration::ZERO);
        let picker = strategy.picker(composed.roster.clone()).into();
        Self {
            strategy,
            state: Mutex::new(state),
            plan: ArcSwap::from_pointee(Plan { picker, composed }),
            begun: Instant::now(),
            followed: Notify::new(),
            failed: Notify::new(),
        }
    }

    pub(super) fn plan(&self) -> arc_swap::Guard<Arc<Plan>> {
        self.plan.load()
    }

    pub(super) fn whole_plan(&self) -> Arc<Plan> {
        self.plan.load_full()
    }

    pub(super) fn now(&self) -> Duration {
        self.begun.elapsed()
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

    /// Has it looked soon at what an instance says of its load.
    pub(super) fn note_load(&self) {
        self.failed.notify_one();
    }

    /// Has it looked soon who fails.
    pub(super) fn note_failure(&self) {
        self.failed.notify_one();
    }

    fn change(&self, change: impl FnOnce(&mut State, Duration)) {
        // Whatever a strategy that panics leaves behind is made anew here.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.now();
        change(&mut state, now);
        let composed = state.compose(now);
        let before = self.plan.load();
        let is_same_choice = before.composed.roster.snapshot() == composed.roster.snapshot()
            && before.composed.roster.weights() == composed.roster.weights()
            && before.composed.is_closed() == composed.is_closed();
        // Mostly time has only passed, and what it takes to build a picker need not be spent again.
        let picker = if is_same_choice {
            Arc::clone(&before.picker)
        } else {
            let nobody = composed.is_closed().then(Roster::default);
            self.strategy.picker(nobody.unwrap_or_else(|| composed.roster.clone())).into()
        };
        self.plan.store(Arc::new(Plan { picker, composed }));
    }

    /// Looks when something is due: a slow start goes on, an ejection ends, a call has failed.
    pub(super) async fn keep_up(self: Arc<Self>) {
        loop {
            let due = self.plan().composed.due.unwrap_or(self.now() + IDLE);
            tokio::select! {
                () = sleep_until(self.begun + due) => {}
                () = self.followed.notified() => continue,
                () = self.failed.notified() => sleep(PAUSE).await,
            }
            self.change(|_, _| {});
        }
    }
}
