//! What clients report of the instances they call, and what is advised by it.
//!
//! It is in memory and of this server alone. After a restart it is there again as soon as clients have reported again, so it
//! needs no store; and a server that knows a part of the clients advises those by what they see.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use netloft_balance::{Adviser, AdviserOptions};
use netloft_proto::registry::v1 as wire;
use netloft_proto::to_wire;
use netloft_types::{Instance, InstanceLoad, LoadReport, ServiceName};
use tokio::time::Instant;
use tonic::Status;

use crate::ServerOptions;
use crate::limits::{REPORTERS_MAX, SEEN_MAX};

/// What load reports add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoadStats {
    /// Reports that were taken since the start.
    pub reports: u64,
    /// Clients that are remembered, each counted for each service.
    pub reporters: usize,
    /// Instances that are advised to have less than their weight.
    pub advised: usize,
}

/// The reports on all services. A cheap handle, to be cloned.
#[derive(Debug, Clone)]
pub(crate) struct Loads(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// `None` if no reports are taken.
    interval: Option<Duration>,
    advises: bool,
    table: Mutex<Table>,
    reports: AtomicU64,
    /// When the clock of the advisers began.
    begun: Instant,
}

#[derive(Debug, Default)]
struct Table {
    services: BTreeMap<ServiceName, Adviser>,
    /// Of all advisers together: clients, and what they have seen.
    size: [usize; 2],
    swept: Duration,
}

impl Loads {
    pub(crate) fn new(options: &ServerOptions) -> Self {
        Self(Arc::new(Shared {
            interval: options.load_report_interval,
            advises: options.advises_weights,
            table: Mutex::default(),
            reports: AtomicU64::new(0),
            begun: Instant::now(),
        }))
    }

    /// Refuses whatever is about reports, if none are taken.
    pub(crate) fn check_on(&self) -> Result<(), Status> {
        self.interval().map(drop)
    }

    fn interval(&self) -> Result<Duration, Status> {
        self.0.interval.ok_or_else(|| Status::unimplemented("this server takes no load reports"))
    }

    /// Takes a report on a service of these instances.
    pub(crate) fn report(
        &self,
        report: LoadReport,
        instances: &[Arc<Instance>],
    ) -> Result<wire::ReportLoadResponse, Status> {
        let (interval, now) = (self.interval()?, self.0.begun.elapsed());
        let mut advice = Vec::new();
        // Of what is not there, or may not be seen, nothing is remembered.
        if !instances.is_empty() {
            let mut table = self.table();
            table.sweep(interval, now);
            let adviser = table.take(report, instances, interval, now)?;
            if self.0.advises {
                advice.extend(adviser.advice().map(|(id, advice)| to_wire::advised(id, advice)));
            }
            self.0.reports.fetch_add(1, Ordering::Relaxed);
        }
        let next_report_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        Ok(wire::ReportLoadResponse { next_report_ms, advised: advice })
    }

    /// What is known of the load of these instances, which are all of a service.
    pub(crate) fn list(&self, service: &ServiceName, instances: &[Arc<Instance>]) -> wire::ListLoadResponse {
        let (table, now) = (self.table(), self.0.begun.elapsed());
        let adviser = table.services.get(service).filter(|adviser| !adviser.is_stale(now));
        let load = |instance: &Arc<Instance>| {
            let unknown = || InstanceLoad::unknown(instance.id.clone());
            let load = adviser.map_or_else(unknown, |adviser| adviser.load(&instance.id));
            InstanceLoad { advice: load.advice.filter(|_| self.0.advises), ..load }
        };
        let loads = instances.iter().map(|instance| to_wire::instance_load(&load(instance)));
        wire::ListLoadResponse { instances: loads.collect() }
    }

    pub(crate) fn stats(&self) -> LoadStats {
        let mut table = self.table();
        if let Some(interval) = self.0.interval {
            // Where all have gone silent, nobody else does.
            table.sweep(interval, self.0.begun.elapsed());
        }
        let advised = table.services.values().map(|adviser| adviser.advice().count());
        LoadStats {
            reports: self.0.reports.load(Ordering::Relaxed),
            reporters: table.size[0],
            advised: if self.0.advises { advised.sum() } else { 0 },
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // What a panic left half taken is taken anew with the next reports.
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn take(
        &mut self,
        report: LoadReport,
        instances: &[Arc<Instance>],
        interval: Duration,
        now: Duration,
    ) -> Result<&Adviser, Status> {
        let options = AdviserOptions { interval, ..AdviserOptions::default() };
        let [reporters, seen] = self.size;
        let known = self.services.get(&report.service);
        let before = known.and_then(|adviser| adviser.seen_by(report.reporter));
        if before.is_none() && !report.seen.is_empty() {
            check("clients that report load", reporters + 1, REPORTERS_MAX)?;
        }
        // What takes the place of as much or more is always taken.
        if report.seen.len() > before.unwrap_or(0) {
            check("instances in load reports", seen + report.seen.len() - before.unwrap_or(0), SEEN_MAX)?;
        }
        let service = report.service.clone();
        let adviser = self.services.entry(service).or_insert_with(|| Adviser::new(options, now));
        let before = adviser.size();
        adviser.report(report, instances, now);
        adviser.decide(instances, now);
        let after = adviser.size();
        self.size = std::array::from_fn(|it| self.size[it] + after[it] - before[it]);
        Ok(adviser)
    }

    /// Forgets, once an interval, the services of which nobody has said anything for long.
    fn sweep(&mut self, interval: Duration, now: Duration) {
        if now < self.swept + interval {
            return;
        }
        self.swept = now;
        self.services.retain(|_, adviser| !adviser.is_stale(now));
        let sum = |which: usize| self.services.values().map(|adviser| adviser.size()[which]).sum();
        self.size = [sum(0), sum(1)];
    }
}

fn check(what: &str, count: usize, max: usize) -> Result<(), Status> {
    if count <= max {
        return Ok(());
    }
    Err(Status::resource_exhausted(format!("too many {what}: there may be {max}")))
}
