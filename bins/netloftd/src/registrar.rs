//! Where the agent announces what it attaches: the registry it embeds, or a remote one.

use std::collections::BTreeMap;
use std::sync::Arc;

use netloft_client::{Client, RegisterOptions, Registration};
use netloft_registry::{Command, Store};
use netloft_types::{Instance, InstanceId, SessionId};
use tokio::sync::Mutex;

use crate::error::RegistrarError;

/// Announces instances and takes them back.
#[expect(clippy::large_enum_variant, reason = "one is made in the life of an agent")]
pub(crate) enum Registrar {
    /// The registry lives in this process and its session lives as long: no renewal can come late.
    Embedded { store: Arc<dyn Store>, session: SessionId },
    /// The client renews its session; every registration is kept to be taken back.
    Remote { client: Client, registrations: Mutex<BTreeMap<InstanceId, Registration>> },
}

impl Registrar {
    pub(crate) async fn embedded(store: Arc<dyn Store>) -> Result<Self, RegistrarError> {
        let session = SessionId::from_number(rand::random());
        store.apply(Command::OpenSession { session, ttl: None }).await?;
        Ok(Self::Embedded { store, session })
    }

    pub(crate) fn remote(client: Client) -> Self {
        Self::Remote { client, registrations: Mutex::default() }
    }

    pub(crate) fn embedded_store(&self) -> Option<Arc<dyn Store>> {
        match self {
            Self::Embedded { store, .. } => Some(Arc::clone(store)),
            Self::Remote { .. } => None,
        }
    }

    /// Announces an instance, or what has become of it. Safe to repeat.
    pub(crate) async fn announce(&self, instance: Instance) -> Result<(), RegistrarError> {
        match self {
            Self::Embedded { store, session } => {
                store.apply(Command::Register { session: *session, instance }).await?;
            }
            Self::Remote { client, registrations } => {
                let id = instance.id.clone();
                let registration = client.register(instance, RegisterOptions::default()).await?;
                registrations.lock().await.insert(id, registration);
            }
        }
        Ok(())
    }

    /// Takes an instance back; one that is not there is gone already.
    pub(crate) async fn withdraw(&self, id: &InstanceId) -> Result<(), RegistrarError> {
        match self {
            Self::Embedded { store, session } => {
                let withdrawn = store.apply(Command::Deregister { session: *session, id: id.clone() }).await;
                match withdrawn {
                    Err(error) if error.is_not_found() => Ok(()),
                    outcome => outcome.map(drop).map_err(Into::into),
                }
            }
            Self::Remote { registrations, .. } => {
                let registration = registrations.lock().await.remove(id);
                match registration {
                    None => Ok(()),
                    Some(registration) => registration.close().await.map_err(Into::into),
                }
            }
        }
    }
}
