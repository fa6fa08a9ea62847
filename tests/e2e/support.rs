//! What the tests share.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use netloft_tests::Lab;
use netloft_tests::running::{Running, eventually};
use serde_json::Value;

/// The network of most tests.
pub(crate) const BLUE: [&str; 7] =
    ["network", "create", "blue", "--subnet", "10.89.0.0/24", "--subnet", "fd89::/64"];

/// Creates network `blue`.
pub(crate) fn create_blue(lab: &Lab) {
    lab.netloft(&BLUE).success();
}

/// Starts a replica of `web` in network `blue`, in a sandbox of this name, and waits until it is ready.
pub(crate) fn start_replica(lab: &Lab, sandbox: &str) -> Running {
    let run = ["run", "--network", "blue", "--name", "web", "--port", "8080", "--sandbox", sandbox];
    let replica = lab.spawn(&[&run[..], &["--", "netloft", "demo", "serve"]].concat());
    eventually(&format!("{sandbox} is ready"), || {
        instances(lab).iter().any(|id| id.starts_with(&format!("{sandbox}@"))).then_some(())
    });
    replica
}

/// The ids of the instances that a lookup selects, as the command line tells them.
pub(crate) fn instances(lab: &Lab) -> Vec<String> {
    let answer = lab.json(&["resolve"]);
    let instances = answer["instances"].as_array().unwrap();
    instances.iter().map(|instance| instance["id"].as_str().unwrap().to_owned()).collect()
}

/// An endpoint, as `netloft status` tells it.
pub(crate) struct Endpoint(Value);

/// The endpoint of a sandbox.
pub(crate) fn endpoint(lab: &Lab, sandbox: &str) -> Endpoint {
    endpoint_in(&lab.json(&["status"]), sandbox)
}

/// The endpoint of a sandbox in an answer of `netloft status`.
pub(crate) fn endpoint_in(status: &Value, sandbox: &str) -> Endpoint {
    let endpoints = status["endpoints"].as_array().unwrap();
    Endpoint(endpoints.iter().find(|endpoint| endpoint["sandbox"] == sandbox).unwrap().clone())
}

impl Endpoint {
    pub(crate) fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0["pid"].as_u64().unwrap().try_into().unwrap()
    }

    pub(crate) fn netns(&self) -> PathBuf {
        self.text("netns").into()
    }

    /// The addresses, without their prefix lengths.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        self.prefixes().iter().map(|text| text.split_once('/').unwrap().0.parse().unwrap()).collect()
    }

    /// The addresses, with their prefix lengths.
    pub(crate) fn prefixes(&self) -> Vec<String> {
        let addresses = self.0["addresses"].as_array().unwrap();
        addresses.iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    }

    /// The addresses, with a port.
    pub(crate) fn sockets(&self, port: u16) -> Vec<SocketAddr> {
        self.addresses().into_iter().map(|address| SocketAddr::new(address, port)).collect()
    }
}

/// Runs a future on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}
