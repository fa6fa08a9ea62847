//! More for those who say that they can take more, less for those who are slow to others.

use std::collections::BTreeMap;
use std::time::Duration;

use netloft_types::{Advice, InstanceId, Load};

use super::{Draft, Reason};

/// Weighs instances by the load that they report, and else by what the registry advises.
///
/// By their own reports as in gRPC's client-side weighted round robin (proposal A58): what an instance can take is the calls
/// that it serves over how busy that makes it, less for those that fail. Its factor is that over the mean of all; who
/// reports nothing of use has the factor 1. Where fewer than two do, nothing is compared.
///
/// The factor multiplies the weight with which an instance is registered: so weights should say what is wanted, such as a
/// tenth for a new version, and not how large an instance is, which its reports tell already.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoadOptions {
    /// How much a failure counts: calls over the busy share plus this many times the share of failures. 1 (A58's).
    pub failure_penalty: f64,
    /// For how long the first reports of an instance are not believed: while it is new, they are of few calls. 10 s (A58's).
    pub blackout: Duration,
    /// After how long without a report the last one counts no more: 3 min (A58's).
    pub expiration: Duration,
    /// How often factors change: once a second (A58's), and then only by more than a twentieth.
    pub period: Duration,
    /// No factor is less: 0.1.
    pub factor_min: f64,
    /// No factor is more: 4.
    pub factor_max: f64,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            failure_penalty: 1.0,
            blackout: Duration::from_secs(10),
            expiration: Duration::from_mins(3),
            period: Duration::from_secs(1),
            factor_min: 0.1,
            factor_max: 4.0,
        }
    }
}

/// A factor that is not further off than this is left as it is: another picker is not worth it.
const TOLERANCE: f64 = 0.05;

/// The factors of now, and what is advised.
#[derive(Debug, Default)]
pub(super) struct Loads {
    known: BTreeMap<InstanceId, Record>,
    updated: Option<Duration>,
    advice: BTreeMap<InstanceId, Advice>,
    advised_until: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    /// Since when it reports.
    since: Duration,
    factor: f64,
}

/// A report that counts.
struct Known {
    index: usize,
    load: Load,
    /// What it can take, if that is known.
    capacity: Option<f64>,
}

impl Loads {
    /// Goes by other advice, until the time given.
    pub(super) fn advise(&mut self, advice: BTreeMap<InstanceId, Advice>, until: Duration) {
        (self.advice, self.advised_until) = (advice, until);
    }

    pub(super) fn apply(&mut self, options: &LoadOptions, draft: &mut Draft<'_>) {
        let reports = self.reports(options, draft);
        if !reports.is_empty() {
            self.update(options, draft, &reports);
        }
        let instances = draft.roster.snapshot().instances();
        let mut is_weighed = vec![false; instances.len()];
        for Known { index, load, capacity } in &reports {
            let factor = self.known.get(&instances[*index].id).map_or(1.0, |record| record.factor);
            is_weighed[*index] = capacity.is_some();
            if (factor - 1.0).abs() > f64::EPSILON {
                draft.weights[*index] *= factor;
                let utilization = load.utilization().number();
                draft.explain(*index, Reason::Load { utilization, factor });
            }
        }
        self.heed_advice(draft, &is_weighed);
    }

    /// The reports that count, of those who still get calls. Whoever has stopped reporting is forgotten.
    fn reports(&mut self, options: &LoadOptions, draft: &Draft<'_>) -> Vec<Known> {
        let (now, mut before) = (draft.now, std::mem::take(&mut self.known));
        let mut reports = Vec::new();
        // Mostly nobody ever does, and then nobody has to be asked.
        if !draft.roster.fleet().has_loads() {
            return reports;
        }
        for index in draft.left() {
            let Some((load, at)) = draft.roster.stats()[index].load() else { continue };
            if at + options.expiration <= now {
                continue;
            }
            let id = &draft.roster.snapshot().instances()[index].id;
            let record = before.remove(id).unwrap_or(Record { since: at, factor: 1.0 });
            self.known.insert(id.clone(), record);
            let is_believed = record.since + options.blackout <= now;
            let capacity = capacity(load, options.failure_penalty).filter(|_| is_believed);
            reports.push(Known { index, load, capacity });
        }
        reports
    }

    /// Takes the factors to where they should be, if it is time.
    fn update(&mut self, options: &LoadOptions, draft: &mut Draft<'_>, reports: &[Known]) {
        // Reports come with every call, and change no faster than this.
        let due = self.updated.map_or(draft.now, |updated| updated + options.period);
        if draft.now < due {
            return draft.look_again_at(due);
        }
        self.updated = Some(draft.now);
        draft.look_again_at(draft.now + options.period);
        let capacities: Vec<f64> = reports.iter().filter_map(|report| report.capacity).collect();
        let count = u32::try_from(capacities.len()).map_or(f64::INFINITY, f64::from);
        let mean = capacities.iter().sum::<f64>() / count;
        for report in reports {
            let compared = report.capacity.filter(|_| capacities.len() > 1);
            let target = compared.map_or(1.0, |it| (it / mean).clamp(options.factor_min, options.factor_max));
            let id = &draft.roster.snapshot().instances()[report.index].id;
            if let Some(record) = self.known.get_mut(id)
                && ((target - record.factor).abs() > TOLERANCE * record.factor || compared.is_none())
            {
                record.factor = target;
            }
        }
    }

    /// Has those who do not speak for themselves get what the registry advises.
    fn heed_advice(&self, draft: &mut Draft<'_>, is_weighed: &[bool]) {
        if draft.now >= self.advised_until || self.advice.is_empty() {
            return;
        }
        for index in draft.left() {
            let advised = self.advice.get(&draft.roster.snapshot().instances()[index].id);
            if let Some(advice) = advised.filter(|_| !is_weighed[index]) {
                draft.weights[index] *= f64::from(advice.percent()) / 100.0;
                draft.explain(index, Reason::Advised(*advice));
            }
        }
        draft.look_again_at(self.advised_until);
    }
}

/// The calls that it could serve (A58, "weight calculation"); `None` if it serves none, or does not say how busy it is.
fn capacity(load: Load, failure_penalty: f64) -> Option<f64> {
    let (utilization, calls) = (load.utilization().number(), load.calls_per_s());
    if utilization <= 0.0 || calls <= 0.0 {
        return None;
    }
    let capacity = calls / (utilization + load.failures_per_s() / calls * failure_penalty);
    Some(capacity).filter(|capacity| capacity.is_finite() && *capacity > 0.0)
}
