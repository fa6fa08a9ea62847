//! Any client at all, balanced by hand: reqwest, and three servers, one of which dies.
//!
//! The registry and the servers are real and run in this program, so that it needs nothing else:
//! `cargo run -p netloft-client --example pick_reqwest`.

#![allow(clippy::print_stdout, reason = "it is a program")]

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use netloft_balance::{Builtin, Outcome};
use netloft_client::{Balanced, Client, RegisterOptions};
use netloft_registry::{MemoryStore, StoreOptions};
use netloft_rpc::{Listener, ServerOptions, serve};
use netloft_types::{Instance, Query, ServiceName};
use tokio::runtime::Runtime;

const REQUESTS: usize = 300;

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

    let api = client.balance(Query::service(service), Builtin::default());
    api.ready(Duration::from_secs(5)).await?;
    let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).build()?;
    for number in 0..REQUESTS {
        if number == REQUESTS / 3 {
            println!("api-0 dies; the registry does not know");
            drop(servers.remove(0));
        }
        let text = fetch(&http, &api, "/").await?;
        if number % (REQUESTS / 3) == 0 {
            println!("{text}");
        }
    }

    println!("{REQUESTS} answers");
    for one in api.explain() {
        println!("{}: {}, {:.0} % failed of late", one.instance.id, one.verdict, one.failure_share * 100.0);
    }
    Ok(())
}

/// Fetches from one instance after another until one answers: a GET can be repeated.
///
/// # Cancel safety
///
/// If the future is dropped, the request is given up, and nothing is learned of its instance.
async fn fetch(http: &reqwest::Client, api: &Balanced, path: &str) -> Result<String, Box<dyn Error>> {
    for mut pick in api.candidates() {
        let address = pick.socket_address();
        let answer = http.get(format!("http://{address}{path}")).send().await;
        pick.answered();
        let text = match answer.and_then(reqwest::Response::error_for_status) {
            Ok(answer) => answer.text().await,
            Err(error) => Err(error),
        };
        match text {
            Ok(text) => {
                pick.end(Outcome::Success);
                return Ok(text);
            }
            Err(error) => {
                println!("{} did not answer: {error}", pick.id);
                pick.end(Outcome::Failure);
            }
        }
    }
    Err("no instance answered".into())
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
