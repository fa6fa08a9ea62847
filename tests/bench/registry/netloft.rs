//! Ours, by the client that is generated from the schema.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use netloft_proto::registry::v1 as wire;
use netloft_proto::registry::v1::registry_client::RegistryClient;
use netloft_proto::registry::v1::update::Step;
use netloft_tests::programs::released;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::channel::Channel;
use crate::client::{Client, Instance, number, service_name};
use crate::contender::Place;

/// A session takes 4,096 instances by default.
const INSTANCES_PER_SESSION: u32 = 4_000;
/// Longer than a bench takes.
const TTL_MS: u64 = 3_600_000;

/// How a server is told where to keep registrations, and where its files are.
const STORE: &str = "--store";
const DATA_DIR: &str = "--data-dir";

/// Where registrations are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    Memory,
    Embedded,
}

pub(crate) fn server(store: Store, place: &Place) -> Result<Command> {
    let mut command = Command::new(released("registry-server")?);
    command.args(["--unix", "none", "--log", "warn", "--listen"]).arg(place.address.to_string());
    match store {
        Store::Memory => command.args([STORE, "memory"]),
        Store::Embedded => command.args([STORE, "embedded", DATA_DIR]).arg(&place.data),
    };
    Ok(command)
}

pub(crate) struct Netloft {
    rpc: RegistryClient<Channel>,
    /// The last is the one that takes more.
    sessions: Vec<String>,
    /// Instances of the last session.
    held: u32,
    renewals: Option<(mpsc::Sender<wire::KeepAliveRequest>, Streaming<wire::KeepAliveResponse>)>,
    batches: Option<Streaming<wire::WatchResponse>>,
}

impl Netloft {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let (channel, origin) = Channel::connect(address).await?;
        let rpc = RegistryClient::with_origin(channel, origin).max_decoding_message_size(usize::MAX);
        Ok(Self { rpc, sessions: Vec::new(), held: 0, renewals: None, batches: None })
    }

    async fn session(&mut self) -> Result<String> {
        match self.sessions.last() {
            Some(session) if self.held < INSTANCES_PER_SESSION => Ok(session.clone()),
            _ => {
                let request = wire::OpenSessionRequest { ttl_ms: TTL_MS };
                let session = self.rpc.open_session(request).await?.into_inner().session_id;
                self.sessions.push(session.clone());
                self.held = 0;
                Ok(session)
            }
        }
    }
}

#[tonic::async_trait]
impl Client for Netloft {
    async fn register(&mut self, instance: Instance) -> Result<()> {
        let session_id = self.session().await?;
        self.held += 1;
        let instance = Some(wire(instance));
        self.rpc.register(wire::RegisterRequest { session_id, instance }).await?;
        Ok(())
    }

    async fn lookup(&mut self, service: u32) -> Result<Vec<u32>> {
        let request = wire::ResolveRequest { query: Some(query(service)), ..Default::default() };
        let found = self.rpc.resolve(request).await?.into_inner().instances;
        found.iter().map(|instance| number(&instance.id)).collect()
    }

    async fn heartbeat(&mut self) -> Result<()> {
        let session_id = self.session().await?;
        if self.renewals.is_none() {
            let (requests, outgoing) = mpsc::channel(1);
            let answers = self.rpc.keep_alive(ReceiverStream::new(outgoing)).await?.into_inner();
            self.renewals = Some((requests, answers));
        }
        let (requests, answers) = self.renewals.as_mut().context("was just made")?;
        requests.send(wire::KeepAliveRequest { session_id }).await?;
        let answer = answers.message().await?.context("the renewals ended")?;
        ensure!(answer.ttl_ms > 0, "the session is gone");
        Ok(())
    }

    async fn watch(&mut self, service: u32) -> Result<()> {
        let request = wire::WatchRequest { query: Some(query(service)), after_revision: None };
        let mut batches = self.rpc.watch(request).await?.into_inner();
        let first = batches.message().await?.context("the watch ended")?;
        ensure!(matches!(first.updates.first().map(|it| &it.step), Some(Some(Step::Reset(_)))), "no reset");
        self.batches = Some(batches);
        Ok(())
    }

    async fn changed(&mut self) -> Result<Vec<u32>> {
        let batches = self.batches.as_mut().context("nothing is watched")?;
        let batch = batches.message().await?.context("the watch ended")?;
        let mut numbers = Vec::new();
        for update in batch.updates {
            match update.step {
                Some(Step::Put(put)) => numbers.push(number(&put.instance.context("there is none")?.id)?),
                Some(Step::Reset(_)) => bail!("the watch began anew"),
                _ => {}
            }
        }
        Ok(numbers)
    }

    async fn finish(&mut self) -> Result<()> {
        for session_id in self.sessions.drain(..) {
            self.rpc.close_session(wire::CloseSessionRequest { session_id }).await?;
        }
        Ok(())
    }
}

fn query(service: u32) -> wire::Query {
    wire::Query { service: service_name(service), ..wire::Query::default() }
}

fn wire(instance: Instance) -> wire::Instance {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    wire::Instance {
        id: instance.id(),
        service: instance.service_name(),
        address: instance.address(),
        port: instance.port(),
        tags: Instance::TAGS.map(str::to_owned).into(),
        metadata: Instance::METADATA.iter().map(owned).collect(),
        ..wire::Instance::default()
    }
}
