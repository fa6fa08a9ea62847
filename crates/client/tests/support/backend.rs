//! Real servers of gRPC that do as they are told: `grpc.health.v1` stands for any service.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use netloft_balance::Builtin;
use netloft_client::{BalancedChannel, CallStats, ChannelOptions, Registration};
use netloft_types::Instance;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::{PATIENCE, Registry, api, long};

/// What a server does with a call.
#[derive(Debug, Clone)]
pub(crate) enum Do {
    Answer,
    /// Fails it before its message is read.
    Refuse(Status),
    /// Fails it when its message was read.
    Fail(Status),
    /// Does not answer.
    Hang,
}

pub(crate) fn unavailable() -> Status {
    Status::unavailable("as it was told")
}

/// `unavailable`, with what is to be known of trying again.
pub(crate) fn pushed_back(wait: &'static str) -> Status {
    let metadata = MetadataMap::from_headers(
        [("grpc-retry-pushback-ms".parse().unwrap(), wait.parse().unwrap())].into_iter().collect(),
    );
    Status::with_metadata(Code::Unavailable, "as it was told", metadata)
}

/// What several servers are told, and what they saw.
pub(crate) struct Script {
    /// For the first calls, whoever gets them.
    first: Vec<Do>,
    /// For all others.
    then: Do,
    seen: Mutex<Vec<Seen>>,
    /// Calls that were hung, and cancelled.
    pub(crate) cancelled: AtomicUsize,
}

/// A call as it came to a server.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// The number of the server, as they were started.
    pub(crate) server: usize,
    pub(crate) metadata: MetadataMap,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.metadata.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Script {
    pub(crate) fn new(first: impl IntoIterator<Item = Do>, then: Do) -> Arc<Self> {
        let (first, seen) = (first.into_iter().collect(), Mutex::default());
        Arc::new(Self { first, then, seen, cancelled: AtomicUsize::new(0) })
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until the servers have seen so many calls.
    pub(crate) async fn has_seen(&self, count: usize) -> Vec<Seen> {
        until(|| self.seen().len() >= count).await;
        self.seen()
    }

    fn next(&self, server: usize, metadata: &MetadataMap) -> Do {
        let mut seen = self.seen.lock().unwrap();
        let told = self.first.get(seen.len()).unwrap_or(&self.then).clone();
        seen.push(Seen { server, metadata: metadata.clone() });
        told
    }
}

/// Waits until something is so.
pub(crate) async fn until(is_so: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "it never was so");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

struct Backend {
    script: Arc<Script>,
}

struct Hung(Arc<Script>);

impl Drop for Hung {
    fn drop(&mut self) {
        self.0.cancelled.fetch_add(1, Ordering::Relaxed);
    }
}

#[tonic::async_trait]
impl Health for Backend {
    async fn check(
        &self,
        mut request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match request.extensions_mut().remove::<Do>().unwrap() {
            Do::Fail(status) => Err(status),
            Do::Hang => {
                let _hung = Hung(Arc::clone(&self.script));
                std::future::pending().await
            }
            Do::Answer | Do::Refuse(_) => {
                Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
            }
        }
    }

    type WatchStream = tokio_stream::Pending<Result<HealthCheckResponse, Status>>;

    /// Begins an answer that never goes on.
    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(tokio_stream::pending()))
    }
}

/// A server with threads of its own, so that all its connections break when it is killed.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) accepted: Arc<AtomicUsize>,
    runtime: Option<Runtime>,
}

impl Server {
    pub(crate) fn start(number: usize, script: &Arc<Script>) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), number, script)
    }

    pub(crate) fn start_at(address: SocketAddr, number: usize, script: &Arc<Script>) -> Self {
        let mut threads = tokio::runtime::Builder::new_multi_thread();
        let runtime = threads.worker_threads(1).enable_all().build().unwrap();
        // Blocking calls of the test's own thread would not do within a runtime.
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (address, accepted) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let (script, counted) = (Arc::clone(script), Arc::clone(&accepted));
        runtime.spawn(async move {
            let listener = TcpListenerStream::new(TcpListener::from_std(listener).unwrap());
            let incoming = listener.map(move |stream| {
                counted.fetch_add(1, Ordering::Relaxed);
                stream
            });
            let backend = Backend { script: Arc::clone(&script) };
            let service = HealthServer::with_interceptor(backend, move |mut request: Request<()>| {
                let told = script.next(number, request.metadata());
                if let Do::Refuse(status) = told {
                    return Err(status);
                }
                request.extensions_mut().insert(told);
                Ok(request)
            });
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        Self { address, accepted, runtime: Some(runtime) }
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Cuts all connections without a word, and listens no more.
    pub(crate) fn kill(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Servers of one script, registered, and a channel to them.
pub(crate) struct Fleet {
    pub(crate) script: Arc<Script>,
    pub(crate) servers: Vec<Server>,
    pub(crate) held: Vec<Registration>,
    pub(crate) registry: Registry,
    pub(crate) channel: BalancedChannel,
}

impl Fleet {
    pub(crate) async fn start(count: usize, script: Arc<Script>, options: ChannelOptions) -> Self {
        let registry = Registry::start().await;
        let servers: Vec<_> = (0..count).map(|number| Server::start(number, &script)).collect();
        let mut held = Vec::new();
        for (number, server) in servers.iter().enumerate() {
            held.push(registry.client().register(at(number, server.address), long()).await.unwrap());
        }
        let channel = channel(&registry, options).await;
        until(|| channel.balanced().discovery().snapshot().instances().len() == count).await;
        Self { script, servers, held, registry, channel }
    }

    pub(crate) async fn call(&self) -> Result<(), Status> {
        self.send(Request::new(HealthCheckRequest::default())).await
    }

    pub(crate) async fn send(&self, request: Request<HealthCheckRequest>) -> Result<(), Status> {
        HealthClient::new(self.channel.clone()).check(request).await.map(drop)
    }

    pub(crate) fn stats(&self) -> CallStats {
        self.channel.stats()
    }

    /// Which servers saw calls, one after another.
    pub(crate) fn path(&self) -> Vec<usize> {
        self.script.seen().iter().map(|seen| seen.server).collect()
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.channel.balanced().explain().iter().map(|one| one.in_flight).sum()
    }
}

/// An instance of the service, with a number for a name.
pub(crate) fn at(number: usize, address: SocketAddr) -> Instance {
    let port = u32::from(address.port()).try_into().unwrap();
    Instance::new(format!("n{number}").parse().unwrap(), "api".parse().unwrap(), address.ip(), port)
}

pub(crate) async fn channel(registry: &Registry, options: ChannelOptions) -> BalancedChannel {
    let balanced = registry.client().balance(api(), Builtin::RoundRobin);
    balanced.ready(PATIENCE).await.unwrap();
    BalancedChannel::with(balanced, options)
}

pub(crate) fn code(answer: Result<(), Status>) -> Code {
    answer.map_or_else(|status| status.code(), |()| Code::Ok)
}
