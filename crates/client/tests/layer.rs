//! Requests of an HTTP client, balanced by a layer.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use netloft_balance::{Builtin, Key, Outcome};
use netloft_client::{BalanceError, BalanceLayer, BalanceService, Registration};
use support::backend::at;
use support::*;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;
use tower::{Layer as _, ServiceExt as _};

/// A server that tells what it was asked; `/broken` is an error, `/stream` a body that goes on as the test says.
#[derive(Clone, Default)]
struct Server {
    calls: Arc<AtomicUsize>,
    stream: Arc<Mutex<Option<Sender<std::io::Result<Bytes>>>>>,
}

async fn answer(State(server): State<Server>, request: Request) -> Response<Body> {
    server.calls.fetch_add(1, Ordering::Relaxed);
    let host = request.headers()["host"].to_str().unwrap();
    let body = if request.uri().path() == "/stream" {
        let (send, parts) = channel(1);
        *server.stream.lock().unwrap() = Some(send);
        Body::from_stream(ReceiverStream::new(parts))
    } else {
        Body::from(format!("{host} {}", request.uri()))
    };
    let status = if request.uri().path() == "/broken" { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
    Response::builder().status(status).body(body).unwrap()
}

async fn serve() -> (SocketAddr, Server) {
    let (listener, server) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Server::default());
    let router = Router::new().fallback(answer).with_state(server.clone());
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, router).into_future());
    (address, server)
}

type Http = BalanceService<Client<HttpConnector, Body>>;

struct Ground {
    layer: BalanceLayer,
    http: Http,
    balanced: Arc<netloft_client::Balanced>,
    _held: Vec<Registration>,
    _registry: Registry,
}

impl Ground {
    async fn of(addresses: &[SocketAddr]) -> Self {
        Self::with(addresses, |layer| layer).await
    }

    async fn with(addresses: &[SocketAddr], change: fn(BalanceLayer) -> BalanceLayer) -> Self {
        Self::by(Builtin::RoundRobin, addresses, change).await
    }

    async fn by(
        strategy: Builtin,
        addresses: &[SocketAddr],
        change: fn(BalanceLayer) -> BalanceLayer,
    ) -> Self {
        let registry = Registry::start().await;
        let mut held = Vec::new();
        for (number, address) in addresses.iter().enumerate() {
            held.push(registry.client().register(at(number, *address), long()).await.unwrap());
        }
        // Nobody waits for the registry's first answer but the service.
        let balanced = Arc::new(registry.client().balance(api(), strategy));
        let layer = change(BalanceLayer::new(Arc::clone(&balanced)));
        let http = layer.layer(Client::builder(TokioExecutor::new()).build_http());
        Self { layer, http, balanced, _held: held, _registry: registry }
    }

    async fn get(
        &self,
        uri: &str,
    ) -> Result<Response<netloft_client::BalanceBody<hyper::body::Incoming>>, BalanceError> {
        self.send(Request::get(uri).body(Body::empty()).unwrap()).await
    }

    async fn send(
        &self,
        request: Request,
    ) -> Result<Response<netloft_client::BalanceBody<hyper::body::Incoming>>, BalanceError> {
        self.http.clone().oneshot(request).await
    }

    async fn text(&self, uri: &str) -> String {
        let body = self.get(uri).await.unwrap().into_body().collect().await.unwrap();
        String::from_utf8(body.to_bytes().to_vec()).unwrap()
    }

    /// The calls in flight, and whether somebody has failed.
    fn seen(&self) -> (u32, bool) {
        let explained = self.balanced.explain();
        (explained.iter().map(|one| one.in_flight).sum(), explained.iter().any(|one| one.failure_share > 0.0))
    }
}

#[tokio::test]
async fn requests_are_spread_and_keep_their_path_and_whom_they_asked_for() {
    let servers = [serve().await, serve().await];
    let ground = Ground::of(&[servers[0].0, servers[1].0]).await;
    for _ in 0..10 {
        assert_eq!(ground.text("http://api/users?id=1").await, "api /users?id=1");
    }
    assert_eq!(servers.map(|(_, server)| server.calls.load(Ordering::Relaxed)), [5, 5]);
    let stats = ground.layer.stats();
    assert_eq!((stats.calls_begun, stats.calls.succeeded, stats.latency.count()), (10, 10, 10));
    assert_eq!(ground.seen(), (0, false));
}

#[tokio::test]
async fn requests_of_one_key_go_to_one_instance() {
    let servers = [serve().await, serve().await, serve().await];
    let addresses = servers.each_ref().map(|(address, _)| *address);
    let ground = Ground::by("ring-hash".parse().unwrap(), &addresses, |layer| layer).await;
    for _ in 0..10 {
        let request = Request::get("http://api/").extension(Key::of("user-42")).body(Body::empty()).unwrap();
        ground.send(request).await.unwrap().into_body().collect().await.unwrap();
    }
    let calls = servers.map(|(_, server)| server.calls.load(Ordering::Relaxed));
    assert!(calls.contains(&10), "{calls:?}");
}

#[tokio::test]
async fn an_answer_without_a_body_is_over_at_once() {
    let (address, _) = serve().await;
    let ground = Ground::of(&[address]).await;
    let request = Request::head("http://api/").body(Body::empty()).unwrap();
    let answer = ground.http.clone().oneshot(request).await.unwrap();
    assert_eq!((ground.seen(), ground.layer.stats().calls.succeeded), ((0, false), 1));
    drop(answer);
}

#[tokio::test]
async fn an_error_of_the_server_and_a_body_that_breaks_off_are_failures_and_one_that_is_dropped_is_not() {
    let (address, server) = serve().await;
    let ground = Ground::of(&[address]).await;
    let endless = ground.get("http://api/stream").await.unwrap();
    assert_eq!(ground.seen(), (1, false));
    drop(endless);
    assert_eq!(ground.seen(), (0, false));
    assert_eq!(ground.layer.stats().calls.given_up, 1);
    assert_eq!(ground.get("http://api/broken").await.unwrap().status(), StatusCode::BAD_GATEWAY);
    assert_eq!((ground.seen(), ground.layer.stats().calls.failed), ((0, true), 1));

    let ground = Ground::of(&[address]).await;
    let cut = ground.get("http://api/stream").await.unwrap();
    let stream = server.stream.lock().unwrap().take().unwrap();
    stream.send(Err(std::io::Error::other("cut"))).await.unwrap();
    assert!(cut.into_body().collect().await.is_err());
    assert_eq!((ground.seen(), ground.layer.stats().attempts.failed), ((0, true), 1));
}

#[tokio::test]
async fn what_a_status_says_can_be_judged_by_another_rule() {
    let (address, _) = serve().await;
    let never = |layer: BalanceLayer| layer.judging_by(|_| Outcome::Success);
    let ground = Ground::with(&[address], never).await;
    ground.text("http://api/broken").await;
    assert_eq!((ground.seen(), ground.layer.stats().calls.succeeded), ((0, false), 1));
}

#[tokio::test]
async fn who_cannot_be_reached_has_failed_and_without_an_instance_it_is_told() {
    let nowhere = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let ground = Ground::of(&[nowhere]).await;
    let error = ground.get("http://api/").await.unwrap_err();
    assert!(matches!(&error, BalanceError::Call { instance, .. } if instance.as_str() == "n0"), "{error:?}");
    assert_eq!((ground.seen(), ground.layer.stats().calls.failed), ((0, true), 1));

    let ground = Ground::of(&[]).await;
    let error = ground.get("http://api/users").await.unwrap_err();
    assert_eq!(error.to_string(), "there is no instance for http://api/users");
    assert_eq!(ground.layer.stats().without_instance, 1);
}
