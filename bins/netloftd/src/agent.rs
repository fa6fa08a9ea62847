//! The agent: a network and a name in one act.
//!
//! An attachment is an endpoint (the network wing) and an instance (the discovery wing). The agent is where the
//! two meet: it makes both or neither, watches the process that runs in the sandbox, and takes the instance back
//! the moment that process is gone.
//!
//! Handle → Shared → State: [`Agent`] is a cheap handle; the table of attachments is behind a lock that is held
//! for look-ups only, never across an await. Each started process has one task, which alone decides about its
//! instance; the table owns the task and aborts it when the attachment goes.

mod supervision;
mod takeover;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use netloft_checker::Checker;
use netloft_network::{Finding, Host};
use netloft_registry::{MemoryStore, Store, StoreOptions};
use netloft_types::{
    AttachSpec, Attachment, EndpointId, InstanceId, Lifetime, Network, NetworkName, NetworkSpec, ServiceSpec,
};
use tracing::{info, warn};

use self::supervision::Supervised;
use crate::announcement::Announcement;
use crate::error::{Error, RegistrarError};
use crate::note::Note;
use crate::process::Process;
use crate::registrar::Registrar;
use crate::task::Task;
use crate::{AgentOptions, HostName, Registry};

/// Owns the networks of a host and registers what it attaches. Clones are handles to one agent.
#[derive(Clone)]
pub struct Agent {
    shared: Arc<Shared>,
}

struct Shared {
    host: Host,
    registrar: Registrar,
    host_name: HostName,
    userns: Option<PathBuf>,
    attached: Mutex<BTreeMap<EndpointId, Attached>>,
    /// Retires what is lost.
    mourner: OnceLock<Task>,
}

/// What the agent keeps of an attachment.
struct Attached {
    attachment: Attachment,
    service: Option<Announcement>,
    note: Note,
    process: Option<Supervised>,
    /// Detaches when the caller ends; none if it need not live.
    keeper: Option<Task>,
    /// Whether it is being detached: then nothing is started in it any more.
    is_leaving: bool,
}

impl Attached {
    fn new(attachment: Attachment, service: Option<Announcement>, note: Note) -> Self {
        Self { attachment, service, note, process: None, keeper: None, is_leaving: false }
    }
}

impl Agent {
    /// Takes charge of a host, and opens a session with the registry.
    ///
    /// # Errors
    ///
    /// If the registry cannot be used.
    pub async fn open(options: AgentOptions) -> Result<Self, Error> {
        let registrar = match options.registry {
            Registry::Embedded(store) => Registrar::embedded(store).await.map_err(Error::OpenSession)?,
            Registry::Remote(client) => {
                let own = Arc::new(MemoryStore::start(StoreOptions::default()));
                Registrar::remote(client, own).await.map_err(Error::OpenSession)?
            }
        };
        let shared = Shared {
            host: options.host,
            registrar,
            host_name: options.host_name,
            userns: options.userns,
            attached: Mutex::default(),
            mourner: OnceLock::new(),
        };
        let agent = Self { shared: Arc::new(shared) };
        agent.mourn().await?;
        agent.take_over().await?;
        Ok(agent)
    }

    /// The registry in this process, if there is one.
    pub fn embedded_store(&self) -> Option<Arc<dyn Store>> {
        self.embedded_registry().map(|(store, _)| store)
    }

    /// The registry in this process, and who runs its checks.
    pub(crate) fn embedded_registry(&self) -> Option<(Arc<dyn Store>, Checker)> {
        self.shared.registrar.embedded_registry()
    }

    /// Creates a network.
    ///
    /// # Errors
    ///
    /// What the network wing refuses; nothing is left behind.
    ///
    /// # Cancel safety
    ///
    /// The network is made as a whole or not at all.
    pub async fn create_network(&self, spec: NetworkSpec) -> Result<Network, Error> {
        Ok(self.shared.host.create_network(spec).await?)
    }

    /// Removes a network that has no endpoints.
    pub async fn remove_network(&self, name: &NetworkName) -> Result<(), Error> {
        Ok(self.shared.host.remove_network(name).await?)
    }

    /// The networks, in order of their names.
    pub async fn networks(&self) -> Result<Vec<Network>, Error> {
        Ok(self.shared.host.networks().await?)
    }

    /// The attachments, in order of network and sandbox.
    pub fn attachments(&self) -> Vec<Attachment> {
        let mut all: Vec<_> =
            self.shared.table().values().map(|attached| attached.attachment.clone()).collect();
        all.sort_by(|a, b| {
            let key = |attachment: &Attachment| {
                (attachment.endpoint.network.clone(), attachment.endpoint.sandbox.clone())
            };
            key(a).cmp(&key(b))
        });
        all
    }

    /// Makes a sandbox and its endpoint, and registers its service as an instance that is starting.
    ///
    /// `keeper` is the process whose end detaches it, if its lifetime is the caller's.
    ///
    /// # Errors
    ///
    /// If either half fails, neither is there.
    ///
    /// # Cancel safety
    ///
    /// The attachment is made in a task of its own: a dropped future loses the answer, not the work. What a
    /// caller asked for and left behind goes with the caller's process.
    pub async fn attach(
        &self,
        spec: AttachSpec,
        service: Option<ServiceSpec>,
        lifetime: Lifetime,
        keeper: Option<u32>,
    ) -> Result<Attachment, Error> {
        let agent = self.clone();
        let work = tokio::spawn(async move { agent.attach_wholly(spec, service, lifetime, keeper).await });
        work.await.unwrap_or(Err(Error::Stopping))
    }

    async fn attach_wholly(
        self,
        spec: AttachSpec,
        service: Option<ServiceSpec>,
        lifetime: Lifetime,
        keeper: Option<u32>,
    ) -> Result<Attachment, Error> {
        let keeper = match (lifetime, keeper) {
            (Lifetime::UntilDetached, _) => None,
            (Lifetime::Caller, None) => return Err(Error::CallerGone),
            (Lifetime::Caller, Some(pid)) => Some(Process::open(pid).map_err(|_| Error::CallerGone)?),
        };
        let note = Note { service, keeper: keeper.as_ref().map(Process::trace), process: None };
        let sandbox = self.shared.host.attach_noted(spec, note.to_text()).await?;
        let id = sandbox.endpoint.id;
        let (attachment, service) = self.describe(sandbox, &note);
        if let Some(announcement) = &service
            && let Err(source) = self.shared.registrar.announce(announcement.instance.clone()).await
        {
            if let Err(error) = self.shared.host.detach(id).await {
                warn!(endpoint = %id, error = &error as &dyn std::error::Error, "cannot undo an attachment");
            }
            return Err(Error::Register { sandbox: attachment.endpoint.sandbox, source });
        }
        let attached = Attached::new(attachment.clone(), service, note);
        self.shared.table().insert(id, attached);
        if let Some(keeper) = keeper {
            self.keep(id, keeper);
        }
        Ok(attachment)
    }

    /// An endpoint of this host, as the agent tells of it, and its instance.
    fn describe(
        &self,
        sandbox: netloft_network::Attached,
        note: &Note,
    ) -> (Attachment, Option<Announcement>) {
        let announce = |service| Announcement::new(&sandbox.endpoint, service, &self.shared.host_name);
        let service = note.service.clone().map(announce);
        let attachment = Attachment {
            endpoint: sandbox.endpoint,
            netns: sandbox.netns_path,
            userns: self.shared.userns.clone(),
            instance: service.as_ref().map(|announcement| announcement.instance.id.clone()),
            pid: None,
        };
        (attachment, service)
    }

    /// Detaches `id` when `keeper` ends.
    fn keep(&self, id: EndpointId, keeper: Process) {
        let agent = self.clone();
        let task = Task::spawn(async move {
            keeper.ended().await;
            info!(endpoint = %id, "the caller has ended");
            // In a task of its own, because detaching drops the entry and with it this task.
            tokio::spawn(agent.detach_for_the_dead(id));
        });
        if let Some(attached) = self.shared.table().get_mut(&id) {
            attached.keeper = Some(task);
        }
    }

    /// Detaches for a caller that can no longer be told how it went.
    async fn detach_for_the_dead(self, id: EndpointId) {
        match self.detach(id).await {
            // It had asked for that itself just before.
            Ok(()) | Err(Error::NoSuchEndpoint { .. }) => {}
            Err(error) => {
                warn!(endpoint = %id, error = &error as &dyn std::error::Error, "cannot detach; detach it again");
            }
        }
    }

    /// Takes the instance out of every lookup, then the endpoint and the sandbox away.
    ///
    /// # Errors
    ///
    /// If there is no such endpoint, or the kernel would not let go: then it is cut off and out of every lookup,
    /// and detaching again takes up where this stopped.
    ///
    /// # Cancel safety
    ///
    /// Detaching goes on in a task of its own.
    pub async fn detach(&self, id: EndpointId) -> Result<(), Error> {
        let agent = self.clone();
        let work = tokio::spawn(async move { agent.detach_wholly(id).await });
        work.await.unwrap_or(Err(Error::Stopping))
    }

    async fn detach_wholly(self, id: EndpointId) -> Result<(), Error> {
        let (instance, process) = {
            let mut table = self.shared.table();
            let attached = table.get_mut(&id).ok_or(Error::NoSuchEndpoint { endpoint: id })?;
            attached.is_leaving = true;
            (attached.attachment.instance.clone(), attached.process.take())
        };
        self.shared.retire(instance, process).await;
        self.shared.host.detach(id).await?;
        self.shared.table().remove(&id);
        Ok(())
    }

    /// Everything of the network wing that is not as it should be. Changes nothing.
    ///
    /// # Errors
    ///
    /// If the host cannot be read.
    pub async fn examine(&self) -> Result<Vec<Finding>, Error> {
        Ok(self.shared.host.examine().await?)
    }

    /// Takes away what says it is ours and nobody knows, and tells what it was; with `dry_run`, only tells.
    ///
    /// # Errors
    ///
    /// If something of it is still there.
    pub async fn collect_garbage(&self, dry_run: bool) -> Result<Vec<String>, Error> {
        let strays = self.shared.host.collect_garbage(dry_run).await?;
        Ok(strays.iter().map(ToString::to_string).collect())
    }

    /// Stops, and leaves networks and sandboxes in place for the next agent with the same journal; instances are taken
    /// back from a remote registry, and the next agent announces them again. Without a journal, as [`Agent::close`].
    ///
    /// # Errors
    ///
    /// As [`Agent::close`].
    pub async fn leave(&self) -> Result<(), Error> {
        let attached = std::mem::take(&mut *self.shared.table());
        for (_, attached) in attached {
            self.shared.retire(attached.attachment.instance, attached.process).await;
        }
        Ok(self.shared.host.leave().await?)
    }

    /// Detaches everything, removes every network and stops: nothing of ours is left on the host.
    ///
    /// # Errors
    ///
    /// The failures of the network wing; closing again takes up where this stopped.
    pub async fn close(&self) -> Result<(), Error> {
        let attached = std::mem::take(&mut *self.shared.table());
        for (_, attached) in attached {
            self.shared.retire(attached.attachment.instance, attached.process).await;
        }
        Ok(self.shared.host.close().await?)
    }
}

impl Shared {
    /// A panic while the table was locked cannot have left it half changed: entries are put and taken whole.
    fn table(&self) -> std::sync::MutexGuard<'_, BTreeMap<EndpointId, Attached>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the task that decides about an instance, and only then takes the instance back: so nothing announces it
    /// again.
    async fn retire(&self, instance: Option<InstanceId>, process: Option<Supervised>) {
        if let Some(process) = process {
            process.task.stop().await;
        }
        if let Some(instance) = instance {
            self.withdraw(&instance).await;
        }
    }

    async fn withdraw(&self, instance: &InstanceId) {
        let withdrawn: Result<(), RegistrarError> = self.registrar.withdraw(instance).await;
        if let Err(error) = withdrawn {
            warn!(%instance, error = &error as &dyn std::error::Error, "cannot withdraw an instance");
        }
    }
}
