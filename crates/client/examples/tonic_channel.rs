//! A client that tonic generated, balanced: three servers, one of which dies while it has calls.
//!
//! The registry and the servers are real and run in this program, so that it needs nothing else:
//! `cargo run -p netloft-client --example tonic_channel`.

#![allow(clippy::print_stdout, reason = "it is a program")]

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use netloft_balance::Builtin;
use netloft_client::{
    BalancedChannel, ChannelOptions, Client, Methods, RegisterOptions, RetryOptions, prometheus_text,
};
use netloft_registry::{MemoryStore, StoreOptions};
use netloft_rpc::{Listener, ServerOptions, serve};
use netloft_types::{Instance, Query, ServiceName};
use tokio::runtime::Runtime;
use tonic::transport::server::TcpIncoming;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const CALLS: u64 = 300;

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let listener = Listener::tcp("127.0.0.1:0".parse()?).await?;
    let registry = format!("http://{listener}");
    let store = Arc::new(MemoryStore::start(StoreOptions::default()));
    tokio::spawn(serve(listener, store, ServerOptions::default(), std::future::pending()));
    let client = Client::connect(registry.parse()?);
    let service: ServiceName = "api".parse()?;

    let (mut servers, mut registrations) = (Vec::new(), Vec::new());
    for number in 0..3 {
        let (address, server) = start_server()?;
        servers.push(server);
        let id = format!("api-{number}").parse()?;
        let instance =
            Instance::new(id, service.clone(), address.ip(), u32::from(address.port()).try_into()?);
        registrations.push(client.register(instance, RegisterOptions::default()).await?);
    }

    let api = client.balance(Query::service(service), Builtin::default());
    api.ready(Duration::from_secs(5)).await?;
    // Asking how a server is can be repeated. So a call that was on its way to a server that dies is sent to another one.
    let retry =
        RetryOptions { methods: Methods::of(["grpc.health.v1.Health/Check"]), ..RetryOptions::default() };
    let options = ChannelOptions { retry: Some(retry), ..ChannelOptions::default() };
    let channel = BalancedChannel::with(api, options);

    let mut health = HealthClient::new(channel.clone());
    for number in 0..CALLS {
        if number == CALLS / 3 {
            println!("api-0 dies; the registry does not know");
            drop(servers.remove(0));
        }
        health.check(HealthCheckRequest::default()).await?;
    }

    for one in channel.balanced().explain() {
        println!("{}: {}", one.instance.id, one.verdict);
    }
    let stats = channel.stats();
    println!("{} calls succeeded, {} failed", stats.calls.succeeded, stats.calls.failed);
    print!("{}", prometheus_text(&[("api", stats.clone())]));
    if stats.calls.succeeded != CALLS {
        return Err("calls failed".into());
    }
    Ok(())
}

/// A server with threads of its own: when they go, its connections break, as those of a process that was killed.
struct Server(Option<Runtime>);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

fn start_server() -> Result<(SocketAddr, Server), Box<dyn Error>> {
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let entered = threads.enter();
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?;
    let address = incoming.local_addr()?;
    let (_reporter, health) = tonic_health::server::health_reporter();
    threads.spawn(tonic::transport::Server::builder().add_service(health).serve_with_incoming(incoming));
    drop(entered);
    Ok((address, Server(Some(threads))))
}
