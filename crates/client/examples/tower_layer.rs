//! An HTTP client, balanced by a layer: the legacy client of hyper-util, and three servers, one of which dies.
//!
//! The registry and the servers are real and run in this program, so that it needs nothing else:
//! `cargo run -p netloft-client --example tower_layer`.

#![allow(clippy::print_stdout, reason = "it is a program")]

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::get;
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use netloft_balance::Builtin;
use netloft_client::{BalanceError, BalanceLayer, Client, RegisterOptions};
use netloft_registry::{MemoryStore, StoreOptions};
use netloft_rpc::{Listener, ServerOptions, serve};
use netloft_types::{Instance, Query, ServiceName};
use tokio::runtime::Runtime;
use tower::{Layer as _, Service as _, ServiceExt as _};

const REQUESTS: u64 = 300;

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
        let (address, server) = start_server(format!("hello from api-{number}"))?;
        servers.push(server);
        let id = format!("api-{number}").parse()?;
        let instance =
            Instance::new(id, service.clone(), address.ip(), u32::from(address.port()).try_into()?);
        registrations.push(client.register(instance, RegisterOptions::default()).await?);
    }

    let layer = BalanceLayer::new(Arc::new(client.balance(Query::service(service), Builtin::RoundRobin)));
    let mut http = layer.layer(HttpClient::builder(TokioExecutor::new()).build_http::<Body>());
    let mut again = 0;
    for number in 0..REQUESTS {
        if number == REQUESTS / 3 {
            println!("api-0 dies; the registry does not know");
            drop(servers.remove(0));
        }
        // A GET can be repeated, and the next pick is another instance.
        let mut tries = 0;
        let answer = loop {
            let request = Request::get("http://api/").body(Body::empty())?;
            match http.ready().await?.call(request).await {
                Err(BalanceError::Call { instance, source }) if tries < 3 => {
                    println!("{instance} did not answer: {source}");
                    tries += 1;
                }
                answer => break answer?,
            }
        };
        again += tries;
        answer.into_body().collect().await?;
    }

    let stats = layer.stats();
    println!(
        "{} answers, {again} requests sent again; half of them within {:?}",
        stats.calls.succeeded,
        stats.latency.quantile(0.5)
    );
    if stats.calls.succeeded != REQUESTS {
        return Err("requests failed".into());
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

fn start_server(text: String) -> Result<(SocketAddr, Server), Box<dyn Error>> {
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let router = Router::new().route("/", get(move || std::future::ready(text.clone())));
    threads.spawn(async move { axum::serve(tokio::net::TcpListener::from_std(listener)?, router).await });
    Ok((address, Server(Some(threads))))
}
