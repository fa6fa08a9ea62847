//! `netloft services`, `netloft resolve` and `netloft watch`.

use std::sync::Arc;
use std::time::Duration;

use netloft_client::{Examined, ServiceSummary};
use netloft_types::{CheckReport, Instance, InstanceId, Update};
use serde_json::json;

use super::registry;
use crate::args::{Common, MaintenanceArgs, QueryArgs, ResolveArgs};
use crate::output;

pub(crate) async fn services(common: &Common) -> anyhow::Result<()> {
    let services = registry(common)?.services().await?;
    if common.json {
        let all = services
            .iter()
            .map(|one| json!({ "name": one.name, "instances": one.instances, "usable": one.usable, "held": one.held }));
        return output::json(&all.collect::<Vec<_>>());
    }
    let usable = |one: &ServiceSummary| match one.held {
        0 => one.usable.to_string(),
        held => format!("{} ({held} held: too many fail at once)", one.usable),
    };
    let rows = services.iter().map(|one| [one.name.to_string(), one.instances.to_string(), usable(one)]);
    output::block(&output::table(["SERVICE", "INSTANCES", "USABLE"], rows))
}

pub(crate) async fn resolve(args: &ResolveArgs, common: &Common) -> anyhow::Result<()> {
    let found = registry(common)?.resolve_with(&args.query.query(), args.mode()).await?;
    if common.json {
        let age_ms = u64::try_from(found.age.as_millis()).unwrap_or(u64::MAX);
        let instances = plain(&found.instances);
        return output::json(&json!({ "revision": found.at, "age_ms": age_ms, "instances": instances }));
    }
    show(&found.instances)?;
    if !found.age.is_zero() {
        output::line(format_args!("\nas of {} ago", humantime::format_duration(found.age)))?;
    }
    Ok(())
}

/// Prints instances as a table.
pub(crate) fn show(instances: &[Arc<Instance>]) -> anyhow::Result<()> {
    let rows = instances.iter().map(|one| {
        [
            one.id.to_string(),
            one.service.to_string(),
            one.socket_address().to_string(),
            one.weight.to_string(),
            state(one),
            output::list(one.tags.iter()),
        ]
    });
    output::block(&output::table(["INSTANCE", "SERVICE", "ADDRESS", "WEIGHT", "STATE", "TAGS"], rows))
}

/// Health and lifecycle, and whether an operator keeps it out.
fn state(instance: &Instance) -> String {
    let Instance { health, lifecycle, .. } = instance;
    let maintenance = if instance.maintenance.is_some() { ", maintenance" } else { "" };
    format!("{health}, {lifecycle}{maintenance}")
}

pub(crate) async fn instance(id: &InstanceId, common: &Common) -> anyhow::Result<()> {
    let Examined { instance, checks } = registry(common)?.examine(id).await?;
    if common.json {
        let checks: Vec<_> = checks.iter().map(report_as_json).collect();
        return output::json(&json!({ "instance": instance, "checks": checks }));
    }
    let (reason, specs) = (instance.maintenance.clone(), instance.checks.clone());
    show(&[Arc::new(instance)])?;
    if let Some(reason) = reason {
        output::line(format_args!("\nin maintenance: {reason}"))?;
    }
    if checks.is_empty() {
        return specs.iter().try_for_each(|check| Ok(output::line(format_args!("check: {check}"))?));
    }
    output::line("")?;
    let rows = checks.iter().map(|one| {
        let age = humantime::format_duration(Duration::from_secs(one.age.as_secs())).to_string();
        [one.name.to_string(), describe_health(one), age, one.failures.to_string(), one.output.to_string()]
    });
    output::block(&output::table(["CHECK", "HEALTH", "FOR", "FAILURES", "OUTPUT"], rows))
}

fn describe_health(report: &CheckReport) -> String {
    let damped = if report.is_damped { ", damped" } else { "" };
    let held = if report.is_held { ", held" } else { "" };
    format!("{}{damped}{held}", report.health)
}

fn report_as_json(report: &CheckReport) -> serde_json::Value {
    json!({
        "name": report.name,
        "health": report.health,
        "age_ms": u64::try_from(report.age.as_millis()).unwrap_or(u64::MAX),
        "failures": report.failures,
        "output": report.output.as_str(),
        "damped": report.is_damped,
        "held": report.is_held,
    })
}

pub(crate) async fn maintain(args: &MaintenanceArgs, common: &Common) -> anyhow::Result<()> {
    // Exactly one of the two was said.
    let reason = args.reason.clone().filter(|_| !args.end);
    Ok(registry(common)?.set_maintenance(&args.id, reason).await?)
}

pub(crate) async fn watch(args: &QueryArgs, common: &Common) -> anyhow::Result<()> {
    let mut watch = registry(common)?.watch(&args.query(), None).await?;
    let follow = async {
        loop {
            for update in &watch.next().await? {
                if common.json { output::json(&as_json(update))? } else { print(update)? }
            }
        }
    };
    tokio::select! {
        outcome = follow => outcome,
        () = netloft_rpc::shutdown_requested() => Ok(()),
    }
}

fn print(update: &Update) -> anyhow::Result<()> {
    let at = update.at();
    match update {
        Update::Reset { all, .. } => {
            output::line(format_args!("{at:>8}  reset   {} selected", all.len()))?;
            all.iter().try_for_each(|instance| {
                output::line(format_args!("{:>8}          {}", "", describe(instance)))
            })?;
        }
        Update::Put { instance, .. } => {
            output::line(format_args!("{at:>8}  put     {}", describe(instance)))?;
        }
        Update::Delete { id, .. } => output::line(format_args!("{at:>8}  delete  {id}"))?,
        // For programs that resume; a person has nothing to see.
        Update::Progress { .. } => {}
    }
    Ok(())
}

fn describe(instance: &Instance) -> String {
    let address = instance.socket_address();
    let Instance { id, service, weight, .. } = instance;
    format!("{id}  {service}  {address}  weight {weight}  {}", state(instance))
}

fn as_json(update: &Update) -> serde_json::Value {
    let at = update.at();
    match update {
        Update::Reset { all, .. } => json!({ "step": "reset", "at": at, "all": plain(all) }),
        Update::Put { instance, .. } => json!({ "step": "put", "at": at, "instance": **instance }),
        Update::Delete { id, .. } => json!({ "step": "delete", "at": at, "id": id }),
        Update::Progress { .. } => json!({ "step": "progress", "at": at }),
    }
}

fn plain(instances: &[Arc<Instance>]) -> Vec<&Instance> {
    instances.iter().map(AsRef::as_ref).collect()
}
