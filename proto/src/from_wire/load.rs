//! Load reports, and what is advised by them.

use std::collections::BTreeMap;
use std::time::Duration;

use netloft_types::{Advice, Ground, InstanceId, InstanceLoad, Invalid, LoadReport, Seen, Utilization};

use crate::registry::v1 as wire;

/// The most instances that one report tells of: a client that calls more of them tells of those that it calls most.
pub const SEEN_MAX: usize = 1_024;

/// Calls in a report, of each outcome; and their latency, in microseconds: a thousand seconds each, of a million calls.
const CALLS_MAX: u64 = 1_000_000_000;
const LATENCY_US_MAX: u64 = 1_000_000_000_000_000;

/// Parses a load report.
pub fn load_report(report: wire::ReportLoadRequest) -> Result<LoadReport, Invalid> {
    let count = report.seen.len();
    if count > SEEN_MAX {
        return Err(Invalid::new("seen", count, format!("must be at most {SEEN_MAX} instances")));
    }
    let mut all = BTreeMap::new();
    for one in report.seen {
        let (id, seen) = seen(&one)?;
        if all.insert(id, seen).is_some() {
            return Err(Invalid::new("instance id", one.instance_id, "must be told of once in a report"));
        }
    }
    Ok(LoadReport { reporter: report.reporter.try_into()?, service: report.service.parse()?, seen: all })
}

fn seen(seen: &wire::Seen) -> Result<(InstanceId, Seen), Invalid> {
    let up_to = |field, number: u64, max: u64| {
        let refused = || Invalid::new(field, number, format!("must be at most {max}"));
        Some(number).filter(|number| *number <= max).ok_or_else(refused)
    };
    let latency_us = up_to("latency", seen.latency_us, LATENCY_US_MAX)?;
    let read = Seen {
        successes: up_to("successes", seen.successes, CALLS_MAX)?,
        failures: up_to("failures", seen.failures, CALLS_MAX)?,
        latency: Duration::from_micros(latency_us),
        in_flight: seen.in_flight,
        utilization: utilization(seen.utilization)?,
    };
    Ok((seen.instance_id.parse()?, read))
}

fn utilization(number: Option<f64>) -> Result<Option<Utilization>, Invalid> {
    number.map(Utilization::try_from).transpose()
}

/// Parses what is advised of an instance.
pub fn advised(advised: &wire::Advised) -> Result<(InstanceId, Advice), Invalid> {
    let missing = || Invalid::new("advice", "", "must be there");
    Ok((advised.instance_id.parse()?, advice(advised.advice.as_ref().ok_or_else(missing)?)?))
}

fn advice(advice: &wire::Advice) -> Result<Advice, Invalid> {
    let ground = match &advice.ground {
        Some(wire::advice::Ground::Slow(slow)) => Ground::Slow { times: slow.times },
        Some(wire::advice::Ground::Failing(failing)) => Ground::Failing { share: failing.share },
        Some(wire::advice::Ground::Recovering(_)) => Ground::Recovering,
        None => return Err(Invalid::new("ground", "", "must be one that this program knows")),
    };
    Advice::new(advice.weight_percent, ground)
}

/// Parses what is known of the load of an instance.
pub fn instance_load(load: &wire::InstanceLoad) -> Result<InstanceLoad, Invalid> {
    let load = InstanceLoad {
        instance: load.instance_id.parse()?,
        reporters: load.reporters,
        calls_per_s: load.calls_per_s,
        latency: load.latency_us.map(Duration::from_micros),
        failure_share: load.failure_share,
        in_flight: load.in_flight,
        utilization: utilization(load.utilization)?,
        advice: load.advice.as_ref().map(advice).transpose()?,
    };
    load.checked()
}
