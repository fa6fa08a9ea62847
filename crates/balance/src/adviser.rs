//! Who of a service is slow, by the reports of all its clients, and how much of its weight that leaves.
//!
//! A client alone sees little of an instance, and a new one nothing. Together they see enough to say that one is slower
//! than its siblings, and that is all that is said here: latencies are compared, never judged by themselves.
//!
//! *One client, one vote.* What a client sees depends on where it is and what it asks for. So its latencies are compared with
//! each other first, and of an instance's votes the median counts, the lower one of an even number: whoever is wrong, or
//! lies, moves nothing unless half of the others see it too. A mean would let one client starve an instance.
//!
//! *Slow steps, and a gap between them.* Whether an instance is slow depends on the calls it gets, which depend on what is said
//! here: a loop, with a delay. It stays calm because weights move by little at a time, because there is a range in which they
//! stay where they are, and because each rise that had to be taken back makes the next one wait twice as long.

mod figures;
mod standing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use netloft_types::{Advice, Instance, InstanceId, InstanceLoad, LoadReport, Reporter, Seen};

use self::figures::Judgement;
use self::standing::Standing;

/// How reports become advice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdviserOptions {
    /// How often clients report, and how often weights may move: 10 s. Whoever is silent for three times as long is
    /// forgotten.
    pub interval: Duration,
    /// How many times the latency of its siblings makes an instance slow: 1.5.
    pub slow_times: f64,
    /// And how many times is well again: 1.2. In between, weights stay.
    pub well_times: f64,
    /// By how much more of its calls than of its siblings' must fail, from 0 to 1: 0.1. Half of it is well again.
    pub failing_share: f64,
    /// Calls of all clients in an interval without which nothing is said of an instance: 20.
    pub calls_min: u64,
    /// Instances with so many calls without which none is compared: 3, so that there is always a majority.
    pub instances_min: usize,
    /// No advice leaves less of a weight than this, in percent: 20. Who gets no calls could not show that it is well.
    pub percent_min: u8,
}

impl Default for AdviserOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            slow_times: 1.5,
            well_times: 1.2,
            failing_share: 0.1,
            calls_min: 20,
            instances_min: 3,
            percent_min: 20,
        }
    }
}

/// Takes the reports on one service, and says who of it should get less.
///
/// It keeps the last report of each client, and what is advised of each instance; both are forgotten with their owners.
#[derive(Debug, Clone)]
pub struct Adviser {
    options: AdviserOptions,
    reporters: BTreeMap<Reporter, Voter>,
    standings: BTreeMap<InstanceId, Standing>,
    decided: Duration,
    /// The instances that the clients have seen, each counted for each of them.
    seen: usize,
}

/// A client that reports.
#[derive(Debug, Clone)]
struct Voter {
    heard: Duration,
    /// How long its last report is of.
    span: Duration,
    seen: BTreeMap<InstanceId, Seen>,
}

/// Intervals of silence after which a client is forgotten.
const SILENT_INTERVALS: u32 = 3;

impl Adviser {
    /// Begins at the time `now` with nothing known.
    pub fn new(options: AdviserOptions, now: Duration) -> Self {
        Self { options, reporters: BTreeMap::new(), standings: BTreeMap::new(), decided: now, seen: 0 }
    }

    /// Takes a report, in place of the one before of the same client. Of instances that are not among `instances`, which are
    /// all of the service in order of their ids, nothing is kept, and nothing of a client that has seen none of them.
    pub fn report(&mut self, report: LoadReport, instances: &[Arc<Instance>], now: Duration) {
        let LoadReport { reporter, mut seen, .. } = report;
        seen.retain(|id, _| instances.binary_search_by(|instance| instance.id.cmp(id)).is_ok());
        let before = self.reporters.remove(&reporter);
        let span = before.as_ref().map_or(self.options.interval, |voter| now.saturating_sub(voter.heard));
        self.seen -= before.map_or(0, |voter| voter.seen.len());
        if !seen.is_empty() {
            self.seen += seen.len();
            self.reporters.insert(reporter, Voter { heard: now, span: span.max(SPAN_MIN), seen });
        }
    }

    /// Decides anew if an interval has passed. What is known of instances that are not among `instances` any more is forgotten.
    ///
    /// Takes O(n log n) of what all clients have seen.
    pub fn decide(&mut self, instances: &[Arc<Instance>], now: Duration) {
        let silence = self.options.interval * SILENT_INTERVALS;
        if now < self.decided + self.options.interval {
            return;
        }
        if self.is_stale(now) {
            // Nobody has reported, or asked, for long: what was slow then says nothing of now.
            self.standings.clear();
        }
        self.decided = now;
        self.reporters.retain(|_, voter| now < voter.heard + silence);
        self.seen = self.reporters.values().map(|voter| voter.seen.len()).sum();
        let mut figures = figures::of(&self.reporters, self.options.instances_min);
        let judgements = {
            let is_whole = |id: &InstanceId| self.standings.get(id).is_none_or(|one| one.advice().is_none());
            figures::judge(&figures, is_whole, &self.options)
        };
        let mut before = std::mem::take(&mut self.standings);
        for Instance { id, .. } in instances.iter().map(AsRef::as_ref) {
            let (figure, standing) = (figures.remove(id), before.remove(id));
            if figure.is_none() && standing.as_ref().is_none_or(Standing::is_ordinary) {
                continue;
            }
            let mut standing = standing.unwrap_or_default();
            let judgement = judgements.get(id).copied().unwrap_or(Judgement::Unclear);
            standing.step(judgement, figure.unwrap_or_default(), &self.options);
            self.standings.insert(id.clone(), standing);
        }
    }

    /// What is advised; nothing of instances that should have their whole weight.
    pub fn advice(&self) -> impl Iterator<Item = (&InstanceId, Advice)> {
        self.standings.iter().filter_map(|(id, standing)| Some((id, standing.advice()?)))
    }

    /// What is known of an instance, and what is advised.
    pub fn load(&self, id: &InstanceId) -> InstanceLoad {
        let standing = self.standings.get(id);
        standing.map_or_else(|| InstanceLoad::unknown(id.clone()), |standing| standing.load(id))
    }

    /// How many clients are remembered, and how many instances they have seen, each counted for each of them: what its memory
    /// is made of.
    pub fn size(&self) -> [usize; 2] {
        [self.reporters.len(), self.seen]
    }

    /// How many instances this client has seen; `None` if it is not remembered.
    pub fn seen_by(&self, reporter: Reporter) -> Option<usize> {
        self.reporters.get(&reporter).map(|voter| voter.seen.len())
    }

    /// Whether so long has passed without a decision that nothing that is known counts any more.
    pub fn is_stale(&self, now: Duration) -> bool {
        now >= self.decided + self.options.interval * SILENT_INTERVALS
    }
}

/// A second report that follows at once is not of no time.
const SPAN_MIN: Duration = Duration::from_millis(1);
