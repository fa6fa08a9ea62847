//! A gRPC server: services, listeners, and an orderly end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use netloft_checker::Checker;
use netloft_proto::DESCRIPTORS;
use netloft_proto::registry::v1::registry_server::{Registry, RegistryServer};
use netloft_registry::Store;
use netloft_registry::embedded::Condition;
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;
use tonic::body::Body;
use tonic::codegen::{Service as HttpService, http};
use tonic::server::NamedService;
use tonic::service::interceptor::InterceptedService;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::Layer;
use tracing::{info, warn};

use crate::access::{Access, Gate, Guard, sweep};
use crate::dispatch::{AnyService, Services};
use crate::incoming::{Door, incoming};
use crate::limits::{self, ANSWER_LEN_MAX, REQUEST_LEN_MAX};
use crate::loads::{LoadStats, Loads};
use crate::phase::{Phase, Phases};
use crate::service::Service;
use crate::{Error, Listener};

/// What can be chosen about a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOptions {
    /// Connections at a time; more wait in the kernel's backlog. The default of 16,384 is some 320 MiB of idle
    /// ones; each also takes a file descriptor.
    pub connections_max: u32,
    /// Connections of one address at a time; more are closed. The default of 12,288 leaves a quarter to others, and lets ten
    /// thousand watch from one host, or from behind one proxy. Processes that use the unix socket are not counted.
    pub connections_per_peer_max: u32,
    /// How long a shutdown waits for calls to be finished. The default of 5 seconds is well below the 10 after
    /// which container runtimes kill.
    pub drain: Duration,
    /// How often clients report what they have seen of the instances they call: every 10 s. `None` takes no reports.
    pub load_report_interval: Option<Duration>,
    /// Whether reports become advice, by which clients change weights. Without it they are shown and nothing else.
    pub advises_weights: bool,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            connections_max: 16_384,
            connections_per_peer_max: 12_288,
            drain: Duration::from_secs(5),
            load_report_interval: Some(Duration::from_secs(10)),
            advises_weights: true,
        }
    }
}

/// A server under construction: any number of gRPC services, beside which it serves `grpc.health.v1` for each
/// of them and server reflection (v1 and v1alpha).
pub struct Server {
    options: ServerOptions,
    access: Option<Access>,
    /// What is looked after, if access to it is controlled.
    swept: Option<Arc<dyn Store>>,
    services: Services,
    names: Vec<&'static str>,
    condition: Option<watch::Receiver<Condition>>,
    loads: Loads,
    phase: watch::Sender<Phase>,
    phases: Phases,
}

/// The name under which `grpc.health.v1` tells whether a store takes changes; see [`Server::condition`].
pub const CHANGES: &str = "netloft.registry.v1.Registry/changes";

impl Server {
    /// Makes a server without services and without access control.
    pub fn new(options: ServerOptions) -> Self {
        Self::of(options, None)
    }

    /// Makes a server without services, on which nobody can do what `access` does not say. Only whether it serves is told
    /// to whoever can connect.
    pub fn guarded(options: ServerOptions, access: Access) -> Self {
        Self::of(options, Some(access))
    }

    fn of(options: ServerOptions, access: Option<Access>) -> Self {
        let (phase, phases) = Phases::start();
        Self {
            loads: Loads::new(&options),
            options,
            access,
            swept: None,
            services: Services::default(),
            names: Vec::new(),
            condition: None,
            phase,
            phases,
        }
    }

    /// Serves `store` as `netloft.registry.v1.Registry`.
    ///
    /// Without anybody who runs checks: an instance that has some is refused.
    #[must_use]
    pub fn registry(self, store: Arc<dyn Store>) -> Self {
        self.serve_registry(store, None)
    }

    /// Serves `store` as [`registry`](Self::registry) does, with somebody who runs the checks of its instances.
    #[must_use]
    pub fn checked_registry(self, store: Arc<dyn Store>, checker: Checker) -> Self {
        self.serve_registry(store, Some(checker))
    }

    fn serve_registry(mut self, store: Arc<dyn Store>, checker: Option<Checker>) -> Self {
        let service = Service::new(Arc::clone(&store), checker, self.loads.clone(), self.phases.clone());
        match self.access {
            Some(_) => {
                self.swept = Some(Arc::clone(&store));
                self.service(sized(Guard::new(service, store)))
            }
            None => self.service(sized(service)),
        }
    }

    /// Tells by `grpc.health.v1`, under the name [`CHANGES`], whether the store takes changes. The registry itself is
    /// called serving all the while: it answers.
    #[must_use]
    pub fn condition(mut self, condition: watch::Receiver<Condition>) -> Self {
        self.condition = Some(condition);
        self
    }

    /// Serves another service, within the same [`limits`]: a call that is not answered in time is dropped where it
    /// waits. Its callers are in the extensions of its requests, as [`Peer`](crate::Peer).
    ///
    /// The types of tonic are here because this is where two services of a process meet: whoever has one to add has
    /// made it with tonic.
    #[must_use]
    pub fn service<S>(mut self, service: S) -> Self
    where
        S: HttpService<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.names.push(S::NAME);
        add_behind_gate(&mut self.services, self.access.as_ref(), service);
        self
    }

    /// Puts something around all services that were added so far: around their calls as HTTP requests, whose answers
    /// have `grpc-status` in their headers if they failed before they began.
    #[must_use]
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<AnyService>,
        L::Service: HttpService<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        <L::Service as HttpService<http::Request<Body>>>::Future: Send + 'static,
    {
        self.services.layer(|service| AnyService::of(layer.layer(service)));
        self
    }

    /// Tells at any time what the load reports add up to.
    pub fn load_stats(&self) -> impl Fn() -> LoadStats + Send + Sync + 'static {
        let loads = self.loads.clone();
        move || loads.stats()
    }

    /// Tells when the streams of an added service should end.
    pub fn phases(&self) -> Phases {
        self.phases.clone()
    }

    /// Serves until `shutdown`, then in order: accepts no more, calls itself not serving, ends the streams,
    /// waits for calls to finish, and cuts the connections that are left. When it returns, none is.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the listeners are closed and all connections are cut.
    pub async fn run(
        self,
        listeners: Vec<Listener>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let Self { options, access, swept, mut services, mut names, condition, phase, phases, .. } = self;
        let (health, health_service) = tonic_health::server::health_reporter();
        for name in &names {
            health.set_service_status(name, ServingStatus::Serving).await;
        }
        add_behind_gate(&mut services, None, health_service);
        add_reflection(&mut services, access.as_ref(), &names);
        names.extend(condition.is_some().then_some(CHANGES));
        let telling = tell_condition(condition, health.clone());

        let sweeping = sweep_if(access.clone().zip(swept));

        let slots = Arc::new(Semaphore::new(options.connections_max as usize));
        let accepted = incoming(Door {
            listeners,
            slots: Arc::clone(&slots),
            per_peer_max: options.connections_per_peer_max,
            phases: phases.clone(),
            access,
        });
        let begin_shutdown = async {
            shutdown.await;
            info!("shutting down");
            stop_serving(health, &names).await;
            phase.send_replace(Phase::Draining);
        };
        let dispatch = tower::service_fn(move |request| services.call(request));
        let serving = limits::server().serve_with_incoming_shutdown(dispatch, accepted, begin_shutdown);
        let drained = async {
            phases.draining().await;
            sleep(options.drain).await;
        };
        let served = tokio::select! {
            served = serving => served.map_err(Error::Serve),
            never = telling => match never {},
            never = sweeping => match never {},
            () = drained => {
                warn!(drain = ?options.drain, "connections are still open; cutting them");
                Ok(())
            }
        };
        phase.send_replace(Phase::Stopped);
        // All slots at once are there when no connection has one.
        let _ = slots.acquire_many(options.connections_max).await;
        served
    }
}

/// Serves `store` on `listener` until `shutdown`, and nothing else: [`Server`] in one call.
///
/// # Cancel safety
///
/// As [`Server::run`].
pub async fn serve(
    listener: Listener,
    store: Arc<dyn Store>,
    options: ServerOptions,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    Server::new(options).registry(store).run(vec![listener], shutdown).await
}

/// Tells, as long as the server runs, whether the store takes changes.
async fn tell_condition(condition: Option<watch::Receiver<Condition>>, health: HealthReporter) -> Infallible {
    if let Some(mut condition) = condition {
        loop {
            let status = match *condition.borrow_and_update() {
                Condition::Writing => ServingStatus::Serving,
                _ => ServingStatus::NotServing,
            };
            health.set_service_status(CHANGES, status).await;
            if condition.changed().await.is_err() {
                break;
            }
        }
    }
    std::future::pending().await
}

/// Takes away, as long as the server runs, what is held by those who may not any more.
async fn sweep_if(controlled: Option<(Access, Arc<dyn Store>)>) -> Infallible {
    match controlled {
        Some((access, store)) => sweep(access, store).await,
        None => std::future::pending().await,
    }
}

/// Tells those who watch the health, and then ends their watches, which have no end of their own.
async fn stop_serving(mut health: HealthReporter, names: &[&'static str]) {
    for name in names.iter().chain([&""]) {
        health.set_service_status(name, ServingStatus::NotServing).await;
        health.clear_service_status(name).await;
    }
}

/// With the bounds of one message.
fn sized<T: Registry>(service: T) -> RegistryServer<T> {
    RegistryServer::new(service)
        .max_decoding_message_size(REQUEST_LEN_MAX)
        .max_encoding_message_size(ANSWER_LEN_MAX)
}

/// Adds a service, behind the gate if there is one.
fn add_behind_gate<S>(services: &mut Services, access: Option<&Access>, service: S)
where
    S: HttpService<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    let service = match access {
        Some(access) => AnyService::of(InterceptedService::new(service, Gate::new(access.clone()))),
        None => AnyService::of(service),
    };
    services.add(S::NAME, service);
}

fn add_reflection(services: &mut Services, access: Option<&Access>, names: &[&'static str]) {
    let builder = || {
        let mut builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name("grpc.health.v1.Health");
        for name in names {
            builder = builder.with_service_name(*name);
        }
        builder
    };
    let well_formed = "the descriptors were made by the compiler of the schema";
    let v1 = builder().with_service_name("grpc.reflection.v1.ServerReflection").build_v1();
    add_behind_gate(services, access, v1.expect(well_formed));
    let v1alpha = builder().with_service_name("grpc.reflection.v1alpha.ServerReflection").build_v1alpha();
    add_behind_gate(services, access, v1alpha.expect(well_formed));
}
