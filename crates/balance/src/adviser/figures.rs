//! What all clients together have seen of each instance, and whether that is worse than of its siblings.

use std::collections::BTreeMap;
use std::time::Duration;

use netloft_types::{Ground, InstanceId, Reporter, Seen, Utilization};

use super::{AdviserOptions, Voter};

/// What is made of the votes on one instance.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Figure {
    pub(super) reporters: u32,
    pub(super) calls: u64,
    pub(super) calls_per_s: f64,
    pub(super) in_flight: u32,
    pub(super) latency: Option<Duration>,
    /// The latency as a multiple of that of its siblings, each client for itself.
    pub(super) times: Option<f64>,
    pub(super) failure_share: f64,
    pub(super) utilization: Option<Utilization>,
}

/// Whether an instance is worse than its siblings.
#[derive(Debug, Clone, Copy)]
pub(super) enum Judgement {
    Bad(Ground),
    /// Neither bad nor well.
    Between,
    Well,
    /// It has too few calls, or too few siblings that have enough.
    Unclear,
}

/// What the clients have seen of one instance, not summed up yet.
#[derive(Default)]
struct Votes {
    figure: Figure,
    latencies: Vec<f64>,
    times: Vec<f64>,
    failure_shares: Vec<f64>,
    utilizations: Vec<f64>,
}

/// No rate that is told is higher, and no latency a greater multiple of others: what a client says may be nonsense.
const RATE_MAX: f64 = 1e12;
const TIMES_MAX: f64 = 1e6;

/// The figures of all instances that anybody has seen. A client that has seen fewer than `instances_min` answer does not
/// compare them.
pub(super) fn of(voters: &BTreeMap<Reporter, Voter>, instances_min: usize) -> BTreeMap<InstanceId, Figure> {
    let mut all: BTreeMap<&InstanceId, Votes> = BTreeMap::new();
    for voter in voters.values() {
        let means = voter.seen.values().filter_map(mean).collect::<Vec<_>>();
        let usual = Some(means).filter(|means| means.len() >= instances_min.max(1)).and_then(median);
        for (id, seen) in &voter.seen {
            all.entry(id).or_default().add(seen, voter.span, usual);
        }
    }
    all.into_iter().map(|(id, votes)| (id.clone(), votes.sum())).collect()
}

/// Judges those that have enough calls against each other. `is_whole` says who has its whole weight.
pub(super) fn judge(
    figures: &BTreeMap<InstanceId, Figure>,
    is_whole: impl Fn(&InstanceId) -> bool,
    options: &AdviserOptions,
) -> BTreeMap<InstanceId, Judgement> {
    let compared: Vec<_> = figures.iter().filter(|(_, figure)| figure.calls >= options.calls_min).collect();
    if compared.len() < options.instances_min {
        return BTreeMap::new();
    }
    let known = compared.iter().filter_map(|(id, figure)| Some((figure.times?, is_whole(id)))).collect();
    let usual = usual(known, options.instances_min);
    let failing = median(compared.iter().map(|(_, figure)| figure.failure_share).collect()).unwrap_or(0.0);
    let judge = |figure: &Figure| {
        let times = usual.and_then(|usual| Some(figure.times? / usual));
        let excess = figure.failure_share - failing;
        if excess > options.failing_share {
            return Judgement::Bad(Ground::Failing { share: figure.failure_share });
        }
        match times {
            Some(times) if times > options.slow_times => {
                Judgement::Bad(Ground::Slow { times: times.min(TIMES_MAX) })
            }
            Some(times) if times > options.well_times => Judgement::Between,
            _ if excess > options.failing_share / 2.0 => Judgement::Between,
            Some(_) => Judgement::Well,
            None => Judgement::Unclear,
        }
    };
    compared.into_iter().map(|(id, figure)| (id.clone(), judge(figure))).collect()
}

/// How many times the latency of its siblings one has that is as it should be, by those and by whether they have their whole
/// weight.
///
/// The median of those who have it, where there are two: if everybody counted, a majority that is slow would be the rule, though
/// it became known to be slow one by one. Of two the slower counts, so that one that is fast for some other reason, such as
/// that it does nothing, is not what all are measured by.
fn usual(times: Vec<(f64, bool)>, instances_min: usize) -> Option<f64> {
    if times.len() < instances_min {
        return None;
    }
    let whole: Vec<f64> = times.iter().filter(|(_, is_whole)| *is_whole).map(|(times, _)| *times).collect();
    let usual = match *whole.as_slice() {
        [] | [_] => median(times.into_iter().map(|(times, _)| times).collect()),
        [one, other] => Some(one.max(other)),
        _ => median(whole),
    };
    usual.filter(|usual| *usual > 0.0)
}

impl Votes {
    fn add(&mut self, seen: &Seen, span: Duration, usual: Option<f64>) {
        let (figure, calls) = (&mut self.figure, seen.successes.saturating_add(seen.failures));
        figure.reporters = figure.reporters.saturating_add(1);
        figure.calls = figure.calls.saturating_add(calls);
        figure.calls_per_s = (figure.calls_per_s + float(calls) / span.as_secs_f64()).min(RATE_MAX);
        figure.in_flight = figure.in_flight.saturating_add(seen.in_flight);
        if calls > 0 {
            self.failure_shares.push(float(seen.failures) / float(calls));
        }
        if let Some(mean) = mean(seen) {
            self.latencies.push(mean);
            self.times.extend(usual.filter(|usual| *usual > 0.0).map(|usual| mean / usual));
        }
        self.utilizations.extend(seen.utilization.map(Utilization::number));
    }

    fn sum(self) -> Figure {
        let utilization = median(self.utilizations).and_then(|number| number.try_into().ok());
        Figure {
            latency: median(self.latencies).and_then(|mean| Duration::try_from_secs_f64(mean).ok()),
            times: median(self.times),
            failure_share: median(self.failure_shares).unwrap_or(0.0),
            utilization,
            ..self.figure
        }
    }
}

/// How long a call that ended well took, in seconds.
fn mean(seen: &Seen) -> Option<f64> {
    (seen.successes > 0).then(|| seen.latency.as_secs_f64() / float(seen.successes))
}

/// The median; of an even number the lower one, so that more than half must agree to move it up.
fn median(mut numbers: Vec<f64>) -> Option<f64> {
    let middle = numbers.len().checked_sub(1)? / 2;
    let (_, median, _) = numbers.select_nth_unstable_by(middle, f64::total_cmp);
    Some(*median)
}

#[expect(clippy::cast_precision_loss, reason = "nobody makes 2^53 calls in an interval")]
fn float(number: u64) -> f64 {
    number as f64
}
