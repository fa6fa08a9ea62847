//! `netloft services`, `netloft resolve` and `netloft watch`.

use std::sync::Arc;

use netloft_types::{Instance, Update};
use serde_json::json;

use super::registry;
use crate::args::{Common, QueryArgs};
use crate::output;

pub(crate) async fn services(common: &Common) -> anyhow::Result<()> {
    let services = registry(common)?.services().await?;
    if common.json {
        let all = services
            .iter()
            .map(|one| json!({ "name": one.name, "instances": one.instances, "usable": one.usable }));
        return output::json(&all.collect::<Vec<_>>());
    }
    let rows =
        services.iter().map(|one| [one.name.to_string(), one.instances.to_string(), one.usable.to_string()]);
    output::block(&output::table(["SERVICE", "INSTANCES", "USABLE"], rows))
}

pub(crate) async fn resolve(args: &QueryArgs, common: &Common) -> anyhow::Result<()> {
    let found = registry(common)?.resolve(&args.query()).await?;
    if common.json {
        return output::json(&json!({ "revision": found.at, "instances": plain(&found.instances) }));
    }
    show(&found.instances)
}

/// Prints instances as a table.
pub(crate) fn show(instances: &[Arc<Instance>]) -> anyhow::Result<()> {
    let rows = instances.iter().map(|one| {
        [
            one.id.to_string(),
            one.service.to_string(),
            format!("{}", std::net::SocketAddr::new(one.address, one.port.number())),
            one.weight.to_string(),
            format!("{}, {}", one.health, one.lifecycle),
            output::list(one.tags.iter()),
        ]
    });
    output::block(&output::table(["INSTANCE", "SERVICE", "ADDRESS", "WEIGHT", "STATE", "TAGS"], rows))
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
    let address = std::net::SocketAddr::new(instance.address, instance.port.number());
    let Instance { id, service, weight, health, lifecycle, .. } = instance;
    format!("{id}  {service}  {address}  weight {weight}  {health}, {lifecycle}")
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
