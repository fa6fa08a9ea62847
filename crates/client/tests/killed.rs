//! A replica that is a process dies without a word while it has calls.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use netloft_client::{ChannelOptions, Methods, RetryOptions};
use support::backend::*;
use support::*;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

const CALLERS: usize = 16;
/// Calls of each caller after the kill.
const CALLS_AFTER: usize = 50;

/// Takes a while for each call, so that there always are some under way.
struct Worker;

#[tonic::async_trait]
impl Health for Worker {
    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok(Response::new(HealthCheckResponse::default()))
    }

    type WatchStream = tokio_stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(tokio_stream::empty()))
    }
}

#[tokio::test]
#[ignore = "it is the replica: the test below runs it as a process of its own, and kills it"]
async fn serves_until_it_is_killed() {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    println!("\nlistening on {}", incoming.local_addr().unwrap());
    tonic::transport::Server::builder()
        .add_service(HealthServer::new(Worker))
        .serve_with_incoming(incoming)
        .await
        .unwrap();
}

/// A replica; killed in the end.
struct Replica {
    child: Child,
    address: SocketAddr,
}

impl Replica {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "serves_until_it_is_killed", "--nocapture"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.find_map(|line| line.unwrap().strip_prefix("listening on ")?.parse().ok());
        Self { child, address: address.unwrap() }
    }

    /// SIGKILL.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_replica_is_killed_no_call_fails_with_one_retry() {
    let registry = Registry::start().await;
    let mut replicas = [Replica::start(), Replica::start(), Replica::start()];
    let mut held = Vec::new();
    for (number, replica) in replicas.iter().enumerate() {
        held.push(registry.client().register(at(number, replica.address), long()).await.unwrap());
    }
    let retry = RetryOptions { methods: Methods::all(), attempts_max: 2, ..RetryOptions::default() };
    let options = ChannelOptions { retry: Some(retry), ..ChannelOptions::default() };
    let channel = channel(&registry, options).await;
    until(|| channel.stats().connections_open == 3).await;

    let (is_killed, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let mut client = HealthClient::new(channel.clone());
            let (is_killed, done) = (Arc::clone(&is_killed), Arc::clone(&done));
            tokio::spawn(async move {
                let mut after = 0;
                while after < CALLS_AFTER {
                    after += usize::from(is_killed.load(Ordering::Relaxed));
                    client.check(HealthCheckRequest::default()).await?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, Status>(())
            })
        })
        .collect();
    until(|| done.load(Ordering::Relaxed) >= 200).await;
    replicas[0].kill();
    is_killed.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    let stats = channel.stats();
    assert!(stats.retries > 0, "it had calls when it died: {stats:?}");
    assert_eq!((stats.calls.failed, stats.calls.succeeded), (0, stats.calls_begun));
}
