//! The calls about load.

use std::collections::BTreeMap;
use std::time::Duration;

use netloft_proto::registry::v1 as wire;
use netloft_proto::{from_wire, to_wire};
use netloft_types::{Advice, InstanceId, InstanceLoad, LoadReport, ServiceName};

use super::Calls;
use crate::{Error, Operation};

/// What the registry answers to a load report.
#[derive(Debug)]
pub(crate) struct Advised {
    /// When to report again.
    pub(crate) next: Duration,
    /// Of the instances that should have less than their weight.
    pub(crate) advice: BTreeMap<InstanceId, Advice>,
}

impl Calls {
    pub(crate) async fn report_load(&self, report: &LoadReport) -> Result<Advised, Error> {
        let operation = Operation::ReportLoad(report.service.clone());
        let answer = self
            .ask(&operation, to_wire::load_report(report), |mut rpc, request| async move {
                rpc.report_load(request).await
            })
            .await?;
        let advice = answer.advised.iter().map(from_wire::advised).collect::<Result<_, _>>();
        let advice = advice.map_err(|error| self.connection().malformed(&operation, error))?;
        Ok(Advised { next: Duration::from_millis(answer.next_report_ms), advice })
    }

    pub(crate) async fn load(&self, service: &ServiceName) -> Result<Vec<InstanceLoad>, Error> {
        let request = wire::ListLoadRequest { service: service.to_string() };
        let operation = Operation::ListLoad(service.clone());
        let answer = self
            .ask(&operation, request, |mut rpc, request| async move { rpc.list_load(request).await })
            .await?;
        let loads = answer.instances.iter().map(from_wire::instance_load).collect::<Result<_, _>>();
        loads.map_err(|error| self.connection().malformed(&operation, error))
    }
}
