//! Where the agent announces what it attaches: the registry it embeds, or a remote one.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use netloft_checker::Checker;
use netloft_client::{Client, RegisterOptions, Registration};
use netloft_health::MonitorOptions;
use netloft_registry::{Closed, Command, Store};
use netloft_types::{Checks, Instance, InstanceId, Query, SessionId, Update};
use tokio::sync::Mutex;
use tokio::time::{Duration, sleep};
use tracing::warn;

use crate::error::RegistrarError;

/// How long to wait before a registry is asked again.
const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(500);

/// Announces instances, keeps them as their checks find them, and takes them back.
pub(crate) enum Registrar {
    /// The registry lives in this process, and so do its checks.
    Embedded(Desk),
    /// The client renews its session; every registration is kept to be taken back. The checks are of this process all the
    /// same: a remote registry may reach nothing of this host.
    Remote { client: Client, registrations: Mutex<BTreeMap<InstanceId, Registration>>, desk: Desk },
}

/// A store of this process, with checks. Its session lives as long: no renewal can come late.
pub(crate) struct Desk {
    store: Arc<dyn Store>,
    session: SessionId,
    checker: Checker,
}

impl Registrar {
    pub(crate) async fn embedded(store: Arc<dyn Store>) -> Result<Self, RegistrarError> {
        Ok(Self::Embedded(Desk::open(store).await?))
    }

    /// With a store of its own, where instances are checked.
    pub(crate) async fn remote(client: Client, own: Arc<dyn Store>) -> Result<Self, RegistrarError> {
        let desk = Desk::open(own).await?;
        Ok(Self::Remote { client, registrations: Mutex::default(), desk })
    }

    pub(crate) fn embedded_registry(&self) -> Option<(Arc<dyn Store>, Checker)> {
        match self {
            Self::Embedded(desk) => Some((Arc::clone(&desk.store), desk.checker.clone())),
            Self::Remote { .. } => None,
        }
    }

    /// Announces an instance, or what has become of it. Safe to repeat.
    pub(crate) async fn announce(&self, instance: Instance) -> Result<(), RegistrarError> {
        match self {
            Self::Embedded(desk) => desk.register(instance).await?,
            Self::Remote { client, registrations, .. } => {
                let id = instance.id.clone();
                let registration = client.register(instance, RegisterOptions::default()).await?;
                registrations.lock().await.insert(id, registration);
            }
        }
        Ok(())
    }

    /// Announces an instance and, if it has checks, whatever they find from then on.
    pub(crate) async fn keep(&self, instance: Instance) {
        match self {
            Self::Remote { desk, .. } if !instance.checks.is_empty() => {
                // The store of this process ends after everything that is announced.
                let Err(Closed) = self.pass_on(desk, instance).await;
            }
            _ => self.announce_until_taken(instance).await,
        }
    }

    /// Has an instance checked here, and announces what is found elsewhere.
    async fn pass_on(&self, desk: &Desk, instance: Instance) -> Result<Infallible, Closed> {
        let id = instance.id.clone();
        let query = Query { service: Some(instance.service.clone()), ..Query::everything() };
        let mut watch = loop {
            match desk.check(&instance, &query).await {
                Ok(watch) => break watch,
                Err(error) => warn!(instance = %id, %error, "cannot check an instance yet"),
            }
            sleep(ANNOUNCE_INTERVAL).await;
        };
        loop {
            let batch = watch.next().await?;
            if let Some(found) = last_of(&id, &batch) {
                let bare = Instance { checks: Checks::default(), ..Instance::clone(found) };
                self.announce_until_taken(bare).await;
            }
        }
    }

    /// Announces an instance, again and again until the registry takes it.
    async fn announce_until_taken(&self, instance: Instance) {
        while let Err(error) = self.announce(instance.clone()).await {
            warn!(instance = %instance.id, error = &error as &dyn std::error::Error, "cannot announce an instance");
            sleep(ANNOUNCE_INTERVAL).await;
        }
    }

    /// Takes an instance back; one that is not there is gone already.
    pub(crate) async fn withdraw(&self, id: &InstanceId) -> Result<(), RegistrarError> {
        match self {
            Self::Embedded(desk) => Ok(desk.deregister(id).await?),
            Self::Remote { registrations, desk, .. } => {
                desk.deregister(id).await?;
                let registration = registrations.lock().await.remove(id);
                match registration {
                    None => Ok(()),
                    Some(registration) => registration.close().await.map_err(Into::into),
                }
            }
        }
    }
}

impl Desk {
    async fn open(store: Arc<dyn Store>) -> Result<Self, RegistrarError> {
        let session = SessionId::from_number(rand::random());
        store.apply(Command::OpenSession { session, ttl: None }).await?;
        let checker = Checker::start(Arc::clone(&store), MonitorOptions::default());
        Ok(Self { store, session, checker })
    }

    async fn register(&self, instance: Instance) -> Result<(), netloft_registry::Error> {
        self.store.apply(Command::Register { session: self.session, instance }).await.map(drop)
    }

    /// Begins to check an instance; the watch tells what is found.
    async fn check(
        &self,
        instance: &Instance,
        query: &Query,
    ) -> Result<netloft_registry::Watch, netloft_registry::Error> {
        self.register(instance.clone()).await?;
        self.store.watch(query.clone(), None)
    }

    async fn deregister(&self, id: &InstanceId) -> Result<(), netloft_registry::Error> {
        match self.store.apply(Command::Deregister { session: self.session, id: id.clone() }).await {
            Err(error) if error.is_not_found() => Ok(()),
            outcome => outcome.map(drop),
        }
    }
}

/// What a batch says last about an instance.
fn last_of<'a>(id: &InstanceId, batch: &'a [Update]) -> Option<&'a Arc<Instance>> {
    batch.iter().rev().find_map(|update| match update {
        Update::Put { instance, .. } => Some(instance).filter(|instance| instance.id == *id),
        Update::Reset { all, .. } => all.iter().find(|instance| instance.id == *id),
        Update::Delete { .. } | Update::Progress { .. } => None,
    })
}
