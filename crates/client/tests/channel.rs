//! Clients that tonic generates, balanced: `grpc.health.v1` stands for any service.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use netloft_balance::{Builtin, Key};
use netloft_client::{BalancedChannel, Registration};
use netloft_types::{Instance, Query};
use support::*;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// Answers, or not, as the name of the service in the request says.
#[derive(Clone, Default)]
struct Backend {
    calls: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl Health for Backend {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match request.into_inner().service.as_str() {
            "broken" => Err(Status::internal("it is broken")),
            "missing" => Err(Status::not_found("there is none")),
            "slow" => {
                tokio::time::sleep(PATIENCE).await;
                Err(Status::internal("too late"))
            }
            _ => Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() })),
        }
    }

    type WatchStream = tokio_stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(tokio_stream::empty()))
    }
}

struct Running {
    address: SocketAddr,
    calls: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Running {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, backend) = (listener.local_addr().unwrap(), Backend::default());
        let calls = Arc::clone(&backend.calls);
        let serving = tonic::transport::Server::builder()
            .serve_with_incoming(HealthServer::new(backend), TcpListenerStream::new(listener));
        Self { address, calls, task: tokio::spawn(async move { serving.await.unwrap() }) }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

fn at(name: &str, address: SocketAddr) -> Instance {
    let port = u32::from(address.port()).try_into().unwrap();
    Instance::new(name.parse().unwrap(), "api".parse().unwrap(), address.ip(), port)
}

async fn balanced(
    registry: &Registry,
    instances: &[Instance],
) -> (Vec<Registration>, HealthClient<BalancedChannel>) {
    balanced_by(Builtin::RoundRobin, registry, instances).await
}

async fn balanced_by(
    strategy: Builtin,
    registry: &Registry,
    instances: &[Instance],
) -> (Vec<Registration>, HealthClient<BalancedChannel>) {
    let client = registry.client();
    let mut held = Vec::new();
    for instance in instances {
        held.push(client.register(instance.clone(), long()).await.unwrap());
    }
    let api = client.balance(Query::service("api".parse().unwrap()), strategy);
    (held, HealthClient::new(BalancedChannel::new(api)))
}

async fn call(client: &mut HealthClient<BalancedChannel>, service: &str) -> Code {
    let request = HealthCheckRequest { service: service.to_owned() };
    client.check(request).await.map_or_else(|status| status.code(), |_| Code::Ok)
}

/// An address at which nobody listens.
async fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn calls_of_a_generated_client_are_spread() {
    let registry = Registry::start().await;
    let (a, b) = (Running::start().await, Running::start().await);
    let (_held, mut client) = balanced(&registry, &[at("a", a.address), at("b", b.address)]).await;
    for _ in 0..20 {
        // The first waits for the registry by itself.
        assert_eq!(call(&mut client, "").await, Code::Ok);
    }
    assert_eq!((a.calls(), b.calls()), (10, 10));
}

#[tokio::test]
async fn calls_of_one_key_go_to_one_instance_and_of_many_keys_to_all() {
    let registry = Registry::start().await;
    let all = [Running::start().await, Running::start().await, Running::start().await];
    let instances: Vec<_> = all.iter().zip(["a", "b", "c"]).map(|(it, name)| at(name, it.address)).collect();
    let (_held, mut client) = balanced_by("ring-hash".parse().unwrap(), &registry, &instances).await;
    let mut owners = Vec::new();
    for user in 0..20 {
        let before = all.each_ref().map(Running::calls);
        for _ in 0..5 {
            let mut request = Request::new(HealthCheckRequest::default());
            request.extensions_mut().insert(Key::of(format!("user-{user}")));
            client.check(request).await.unwrap();
        }
        let after = all.each_ref().map(Running::calls);
        let owner = (0..3).find(|index| after[*index] - before[*index] == 5);
        owners.push(owner.expect("all five go to one"));
    }
    assert!((0..3).all(|one| owners.contains(&one)), "{owners:?}");
}

#[tokio::test]
async fn an_instance_that_nobody_serves_costs_no_call() {
    let registry = Registry::start().await;
    let (a, b) = (Running::start().await, Running::start().await);
    let all = [at("a", a.address), at("b", b.address), at("dead", nowhere().await)];
    let (_held, mut client) = balanced(&registry, &all).await;
    for _ in 0..1_000 {
        assert_eq!(call(&mut client, "").await, Code::Ok);
    }
    assert_eq!(a.calls() + b.calls(), 1_000);
}

#[tokio::test]
async fn when_an_instance_is_killed_only_what_it_had_begun_fails() {
    let registry = Registry::start().await;
    let (a, b) = (Running::start().await, Running::start().await);
    let (_held, mut client) = balanced(&registry, &[at("a", a.address), at("b", b.address)]).await;
    assert_eq!(call(&mut client, "").await, Code::Ok);
    assert_eq!(call(&mut client, "").await, Code::Ok);
    a.task.abort();
    assert!(a.task.await.unwrap_err().is_cancelled());
    for _ in 0..200 {
        assert_eq!(call(&mut client, "").await, Code::Ok);
    }
}

#[tokio::test]
async fn codes_that_blame_the_instance_are_failures_of_it_and_others_not() {
    let registry = Registry::start().await;
    let a = Running::start().await;
    let _held = registry.client().register(at("a", a.address), long()).await.unwrap();
    let channel = channel_of(&registry).await;
    let mut client = HealthClient::new(channel.clone());
    assert_eq!(call(&mut client, "missing").await, Code::NotFound);
    assert!(channel.balanced().explain()[0].failure_share <= 0.0);
    assert_eq!(call(&mut client, "broken").await, Code::Internal);
    let seen = &channel.balanced().explain()[0];
    assert!(seen.failure_share > 0.0 && seen.in_flight == 0 && seen.latency.is_some(), "{seen:?}");
}

async fn channel_of(registry: &Registry) -> BalancedChannel {
    let api = registry.client().balance(Query::service("api".parse().unwrap()), Builtin::RoundRobin);
    api.ready(PATIENCE).await.unwrap();
    BalancedChannel::new(api)
}

#[tokio::test]
async fn a_deadline_is_kept_and_the_call_is_let_go() {
    let registry = Registry::start().await;
    let a = Running::start().await;
    let _held = registry.client().register(at("a", a.address), long()).await.unwrap();
    let channel = channel_of(&registry).await;
    let mut client = HealthClient::new(channel.clone());
    let mut request = Request::new(HealthCheckRequest { service: "slow".to_owned() });
    request.set_timeout(Duration::from_millis(50));
    assert_eq!(client.check(request).await.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(channel.balanced().explain()[0].in_flight, 0);
}

#[tokio::test]
async fn without_an_instance_the_reason_is_told() {
    let registry = Registry::start().await;
    let mut client = HealthClient::new(channel_of(&registry).await);
    let status = client.check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "there is no instance"));
    let dead = at("dead", nowhere().await);
    let _held = registry.client().register(dead, long()).await.unwrap();
    let channel = channel_of(&registry).await;
    let status = HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().starts_with("cannot connect to dead at 127.0.0.1:"), "{}", status.message());
}
