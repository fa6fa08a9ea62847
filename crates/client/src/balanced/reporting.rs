//! Tells the registry what was seen of the instances, and takes its advice.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use netloft_balance::Stats;
use netloft_proto::from_wire::SEEN_MAX;
use netloft_types::{InstanceId, LoadReport, Reporter, Seen, ServiceName};
use rand::RngExt as _;
use tokio::time::sleep;
use tracing::debug;

use super::plan::Planner;
use crate::calls::{Advised, Calls};
use crate::{Discovery, Error, Refusal};

/// How long at most the first report waits, so that a fleet that starts at once does not report at once.
const FIRST: Duration = Duration::from_millis(500);
/// From one report to the next while the registry has not said, or is away.
const INTERVAL: Duration = Duration::from_secs(10);
/// What the registry may say.
const INTERVAL_MIN: Duration = Duration::from_millis(10);
const INTERVAL_MAX: Duration = Duration::from_hours(1);
/// A report may come late by this part of an interval, so that many that began together part.
const LATE: u32 = 10;
/// Advice counts for so many intervals, which is how long the registry remembers a client.
const ADVICE_INTERVALS: u32 = 3;
/// What an instance said of its load longer ago than this is not passed on.
const FRESH: Duration = Duration::from_mins(1);

/// Reports for one balancer.
#[derive(Debug)]
pub(super) struct Reporting {
    calls: Calls,
    service: ServiceName,
    planner: Arc<Planner>,
    reporter: Reporter,
    /// What the last report that was taken counted to.
    told: BTreeMap<InstanceId, Told>,
}

/// Up to where an instance was told of.
#[derive(Debug, Clone)]
struct Told {
    stats: Arc<Stats>,
    counts: [u64; 2],
    spent: Duration,
}

impl Reporting {
    pub(super) fn new(calls: Calls, service: ServiceName, planner: Arc<Planner>) -> Self {
        let drawn = rand::rng().random_range(1..=u64::MAX);
        let reporter = Reporter::try_from(drawn).expect("a number from 1 on");
        Self { calls, service, planner, reporter, told: BTreeMap::new() }
    }

    /// Reports for as long as the registry takes reports. It is on the path of no call: while the registry is away, the last
    /// advice counts for a while, and what is seen is told later.
    pub(super) async fn run(mut self, mut discovery: Discovery) {
        discovery.changed().await;
        drop(discovery);
        sleep(part_of(FIRST)).await;
        let mut interval = INTERVAL;
        let mut is_first = true;
        loop {
            let (seen, told) = self.look();
            // The first asks for advice, if it has nothing to tell. Who calls nobody needs none.
            if is_first || !seen.is_empty() {
                match self.report(seen).await {
                    Ok(Advised { next, advice }) => {
                        interval = next.clamp(INTERVAL_MIN, INTERVAL_MAX);
                        self.planner.advise(advice, interval * ADVICE_INTERVALS);
                        (self.told, is_first) = (told, false);
                    }
                    Err(Error::Refused { refusal: Refusal::Unknown, .. }) => {
                        debug!(service = %self.service, "the registry takes no load reports");
                        return;
                    }
                    Err(error) => debug!(service = %self.service, error = error.chain(), "load not reported"),
                }
            }
            sleep(interval + part_of(interval / LATE)).await;
        }
    }

    async fn report(&self, seen: BTreeMap<InstanceId, Seen>) -> Result<Advised, Error> {
        let (reporter, service) = (self.reporter, self.service.clone());
        self.calls.report_load(&LoadReport { reporter, service, seen }).await
    }

    /// What was seen since it was last told, of those who had calls; and what will have been told then.
    fn look(&self) -> (BTreeMap<InstanceId, Seen>, BTreeMap<InstanceId, Told>) {
        let (plan, now) = (self.planner.plan(), self.planner.now());
        let roster = &plan.composed.roster;
        let (mut all, mut told) = (Vec::new(), BTreeMap::new());
        for (instance, stats) in roster.snapshot().instances().iter().zip(roster.stats()) {
            let (counts, spent) = (stats.counts(), stats.spent());
            let before = self.told.get(&instance.id).filter(|before| Arc::ptr_eq(&before.stats, stats));
            let (counted, spent_before) =
                before.map_or(([0; 2], Duration::ZERO), |before| (before.counts, before.spent));
            let [successes, failures] = [0, 1].map(|which| counts[which].saturating_sub(counted[which]));
            let in_flight = stats.in_flight();
            if successes + failures > 0 || in_flight > 0 {
                let load = stats.load().filter(|(_, at)| now.saturating_sub(*at) < FRESH);
                let utilization = load.map(|(load, _)| load.utilization());
                let latency = spent.saturating_sub(spent_before);
                let seen = Seen { successes, failures, latency, in_flight, utilization };
                all.push((instance.id.clone(), seen));
            }
            told.insert(instance.id.clone(), Told { stats: Arc::clone(stats), counts, spent });
        }
        all.sort_by_key(|(_, seen)| Reverse(seen.successes + seen.failures));
        all.truncate(SEEN_MAX);
        (all.into_iter().collect(), told)
    }
}

/// Up to so long, by chance.
fn part_of(longest: Duration) -> Duration {
    rand::rng().random_range(Duration::ZERO..=longest)
}
