//! The gRPC service: parse, ask the store, write the answer out.

use std::sync::Arc;
use std::time::Duration;

use netloft_checker::Checker;
use netloft_health::Observation;
use netloft_proto::answer::{EncodedInstances, ResolveAnswer, WatchAnswer};
use netloft_proto::registry::v1 as wire;
use netloft_proto::{from_wire, to_wire};
use netloft_registry::{Command, Error, ServiceSummary, Store, Watch};
use netloft_types::limits::SESSION_TTL_MAX;
use netloft_types::{
    Health, InstanceId, Instances, Invalid, Patch, Query, ReadMode, Revision, ServiceName, SessionId,
};
use rand::RngExt as _;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use crate::access::Requester;
use crate::care::Care;
use crate::loads::Loads;
use crate::phase::Phases;
use crate::status;
use crate::stream::unfold;

/// Answers `netloft.registry.v1.Registry` from a store.
pub(crate) struct Service {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn Store>,
    care: Care,
    loads: Loads,
    phases: Phases,
}

impl Service {
    pub(crate) fn new(store: Arc<dyn Store>, checker: Option<Checker>, loads: Loads, phases: Phases) -> Self {
        let care = Care::new(Arc::clone(&store), checker);
        let shared = Arc::new(Shared { store, care, loads, phases });
        Self { shared }
    }

    async fn apply(&self, command: Command) -> Result<u64, Status> {
        let applied = self.shared.store.apply(command).await;
        applied.map(|applied| applied.at.number()).map_err(|error| status::of(&error))
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl wire::registry_server::Registry for Service {
    async fn open_session(
        &self,
        request: Request<wire::OpenSessionRequest>,
    ) -> Answer<wire::OpenSessionResponse> {
        let drawn = Requester::find(request.extensions()).map(|requester| requester.draw_session());
        let session = drawn.unwrap_or_else(|| SessionId::from_number(rand::rng().random()));
        let ttl_ms = request.into_inner().ttl_ms;
        let ttl = Duration::from_millis(ttl_ms);
        self.apply(Command::OpenSession { session, ttl: Some(ttl) }).await?;
        let session_id = session.to_string();
        Ok(Response::new(wire::OpenSessionResponse { session_id, ttl_ms }))
    }

    type KeepAliveStream = BoxStream<wire::KeepAliveResponse>;

    async fn keep_alive(
        &self,
        request: Request<Streaming<wire::KeepAliveRequest>>,
    ) -> Answer<Self::KeepAliveStream> {
        let requester = Requester::find(request.extensions());
        let state = (Arc::clone(&self.shared), requester, Some(request.into_inner()));
        let answers = unfold(state, |(shared, requester, requests)| async move {
            let mut requests = requests?;
            match shared.next_renewal(requester.as_deref(), &mut requests).await {
                Ok(answer) => Some((Ok(answer?), (shared, requester, Some(requests)))),
                Err(status) => Some((Err(status), (shared, requester, None))),
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn close_session(
        &self,
        request: Request<wire::CloseSessionRequest>,
    ) -> Answer<wire::CloseSessionResponse> {
        let session = parse(&request.into_inner().session_id)?;
        let revision = self.apply(Command::CloseSession { session }).await?;
        Ok(Response::new(wire::CloseSessionResponse { revision }))
    }

    async fn register(&self, request: Request<wire::RegisterRequest>) -> Answer<wire::RegisterResponse> {
        let request = request.into_inner();
        let session = parse(&request.session_id)?;
        let missing = || status::invalid(&Invalid::new("instance", "", "must be there"));
        let instance = from_wire::instance(request.instance.ok_or_else(missing)?)
            .map_err(|error| status::invalid(&error))?;
        self.shared.care.admit(&instance)?;
        let revision = self.apply(Command::Register { session, instance }).await?;
        Ok(Response::new(wire::RegisterResponse { revision }))
    }

    async fn update(&self, request: Request<wire::UpdateRequest>) -> Answer<wire::UpdateResponse> {
        let request = request.into_inner();
        let session = parse(&request.session_id)?;
        let id = parse(&request.instance_id)?;
        let patch = patch(request).map_err(|error| status::invalid(&error))?;
        let revision = self.apply(Command::Update { session, id, patch }).await?;
        Ok(Response::new(wire::UpdateResponse { revision }))
    }

    async fn heartbeat(&self, request: Request<wire::HeartbeatRequest>) -> Answer<wire::HeartbeatResponse> {
        let requester = Requester::find(request.extensions());
        let request = request.into_inner();
        let session = parse(&request.session_id)?;
        let id: InstanceId = parse(&request.instance_id)?;
        let check = if request.check.is_empty() { None } else { Some(parse(&request.check)?) };
        let health = from_wire::health(request.health).map_err(|error| status::invalid(&error))?;
        // Changes nothing, and tells whether the instance is the session's.
        self.apply(Command::Update { session, id: id.clone(), patch: Patch::default() }).await?;
        if !self.shared.care.looks_after(&id) {
            // Whoever renews a session here has its instances looked after here.
            self.shared.renew(requester.as_deref(), session).await?;
        }
        let observation = observation(health.unwrap_or(Health::Passing), &request.note);
        let counts_for = self.shared.care.heartbeat(&id, check.as_ref(), &observation).await?;
        let ttl_ms = u64::try_from(counts_for.as_millis()).unwrap_or(u64::MAX);
        Ok(Response::new(wire::HeartbeatResponse { ttl_ms }))
    }

    async fn drain(&self, request: Request<wire::DrainRequest>) -> Answer<wire::DrainResponse> {
        let request = request.into_inner();
        let session = parse(&request.session_id)?;
        let id = parse(&request.instance_id)?;
        let drain_window = from_wire::span(request.window_ms).map_err(|error| status::invalid(&error))?;
        let patch = Patch { drain_window, ..Patch::drain() };
        let revision = self.apply(Command::Update { session, id, patch }).await?;
        Ok(Response::new(wire::DrainResponse { revision }))
    }

    async fn deregister(
        &self,
        request: Request<wire::DeregisterRequest>,
    ) -> Answer<wire::DeregisterResponse> {
        let request = request.into_inner();
        let session = parse(&request.session_id)?;
        let id = parse(&request.instance_id)?;
        let revision = self.apply(Command::Deregister { session, id }).await?;
        Ok(Response::new(wire::DeregisterResponse { revision }))
    }

    async fn set_maintenance(
        &self,
        request: Request<wire::SetMaintenanceRequest>,
    ) -> Answer<wire::SetMaintenanceResponse> {
        let request = request.into_inner();
        let id = parse(&request.instance_id)?;
        let reason = if request.reason.is_empty() { None } else { Some(parse(&request.reason)?) };
        let revision = self.shared.care.set_maintenance(&id, reason).await?.number();
        Ok(Response::new(wire::SetMaintenanceResponse { revision }))
    }

    async fn get(&self, request: Request<wire::GetRequest>) -> Answer<wire::GetResponse> {
        let request = request.into_inner();
        let id: InstanceId = parse(&request.instance_id)?;
        let mode = from_wire::read_mode(request.read_mode).map_err(|error| status::invalid(&error))?;
        let found = self.shared.store.get(&id, mode).await.map_err(|error| status::of(&error))?;
        let not_found = || status::of(&Error::InstanceNotFound { id: id.clone() });
        let instance = found.instance.ok_or_else(not_found)?;
        let (revision, instance) = (found.at.number(), Some(to_wire::instance(&instance)));
        let checks = self.shared.care.reports(&id).iter().map(to_wire::report).collect();
        Ok(Response::new(wire::GetResponse { revision, instance, checks, age_ms: ms(found.age) }))
    }

    async fn list_services(
        &self,
        request: Request<wire::ListServicesRequest>,
    ) -> Answer<wire::ListServicesResponse> {
        let wire = request.into_inner().read_mode;
        let mode = from_wire::read_mode(wire).map_err(|error| status::invalid(&error))?;
        let services = self.shared.store.services(mode).await.map_err(|error| status::of(&error))?;
        Ok(Response::new(wire::ListServicesResponse {
            revision: services.at.number(),
            services: services.all.iter().map(|one| summary(one, self.shared.care.held(&one.name))).collect(),
            age_ms: ms(services.age),
        }))
    }

    async fn resolve(&self, request: Request<wire::ResolveRequest>) -> Answer<ResolveAnswer> {
        let requester = Requester::find(request.extensions());
        let request = request.into_inner();
        let query = from_wire::query(request.query).map_err(|error| status::invalid(&error))?;
        let query = narrowed(requester.as_deref(), query);
        let mode = from_wire::read_mode(request.read_mode).map_err(|error| status::invalid(&error))?;
        let found = self.shared.store.list(&query, mode).await.map_err(|error| status::of(&error))?;
        let (revision, age_ms) = (found.at.number(), ms(found.age));
        Ok(Response::new(ResolveAnswer { revision, instances: encoded(&found.instances), age_ms }))
    }

    type WatchStream = BoxStream<WatchAnswer>;

    async fn watch(&self, request: Request<wire::WatchRequest>) -> Answer<Self::WatchStream> {
        let requester = Requester::find(request.extensions());
        let request = request.into_inner();
        let query = from_wire::query(request.query).map_err(|error| status::invalid(&error))?;
        let query = narrowed(requester.as_deref(), query);
        let after = request.after_revision.map(Revision::new);
        let watch = self.shared.store.watch(query, after).map_err(|error| status::of(&error))?;
        let state = (self.shared.phases.clone(), Some(watch));
        let batches = unfold(state, |(phases, watch)| async move {
            let mut watch = watch?;
            match next_batch(&phases, &mut watch).await {
                Ok(batch) => Some((Ok(batch), (phases, Some(watch)))),
                Err(status) => Some((Err(status), (phases, None))),
            }
        });
        Ok(Response::new(Box::pin(batches)))
    }

    async fn report_load(
        &self,
        request: Request<wire::ReportLoadRequest>,
    ) -> Answer<wire::ReportLoadResponse> {
        self.shared.loads.check_on()?;
        let requester = Requester::find(request.extensions());
        let report = from_wire::load_report(request.into_inner()).map_err(|error| status::invalid(&error))?;
        let instances = self.shared.instances(requester.as_deref(), &report.service).await?;
        Ok(Response::new(self.shared.loads.report(report, &instances)?))
    }

    async fn list_load(&self, request: Request<wire::ListLoadRequest>) -> Answer<wire::ListLoadResponse> {
        self.shared.loads.check_on()?;
        let requester = Requester::find(request.extensions());
        let service = parse(&request.into_inner().service)?;
        let instances = self.shared.instances(requester.as_deref(), &service).await?;
        Ok(Response::new(self.shared.loads.list(&service, &instances)))
    }
}

impl Shared {
    /// All of a service that the requester may see, as this server knows it.
    async fn instances(
        &self,
        requester: Option<&Requester>,
        service: &ServiceName,
    ) -> Result<Instances, Status> {
        let query = narrowed(requester, Query { service: Some(service.clone()), ..Query::everything() });
        let found = self.store.list(&query, ReadMode::Stale).await;
        found.map(|found| found.instances).map_err(|error| status::of(&error))
    }

    /// Waits for a request to renew a session and answers it; `None` when the client has no more.
    async fn next_renewal(
        &self,
        requester: Option<&Requester>,
        requests: &mut Streaming<wire::KeepAliveRequest>,
    ) -> Result<Option<wire::KeepAliveResponse>, Status> {
        let request = tokio::select! {
            request = requests.message() => request?,
            () = self.phases.draining() => return Err(status::shutting_down()),
        };
        let Some(wire::KeepAliveRequest { session_id }) = request else {
            return Ok(None);
        };
        let session = parse(&session_id)?;
        let ttl = self.renew(requester, session).await?;
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        Ok(Some(wire::KeepAliveResponse { session_id, ttl_ms }))
    }
}

impl Shared {
    /// Renews a session; answers for how long it lives, which is no time if there is none, or none of theirs.
    async fn renew(&self, requester: Option<&Requester>, session: SessionId) -> Result<Duration, Status> {
        if let Some(requester) = requester {
            requester.count_renewal()?;
            if !requester.owns(session) {
                return Ok(Duration::ZERO);
            }
        }
        match self.store.apply(Command::RenewSession { session }).await {
            Ok(applied) => {
                // A session of a client has a time to live; one without needs no renewal, and is told the longest.
                let ttl = applied.ttl.unwrap_or(SESSION_TTL_MAX);
                if let Some(requester) = requester {
                    requester.renewed(session, ttl);
                }
                Ok(ttl)
            }
            Err(Error::SessionNotFound) => Ok(Duration::ZERO),
            Err(error) => Err(status::of(&error)),
        }
    }
}

/// The query, of what the requester may see.
fn narrowed(requester: Option<&Requester>, query: Query) -> Query {
    match requester {
        Some(requester) => requester.narrow(query),
        None => query,
    }
}

async fn next_batch(phases: &Phases, watch: &mut Watch) -> Result<WatchAnswer, Status> {
    let batch = tokio::select! {
        batch = watch.next() => batch,
        () = phases.draining() => return Err(status::shutting_down()),
    };
    let batch = batch.map_err(|closed| Status::unavailable(closed.to_string()))?;
    Ok(WatchAnswer::of(&batch, encoded))
}

/// The bytes of a list, made by the first who asks for them.
fn encoded(list: &Instances) -> EncodedInstances {
    list.derive(EncodedInstances::of).clone()
}

fn parse<T: std::str::FromStr<Err = Invalid>>(text: &str) -> Result<T, Status> {
    text.parse().map_err(|error| status::invalid(&error))
}

/// Rounded up: a little age is not none.
fn ms(age: Duration) -> u64 {
    u64::try_from(age.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn patch(request: wire::UpdateRequest) -> Result<Patch, Invalid> {
    Ok(Patch {
        weight: from_wire::weight(request.weight)?,
        tags: request.tags.map(|wire| from_wire::tags(wire.tags)).transpose()?,
        metadata: request.metadata.map(|wire| from_wire::metadata(wire.entries)).transpose()?,
        health: from_wire::health(request.health)?,
        lifecycle: from_wire::lifecycle(request.lifecycle)?,
        locality: from_wire::locality(request.locality.as_ref())?,
        drain_window: from_wire::span(request.drain_window_ms)?,
    })
}

fn observation(health: Health, note: &str) -> Observation {
    match health {
        Health::Passing => Observation::pass(note),
        Health::Warning => Observation::warn(note),
        Health::Critical => Observation::fail(note),
    }
}

fn summary(service: &ServiceSummary, held: usize) -> wire::ServiceSummary {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    wire::ServiceSummary {
        name: service.name.to_string(),
        instances: count(service.instances),
        usable: count(service.usable),
        held: count(held),
    }
}
