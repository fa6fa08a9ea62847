//! Choosing from what is discovered.

mod plan;
mod reporting;
mod seats;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use netloft_balance::{Call, Composition, Context, Key, Outcome, Strategy, Verdict};
use netloft_types::{HealthFilter, Instance, LifecycleFilter, Load, Query};
use tokio::task::JoinHandle;

use self::plan::{Plan, Planner, Reporter};
use self::reporting::Reporting;
use self::seats::Seats;
use crate::calls::Calls;
use crate::{Discovery, Error};

/// A discovery with a strategy: chooses an instance for each call, without waiting for anything.
///
/// A [`Composition`] decides first who gets calls at all; what calls say when they end goes into that and into the
/// strategy. What is picked from is made anew when the set changes, when calls fail and when time decides, in a task, and is
/// swapped whole. Another task tells the registry what was seen, and takes its advice.
#[derive(Debug)]
pub struct Balanced {
    discovery: Discovery,
    planner: Arc<Planner>,
    seats: Seats,
    task: JoinHandle<()>,
    /// That reports, if that is wanted.
    reporting: Option<JoinHandle<()>>,
}

/// An instance that was chosen for a call, and the call, which is on its way to it until this says how it ended.
///
/// Dropped without a word, also in a panic or when the future that holds it is dropped, the call was given up: nothing is
/// learned of the instance.
#[derive(Debug)]
#[must_use = "a call that is dropped at once is never in flight"]
pub struct Pick {
    instance: Arc<Instance>,
    call: Call,
    /// When its answer began.
    answered: Option<Duration>,
    reporter: Arc<Reporter>,
}

/// Why an instance gets calls or none, and what was seen of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The instance.
    pub instance: Arc<Instance>,
    /// What was decided of it before the strategy chooses.
    pub verdict: Verdict,
    /// The calls on their way to it.
    pub in_flight: u32,
    /// How long its calls took of late, of which the strategies that watch it think more when they are long; `None` before the
    /// first.
    pub latency: Option<Duration>,
    /// The share of its calls that failed of late, from 0 to 1.
    pub failure_share: f32,
    /// What it last said of its own load; `None` if it never did.
    pub load: Option<Load>,
}

impl Balanced {
    pub(crate) fn start(
        calls: Calls,
        query: Query,
        composition: Composition,
        strategy: Box<dyn Strategy>,
        reports_load: bool,
    ) -> Self {
        let query = if composition.health.is_some() { widened(query) } else { query };
        let planner = Arc::new(Planner::new(composition, strategy));
        let following = Arc::clone(&planner);
        let reporting = query.service.clone().filter(|_| reports_load);
        let reporting = reporting.map(|service| Reporting::new(calls.clone(), service, Arc::clone(&planner)));
        let discovery = Discovery::start_with(calls, query, Box::new(move |set| following.follow(set)));
        Self {
            reporting: reporting.map(|reporting| tokio::spawn(reporting.run(discovery.clone()))),
            discovery,
            task: tokio::spawn(Arc::clone(&planner).keep_up()),
            planner,
            seats: Seats::new(),
        }
    }

    /// Waits for the first answer; see [`Discovery::ready`]. Picks are made of it from then on.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn ready(&self, patience: Duration) -> Result<(), Error> {
        self.discovery.ready(patience).await
    }

    /// What is chosen from, with its age.
    pub fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    /// Chooses an instance for a call; `None` if there are none that work and want calls. It never blocks.
    pub fn pick(&self) -> Option<Pick> {
        self.pick_by(None)
    }

    /// Chooses for a call of this key: the strategies that hash choose the same instance for every call of it.
    pub fn pick_for(&self, key: Key) -> Option<Pick> {
        self.pick_by(Some(key))
    }

    fn pick_by(&self, key: Option<Key>) -> Option<Pick> {
        self.seats.with(self.planner.published(), |seat| {
            let context = Context { now: seat.reporter.now(), key };
            let index = seat.plan.picker.pick(&mut seat.caller, &context)?;
            Some(Pick::begin(&seat.plan, index, context.now, &seat.reporter))
        })
    }

    /// Chooses instances one after another, each once: the next for when the one before cannot be reached. All
    /// from the set of this moment.
    pub fn candidates(&self) -> Candidates<'_> {
        Candidates { balanced: self, key: None, plan: self.planner.plan(), tried: Vec::new() }
    }

    /// The same for a call of this key.
    pub fn candidates_for(&self, key: Key) -> Candidates<'_> {
        Candidates { key: Some(key), ..self.candidates() }
    }

    /// Why each instance gets calls or none, in order of their ids.
    pub fn explain(&self) -> Vec<Explanation> {
        let (plan, now) = (self.planner.plan(), self.planner.now());
        let roster = &plan.composed.roster;
        let each = roster.snapshot().instances().iter().zip(roster.stats()).zip(plan.composed.explain());
        let explain = each.map(|((instance, stats), verdict)| Explanation {
            instance: Arc::clone(instance),
            verdict: verdict.clone(),
            in_flight: stats.in_flight(),
            latency: stats.latency(now),
            failure_share: stats.failure_share(now),
            load: stats.load().map(|(load, _)| load),
        });
        explain.collect()
    }
}

/// The query with those that are not usable, if it left them to the registry: so that they can be explained, and so that it is
/// known what part of a zone works.
fn widened(query: Query) -> Query {
    let health = if query.health == HealthFilter::Usable { HealthFilter::Any } else { query.health };
    Query { health, lifecycle: LifecycleFilter::Any, ..query }
}

impl Drop for Balanced {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(reporting) = &self.reporting {
            reporting.abort();
        }
    }
}

impl Pick {
    fn begin(plan: &Plan, index: usize, now: Duration, reporter: &Arc<Reporter>) -> Self {
        let roster = plan.picker.roster();
        Self {
            instance: Arc::clone(&roster.snapshot().instances()[index]),
            call: roster.begin(index, now),
            answered: None,
            reporter: Arc::clone(reporter),
        }
    }

    /// The instance.
    pub fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    /// The answer begins: its latency is what the strategies learn, however long the rest of it takes. Without this, it is
    /// that of the end.
    pub fn answered(&mut self) {
        self.answered.get_or_insert(self.reporter.now());
    }

    /// The instance says this of its own load: how busy it is, and how many calls it serves, of all its clients.
    /// [`BalancedChannel`](crate::BalancedChannel) says so of what comes with answers.
    pub fn observe(&self, load: Load) {
        if self.call.observe(load, self.reporter.now()) {
            self.reporter.note_load();
        }
    }

    /// The call has ended, and how. An answer that says that the caller erred is a success of the instance; that it took too
    /// long is a failure.
    pub fn end(self, outcome: Outcome) {
        self.call.end(self.answered.unwrap_or_else(|| self.reporter.now()), outcome);
        if outcome == Outcome::Failure {
            self.reporter.note_failure();
        }
    }
}

impl Deref for Pick {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        &self.instance
    }
}

/// Instances to try, best first; see [`Balanced::candidates`].
#[derive(Debug)]
pub struct Candidates<'a> {
    balanced: &'a Balanced,
    key: Option<Key>,
    plan: Arc<Plan>,
    tried: Vec<usize>,
}

impl Iterator for Candidates<'_> {
    type Item = Pick;

    fn next(&mut self) -> Option<Pick> {
        let Balanced { planner, seats, .. } = self.balanced;
        seats.with(planner.published(), |seat| {
            let context = Context { now: seat.reporter.now(), key: self.key };
            let index = self.plan.picker.pick_untried(&mut seat.caller, &context, &self.tried)?;
            self.tried.push(index);
            Some(Pick::begin(&self.plan, index, context.now, &seat.reporter))
        })
    }
}
