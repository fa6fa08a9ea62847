//! Load reports, and what is advised by them.

use std::time::Duration;

use netloft_types::{Advice, Ground, InstanceId, InstanceLoad, LoadReport, Seen, Utilization};

use crate::registry::v1 as wire;

/// Writes a load report out.
pub fn load_report(report: &LoadReport) -> wire::ReportLoadRequest {
    wire::ReportLoadRequest {
        reporter: report.reporter.number(),
        service: report.service.to_string(),
        seen: report.seen.iter().map(|(id, one)| seen(id, one)).collect(),
    }
}

fn seen(id: &InstanceId, seen: &Seen) -> wire::Seen {
    wire::Seen {
        instance_id: id.to_string(),
        successes: seen.successes,
        failures: seen.failures,
        latency_us: us(seen.latency),
        in_flight: seen.in_flight,
        utilization: seen.utilization.map(Utilization::number),
    }
}

/// Writes out what is advised of an instance.
pub fn advised(id: &InstanceId, advised: Advice) -> wire::Advised {
    wire::Advised { instance_id: id.to_string(), advice: Some(advice(advised)) }
}

fn advice(advice: Advice) -> wire::Advice {
    let ground = match advice.ground() {
        Ground::Slow { times } => wire::advice::Ground::Slow(wire::Slow { times }),
        Ground::Failing { share } => wire::advice::Ground::Failing(wire::Failing { share }),
        Ground::Recovering => wire::advice::Ground::Recovering(wire::Recovering {}),
    };
    wire::Advice { weight_percent: advice.percent().into(), ground: Some(ground) }
}

/// Writes out what is known of the load of an instance.
pub fn instance_load(load: &InstanceLoad) -> wire::InstanceLoad {
    wire::InstanceLoad {
        instance_id: load.instance.to_string(),
        reporters: load.reporters,
        calls_per_s: load.calls_per_s,
        latency_us: load.latency.map(us),
        failure_share: load.failure_share,
        in_flight: load.in_flight,
        utilization: load.utilization.map(Utilization::number),
        advice: load.advice.map(advice),
    }
}

fn us(latency: Duration) -> u64 {
    u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)
}
