//! What is known of the scenario, as a table.

use std::collections::BTreeMap;
use std::sync::Arc;

use netloft_types::{Attachment, Instance, InstanceId, Lifecycle, SandboxName, Update};

use crate::demo::call::Report;
use crate::output;

#[derive(Default)]
pub(crate) struct View {
    rows: BTreeMap<SandboxName, Row>,
    /// What the registry has, by a watch.
    instances: BTreeMap<InstanceId, Arc<Instance>>,
    /// What the callers report, by service.
    reports: BTreeMap<String, Report>,
}

struct Row {
    instance: Option<InstanceId>,
    addresses: String,
    pid: Option<u32>,
}

impl View {
    pub(crate) fn add(&mut self, attachment: &Attachment) {
        let endpoint = &attachment.endpoint;
        let row = Row {
            instance: attachment.instance.clone(),
            addresses: output::list(endpoint.addresses.iter().map(|one| one.address())),
            pid: None,
        };
        self.rows.insert(endpoint.sandbox.clone(), row);
    }

    /// Takes note of the process that runs in a sandbox; of none if it has ended.
    pub(crate) fn set_pid(&mut self, name: &SandboxName, pid: Option<u32>) {
        if let Some(row) = self.rows.get_mut(name) {
            row.pid = pid;
        }
    }

    pub(crate) fn report(&mut self, report: &Report) {
        self.reports.insert(report.service.clone(), report.clone());
    }

    pub(crate) fn apply(&mut self, update: &Update) {
        match update {
            Update::Reset { all, .. } => {
                self.instances = all.iter().map(|one| (one.id.clone(), Arc::clone(one))).collect();
            }
            Update::Put { instance, .. } => {
                self.instances.insert(instance.id.clone(), Arc::clone(instance));
            }
            Update::Delete { id, .. } => {
                self.instances.remove(id);
            }
            Update::Progress { .. } => {}
        }
    }

    /// Whether an instance that was not ready is so now.
    pub(crate) fn became_ready(&self, now: &Instance) -> bool {
        let before = self.instances.get(&now.id).map(|instance| instance.lifecycle);
        now.lifecycle == Lifecycle::Ready && before != Some(Lifecycle::Ready)
    }

    /// The table.
    pub(crate) fn table(&self) -> String {
        let rows = self.rows.iter().map(|(name, row)| {
            let instance = row.instance.as_ref().and_then(|id| self.instances.get(id));
            let of =
                |show: &dyn Fn(&Instance) -> String| instance.map_or_else(|| "-".to_owned(), |one| show(one));
            let state = match (&row.instance, instance) {
                (_, Some(instance)) => format!("{}, {}", instance.health, instance.lifecycle),
                (Some(_), None) => "gone".to_owned(),
                (None, None) => "-".to_owned(),
            };
            [
                name.to_string(),
                of(&|one| format!("{}:{}", one.service, one.port)),
                row.addresses.clone(),
                of(&|one| one.weight.to_string()),
                state,
                row.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
                self.calls(row.instance.as_ref()),
            ]
        });
        output::table(["SANDBOX", "SERVICE", "ADDRESSES", "WEIGHT", "STATE", "PID", "CALLS"], rows)
    }

    /// How many calls an instance answered, and its share of those of its service.
    fn calls(&self, instance: Option<&InstanceId>) -> String {
        let answered = |report: &'_ Report| instance.and_then(|id| report.calls.get(id.as_str()).copied());
        let found = self.reports.values().find_map(|report| Some((report, answered(report)?)));
        found.map_or_else(
            || "-".to_owned(),
            |(report, calls)| {
                let all: u64 = report.calls.values().sum();
                format!("{calls} ({} %)", calls * 100 / all.max(1))
            },
        )
    }

    /// All calls in one line.
    pub(crate) fn sum(&self) -> String {
        let answered: u64 = self.reports.values().flat_map(|report| report.calls.values()).sum();
        let failed: u64 = self.reports.values().map(|report| report.failed).sum();
        let retried: u64 = self.reports.values().map(|report| report.retried).sum();
        format!(
            "{answered} calls answered, {failed} failed, {retried} attempts tried again on another instance"
        )
    }
}
