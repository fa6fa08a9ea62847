//! The instance of a sandbox: what it says, and when it may be called.

use std::net::SocketAddr;
use std::time::Duration;

use netloft_types::{Endpoint, Instance, InstanceId, Lifecycle, Locality, ReadyCheck, ServiceSpec};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::HostName;
use crate::registrar::Registrar;

/// An instance as it is before its process runs, and how it earns its first call.
#[derive(Clone)]
pub(crate) struct Announcement {
    /// It is starting.
    pub(crate) instance: Instance,
    ready_check: ReadyCheck,
}

impl Announcement {
    /// The instance of a sandbox on a host: `SANDBOX@HOST`, at the first address of its endpoint.
    pub(crate) fn new(endpoint: &Endpoint, service: ServiceSpec, host_name: &HostName) -> Self {
        let id = format!("{}@{host_name}", endpoint.sandbox);
        let id: InstanceId = id.parse().expect("two names of 63 characters each make an id");
        let address =
            endpoint.addresses.first().expect("an endpoint has an address of each segment").address();
        let instance = Instance {
            weight: service.weight,
            tags: service.tags,
            metadata: service.metadata,
            lifecycle: Lifecycle::Starting,
            locality: Locality::new("", "", host_name.as_str())
                .expect("a host name is 63 characters at most"),
            ..Instance::new(id, service.name, address, service.port)
        };
        Self { instance, ready_check: service.ready_check }
    }

    /// Announces the instance as starting, then as ready once its check passes. Goes on until then: how long a
    /// program needs to start is not for us to say.
    pub(crate) async fn follow(&self, registrar: &Registrar) {
        announce(registrar, self.instance.clone()).await;
        if self.ready_check == ReadyCheck::Tcp {
            accepts_connections(SocketAddr::new(self.instance.address, self.instance.port.number())).await;
        }
        announce(registrar, Instance { lifecycle: Lifecycle::Ready, ..self.instance.clone() }).await;
    }
}

/// Announces an instance, again and again until the registry takes it.
async fn announce(registrar: &Registrar, instance: Instance) {
    while let Err(error) = registrar.announce(instance.clone()).await {
        warn!(instance = %instance.id, error = &error as &dyn std::error::Error, "cannot announce an instance");
        sleep(ANNOUNCE_INTERVAL).await;
    }
}

/// How long to wait before a remote registry is asked again.
const ANNOUNCE_INTERVAL: Duration = Duration::from_millis(500);
/// The first wait between two attempts to connect: a program that starts at once is ready within it.
const CHECK_INTERVAL_MIN: Duration = Duration::from_millis(2);
/// The longest wait between two attempts.
const CHECK_INTERVAL_MAX: Duration = Duration::from_millis(250);
/// How long one attempt may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// Waits until something accepts TCP connections at `address`.
async fn accepts_connections(address: SocketAddr) {
    let mut interval = CHECK_INTERVAL_MIN;
    while !matches!(timeout(CHECK_TIMEOUT, TcpStream::connect(address)).await, Ok(Ok(_))) {
        sleep(interval).await;
        interval = (interval * 2).min(CHECK_INTERVAL_MAX);
    }
}
