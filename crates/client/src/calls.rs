//! Every call to a registry: the only place that knows both the wire and the vocabulary.

mod load;

use std::sync::Arc;
use std::time::Duration;

use netloft_proto::registry::v1 as wire;
use netloft_proto::registry::v1::registry_client::RegistryClient;
use netloft_proto::{from_wire, to_wire};
use netloft_types::{
    CheckReport, Health, Instance, InstanceId, Invalid, Patch, Query, ReadMode, Reason, Revision,
    ServiceName, SessionId, Update,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

pub(crate) use self::load::Advised;
use crate::connection::{Connection, Transport};
use crate::turn::Turn;
use crate::{ClientOptions, Error, Operation, Targets};

/// Bytes of an answer that are accepted: what a server sends at most, because a batch of a watch is not split.
const ANSWER_LEN_MAX: usize = 64 * 1024 * 1024;

/// A registry of one server or several, of which one is asked at a time. Cheap to clone; clones share the connections.
#[derive(Debug, Clone)]
pub(crate) struct Calls {
    servers: Arc<[Server]>,
    turn: Turn,
}

#[derive(Debug)]
struct Server {
    rpc: RegistryClient<Transport>,
    connection: Connection,
}

/// What a list was asked for, and the revision at which it was so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The revision. A watch of the same query can go on from here.
    pub at: Revision,
    /// The instances, in order of their ids.
    pub instances: Vec<Arc<Instance>>,
    /// How long ago this was surely everything; zero if it is so now.
    pub age: Duration,
}

/// An instance, and how its checks stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// The instance.
    pub instance: Instance,
    /// In the order of its checks; none if the registry does not run them.
    pub checks: Vec<CheckReport>,
}

/// A service at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSummary {
    /// Its name.
    pub name: ServiceName,
    /// How many instances it has, whatever their health and lifecycle.
    pub instances: u32,
    /// How many of them a default query selects.
    pub usable: u32,
    /// How many of them stay what they were because too much of the service fails its checks at once.
    pub held: u32,
}

impl Calls {
    pub(crate) fn new(targets: &Targets, options: &ClientOptions) -> Self {
        let targets = targets.as_slice();
        let turn = Turn::new(targets.len());
        let servers = targets.iter().enumerate().map(|(index, target)| {
            let connection = Connection::lazy_in(turn.place(index), target.clone(), options);
            let rpc = RegistryClient::new(connection.channel()).max_decoding_message_size(ANSWER_LEN_MAX);
            Server { rpc, connection }
        });
        Self { servers: servers.collect(), turn }
    }

    /// The connection to the server that is asked now.
    pub(crate) fn connection(&self) -> &Connection {
        &self.server().connection
    }

    fn server(&self) -> &Server {
        &self.servers[self.turn.current()]
    }

    /// Asks the server whose turn it is; each of the others at most once, as long as none is available. What is asked can
    /// be repeated, so it does not matter how far it got. Altogether it takes no longer than a call may.
    async fn ask<R, T, F>(
        &self,
        operation: &Operation,
        request: R,
        ask: impl Fn(RegistryClient<Transport>, R) -> F,
    ) -> Result<T, Error>
    where
        R: Clone,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.ask_whom(operation, request, ask).await.map(|(answer, _)| answer)
    }

    /// Like [`ask`](Self::ask), and tells who answered.
    async fn ask_whom<R, T, F>(
        &self,
        operation: &Operation,
        request: R,
        ask: impl Fn(RegistryClient<Transport>, R) -> F,
    ) -> Result<(T, Connection), Error>
    where
        R: Clone,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let until = Instant::now() + self.connection().timeout();
        let mut others = self.turn.count() - 1;
        loop {
            let Server { rpc, connection } = self.server();
            let asked = connection.call(operation, ask(rpc.clone(), request.clone()));
            match timeout_at(until, asked).await {
                Ok(Err(Error::Unavailable { .. })) if others > 0 => others -= 1,
                Ok(outcome) => return outcome.map(|answer| (answer, connection.clone())),
                Err(_) => return Err(connection.timed_out(operation, connection.timeout())),
            }
        }
    }

    pub(crate) async fn open_session(&self, ttl: Duration) -> Result<SessionId, Error> {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let request = wire::OpenSessionRequest { ttl_ms };
        let operation = Operation::OpenSession;
        let answer = self
            .ask(&operation, request, |mut rpc, request| async move { rpc.open_session(request).await })
            .await?;
        answer.session_id.parse().map_err(|error| self.connection().malformed(&operation, error))
    }

    pub(crate) async fn close_session(&self, session: SessionId) -> Result<(), Error> {
        let session_id = session.to_string();
        let request = wire::CloseSessionRequest { session_id };
        self.ask(&Operation::CloseSession, request, |mut rpc, request| async move {
            rpc.close_session(request).await
        })
        .await?;
        Ok(())
    }

    pub(crate) async fn keep_alive(&self, session: SessionId) -> Result<Renewals, Error> {
        let (requests, outgoing) = mpsc::channel(1);
        let Server { rpc, connection } = self.server();
        let mut rpc = rpc.clone();
        let answers = rpc.keep_alive(ReceiverStream::new(outgoing));
        Ok(Renewals {
            answers: connection.call(&Operation::RenewSession, answers).await?,
            requests,
            session_id: session.to_string(),
            connection: connection.clone(),
        })
    }

    pub(crate) async fn register(&self, session: SessionId, instance: &Instance) -> Result<Revision, Error> {
        let request = wire::RegisterRequest {
            session_id: session.to_string(),
            instance: Some(to_wire::instance(instance)),
        };
        let operation = Operation::Register(instance.id.clone());
        let answer = self
            .ask(&operation, request, |mut rpc, request| async move { rpc.register(request).await })
            .await?;
        Ok(Revision::new(answer.revision))
    }

    pub(crate) async fn update(
        &self,
        session: SessionId,
        id: &InstanceId,
        patch: &Patch,
    ) -> Result<Revision, Error> {
        let request = wire::UpdateRequest {
            session_id: session.to_string(),
            instance_id: id.to_string(),
            weight: patch.weight.map(|weight| weight.number().into()),
            tags: patch.tags.as_ref().map(|tags| wire::Tags { tags: to_wire::tags(tags) }),
            metadata: patch
                .metadata
                .as_ref()
                .map(|metadata| wire::Metadata { entries: to_wire::metadata(metadata) }),
            health: patch.health.map(to_wire::health).unwrap_or_default().into(),
            lifecycle: patch.lifecycle.map(to_wire::lifecycle).unwrap_or_default().into(),
            locality: patch.locality.as_ref().map(to_wire::locality),
            drain_window_ms: to_wire::span(patch.drain_window),
        };
        let operation = Operation::Update(id.clone());
        let answer = self
            .ask(&operation, request, |mut rpc, request| async move { rpc.update(request).await })
            .await?;
        Ok(Revision::new(answer.revision))
    }

    pub(crate) async fn deregister(&self, session: SessionId, id: &InstanceId) -> Result<Revision, Error> {
        let request =
            wire::DeregisterRequest { session_id: session.to_string(), instance_id: id.to_string() };
        let operation = Operation::Deregister(id.clone());
        let answer = self
            .ask(&operation, request, |mut rpc, request| async move { rpc.deregister(request).await })
            .await?;
        Ok(Revision::new(answer.revision))
    }

    /// Answers for how long it counts.
    pub(crate) async fn heartbeat(
        &self,
        session: SessionId,
        id: &InstanceId,
        health: Health,
        note: String,
    ) -> Result<Duration, Error> {
        let request = wire::HeartbeatRequest {
            session_id: session.to_string(),
            instance_id: id.to_string(),
            check: String::new(),
            health: to_wire::health(health).into(),
            note,
        };
        let operation = Operation::Heartbeat(id.clone());
        let answer = self
            .ask(&operation, request, |mut rpc, request| async move { rpc.heartbeat(request).await })
            .await?;
        Ok(Duration::from_millis(answer.ttl_ms))
    }

    pub(crate) async fn set_maintenance(&self, id: &InstanceId, reason: Option<Reason>) -> Result<(), Error> {
        let reason = reason.map(|reason| reason.to_string()).unwrap_or_default();
        let request = wire::SetMaintenanceRequest { instance_id: id.to_string(), reason };
        let operation = Operation::SetMaintenance(id.clone());
        self.ask(&operation, request, |mut rpc, request| async move { rpc.set_maintenance(request).await })
            .await?;
        Ok(())
    }

    pub(crate) async fn examine(&self, id: &InstanceId) -> Result<Examined, Error> {
        let instance_id = id.to_string();
        let request = wire::GetRequest { instance_id, ..wire::GetRequest::default() };
        let operation = Operation::Get(id.clone());
        let answer =
            self.ask(&operation, request, |mut rpc, request| async move { rpc.get(request).await }).await?;
        let missing = || Invalid::new("instance", "", "must be there");
        let instance = answer.instance.ok_or_else(missing).and_then(from_wire::instance);
        let checks = answer.checks.into_iter().map(from_wire::report).collect::<Result<_, _>>();
        let examined = instance.and_then(|instance| Ok(Examined { instance, checks: checks? }));
        examined.map_err(|error| self.connection().malformed(&operation, error))
    }

    pub(crate) async fn services(&self) -> Result<Vec<ServiceSummary>, Error> {
        let request = wire::ListServicesRequest::default();
        let operation = Operation::ListServices;
        let answer = self
            .ask(&operation, request, |mut rpc, request| async move { rpc.list_services(request).await })
            .await?;
        let summaries = answer.services.into_iter().map(summary).collect::<Result<_, _>>();
        summaries.map_err(|error| self.connection().malformed(&operation, error))
    }

    pub(crate) async fn resolve(&self, query: &Query, mode: ReadMode) -> Result<Resolved, Error> {
        let read_mode = to_wire::read_mode(mode).into();
        let request = wire::ResolveRequest { query: Some(to_wire::query(query)), read_mode };
        let operation = Operation::Resolve(query.service.clone());
        let answer = self
            .ask(&operation, request, |mut rpc, request| async move { rpc.resolve(request).await })
            .await?;
        let instances = answer.instances.into_iter().map(|wire| from_wire::instance(wire).map(Arc::new));
        Ok(Resolved {
            at: Revision::new(answer.revision),
            age: Duration::from_millis(answer.age_ms),
            instances: instances
                .collect::<Result<_, _>>()
                .map_err(|error| self.connection().malformed(&operation, error))?,
        })
    }

    pub(crate) async fn watch(&self, query: &Query, after: Option<Revision>) -> Result<Watch, Error> {
        let request = wire::WatchRequest {
            query: Some(to_wire::query(query)),
            after_revision: after.map(Revision::number),
        };
        let operation = Operation::Watch(query.service.clone());
        let watch = |mut rpc: RegistryClient<Transport>, request| async move { rpc.watch(request).await };
        let (batches, connection) = self.ask_whom(&operation, request, watch).await?;
        Ok(Watch { batches, operation, connection })
    }
}

fn summary(wire: wire::ServiceSummary) -> Result<ServiceSummary, Invalid> {
    let wire::ServiceSummary { name, instances, usable, held } = wire;
    Ok(ServiceSummary { name: name.parse()?, instances, usable, held })
}

/// An open stream of renewals of one session.
#[derive(Debug)]
pub(crate) struct Renewals {
    requests: mpsc::Sender<wire::KeepAliveRequest>,
    answers: Streaming<wire::KeepAliveResponse>,
    session_id: String,
    connection: Connection,
}

/// What the registry said to a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewal {
    Renewed,
    /// There is no such session any more.
    Lost,
}

impl Renewals {
    /// Renews the session, and waits for the answer at most for `timeout`.
    pub(crate) async fn renew(&mut self, timeout: Duration) -> Result<Renewal, Error> {
        let session_id = self.session_id.clone();
        let answered = async {
            // The stream has room for one request and there is never a second, so this fails only if it is
            // broken; and then there is an answer that says why.
            let _ = self.requests.send(wire::KeepAliveRequest { session_id }).await;
            self.answers.message().await
        };
        match tokio::time::timeout(timeout, answered).await {
            Ok(answer) => self.read(answer),
            Err(_) => Err(self.connection.timed_out(&Operation::RenewSession, timeout)),
        }
    }

    /// Waits until the stream breaks, as it does when the registry goes away between two renewals.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub(crate) async fn broken(&mut self) -> Error {
        loop {
            let answer = self.connection.next(&mut self.answers).await;
            if let Err(error) = self.read(answer) {
                return error;
            }
        }
    }

    fn read(&self, answer: Result<Option<wire::KeepAliveResponse>, Status>) -> Result<Renewal, Error> {
        match answer {
            Ok(Some(answer)) if answer.ttl_ms == 0 => Ok(Renewal::Lost),
            Ok(Some(_)) => Ok(Renewal::Renewed),
            Ok(None) => Err(self.connection.ended(&Operation::RenewSession)),
            Err(status) => Err(self.connection.failed(&Operation::RenewSession, &status)),
        }
    }
}

/// A watch: batches of updates, as they come.
///
/// Apply whole batches only. After an error the watch is over; a new one of the same query goes on after the
/// revision of the last update received.
#[derive(Debug)]
pub struct Watch {
    batches: Streaming<wire::WatchResponse>,
    operation: Operation,
    connection: Connection,
}

impl Watch {
    /// Waits for the next batch, which is never empty.
    ///
    /// It may take days: a service at rest sends nothing. Meanwhile the connection is probed, so a registry that
    /// has vanished is noticed within 15 seconds. Of several servers, it ends when another than its own is asked by calls.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped: the next call waits for the same batch.
    pub async fn next(&mut self) -> Result<Vec<Update>, Error> {
        match self.connection.next(&mut self.batches).await {
            Ok(Some(batch)) => {
                let updates = batch.updates.into_iter().map(from_wire::update);
                let updates = updates.collect::<Result<_, _>>();
                updates.map_err(|error| self.connection.malformed(&self.operation, error))
            }
            Ok(None) => Err(self.connection.ended(&self.operation)),
            Err(status) => Err(self.connection.failed(&self.operation, &status)),
        }
    }
}
