//! What clients see of a slow instance reaches the others, with the reason, and is taken back when it recovers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::BodyExt as _;
use netloft_balance::{Builtin, Composition, LoadOptions, Reason};
use netloft_client::{BalancedChannel, Client, ClientOptions, Error, Refusal, Registration};
use netloft_proto::orca::{self, OrcaLoadReport};
use netloft_rpc::ServerOptions;
use netloft_types::{Ground, Instance, InstanceLoad};
use support::*;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::codegen::http::{self, HeaderMap};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tower::util::MapResponseLayer;

/// Long enough for an interval to have calls, short enough for many of them.
const INTERVAL: Duration = Duration::from_millis(400);
/// More than twenty intervals take on a busy machine.
const LONG: Duration = Duration::from_mins(1);
/// How long the slow one takes: far more than others on a busy machine.
const SLOW_MS: u64 = 100;

fn taking_reports() -> ServerOptions {
    ServerOptions { load_report_interval: Some(INTERVAL), ..ServerOptions::default() }
}

/// Answers after a while, and says how busy it is, if at all.
#[derive(Clone, Default)]
struct Backend {
    delay_ms: Arc<AtomicU64>,
    /// In percent; 0 says nothing.
    busy: Arc<AtomicU64>,
}

#[tonic::async_trait]
impl Health for Backend {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        sleep(Duration::from_millis(self.delay_ms.load(Ordering::Relaxed))).await;
        if request.into_inner().service == "refused" {
            // Answered by headers alone, which are its trailers.
            let metadata = MetadataMap::from_headers(self.trailers());
            return Err(Status::with_metadata(tonic::Code::NotFound, "there is none", metadata));
        }
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    type WatchStream = tokio_stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(tokio_stream::empty()))
    }
}

impl Backend {
    /// As a backend in another language says it: a hundred calls per second make it so busy.
    fn trailers(&self) -> HeaderMap {
        let busy = self.busy.load(Ordering::Relaxed);
        let mut metadata = MetadataMap::new();
        if busy > 0 {
            let cpu_utilization = f64::from(u32::try_from(busy).unwrap()) / 100.0;
            let report =
                OrcaLoadReport { cpu_utilization, rps_fractional: 100.0, ..OrcaLoadReport::default() };
            metadata.insert_bin(orca::TRAILER, MetadataValue::from_bytes(&report.to_bytes()));
        }
        metadata.into_headers()
    }
}

struct Running {
    address: SocketAddr,
    backend: Backend,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(delay_ms: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, backend) = (listener.local_addr().unwrap(), Backend::default());
        backend.delay_ms.store(delay_ms, Ordering::Relaxed);
        let speaking = backend.clone();
        let with_trailers = MapResponseLayer::new(move |response: http::Response<Body>| {
            let own = speaking.trailers();
            response.map(|body| {
                Body::new(body.map_frame(move |mut frame| {
                    if let Some(trailers) = frame.trailers_mut() {
                        trailers.extend(own.clone());
                    }
                    frame
                }))
            })
        });
        let serving = tonic::transport::Server::builder()
            .layer(with_trailers)
            .add_service(HealthServer::new(backend.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        Self { address, backend, task: tokio::spawn(async move { serving.await.unwrap() }) }
    }

    fn answers_after(&self, delay_ms: u64) {
        self.backend.delay_ms.store(delay_ms, Ordering::Relaxed);
    }

    fn is_busy(&self, percent: u64) {
        self.backend.busy.store(percent, Ordering::Relaxed);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A registry with a service of backends that answer after so long; the names are `a`, `b` and so on.
async fn service(options: ServerOptions, delays_ms: &[u64]) -> (Registry, Vec<Running>, Vec<Registration>) {
    let registry = Registry::start_as(options).await;
    let (mut running, mut held) = (Vec::new(), Vec::new());
    for (delay_ms, name) in delays_ms.iter().zip(["a", "b", "c", "d"]) {
        let one = Running::start(*delay_ms).await;
        let port = u32::from(one.address.port()).try_into().unwrap();
        let instance = Instance::new(name.parse().unwrap(), "api".parse().unwrap(), one.address.ip(), port);
        held.push(registry.client().register(instance, long()).await.unwrap());
        running.push(one);
    }
    (registry, running, held)
}

/// Calls without a pause, sixteen at a time, until it is dropped.
struct Caller {
    channel: BalancedChannel,
    _calling: JoinSet<()>,
}

impl Caller {
    async fn start(client: &Client, composition: Composition) -> Self {
        let api = client.balance_with(api(), composition, Builtin::Weighted);
        api.ready(PATIENCE).await.unwrap();
        let channel = BalancedChannel::new(api);
        let mut calling = JoinSet::new();
        for _ in 0..16 {
            let mut health = HealthClient::new(channel.clone());
            calling.spawn(async move {
                loop {
                    health.check(HealthCheckRequest::default()).await.unwrap();
                    sleep(Duration::from_millis(2)).await;
                }
            });
        }
        Self { channel, _calling: calling }
    }

    /// Waits until what is looked for is explained of an instance; answers its explanation.
    async fn is_explained(&self, name: &str, said: impl Fn(&[Reason]) -> bool) -> String {
        let look = || {
            let explained = self.channel.balanced().explain();
            explained.into_iter().find(|it| it.instance.id == id(name) && said(&it.verdict.reasons))
        };
        let found = timeout(LONG, async {
            loop {
                if let Some(found) = look() {
                    return found.verdict.to_string();
                }
                sleep(Duration::from_millis(5)).await;
            }
        });
        found.await.unwrap_or_else(|_| panic!("{:?}", self.channel.balanced().explain()))
    }
}

/// Waits until the registry says of an instance what is looked for.
async fn is_listed(client: &Client, name: &str, said: impl Fn(&InstanceLoad) -> bool) -> InstanceLoad {
    let mut last = Vec::new();
    let deadline = tokio::time::Instant::now() + LONG;
    while tokio::time::Instant::now() < deadline {
        last = client.load(&"api".parse().unwrap()).await.unwrap();
        if let Some(found) = last.iter().find(|load| load.instance == id(name) && said(load)) {
            return found.clone();
        }
        sleep(Duration::from_millis(5)).await;
    }
    panic!("{last:?}")
}

fn is_advised(reasons: &[Reason]) -> bool {
    matches!(reasons, [Reason::Advised(advice)] if advice.percent() <= 50)
}

/// Health and load, so that nothing else moves a weight.
fn quiet(load: LoadOptions) -> Composition {
    Composition { outlier: None, slow_start: None, load: Some(load), ..Composition::default() }
}

#[tokio::test]
async fn who_is_slow_to_some_gets_less_of_all_with_the_reason_until_it_recovers() {
    let (registry, running, _held) = service(taking_reports(), &[2, SLOW_MS, 2, 2]).await;
    let first = Caller::start(&registry.client(), quiet(LoadOptions::default())).await;
    let second = Caller::start(&registry.client(), quiet(LoadOptions::default())).await;
    let said = first.is_explained("b", is_advised).await;
    assert!(said.contains(": the registry says: its callers wait "), "{said}");
    second.is_explained("b", is_advised).await;
    let load = is_listed(&registry.client(), "b", |load| load.reporters == 2).await;
    assert!(load.latency.unwrap() >= Duration::from_millis(SLOW_MS) && load.calls_per_s > 0.0, "{load:?}");
    assert!(matches!(load.advice.unwrap().ground(), Ground::Slow { times } if times > 1.5), "{load:?}");

    // One that has never called anybody is told at once, and so calls it less than its fourth.
    let third = registry.client().balance(api(), Builtin::Weighted);
    third.ready(PATIENCE).await.unwrap();
    let told = timeout(LONG, async {
        while !third.explain().iter().any(|it| is_advised(&it.verdict.reasons)) {
            sleep(Duration::from_millis(5)).await;
        }
    });
    told.await.unwrap();
    let slow = (0..1_000).filter(|_| third.pick().unwrap().id == id("b")).count();
    assert!((10..200).contains(&slow), "{slow} of a thousand");

    running[1].answers_after(2);
    first.is_explained("b", <[Reason]>::is_empty).await;
    is_listed(&registry.client(), "b", |load| load.advice.is_none() && load.reporters == 2).await;
}

#[tokio::test]
async fn what_instances_say_of_themselves_moves_weights() {
    let (registry, running, _held) = service(taking_reports(), &[1, 1]).await;
    running[0].is_busy(40);
    running[1].is_busy(80);
    let at_once = LoadOptions { blackout: Duration::ZERO, ..LoadOptions::default() };
    let caller = Caller::start(&registry.client(), quiet(at_once)).await;
    let said = caller.is_explained("b", |reasons| matches!(reasons, [Reason::Load { .. }])).await;
    assert_eq!(said, "33.3 % of the calls: it says that it is 80 % busy: 0.7 of its weight");
    let explained = caller.channel.balanced().explain();
    let busy = explained[1].load.unwrap().utilization().number();
    assert!((busy - 0.8).abs() < 1e-6, "{busy}");
    // The registry is told, too.
    is_listed(&registry.client(), "b", |load| load.utilization.is_some_and(|it| it.number() > 0.79)).await;
    running[1].is_busy(20);
    caller
        .is_explained("b", |reasons| matches!(reasons, [Reason::Load { factor, .. }] if *factor > 1.2))
        .await;
}

#[tokio::test]
async fn an_answer_that_is_only_trailers_tells_the_load_too() {
    let (registry, running, _held) = service(taking_reports(), &[0]).await;
    running[0].is_busy(70);
    let api = registry.client().balance(api(), Builtin::Weighted);
    api.ready(PATIENCE).await.unwrap();
    let channel = BalancedChannel::new(api);
    let refused = HealthCheckRequest { service: "refused".to_owned() };
    HealthClient::new(channel.clone()).check(refused).await.unwrap_err();
    let load = channel.balanced().explain()[0].load.unwrap();
    assert!((load.utilization().number() - 0.7).abs() < 1e-6, "{load:?}");
}

#[tokio::test]
async fn who_is_gone_or_does_not_want_to_reports_nothing() {
    let (registry, _running, _held) = service(taking_reports(), &[2, 2, 2]).await;
    let options = ClientOptions { reports_load: false, ..ClientOptions::default() };
    let silent = Client::connect_with(&registry.target.parse().unwrap(), &options);
    let silent = Caller::start(&silent, quiet(LoadOptions::default())).await;
    let first = Caller::start(&registry.client(), quiet(LoadOptions::default())).await;
    let second = Caller::start(&registry.client(), quiet(LoadOptions::default())).await;
    is_listed(&registry.client(), "a", |load| load.reporters == 2).await;
    drop(second);
    is_listed(&registry.client(), "a", |load| load.reporters == 1).await;
    drop(first);
    is_listed(&registry.client(), "a", |load| load.reporters == 0).await;
    let calls = silent.channel.balanced().explain()[0].latency;
    assert!(calls.is_some(), "it has called all the while");
}

#[tokio::test]
async fn while_the_registry_is_away_calls_go_on_and_advice_runs_out() {
    let (registry, _running, held) = service(taking_reports(), &[2, SLOW_MS, 2, 2]).await;
    let caller = Caller::start(&registry.client(), quiet(LoadOptions::default())).await;
    caller.is_explained("b", is_advised).await;
    let (address, store) = registry.kill().await;
    caller.is_explained("b", <[Reason]>::is_empty).await;
    let registry = Registry::serve_as(address, store, taking_reports()).await;
    // It knew nothing any more, and is told again.
    caller.is_explained("b", is_advised).await;
    drop((registry, held));
}

#[tokio::test]
async fn a_server_that_takes_no_reports_says_so_and_one_that_advises_nothing_shows_them() {
    let none = ServerOptions { load_report_interval: None, ..ServerOptions::default() };
    let (registry, _running, _held) = service(none, &[1, 1, 1]).await;
    let caller = Caller::start(&registry.client(), quiet(LoadOptions::default())).await;
    let error = registry.client().load(&"api".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Refused { refusal: Refusal::Unknown, .. }), "{error:?}");
    sleep(INTERVAL * 4).await;
    assert!(caller.channel.balanced().explain().iter().all(|one| one.verdict.reasons.is_empty()));

    let shown = ServerOptions { advises_weights: false, ..taking_reports() };
    let (registry, _running, _held) = service(shown, &[2, SLOW_MS, 2, 2]).await;
    let caller = Caller::start(&registry.client(), quiet(LoadOptions::default())).await;
    is_listed(&registry.client(), "b", |load| load.reporters == 1 && load.calls_per_s > 0.0).await;
    sleep(INTERVAL * 6).await;
    let load = is_listed(&registry.client(), "b", |load| load.reporters == 1).await;
    assert_eq!(load.advice, None);
    assert!(caller.channel.balanced().explain().iter().all(|one| one.verdict.reasons.is_empty()));
}
