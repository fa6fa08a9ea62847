//! Etcd for a test: one node here, or several in namespaces of their own.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use netloft_registry::StoreOptions;
use netloft_registry_etcd::{EtcdOptions, EtcdStore};
use netloft_tests::programs::etcd;
use netloft_tests::running::{Running, until};
use tempfile::TempDir;

/// One node of etcd, at loopback.
pub(crate) struct Node {
    _process: Running,
    _directory: TempDir,
}

const CLIENT: &str = "http://127.0.0.1:2379";

impl Node {
    /// Starts it and waits until it answers.
    pub(crate) fn start() -> Self {
        up();
        let directory = TempDir::new().unwrap();
        let process =
            Running::spawn(command("one", directory.path(), "127.0.0.1", "one=http://127.0.0.1:2380"));
        until_listening("127.0.0.1:2379".parse().unwrap());
        Self { _process: process, _directory: directory }
    }

    pub(crate) fn endpoints() -> Vec<String> {
        vec![CLIENT.to_owned()]
    }
}

/// Opens a store below a prefix of its own.
pub(crate) async fn open(endpoints: &[String], prefix: &str, store: StoreOptions) -> EtcdStore {
    // A grace would hide what becomes of the time to live.
    let lease_ttl = Duration::from_secs(2);
    let options = EtcdOptions {
        store,
        prefix: prefix.to_owned(),
        grace: Duration::ZERO,
        lease_ttl,
        ..EtcdOptions::default()
    };
    EtcdStore::open(endpoints, options).await.unwrap()
}

/// A prefix nobody has used.
pub(crate) fn new_prefix() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("/test-{}/", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The command of a node of a cluster, with its data in a directory and both its ports at an address.
pub(crate) fn command(name: &str, directory: &Path, address: &str, cluster: &str) -> Command {
    let (clients, peers) = (format!("http://{address}:2379"), format!("http://{address}:2380"));
    let mut command = Command::new(etcd());
    command.args(["--name", name, "--initial-cluster", cluster, "--data-dir"]).arg(directory);
    command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
    command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
    // A test outlives no cut of power.
    command.args(["--log-level", "error", "--logger", "zap", "--log-outputs", "stderr"]);
    command
}

pub(crate) fn until_listening(address: SocketAddr) {
    until("etcd listens", || TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok());
}

/// A world begins with every link down.
pub(crate) fn up() {
    let mut up = Command::new(netloft_tests::programs::tool("ip"));
    up.args(["link", "set", "lo", "up"]);
    Running::spawn(up).wait().success();
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(future)
}
