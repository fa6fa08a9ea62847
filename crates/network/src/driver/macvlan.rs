//! The macvlan driver: an endpoint is a link in the sandbox that shares a link of the host.
//!
//! Its sandboxes are neighbours of the machines on that link, with a gateway that is one of those machines. The kernel
//! lets the host itself and these links not reach each other, there is no end on the host for the guard to stand at, and
//! nothing is published: whoever is on the link reaches the sandbox directly.

use std::iter;

use netloft_nft::Fact;
use netloft_types::{Driver as Kind, EndpointId, InterfaceName, Network};

use super::{Driver, configure};
use crate::plan::{self, Plan, Step};
use crate::record::EndpointRecord;

pub(super) struct Macvlan;

impl Driver for Macvlan {
    fn plan_network(&self, _network: &Network) -> Plan {
        Plan::default()
    }

    fn network_facts(&self, _network: &Network) -> Vec<Fact> {
        Vec::new()
    }

    fn plan_endpoint(&self, network: &Network, endpoint: &EndpointRecord) -> Plan {
        let Kind::Macvlan { parent } = &network.driver else {
            unreachable!("a network is planned by the driver it is made of");
        };
        let create = Step::CreateMacvlan(plan::Macvlan {
            endpoint: endpoint.id,
            parent: parent.clone(),
            sandbox: endpoint.sandbox.clone(),
            interface: endpoint.interface.clone(),
            mac: endpoint.mac,
            mtu: network.mtu,
        });
        Plan::new(iter::once(create).chain(configure(network, endpoint)))
    }

    fn endpoint_facts(&self, _endpoint: &EndpointRecord) -> Vec<Fact> {
        Vec::new()
    }

    fn host_link(&self, _endpoint: EndpointId) -> Option<InterfaceName> {
        None
    }

    fn cannot(&self, endpoint: &EndpointRecord) -> Option<&'static str> {
        if !endpoint.ports.is_empty() {
            Some("publish ports: its sandboxes are reached at their own addresses")
        } else if endpoint.bandwidth.is_limited() {
            Some("limit bandwidth: its links have no end on the host")
        } else {
            None
        }
    }
}
