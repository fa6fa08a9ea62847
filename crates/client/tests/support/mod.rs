//! A real registry for the tests of a client: it can be stopped, killed and brought back.

#![allow(dead_code, reason = "each test file uses its part of it")]

pub(crate) mod backend;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use netloft_checker::Checker;
use netloft_client::{Client, Discovery, RegisterOptions};
use netloft_health::{MonitorOptions, Targets};
use netloft_proto::registry::v1::registry_client::RegistryClient;
use netloft_registry::{MemoryStore, Store, StoreOptions};
use netloft_rpc::{Error, Listener, Server, ServerOptions, SocketAccess};
use netloft_types::{Instance, InstanceId, Query, ServiceName};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

/// More than any wait of these tests takes on a busy machine; a test that reaches it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Registry {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) target: String,
    pub(crate) address: Option<SocketAddr>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), Error>>,
}

impl Registry {
    pub(crate) async fn start() -> Self {
        Self::start_with(StoreOptions::default()).await
    }

    pub(crate) async fn start_with(options: StoreOptions) -> Self {
        let address = "127.0.0.1:0".parse().unwrap();
        Self::serve(address, Arc::new(MemoryStore::start(options))).await
    }

    /// A registry of a server with options of its own.
    pub(crate) async fn start_as(options: ServerOptions) -> Self {
        Self::serve_as("127.0.0.1:0".parse().unwrap(), empty_store(), options).await
    }

    /// The same for a store, at an address where another registry may have been.
    pub(crate) async fn serve_as(address: SocketAddr, store: Arc<dyn Store>, options: ServerOptions) -> Self {
        let listener = Listener::tcp(address).await.unwrap();
        let target = format!("http://{listener}");
        let server = Server::new(options).registry(Arc::clone(&store));
        Self::run_server(server, listener, target, store)
    }

    /// Serves a store at an address where another registry may have been.
    pub(crate) async fn serve(address: SocketAddr, store: Arc<dyn Store>) -> Self {
        let listener = Listener::tcp(address).await.unwrap();
        let target = format!("http://{listener}");
        Self::run(listener, target, store)
    }

    pub(crate) async fn serve_unix(path: &Path) -> Self {
        let listener = Listener::unix(path, SocketAccess::Owner).await.unwrap();
        let target = listener.to_string();
        let store = Arc::new(MemoryStore::start(StoreOptions::default()));
        Self::run(listener, target, store)
    }

    /// A registry that runs checks, also on loopback.
    pub(crate) async fn start_checking() -> Self {
        let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let target = format!("http://{listener}");
        let store: Arc<dyn Store> = Arc::new(MemoryStore::start(StoreOptions::default()));
        let targets = Targets { allow: vec!["127.0.0.0/8".parse().unwrap()], ..Targets::default() };
        let checker =
            Checker::start(Arc::clone(&store), MonitorOptions { targets, ..MonitorOptions::default() });
        let server = Server::new(ServerOptions::default()).checked_registry(Arc::clone(&store), checker);
        Self::run_server(server, listener, target, store)
    }

    fn run(listener: Listener, target: String, store: Arc<dyn Store>) -> Self {
        let server = Server::new(ServerOptions::default()).registry(Arc::clone(&store));
        Self::run_server(server, listener, target, store)
    }

    fn run_server(server: Server, listener: Listener, target: String, store: Arc<dyn Store>) -> Self {
        let address = listener.tcp_address();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move { stopped.await.unwrap_or_default() };
        let serving = server.run(vec![listener], shutdown);
        Self { store, target, address, stop, task: tokio::spawn(serving) }
    }

    /// Shuts the registry down in order; returns where it was, and its store.
    pub(crate) async fn stop(self) -> (SocketAddr, Arc<dyn Store>) {
        let _ = self.stop.send(());
        self.task.await.unwrap().unwrap();
        (self.address.unwrap(), self.store)
    }

    /// Cuts all connections without a word.
    pub(crate) async fn kill(self) -> (SocketAddr, Arc<dyn Store>) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
        (self.address.unwrap(), self.store)
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.target.parse().unwrap())
    }

    /// A client as one in another language would be: the generated code alone.
    pub(crate) fn raw(&self) -> RegistryClient<Channel> {
        RegistryClient::new(self.channel())
    }

    pub(crate) fn channel(&self) -> Channel {
        Endpoint::from_shared(self.target.clone()).unwrap().connect_lazy()
    }
}

pub(crate) fn empty_store() -> Arc<dyn Store> {
    Arc::new(MemoryStore::start(StoreOptions::default()))
}

/// The shortest time to live there is.
pub(crate) fn short() -> RegisterOptions {
    RegisterOptions { ttl: Duration::from_secs(1) }
}

/// A time to live that outlasts every test.
pub(crate) fn long() -> RegisterOptions {
    RegisterOptions { ttl: Duration::from_hours(1) }
}

pub(crate) fn id(id: &str) -> InstanceId {
    id.parse().unwrap()
}

pub(crate) fn api() -> Query {
    Query::service("api".parse::<ServiceName>().unwrap())
}

pub(crate) fn instance(id: &str) -> Instance {
    let address = "10.0.0.2".parse().unwrap();
    Instance::new(id.parse().unwrap(), "api".parse().unwrap(), address, "80".parse().unwrap())
}

/// Waits until the set is exactly these ids.
pub(crate) async fn becomes(discovery: &mut Discovery, expected: &[&str]) {
    let reached = async {
        while ids(discovery) != expected {
            discovery.changed().await;
        }
    };
    let reached = tokio::time::timeout(PATIENCE, reached).await;
    assert!(reached.is_ok(), "{:?} never became {expected:?}", ids(discovery));
}

/// Waits until the discovery has noticed that the registry is away, or back.
pub(crate) async fn becomes_stale(discovery: &Discovery, stale: bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while discovery.is_stale() != stale {
        assert!(tokio::time::Instant::now() < deadline, "never became stale: {stale}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn ids(discovery: &Discovery) -> Vec<String> {
    let snapshot = discovery.snapshot();
    snapshot.instances().iter().map(|instance| instance.id.to_string()).collect()
}

pub(crate) async fn resolved(client: &Client) -> Vec<String> {
    let resolved = client.resolve(&api()).await.unwrap();
    resolved.instances.iter().map(|instance| instance.id.to_string()).collect()
}
