//! Not those whose calls fail while those of others do not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Cause, Draft, Reason};
use crate::{List, Stats};

/// Ejects instances whose calls fail (outlier detection: gRPC proposal A50, Envoy). The defaults are theirs.
#[derive(Debug, Clone, PartialEq)]
pub struct OutlierOptions {
    /// How often success rates are compared: every 10 s.
    pub interval: Duration,
    /// How long the first ejection lasts, 30 s; the second in a row twice as long, and so on.
    pub base_ejection: Duration,
    /// No ejection lasts longer: 300 s.
    pub ejection_max: Duration,
    /// No more of the usable instances than this are ejected, in percent: 10. One always may be, if there is another. With a
    /// locality, 100 lets a client leave a zone that it cannot reach and the registry can.
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

/// Who was ejected, and what was counted when rates were compared last. All by slot of the lists of a roster, where somebody
/// stays while others come and go.
#[derive(Debug, Default)]
pub(super) struct Ejections {
    /// Of those of whom there is something to remember.
    records: BTreeMap<u32, Record>,
    /// Successes and failures up to the last comparison.
    counted: Vec<[u64; 2]>,
    compared: Option<Duration>,
    /// How many calls had failed when nobody had failed in a row too often.
    quiet_at: Option<u64>,
    /// Of the roster that was composed last.
    stats: List<Arc<Stats>>,
    /// Who should be ejected, by index, but too many are.
    spared: Vec<(usize, Cause)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Record {
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
    /// Decides who of those that are usable is ejected. It comes before all else, as a locality has to know.
    pub(super) fn judge(&mut self, options: &OutlierOptions, draft: &mut Draft<'_>, is_usable: &[bool]) {
        self.follow(draft.roster.stats());
        self.spared.clear();
        let (now, slots) = (draft.now, self.stats.clone());
        let slots = slots.order();
        self.readmit(now);
        let mut outliers = self.failing_in_a_row(options, draft, slots);
        let is_due = self.compared.is_none_or(|last| now >= last + options.interval);
        if !is_due && outliers.is_empty() && self.records.is_empty() {
            self.look_again(options, draft);
            return;
        }
        let usable: Vec<usize> = (0..is_usable.len()).filter(|index| is_usable[*index]).collect();
        if is_due {
            outliers.extend(self.failing_by_rate(options, &usable, slots));
            self.compared = Some(now);
        }
        let allowed = (usable.len() * usize::from(options.ejected_percent_max) / 100)
            .max(1)
            .min(usable.len().saturating_sub(1));
        let ejected = |slot: &u32| self.records.get(slot).and_then(|record| record.ejected);
        let mut count = usable.iter().filter(|index| ejected(&slots[**index]).is_some()).count();
        for (index, cause) in outliers.into_iter().filter(|(index, _)| is_usable[*index]) {
            let record = self.records.entry(slots[index]).or_default();
            if record.ejected.is_some() {
                continue;
            }
            if count >= allowed {
                self.spared.push((index, cause));
                continue;
            }
            record.times += 1;
            let span = options.base_ejection.saturating_mul(record.times).min(options.ejection_max);
            record.ejected = Some((now + span, cause));
            count += 1;
        }
        self.records.retain(|_, record| *record != Record::default());
        self.look_again(options, draft);
    }

    /// Which of those that are usable are not ejected.
    pub(super) fn reachable(&self, is_usable: &[bool]) -> Vec<bool> {
        let slots = self.stats.order();
        let is_ejected = |slot: &u32| self.records.get(slot).is_some_and(|record| record.ejected.is_some());
        let each = is_usable.iter().enumerate();
        each.map(|(index, is_usable)| *is_usable && !slots.get(index).is_some_and(is_ejected)).collect()
    }

    /// Leaves out who is ejected.
    pub(super) fn apply(&self, draft: &mut Draft<'_>) {
        for (index, cause) in &self.spared {
            if draft.weights[*index] > 0.0 {
                draft.explain(*index, Reason::NotEjected { cause: *cause });
            }
        }
        if self.records.is_empty() {
            return;
        }
        let slots = self.stats.order();
        for index in draft.left() {
            let record = self.records.get(&slots[index]);
            if let Some((until, cause)) = record.and_then(|record| record.ejected) {
                draft.leave_out(index, Reason::Ejected { cause, until });
                draft.look_again_at(until);
            }
        }
    }

    fn look_again(&self, options: &OutlierOptions, draft: &mut Draft<'_>) {
        if let Some(last) = self.compared {
            draft.look_again_at(last + options.interval);
        }
    }

    /// Forgets those who are gone, and looks for the others where they are now.
    fn follow(&mut self, stats: &List<Arc<Stats>>) {
        let mut known = BTreeMap::new();
        for (slot, one) in self.stats.unshared(stats) {
            let counted = std::mem::take(&mut self.counted[slot as usize]);
            known.insert(Arc::as_ptr(one), (self.records.remove(&slot), counted));
        }
        self.counted.resize(stats.slots(), [0, 0]);
        for (slot, one) in stats.unshared(&self.stats) {
            if let Some((record, counted)) = known.remove(&Arc::as_ptr(one)) {
                self.records.extend(record.map(|record| (slot, record)));
                self.counted[slot as usize] = counted;
            }
        }
        self.stats = stats.clone();
    }

    /// Takes those back whose time is over.
    fn readmit(&mut self, now: Duration) {
        for (slot, record) in &mut self.records {
            let in_row = self.stats.in_slot(*slot).map_or(0, |stats| stats.failed_in_row());
            if record.ejected.is_some_and(|(until, _)| until <= now) {
                record.ejected = None;
                record.forgiven = in_row;
            } else if in_row < record.forgiven {
                record.forgiven = 0;
            }
        }
    }

    fn failing_in_a_row(
        &mut self,
        options: &OutlierOptions,
        draft: &Draft<'_>,
        slots: &[u32],
    ) -> Vec<(usize, Cause)> {
        let (limit, failures) = (options.consecutive_failures, draft.roster.fleet().failures());
        // Mostly nobody has failed since the last look, which was at everybody.
        if limit == 0 || self.quiet_at == Some(failures) {
            return Vec::new();
        }
        let in_row = self.stats.iter().map(|stats| stats.failed_in_row()).enumerate();
        let mut failing: Vec<_> = in_row.filter(|(_, in_row)| *in_row >= limit).collect();
        self.quiet_at = failing.is_empty().then_some(failures);
        failing.retain(|(index, in_row)| {
            let forgiven = self.records.get(&slots[*index]).map_or(0, |record| record.forgiven);
            draft.weights[*index] > 0.0 && in_row.saturating_sub(forgiven) >= limit
        });
        failing.into_iter().map(|(index, in_row)| (index, Cause::ConsecutiveFailures(in_row))).collect()
    }

    /// Compares the rates since the last comparison, and begins to count anew.
    fn failing_by_rate(
        &mut self,
        options: &OutlierOptions,
        usable: &[usize],
        slots: &[u32],
    ) -> Vec<(usize, Cause)> {
        let rates = self.rates(options, usable, slots);
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

    fn rates(&mut self, options: &OutlierOptions, usable: &[usize], slots: &[u32]) -> Vec<Rate> {
        let mut rates = Vec::new();
        for index in usable {
            let (counts, slot) = (self.stats[*index].counts(), slots[*index]);
            let counted = std::mem::replace(&mut self.counted[slot as usize], counts);
            if let Some(record) = self.records.get_mut(&slot).filter(|record| record.ejected.is_none()) {
                record.times = record.times.saturating_sub(1);
            }
            let [successes, failures] = [0, 1].map(|which| counts[which].saturating_sub(counted[which]));
            let calls = successes + failures;
            if calls >= options.calls_min.max(1) {
                rates.push(Rate { index: *index, success: float(successes) / float(calls) });
            }
        }
        rates
    }
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
