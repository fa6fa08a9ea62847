//! Commands: how many, how they ended, how long until they were answered.

use std::sync::Arc;
use std::time::Instant;

use netloft_registry::{
    Applied, BoxFuture, Charge, Command, Error, Found, Services, Snapshot, Store, Usage, Watch,
};
use netloft_types::{InstanceId, Query, ReadMode, Revision};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::calls::durations;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    command: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    command: &'static str,
    outcome: &'static str,
}

/// A store whose commands are counted.
pub(crate) struct ObservedStore {
    inner: Arc<dyn Store>,
    commands: Family<Outcome, Counter>,
    seconds: Family<Kind, Histogram, fn() -> Histogram>,
    watches: Counter,
}

impl ObservedStore {
    pub(crate) fn of(inner: Arc<dyn Store>, registry: &mut Registry) -> Self {
        let store = Self {
            inner,
            commands: Family::default(),
            seconds: Family::new_with_constructor(durations),
            watches: Counter::default(),
        };
        registry.register("registry_commands", "Commands by kind and outcome", store.commands.clone());
        let seconds = "Time until a command was answered: for a durable store, until it was on the disk";
        registry.register("registry_command_seconds", seconds, store.seconds.clone());
        registry.register("registry_watches", "Watches that were begun", store.watches.clone());
        store
    }
}

fn kind(command: &Command) -> &'static str {
    match command {
        Command::OpenSession { .. } => "open_session",
        Command::RenewSession { .. } => "renew_session",
        Command::CloseSession { .. } => "close_session",
        Command::Register { .. } => "register",
        Command::Update { .. } => "update",
        Command::Deregister { .. } => "deregister",
        Command::Amend { .. } => "amend",
    }
}

fn outcome(answer: &Result<Applied, Error>) -> &'static str {
    match answer {
        Ok(_) => "done",
        Err(error) if error.is_not_found() => "not_found",
        Err(error) if error.is_conflict() => "conflict",
        Err(error) if error.is_exhausted() => "exhausted",
        Err(error) if error.is_unavailable() => "unavailable",
        Err(_) => "invalid",
    }
}

impl Store for ObservedStore {
    fn apply(&self, command: Command) -> BoxFuture<'_, Result<Applied, Error>> {
        Box::pin(async move {
            let (command_kind, began) = (kind(&command), Instant::now());
            let answer = self.inner.apply(command).await;
            let took = began.elapsed().as_secs_f64();
            self.seconds.get_or_create(&Kind { command: command_kind }).observe(took);
            let outcome = Outcome { command: command_kind, outcome: outcome(&answer) };
            self.commands.get_or_create(&outcome).inc();
            answer
        })
    }

    fn get<'a>(&'a self, id: &'a InstanceId, mode: ReadMode) -> BoxFuture<'a, Result<Found, Error>> {
        self.inner.get(id, mode)
    }

    fn list<'a>(&'a self, query: &'a Query, mode: ReadMode) -> BoxFuture<'a, Result<Snapshot, Error>> {
        self.inner.list(query, mode)
    }

    fn services(&self, mode: ReadMode) -> BoxFuture<'_, Result<Services, Error>> {
        self.inner.services(mode)
    }

    fn watch(&self, query: Query, from: Option<Revision>) -> Result<Watch, Error> {
        let watch = self.inner.watch(query, from)?;
        self.watches.inc();
        Ok(watch)
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }

    fn charge(&self) -> Charge {
        self.inner.charge()
    }
}
