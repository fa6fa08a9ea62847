//! Etcd for a test, and registry servers around it: here, or in namespaces of their own.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use netloft_registry::StoreOptions;
use netloft_registry_etcd::{EtcdOptions, EtcdStore};
use netloft_tests::etcd::{Cluster, Place, command};
use netloft_tests::raise_loopback;
use netloft_tests::running::{Running, until};
use tempfile::TempDir;

/// One node of etcd, at loopback.
pub(crate) struct Node {
    _process: Running,
    _directory: TempDir,
}

/// A registry server in a namespace of its own.
pub(crate) struct Server {
    pub(crate) store: Arc<EtcdStore>,
    place: Place,
}

const CLIENT: &str = "http://127.0.0.1:2379";

/// How long a server is missed before the others take it for gone, and a session waits beyond its time to live.
pub(crate) const LEASE_TTL: Duration = Duration::from_secs(3);
pub(crate) const GRACE: Duration = Duration::from_secs(2);

impl Node {
    /// Starts it and waits until it answers.
    pub(crate) fn start() -> Self {
        raise_loopback();
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

impl Server {
    /// Opens one that joins the others of a cluster.
    pub(crate) fn join(cluster: &mut Cluster, store: StoreOptions) -> Self {
        let options = EtcdOptions { store, lease_ttl: LEASE_TTL, grace: GRACE, ..EtcdOptions::default() };
        let (place, endpoints) = (cluster.plug_in(), cluster.endpoints());
        // Its thread begins where the one that opens it is.
        let open = move || block_on(EtcdStore::open(&endpoints, options));
        let store = Arc::new(place.netns().run(open).unwrap().unwrap());
        Self { store, place }
    }

    /// Lets it ask, and not hear.
    pub(crate) fn deafen(&self) {
        self.place.deafen();
    }

    /// Cuts it off from everything.
    pub(crate) fn unplug(&self) {
        self.place.unplug();
    }

    pub(crate) fn plug(&self) {
        self.place.plug();
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

pub(crate) fn until_listening(address: SocketAddr) {
    until("etcd listens", || TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok());
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(future)
}
