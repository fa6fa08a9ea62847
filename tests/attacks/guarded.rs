//! The guarded ground: ours, with its defaults.

use std::collections::BTreeMap;

use netloft_netns::Netns;
use netloft_network::{Attached, Host, HostOptions};
use netloft_types::{AttachSpec, DefaultRoute, EndpointId, NetworkSpec, Segment};

use crate::ground::{Ground, Reach, Sandbox};
use crate::support::{block_on, mac_of};

/// What one sandbox may make the host remember of its connections, and all usual traffic of a test with it.
pub(crate) const FLOWS_MAX: u32 = 20_000;

pub(crate) struct Guarded {
    netns: Netns,
    host: Host,
    endpoints: BTreeMap<String, EndpointId>,
}

impl Guarded {
    pub(crate) fn new(netns: Netns) -> Self {
        let options = HostOptions { netns: Some(netns.clone()), ..HostOptions::default() };
        Self { netns, host: Host::open(options).unwrap(), endpoints: BTreeMap::new() }
    }
}

impl Ground for Guarded {
    fn host(&self) -> &Netns {
        &self.netns
    }

    fn create_network(&mut self, network: &str, subnets: &[&str], reach: Reach) {
        let segments = subnets.iter().map(|text| Segment::new(text.parse().unwrap()).unwrap());
        let spec = NetworkSpec {
            segments: segments.collect(),
            internal: reach == Reach::Internal,
            ..NetworkSpec::new(network.parse().unwrap())
        };
        block_on(self.host.create_network(spec)).unwrap();
    }

    fn attach(&mut self, network: &str, sandbox: &str, published: &[&str]) -> Sandbox {
        let spec = AttachSpec {
            publish: published.iter().map(|text| text.parse().unwrap()).collect(),
            // Even where it leads nowhere: an attacker would add one.
            default_route: DefaultRoute::Metric(0),
            ..AttachSpec::new(network.parse().unwrap(), sandbox.parse().unwrap())
        };
        let Attached { endpoint, netns, .. } = block_on(self.host.attach(spec)).unwrap();
        self.endpoints.insert(sandbox.to_owned(), endpoint.id);
        Sandbox {
            name: sandbox.to_owned(),
            netns,
            mac: endpoint.mac.bytes(),
            addresses: endpoint.addresses.iter().map(|held| held.address()).collect(),
            gateways: endpoint.gateways,
            gateway_mac: mac_of(&self.netns, &self.bridge(network)),
            host_link: endpoint.host_link.unwrap().to_string(),
        }
    }

    fn detach(&mut self, sandbox: &Sandbox) {
        let id = self.endpoints.remove(&sandbox.name).unwrap();
        block_on(self.host.detach(id)).unwrap();
    }

    fn bridge(&self, network: &str) -> String {
        let networks = block_on(self.host.networks()).unwrap();
        networks.iter().find(|it| it.name.as_str() == network).unwrap().bridge().unwrap().to_string()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let closed = block_on(self.host.close());
        // To panic while a failed test unwinds would end the whole run, and hide which test it was.
        if !std::thread::panicking() {
            closed.unwrap();
        }
    }
}
