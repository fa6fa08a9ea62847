//! Decides what a requester may do, before the service does it.
//!
//! What somebody may not see is answered as what is not there: with the same code, the same text, and after the same
//! work. What somebody may see and not change is refused by name.

use std::sync::Arc;

use netloft_access::{Account, Right};
use netloft_proto::answer::{ResolveAnswer, WatchAnswer};
use netloft_proto::registry::v1 as wire;
use netloft_proto::registry::v1::registry_server::Registry;
use netloft_registry::{Error, Store};
use netloft_types::{InstanceId, ReadMode, ServiceName};
use tonic::codegen::BoxStream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::call::{Call, Denied};
use super::pass::Pass;
use super::{Event, Outcome, Requester, registering};
use crate::service::Service;
use crate::status;

/// The service, behind access control.
pub(crate) struct Guard {
    service: Service,
    store: Arc<dyn Store>,
}

type Answer<T> = Result<Response<T>, Status>;

impl Guard {
    pub(crate) fn new(service: Service, store: Arc<dyn Store>) -> Self {
        Self { service, store }
    }

    /// Answers that there is no such instance, where the service said that it is somebody else's and the requester may
    /// not see it.
    async fn hide(&self, requester: &Requester, id: &str, status: Status) -> Denied {
        let Ok(id) = id.parse::<InstanceId>() else { return status.into() };
        let found = self.store.get(&id, ReadMode::Linearizable).await.ok().and_then(|found| found.instance);
        let is_seen = found.is_some_and(|instance| requester.may(Right::Read, &instance.service));
        if status.code() != Code::AlreadyExists || is_seen {
            return status.into();
        }
        let why = Some("the instance belongs to another session, and they may not read its service");
        Denied { status: status::of(&Error::InstanceNotFound { id }), why }
    }

    /// Whether maintenance may be set; an instance that is not there is for the service to miss.
    async fn check_write(&self, requester: &Requester, id: &str) -> Result<(), Denied> {
        let Ok(id) = id.parse::<InstanceId>() else { return Ok(()) };
        let found = self.store.get(&id, ReadMode::Linearizable).await.map_err(|error| status::of(&error))?;
        let Some(instance) = found.instance else { return Ok(()) };
        let service = &instance.service;
        if requester.may(Right::Write, service) {
            Ok(())
        } else if requester.may(Right::Read, service) {
            let identity = &requester.admitted.identity;
            Err(Status::permission_denied(format!("{identity} may not write service {service}")).into())
        } else {
            Err(Denied { status: status::of(&Error::InstanceNotFound { id }), why: Some(UNSEEN) })
        }
    }

    /// Lets nobody resume a watch from before they saw what they may see now.
    async fn check_resumption(
        &self,
        requester: &Requester,
        request: &mut wire::WatchRequest,
    ) -> Result<(), Denied> {
        let any: InstanceId = "any".parse().map_err(|error| status::invalid(&error))?;
        // Of this server: its watch will go on from there.
        let at = self.store.get(&any, ReadMode::Stale).await.map_err(|error| status::of(&error))?.at;
        let since = requester.seen_since(at).number();
        // At that very revision it could still have been what they saw before.
        request.after_revision = request.after_revision.filter(|after| *after > since);
        Ok(())
    }
}

const UNSEEN: &str = "they may not read the service";

/// Tells the log who asked for a service that they may not see. They are answered that it has no instance.
fn note_unseen(call: &Call, service: &str) {
    let named: Option<ServiceName> = service.parse().ok();
    if named.is_some_and(|service| !call.requester.may(Right::Read, &service)) {
        let object = call.object.clone();
        let event = || Event::of(&call.requester, call.operation, Outcome::Refused(UNSEEN.to_owned()));
        call.requester.access.tell(|| event().about(object, None));
    }
}

fn named(query: Option<&wire::Query>) -> &str {
    query.map_or("", |query| query.service.as_str())
}

#[tonic::async_trait]
impl Registry for Guard {
    async fn open_session(
        &self,
        request: Request<wire::OpenSessionRequest>,
    ) -> Answer<wire::OpenSessionResponse> {
        let mut call = Call::begin(&request, "open session", "")?;
        let requester = Arc::clone(&call.requester);
        let answer = async {
            if !requester.admitted.grants.allow_some(Right::Register) {
                let text = format!("{} may not register anything", requester.admitted.identity);
                return Err(Status::permission_denied(text).into());
            }
            requester.count(Account::check_sessions)?;
            Ok(self.service.open_session(request).await?)
        };
        let answer = answer.await;
        if let Ok(answer) = &answer {
            let answer: &wire::OpenSessionResponse = answer.get_ref();
            call.session = answer.session_id.parse().ok();
            if let Some(session) = call.session {
                requester.renewed(session, std::time::Duration::from_millis(answer.ttl_ms));
            }
        }
        call.conclude(answer)
    }

    type KeepAliveStream = BoxStream<wire::KeepAliveResponse>;

    async fn keep_alive(
        &self,
        request: Request<Streaming<wire::KeepAliveRequest>>,
    ) -> Answer<Self::KeepAliveStream> {
        let call = Call::begin(&request, "keep alive", "")?;
        let pass = Pass::take(&call.requester);
        let opened = match pass {
            Ok(pass) => self.service.keep_alive(request).await.map(|answers| pass.guard(answers)),
            Err(status) => Err(status),
        };
        call.conclude_read(opened.map_err(Denied::from))
    }

    async fn close_session(
        &self,
        request: Request<wire::CloseSessionRequest>,
    ) -> Answer<wire::CloseSessionResponse> {
        let mut call = Call::begin(&request, "close session", "")?;
        let requester = Arc::clone(&call.requester);
        let admitted = call.check_session(&request.get_ref().session_id).and_then(|()| {
            let held = |session| requester.account(|account, _, _| account.held_by(session));
            call.count_removals(call.session.map_or(0, held).max(1))
        });
        let answer = match admitted {
            Ok(()) => self.service.close_session(request).await.map_err(Denied::from),
            Err(denied) => Err(denied),
        };
        if let (Ok(_), Some(session)) = (&answer, call.session) {
            requester.account(|account, _, _| account.closed(session));
        }
        call.conclude(answer)
    }

    async fn register(&self, request: Request<wire::RegisterRequest>) -> Answer<wire::RegisterResponse> {
        let id = request.get_ref().instance.as_ref().map(|instance| instance.id.clone()).unwrap_or_default();
        let mut call = Call::begin(&request, "register", &id)?;
        let requester = Arc::clone(&call.requester);
        let answer = async {
            call.check_session(&request.get_ref().session_id)?;
            let id = registering::admit(&requester, &*self.store, request.get_ref()).await?;
            let answer = self.service.register(request).await?;
            Ok((answer, id))
        };
        let answer = answer.await;
        if let (Ok((_, Some(id))), Some(session)) = (&answer, call.session) {
            requester.account(|account, _, now| account.registered(session, id.clone(), now));
        }
        call.conclude(answer.map(|(answer, _)| answer))
    }

    async fn update(&self, request: Request<wire::UpdateRequest>) -> Answer<wire::UpdateResponse> {
        let wire::UpdateRequest { instance_id: id, session_id, .. } = request.get_ref().clone();
        let removes = request.get_ref().health() == wire::Health::Critical
            || request.get_ref().lifecycle() == wire::Lifecycle::Draining;
        let mut call = Call::begin(&request, "update", &id)?;
        let answer = async {
            call.check_session(&session_id)?;
            if removes {
                call.count_removals(1)?;
            }
            self.service.update(request).await.map_err(Denied::from)
        };
        let answer = answer.await;
        self.answer_about(call, &id, answer).await
    }

    async fn heartbeat(&self, request: Request<wire::HeartbeatRequest>) -> Answer<wire::HeartbeatResponse> {
        let wire::HeartbeatRequest { instance_id: id, session_id, .. } = request.get_ref().clone();
        let removes = request.get_ref().health() == wire::Health::Critical;
        let mut call = Call::begin(&request, "heartbeat", &id)?;
        let answer = async {
            call.check_session(&session_id)?;
            if removes {
                call.count_removals(1)?;
            }
            self.service.heartbeat(request).await.map_err(Denied::from)
        };
        match answer.await {
            // Nothing changed unless it is said to fail.
            Ok(answer) if !removes => Ok(answer),
            answer => self.answer_about(call, &id, answer).await,
        }
    }

    async fn drain(&self, request: Request<wire::DrainRequest>) -> Answer<wire::DrainResponse> {
        let wire::DrainRequest { instance_id: id, session_id, .. } = request.get_ref().clone();
        let mut call = Call::begin(&request, "drain", &id)?;
        let answer = async {
            call.check_session(&session_id)?;
            call.count_removals(1)?;
            self.service.drain(request).await.map_err(Denied::from)
        };
        let answer = answer.await;
        self.answer_about(call, &id, answer).await
    }

    async fn deregister(
        &self,
        request: Request<wire::DeregisterRequest>,
    ) -> Answer<wire::DeregisterResponse> {
        let wire::DeregisterRequest { instance_id: id, session_id } = request.get_ref().clone();
        let mut call = Call::begin(&request, "deregister", &id)?;
        let requester = Arc::clone(&call.requester);
        let answer = async {
            call.check_session(&session_id)?;
            call.count_removals(1)?;
            self.service.deregister(request).await.map_err(Denied::from)
        };
        let answer = answer.await;
        if let (Ok(_), Ok(id)) = (&answer, id.parse()) {
            requester.account(|account, _, _| account.deregistered(&id));
        }
        self.answer_about(call, &id, answer).await
    }

    async fn set_maintenance(
        &self,
        request: Request<wire::SetMaintenanceRequest>,
    ) -> Answer<wire::SetMaintenanceResponse> {
        let wire::SetMaintenanceRequest { instance_id: id, reason } = request.get_ref().clone();
        let call = Call::begin(&request, "set maintenance", &id)?;
        let answer = async {
            self.check_write(&call.requester, &id).await?;
            if !reason.is_empty() {
                call.count_removals(1)?;
            }
            Ok(self.service.set_maintenance(request).await?)
        };
        let answer = answer.await;
        call.conclude(answer)
    }

    async fn get(&self, request: Request<wire::GetRequest>) -> Answer<wire::GetResponse> {
        let id = request.get_ref().instance_id.clone();
        let call = Call::begin(&request, "get", &id)?;
        let answer = self.service.get(request).await.map_err(Denied::from).and_then(|answer| {
            let service =
                answer.get_ref().instance.as_ref().and_then(|instance| instance.service.parse().ok());
            if service.is_some_and(|service| call.requester.may(Right::Read, &service)) {
                return Ok(answer);
            }
            let id = id.parse::<InstanceId>().map_err(|error| status::invalid(&error))?;
            Err(Denied { status: status::of(&Error::InstanceNotFound { id }), why: Some(UNSEEN) })
        });
        call.conclude_read(answer)
    }

    async fn list_services(
        &self,
        request: Request<wire::ListServicesRequest>,
    ) -> Answer<wire::ListServicesResponse> {
        let call = Call::begin(&request, "list services", "")?;
        let mut answer = self.service.list_services(request).await.map_err(Denied::from);
        if let Ok(answer) = &mut answer {
            let is_seen = |name: &str| {
                name.parse().is_ok_and(|service: ServiceName| call.requester.may(Right::Read, &service))
            };
            answer.get_mut().services.retain(|service| is_seen(&service.name));
        }
        call.conclude_read(answer)
    }

    async fn resolve(&self, request: Request<wire::ResolveRequest>) -> Answer<ResolveAnswer> {
        let query = request.get_ref().query.as_ref();
        let call = Call::begin(&request, "resolve", named(query))?;
        note_unseen(&call, named(query));
        // The service narrows the query itself.
        let answer = self.service.resolve(request).await.map_err(Denied::from);
        call.conclude_read(answer)
    }

    type WatchStream = BoxStream<WatchAnswer>;

    async fn watch(&self, mut request: Request<wire::WatchRequest>) -> Answer<Self::WatchStream> {
        let query = request.get_ref().query.as_ref();
        let call = Call::begin(&request, "watch", named(query))?;
        note_unseen(&call, named(query));
        let opened = async {
            let pass = Pass::take(&call.requester)?;
            self.check_resumption(&call.requester, request.get_mut()).await?;
            // The service narrows the query itself.
            Ok(pass.guard(self.service.watch(request).await?))
        };
        let opened = opened.await;
        call.conclude_read(opened)
    }

    async fn report_load(
        &self,
        request: Request<wire::ReportLoadRequest>,
    ) -> Answer<wire::ReportLoadResponse> {
        // Who may read a service may call it, and so have seen something of it.
        let service = request.get_ref().service.clone();
        let call = Call::begin(&request, "report load", &service)?;
        note_unseen(&call, &service);
        let answer = self.service.report_load(request).await.map_err(Denied::from);
        call.conclude_read(answer)
    }

    async fn list_load(&self, request: Request<wire::ListLoadRequest>) -> Answer<wire::ListLoadResponse> {
        let service = request.get_ref().service.clone();
        let call = Call::begin(&request, "list load", &service)?;
        note_unseen(&call, &service);
        let answer = self.service.list_load(request).await.map_err(Denied::from);
        call.conclude_read(answer)
    }
}

impl Guard {
    /// Ends a call about an instance that may turn out to be somebody else's.
    async fn answer_about<T>(&self, call: Call, id: &str, answer: Result<T, Denied>) -> Result<T, Status> {
        let answer = match answer {
            Err(Denied { status, why: None }) => Err(self.hide(&call.requester, id, status).await),
            answer => answer,
        };
        call.conclude(answer)
    }
}
