//! What an endpoint claims before the kernel hears of it: an id, addresses, ports, an Ethernet address, a place in its
//! sandbox.

use std::net::{IpAddr, Ipv4Addr};
use std::time::SystemTime;

use netloft_ipam::{Request, Rested, Tenant};
use netloft_link::Sysctl;
use netloft_types::{
    AttachSpec, DefaultRoute, EndpointId, InterfaceAddr, InterfaceName, Invalid, MacAddr, Network,
    PublishSpec, PublishedPort, RouteSpec, Segment,
};
use tracing::{debug, warn};

use super::{EndpointEntry, NetworkEntry, State};
use crate::driver::{self, derived_mac, on_link};
use crate::error::Error;
use crate::record::{EndpointRecord, Phase, tenant};

/// How much less a further default route counts than the one before it.
const METRIC_STEP: u32 = 100;

/// What the kernel makes of a route of IPv6 that has no metric, or 0 (`IP6_RT_PRIO_USER`). One of IPv4 has 0 then.
const METRIC_UNSAID: u32 = 1_024;

impl State {
    /// Decides everything about an endpoint and claims it, or claims nothing. What is ready and in the way is taken apart.
    pub(super) fn claim(&mut self, spec: &AttachSpec, note: Option<String>) -> Result<EndpointId, Error> {
        loop {
            match self.try_claim(spec, note.clone()) {
                Err(refusal) if self.make_way(&spec.network, &refusal) => {}
                outcome => return outcome,
            }
        }
    }

    fn try_claim(&mut self, spec: &AttachSpec, note: Option<String>) -> Result<EndpointId, Error> {
        let interface = self.choose_interface(spec)?;
        check_sysctls(spec)?;
        let made = self.networks.get(&spec.network).filter(|entry| entry.record.phase == Phase::Made);
        let Some(entry) = made else {
            return Err(Error::NoSuchNetwork { network: spec.network.clone() });
        };
        let network = entry.record.network.clone();
        // As long as something is ready, no rest is cut short: it has an address that rested.
        let unasked = if entry.ready.is_empty() { Request::Any } else { Request::Rested };
        let requests = requests(&network, &spec.addresses, unasked)?;
        let routes = resolve_routes(&network, &spec.routes)?;
        let (gateways, metric) = self.choose_gateways(&network, spec);
        let id = self.fresh_id();
        let addresses = self.claim_addresses(id, tenant(&spec.sandbox), requests, spec)?;
        let mut record = EndpointRecord {
            id,
            network: network.name.clone(),
            sandbox: spec.sandbox.clone(),
            netns: spec.netns.clone(),
            interface,
            mac: spec.mac.unwrap_or_else(|| derived_mac(&network.name, addresses[0].address())),
            addresses,
            gateways,
            metric,
            routes,
            ports: Vec::new(),
            bandwidth: spec.bandwidth,
            sysctls: spec.sysctls.clone(),
            dns: spec.dns.clone(),
            phase: Phase::Intended,
            note,
        };
        let rest = self.claim_rest(&mut record, spec, &network);
        if let Err(error) = rest {
            self.release_addresses(&record, SystemTime::now());
            return Err(error);
        }
        Ok(self.enter(record))
    }

    /// Knows an endpoint from now on that has everything it claims.
    pub(super) fn enter(&mut self, record: EndpointRecord) -> EndpointId {
        let id = record.id;
        self.sandboxes.entry(record.sandbox.clone()).or_default().endpoints.insert(id);
        self.endpoints.insert(id, EndpointEntry { record, left: None });
        id
    }

    /// Claims what is not an address. Claims nothing if it fails.
    fn claim_rest(
        &mut self,
        record: &mut EndpointRecord,
        spec: &AttachSpec,
        network: &Network,
    ) -> Result<(), Error> {
        self.claim_all_ports(record, spec, network)?;
        self.claim_mac(record).inspect_err(|_| drop(self.ports.release(record.id)))
    }

    /// Claims the ports that are to be published, for an endpoint that the driver can make. Claims nothing if it fails.
    pub(super) fn claim_all_ports(
        &mut self,
        record: &mut EndpointRecord,
        spec: &AttachSpec,
        network: &Network,
    ) -> Result<(), Error> {
        record.ports = self.claim_ports(record.id, network, &spec.publish)?;
        let Some(what) = driver::of(network).cannot(record) else { return Ok(()) };
        self.ports.release(record.id);
        Err(Error::Unsupported { network: network.name.clone(), what })
    }

    /// Gives back what [`State::claim`] claimed; the addresses rest.
    pub(super) fn release(&mut self, record: &EndpointRecord) {
        let now = SystemTime::now();
        self.release_addresses(record, now);
        for rest in self.rests(record, now) {
            self.resting.insert((rest.until, rest.network.clone(), rest.address), rest);
        }
        self.released.extend(record.addresses.iter().map(|held| held.address()));
        if let Some(entry) = self.networks.get_mut(&record.network) {
            entry.macs.remove(&record.mac);
        }
        self.ports.release(record.id);
        if let Some(sandbox) = self.sandboxes.get_mut(&record.sandbox) {
            sandbox.endpoints.remove(&record.id);
            sandbox.inside.remove(&record.id);
            if sandbox.inside.is_empty() {
                sandbox.netns = None;
            }
            if sandbox.endpoints.is_empty() {
                self.sandboxes.remove(&record.sandbox);
            }
        }
    }

    /// An id that differs from every other in the part that names its link.
    pub(super) fn fresh_id(&self) -> EndpointId {
        loop {
            let number: u64 = rand::random();
            let first = EndpointId::from_number(number & !0xffff);
            let last = EndpointId::from_number(number | 0xffff);
            let mut others = self.endpoints.range(first..=last).map(|(id, _)| *id).chain(self.ready_ids());
            if !others.any(|id| (first..=last).contains(&id)) {
                return EndpointId::from_number(number);
            }
        }
    }

    /// The name of the interface in the sandbox. A sandbox has one interface on each network.
    fn choose_interface(&self, spec: &AttachSpec) -> Result<InterfaceName, Error> {
        let present = self.sandboxes.get(&spec.sandbox).into_iter().flat_map(|sandbox| &sandbox.endpoints);
        let present: Vec<&EndpointRecord> = present.map(|id| &self.endpoints[id].record).collect();
        if let Some(other) = present.iter().find(|other| other.network == spec.network) {
            return Err(Error::SandboxAttached {
                sandbox: spec.sandbox.clone(),
                network: other.network.clone(),
                endpoint: other.id,
            });
        }
        if let (Some(path), Some(_)) = (&spec.netns, present.first()) {
            return Err(Error::SandboxKnown { sandbox: spec.sandbox.clone(), netns: path.clone() });
        }
        let is_taken = |name: &InterfaceName| present.iter().any(|other| other.interface == *name);
        match &spec.interface {
            Some(name) if *name == InterfaceName::loopback() || is_taken(name) => {
                Err(Error::InterfaceTaken { interface: name.clone() })
            }
            Some(name) => Ok(name.clone()),
            None => {
                let mut names = (0..=present.len()).map(InterfaceName::ethernet);
                Ok(names.find(|name| !is_taken(name)).expect("there is one name more than interfaces"))
            }
        }
    }

    /// The next hops of the default routes, and their metric.
    fn choose_gateways(&self, network: &Network, spec: &AttachSpec) -> (Vec<IpAddr>, Option<u32>) {
        match spec.default_route {
            DefaultRoute::Never => (Vec::new(), None),
            DefaultRoute::Metric(metric) => (gateways(network), Some(metric)),
            DefaultRoute::Auto if network.internal => (way_out(network), None),
            DefaultRoute::Auto => {
                let sandbox = self.sandboxes.get(&spec.sandbox);
                let others = sandbox.into_iter().flat_map(|sandbox| &sandbox.endpoints);
                let metrics = others.filter_map(|id| {
                    let record = &self.endpoints[id].record;
                    let metric = record.metric.filter(|metric| *metric > 0).unwrap_or(METRIC_UNSAID);
                    (!record.gateways.is_empty()).then_some(metric)
                });
                (way_out(network), metrics.max().map(|highest| highest.saturating_add(METRIC_STEP)))
            }
        }
    }

    /// Claims an address of each segment, or none.
    pub(super) fn claim_addresses(
        &mut self,
        id: EndpointId,
        tenant: Tenant,
        requests: Vec<Request>,
        spec: &AttachSpec,
    ) -> Result<Vec<InterfaceAddr>, Error> {
        let now = SystemTime::now();
        let entry = self.networks.get_mut(&spec.network).expect("the caller looked it up");
        let network = &entry.record.network;
        let (mut claimed, mut hurried) = (Vec::with_capacity(requests.len()), Vec::new());
        for (index, request) in requests.into_iter().enumerate() {
            match entry.pools[index].allocate(id, tenant, request, now) {
                Ok(allocated) => {
                    if allocated.rested != Rested::Fully {
                        hurried.push(allocated.address);
                    }
                    claimed.push(on_link(allocated.address, &network.segments[index]));
                }
                Err(source) => {
                    let (network, sandbox) = (spec.network.clone(), spec.sandbox.clone());
                    for (pool, held) in entry.pools.iter_mut().zip(&claimed) {
                        pool.release(id, held.address(), now);
                    }
                    return Err(Error::Address { network, sandbox, source });
                }
            }
        }
        self.forget_connections(&hurried);
        Ok(claimed)
    }

    /// Connections of the one who had an address before must not reach the one who has it now.
    fn forget_connections(&mut self, addresses: &[IpAddr]) {
        if addresses.is_empty() {
            return;
        }
        let count = addresses.len();
        warn!(count, "the pool is exhausted: addresses were given again before their rest was over");
        debug!(?addresses, "these");
        if let Err(error) = self.kernel.forget_connections(addresses) {
            warn!(error = crate::error::chain(&error), "connections to these addresses may be left");
        }
    }

    fn release_addresses(&mut self, record: &EndpointRecord, now: SystemTime) {
        if let Some(entry) = self.networks.get_mut(&record.network) {
            for (pool, held) in entry.pools.iter_mut().zip(&record.addresses) {
                pool.release(record.id, held.address(), now);
            }
        }
    }

    fn claim_ports(
        &mut self,
        id: EndpointId,
        network: &Network,
        specs: &[PublishSpec],
    ) -> Result<Vec<PublishedPort>, Error> {
        if specs.is_empty() {
            return Ok(Vec::new());
        }
        let keeps_to_itself =
            self.policy.respect_firewall && !self.kernel.default_deny().map_err(Error::ReadHost)?.is_empty();
        let mut claimed = Vec::with_capacity(specs.len());
        for spec in specs {
            let mut spec = *spec;
            if keeps_to_itself && spec.address.is_none() {
                if network.segments.iter().all(|segment| !segment.subnet().is_ipv4()) {
                    self.ports.release(id);
                    let what = "publish at no address in particular while the host's firewall lets nobody in: it would \
                                answer at 127.0.0.1, and has no IPv4; name an address of the host";
                    return Err(Error::Unsupported { network: network.name.clone(), what });
                }
                spec.address = Some(Ipv4Addr::LOCALHOST.into());
            }
            let kernel = &mut self.kernel;
            let is_busy = |protocol, address, port| kernel.is_port_busy(protocol, address, port);
            match self.ports.claim(id, spec, is_busy) {
                Ok(port) => claimed.push(port),
                Err(source) => {
                    self.ports.release(id);
                    return Err(Error::Port { spec, source });
                }
            }
        }
        Ok(claimed)
    }

    fn claim_mac(&mut self, record: &EndpointRecord) -> Result<(), Error> {
        let entry = self.networks.get_mut(&record.network).expect("the caller looked it up");
        entry.claim_mac(record.id, record.mac)
    }
}

impl NetworkEntry {
    pub(super) fn claim_mac(&mut self, id: EndpointId, mac: MacAddr) -> Result<(), Error> {
        if let Some(owner) = self.macs.get(&mac) {
            let network = self.record.network.name.clone();
            return Err(Error::MacTaken { mac, network, owner: *owner });
        }
        self.macs.insert(mac, id);
        Ok(())
    }
}

/// The next hops of the default routes of a sandbox that chooses none.
pub(super) fn way_out(network: &Network) -> Vec<IpAddr> {
    // What leads nowhere is better not begun.
    if network.internal { Vec::new() } else { gateways(network) }
}

fn gateways(network: &Network) -> Vec<IpAddr> {
    network.segments.iter().map(Segment::gateway).collect()
}

/// What to ask of the pool of each segment.
fn requests(network: &Network, wanted: &[IpAddr], unasked: Request) -> Result<Vec<Request>, Error> {
    let mut requests = vec![unasked; network.segments.len()];
    for &address in wanted {
        let is_of = |segment: &Segment| segment.subnet().contains(address);
        let Some(index) = network.segments.iter().position(is_of) else {
            return Err(Error::AddressOutside {
                address,
                network: network.name.clone(),
                subnets: network.segments.iter().map(Segment::subnet).collect(),
            });
        };
        if let Request::Exact(first) = requests[index] {
            return Err(Error::SubnetTwice {
                subnet: network.segments[index].subnet(),
                first,
                second: address,
            });
        }
        requests[index] = Request::Exact(address);
    }
    Ok(requests)
}

/// Gives every route a next hop.
fn resolve_routes(network: &Network, routes: &[RouteSpec]) -> Result<Vec<RouteSpec>, Error> {
    let resolve = |route: &RouteSpec| {
        let refuse = |rule| Error::Invalid(Invalid::new("route", route, rule));
        let is_family = |segment: &&Segment| segment.subnet().is_ipv4() == route.destination.is_ipv4();
        let segment = network.segments.iter().find(is_family);
        let segment = segment.ok_or_else(|| refuse("is of a family that the network has no subnet of"))?;
        let via = route.via.unwrap_or_else(|| segment.gateway());
        if !segment.subnet().contains(via) {
            return Err(refuse("must have a next hop in the subnet of the network"));
        }
        Ok(RouteSpec { via: Some(via), ..*route })
    };
    routes.iter().map(resolve).collect()
}

/// Only what belongs to a network namespace, and no way out of that tree.
fn check_sysctls(spec: &AttachSpec) -> Result<(), Error> {
    for (key, value) in &spec.sysctls {
        if Sysctl::new(key, value).is_err() {
            let rule = "must be a setting below net., such as net.ipv4.tcp_keepalive_time";
            return Err(Error::Invalid(Invalid::new("sysctl", key, rule)));
        }
    }
    Ok(())
}
