//! What a registry does for its instances beyond keeping them: checks, heartbeats, maintenance.

use std::sync::Arc;
use std::time::Duration;

use netloft_checker::Checker;
use netloft_health::Observation;
use netloft_registry::{Command, Error, Store};
use netloft_types::{
    CheckName, CheckReport, Instance, InstanceId, Invalid, ReadMode, Reason, Revision, ServiceName,
};
use tonic::Status;

use crate::status;

/// How often an amendment is tried that others were faster than. Each time somebody else got something done.
const ATTEMPTS_MAX: usize = 16;

/// A store, with who runs the checks of its instances, if anybody does.
pub(crate) struct Care {
    store: Arc<dyn Store>,
    checker: Option<Checker>,
}

impl Care {
    pub(crate) fn new(store: Arc<dyn Store>, checker: Option<Checker>) -> Self {
        Self { store, checker }
    }

    /// Refuses an instance whose checks nobody would carry out: it would never be ready, and nobody would know why.
    pub(crate) fn admit(&self, instance: &Instance) -> Result<(), Status> {
        if instance.checks.is_empty() {
            return Ok(());
        }
        let refused = match &self.checker {
            None => Invalid::new(
                "checks",
                format_args!("{:?}", instance.checks),
                "must be none: nobody here runs any",
            ),
            Some(checker) => match checker.admit(instance) {
                Ok(()) => return Ok(()),
                Err(refusal) => Invalid::new("address", instance.address, refusal.to_string()),
            },
        };
        Err(status::invalid(&refused))
    }

    /// Whether the checks of an instance are run here, and not by another server of the same registry.
    pub(crate) fn looks_after(&self, id: &InstanceId) -> bool {
        self.store.charge().has(id)
    }

    pub(crate) async fn heartbeat(
        &self,
        id: &InstanceId,
        check: Option<&CheckName>,
        observation: &Observation,
    ) -> Result<Duration, Status> {
        let instance = self.find(id).await?;
        let heard = self.checker.as_ref().map(|checker| checker.heartbeat(&instance, check, observation));
        match heard {
            Some(Ok(counts_for)) => Ok(counts_for),
            Some(Err(error)) => Err(Status::not_found(error.to_string())),
            None => Err(Status::not_found("nobody here runs checks")),
        }
    }

    pub(crate) async fn set_maintenance(
        &self,
        id: &InstanceId,
        reason: Option<Reason>,
    ) -> Result<Revision, Status> {
        for _ in 0..ATTEMPTS_MAX {
            let seen = self.find(id).await?;
            let becomes = Some(Arc::new(seen.maintained(reason.clone())));
            match self.store.apply(Command::Amend { seen, becomes }).await {
                Ok(applied) => return Ok(applied.at),
                Err(Error::InstanceChanged { .. }) => {}
                Err(error) => return Err(status::of(&error)),
            }
        }
        Err(Status::unavailable("the instance changes all the time; try again"))
    }

    pub(crate) fn reports(&self, id: &InstanceId) -> Vec<CheckReport> {
        self.checker.as_ref().map(|checker| checker.reports(id)).unwrap_or_default()
    }

    pub(crate) fn held(&self, service: &ServiceName) -> usize {
        self.checker.as_ref().map(|checker| checker.held(service)).unwrap_or_default()
    }

    async fn find(&self, id: &InstanceId) -> Result<Arc<Instance>, Status> {
        let found = self.store.get(id, ReadMode::Linearizable).await.map_err(|error| status::of(&error))?;
        found.instance.ok_or_else(|| status::of(&Error::InstanceNotFound { id: id.clone() }))
    }
}
