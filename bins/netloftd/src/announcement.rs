//! The instance of a sandbox: what it says, and when it may be called.

use netloft_types::{Checks, Endpoint, Instance, InstanceId, Lifecycle, Locality, ServiceSpec};

use crate::HostName;
use crate::registrar::Registrar;

/// An instance as it is before its process runs, and how it shows that it works.
#[derive(Clone)]
pub(crate) struct Announcement {
    /// It is starting, and not checked.
    pub(crate) instance: Instance,
    checks: Checks,
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
        Self { instance, checks: service.checks }
    }

    /// Announces the instance now that its process runs: with its checks, which make it ready once they pass, and say how
    /// it is from then on; without any, as ready. How long a program needs to start is not for us to say.
    pub(crate) async fn follow(&self, registrar: &Registrar) {
        let instance = self.instance.clone();
        let begun = if self.checks.is_empty() {
            Instance { lifecycle: Lifecycle::Ready, ..instance }
        } else {
            instance.with_checks(self.checks.clone())
        };
        registrar.keep(begun).await;
    }
}
