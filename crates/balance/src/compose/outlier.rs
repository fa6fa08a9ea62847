//! Not those whose calls fail while those of others do not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use netloft_types::{Instance, InstanceId};

use super::{Cause, Draft, Reason};

/// Ejects instances whose calls fail (outlier detection: gRPC proposal A50, Envoy). The defaults are theirs.
#[derive(Debug, Clone, PartialEq)]
pub struct OutlierOptions {
    /// How often success rates are compared: every 10 s.
    pub interval: Duration,
    /// How long the first ejection lasts, 30 s; the second in a row twice as long, and so on.
    pub base_ejection: Duration,
    /// No ejection lasts longer: 300 s.
    pub ejection_max: Duration,
    /// No more of the instances than this are ejected, in percent: 10. One always may be, if there is another.
    pub ejected_percent_max: u8,
    /// So many failures in a row eject at once: 5. 0 leaves it out.
    pub consecutive_failures: u32,
    /// A success rate this many standard deviations below the mean ejects: 1.9. `None` leaves it out.
    pub success_rate_deviations: Option<f64>,
    /// A share of failures above this ejects, in percent: 85. `None` leaves it out.
    pub failure_percent: Option<u8>,
    /// Calls in an interval without which the rates of an instance say nothing: 50.
    pub calls_min: u64,
    /// Instances with so many calls without which rates are not compared: 5.
    pub instances_min: usize,
}

impl Default for OutlierOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            base_ejection: Duration::from_secs(30),
            ejection_max: Duration::from_mins(5),
            ejected_percent_max: 10,
            consecutive_failures: 5,
            success_rate_deviations: Some(1.9),
            failure_percent: Some(85),
            calls_min: 50,
            instances_min: 5,
        }
    }
}

/// Who was ejected, and what was counted when rates were compared last.
#[derive(Debug, Default)]
pub(super) struct Ejections {
    known: BTreeMap<InstanceId, Record>,
    compared: Option<Duration>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Record {
    /// Successes and failures up to the last comparison.
    counted: [u64; 2],
    /// Until when it is ejected, and why.
    ejected: Option<(Duration, Cause)>,
    /// How often in a row; each interval without an ejection takes one back.
    times: u32,
    /// Failures in a row when it came back: those before do not count again.
    forgiven: u32,
}

/// A rate that says something.
struct Rate {
    index: usize,
    success: f64,
}

impl Ejections {
    pub(super) fn apply(&mut self, options: &OutlierOptions, draft: &mut Draft<'_>) {
        let (now, instances) = (draft.now, draft.roster.snapshot().instances());
        // Those who are gone are forgotten.
        let mut before = std::mem::take(&mut self.known);
        let record = |one: &Arc<Instance>| before.remove(&one.id).unwrap_or_default();
        let mut records: Vec<Record> = instances.iter().map(record).collect();
        let left = draft.left();
        readmit(&mut records, draft);
        let mut outliers = failing_in_a_row(options, draft, &left, &records);
        if self.compared.is_none_or(|last| now >= last + options.interval) {
            outliers.extend(failing_by_rate(options, draft, &left, &mut records));
            self.compared = Some(now);
        }
        let allowed = (left.len() * usize::from(options.ejected_percent_max) / 100)
            .max(1)
            .min(left.len().saturating_sub(1));
        let mut ejected = left.iter().filter(|index| records[**index].ejected.is_some()).count();
        for (index, cause) in outliers {
            let record = &mut records[index];
            if record.ejected.is_some() {
                continue;
            }
            if ejected >= allowed {
                draft.reasons[index].push(Reason::NotEjected { cause });
                continue;
            }
            record.times += 1;
            let span = options.base_ejection.saturating_mul(record.times).min(options.ejection_max);
            record.ejected = Some((now + span, cause));
            ejected += 1;
        }
        for index in left {
            if let Some((until, cause)) = records[index].ejected {
                draft.leave_out(index, Reason::Ejected { cause, until });
                draft.look_again_at(until);
            }
        }
        if let Some(last) = self.compared {
            draft.look_again_at(last + options.interval);
        }
        self.known = instances.iter().map(|one| one.id.clone()).zip(records).collect();
    }
}

/// Takes those back whose time is over.
fn readmit(records: &mut [Record], draft: &Draft<'_>) {
    for (record, stats) in records.iter_mut().zip(draft.roster.stats()) {
        if record.ejected.is_some_and(|(until, _)| until <= draft.now) {
            record.ejected = None;
            record.forgiven = stats.failed_in_row();
        } else if stats.failed_in_row() < record.forgiven {
            record.forgiven = 0;
        }
    }
}

fn failing_in_a_row(
    options: &OutlierOptions,
    draft: &Draft<'_>,
    left: &[usize],
    records: &[Record],
) -> Vec<(usize, Cause)> {
    let mut found = Vec::new();
    for index in left {
        let in_row = draft.roster.stats()[*index].failed_in_row();
        let new = in_row.saturating_sub(records[*index].forgiven);
        if options.consecutive_failures > 0 && new >= options.consecutive_failures {
            found.push((*index, Cause::ConsecutiveFailures(in_row)));
        }
    }
    found
}

/// Compares the rates since the last comparison, and begins to count anew.
fn failing_by_rate(
    options: &OutlierOptions,
    draft: &Draft<'_>,
    left: &[usize],
    records: &mut [Record],
) -> Vec<(usize, Cause)> {
    let rates = rates(options, draft, left, records);
    let mut found = Vec::new();
    if rates.len() < options.instances_min {
        return found;
    }
    let threshold = options.success_rate_deviations.map(|deviations| threshold(&rates, deviations));
    for Rate { index, success } in rates {
        let failing = (1.0 - success) * 100.0;
        if let Some(threshold) = threshold.filter(|threshold| success < *threshold) {
            found.push((index, Cause::SuccessRate { own: success, threshold }));
        } else if options.failure_percent.is_some_and(|percent| failing > f64::from(percent)) {
            found.push((index, Cause::FailurePercentage(percent(failing))));
        }
    }
    found
}

fn rates(options: &OutlierOptions, draft: &Draft<'_>, left: &[usize], records: &mut [Record]) -> Vec<Rate> {
    let mut rates = Vec::new();
    for index in left {
        let counts = draft.roster.stats()[*index].counts();
        let record = &mut records[*index];
        let [successes, failures] = [0, 1].map(|which| counts[which].saturating_sub(record.counted[which]));
        record.counted = counts;
        if record.ejected.is_none() {
            record.times = record.times.saturating_sub(1);
        }
        let calls = successes + failures;
        if calls >= options.calls_min.max(1) {
            rates.push(Rate { index: *index, success: float(successes) / float(calls) });
        }
    }
    rates
}

/// The rate below which an instance is an outlier (A50, "success rate ejection").
fn threshold(rates: &[Rate], deviations: f64) -> f64 {
    let len = float(rates.len() as u64);
    let mean = rates.iter().map(|rate| rate.success).sum::<f64>() / len;
    let variance = rates.iter().map(|rate| (rate.success - mean).powi(2)).sum::<f64>() / len;
    mean - deviations * variance.sqrt()
}

#[expect(clippy::cast_precision_loss, reason = "nobody makes 2^53 calls in an interval")]
fn float(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 100")]
fn percent(share: f64) -> u8 {
    share.round() as u8
}
