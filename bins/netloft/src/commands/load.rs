//! `netloft load`: who is slow, and why.

use std::time::Duration;

use netloft_types::{Ground, InstanceLoad, ServiceName, Utilization};
use serde_json::{Value, json};

use super::registry;
use crate::args::Common;
use crate::output;

pub(crate) async fn run(service: &ServiceName, common: &Common) -> anyhow::Result<()> {
    let loads = registry(common)?.load(service).await?;
    if common.json {
        return output::json(&loads.iter().map(as_json).collect::<Vec<_>>());
    }
    let rows = loads.iter().map(|one| {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        [
            one.instance.to_string(),
            one.reporters.to_string(),
            format!("{:.1}", one.calls_per_s),
            or_dash(one.latency.map(describe_latency)),
            format!("{:.1} %", one.failure_share * 100.0),
            one.in_flight.to_string(),
            or_dash(one.utilization.map(|busy| format!("{:.0} %", busy.number() * 100.0))),
            or_dash(one.advice.map(|advice| advice.to_string())),
        ]
    });
    let headings = ["INSTANCE", "REPORTERS", "CALLS/S", "LATENCY", "FAILURES", "IN FLIGHT", "BUSY", "ADVICE"];
    output::block(&output::table(headings, rows))
}

/// To the precision that says something.
fn describe_latency(latency: Duration) -> String {
    let ms = latency.as_secs_f64() * 1_000.0;
    if ms < 10.0 { format!("{ms:.2} ms") } else { format!("{ms:.0} ms") }
}

fn as_json(load: &InstanceLoad) -> Value {
    let advice = load.advice.map(|advice| {
        let (ground, measure) = match advice.ground() {
            Ground::Slow { times } => ("slow", Some(times)),
            Ground::Failing { share } => ("failing", Some(share)),
            Ground::Recovering => ("recovering", None),
        };
        let text = advice.to_string();
        json!({ "weight_percent": advice.percent(), "ground": ground, "measure": measure, "text": text })
    });
    json!({
        "instance": load.instance,
        "reporters": load.reporters,
        "calls_per_s": load.calls_per_s,
        "latency_us": load.latency.map(|latency| u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)),
        "failure_share": load.failure_share,
        "in_flight": load.in_flight,
        "utilization": load.utilization.map(Utilization::number),
        "advice": advice,
    })
}
