//! Endpoints that are kept ready: made whole before anybody asks for them, but for the name of the sandbox.
//!
//! Whoever asks for nothing that is settled when an endpoint is made is given one of these. They are in no journal: a
//! namespace without a name is gone with the process that holds it, its link goes with it, and what is still there of it
//! when the next one begins nobody knows. They are in nobody's way: whoever cannot be served because of one has it taken
//! apart.

use std::collections::BTreeMap;
use std::mem;
use std::ops::Bound;
use std::time::{Duration, Instant};

use netloft_ipam::{Request, Tenant};
use netloft_nft::Fact;
use netloft_types::{
    AttachSpec, DefaultRoute, EndpointId, InterfaceName, Network, NetworkName, ReadyCount, SandboxName,
};
use tracing::debug;

use super::claim::way_out;
use super::{BREATH, NetworkEntry, SULK, State};
use crate::driver::{self, derived_mac};
use crate::error::{Error, chain};
use crate::plan::{Applied, Leftover, Plan, Step};
use crate::record::{EndpointRecord, Phase, tenant};

/// The networks of which less is ready than should be, and when to make more.
#[derive(Debug, Default)]
pub(super) struct Refills {
    due: BTreeMap<NetworkName, Instant>,
    /// The one that got something last: the next one gets something next.
    last: Option<NetworkName>,
}

impl Refills {
    /// Has a network filled up, though not before a failure is forgotten.
    fn want(&mut self, network: &NetworkName) {
        if !self.due.contains_key(network) {
            self.due.insert(network.clone(), Instant::now());
        }
    }

    /// Leaves a network alone, as when it is filled up, or gone.
    pub(super) fn forget(&mut self, network: &NetworkName) {
        self.due.remove(network);
    }

    /// How long until something is due; `None` if nothing is.
    pub(super) fn wait(&self) -> Option<Duration> {
        let next = self.due.values().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// The network whose turn it is.
    fn next(&mut self, now: Instant) -> Option<NetworkName> {
        let is_due = |(_, due): &(&NetworkName, &Instant)| **due <= now;
        let after = self.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let later = self.due.range::<NetworkName, _>((after, Bound::Unbounded)).find(is_due);
        let (network, _) = later.or_else(|| self.due.iter().find(is_due))?;
        self.last = Some(network.clone());
        self.last.clone()
    }
}

impl State {
    /// How many endpoints of a network are ready at the moment.
    pub(crate) fn count_ready(&self, network: &NetworkName) -> Result<usize, Error> {
        let entry = self.networks.get(network);
        entry.map(|entry| entry.ready.len()).ok_or_else(|| Error::NoSuchNetwork { network: network.clone() })
    }

    /// Whether what is asked for is what a ready endpoint has, and there is one. One who was there before gets the address
    /// that it had, which is another.
    pub(super) fn can_use_ready(&self, spec: &AttachSpec) -> bool {
        let tenant = tenant(&spec.sandbox);
        is_plain(spec)
            && !self.sandboxes.contains_key(&spec.sandbox)
            && self.networks.get(&spec.network).is_some_and(|entry| {
                !entry.ready.is_empty() && entry.pools.iter().all(|pool| pool.kept_for(tenant).is_none())
            })
    }

    /// Gives a ready endpoint to a sandbox, with the ports that it publishes; or nothing. There must be one.
    pub(super) fn claim_ready(
        &mut self,
        spec: &AttachSpec,
        note: Option<String>,
    ) -> Result<EndpointId, Error> {
        let entry = &self.networks[&spec.network];
        let mut record = EndpointRecord {
            sandbox: spec.sandbox.clone(),
            dns: spec.dns.clone(),
            note,
            ..entry.ready[0].clone()
        };
        if !spec.publish.is_empty() {
            let network = entry.record.network.clone();
            self.claim_all_ports(&mut record, spec, &network)?;
        }
        let tenant = tenant(&spec.sandbox);
        let entry = self.networks.get_mut(&spec.network).expect("it was there a moment ago");
        entry.ready.pop_front();
        for (pool, held) in entry.pools.iter_mut().zip(&record.addresses) {
            pool.hand_over(record.id, held.address(), tenant);
        }
        self.want_ready(&spec.network);
        Ok(self.enter(record))
    }

    /// How an endpoint is made that was ready, and how much of that was done before.
    pub(super) fn plan_from_ready(&self, record: &EndpointRecord) -> (Plan, usize) {
        let (endpoint, sandbox) = (record.id, record.sandbox.clone());
        let made = self.plan_ready(record);
        let mut rest = vec![Step::NameNetns { endpoint, sandbox }];
        if !record.ports.is_empty() {
            let mut facts = driver::of(self.network_of(record)).endpoint_facts(record);
            facts.retain(|fact| matches!(fact, Fact::Publication(_)));
            rest.push(Step::Admit { facts });
        }
        let done = made.steps().len();
        (made.then(Plan::new(rest)), done)
    }

    /// What the packet filter has to know of what is ready.
    pub(super) fn ready_facts(&self) -> impl Iterator<Item = Fact> {
        self.ready().flat_map(|(network, record)| driver::of(network).endpoint_facts(record))
    }

    /// How everything that is ready was made.
    pub(super) fn ready_plans(&self) -> impl Iterator<Item = Plan> {
        self.ready().map(|(_, record)| self.plan_ready(record))
    }

    pub(super) fn ready_ids(&self) -> impl Iterator<Item = EndpointId> {
        self.ready().map(|(_, record)| record.id)
    }

    pub(super) fn ready(&self) -> impl Iterator<Item = (&Network, &EndpointRecord)> {
        self.networks
            .values()
            .flat_map(|entry| entry.ready.iter().map(move |record| (&entry.record.network, record)))
    }

    /// How a ready endpoint is made.
    fn plan_ready(&self, record: &EndpointRecord) -> Plan {
        let network = self.network_of(record);
        let unnamed = Step::CreateUnnamed { endpoint: record.id };
        Plan::new([unnamed]).then(driver::of(network).plan_endpoint(network, record))
    }

    /// Takes apart the ready endpoint that a claim could not be made for, if it is one; tells whether another try makes
    /// sense.
    pub(super) fn make_way(&mut self, network: &NetworkName, refusal: &Error) -> bool {
        use netloft_ipam::Error as Refused;
        let owner = match refusal {
            Error::Address { source: Refused::Exhausted { .. }, .. } => return self.dissolve_one(network),
            Error::Address { source: Refused::Taken { owner, .. }, .. } | Error::MacTaken { owner, .. } => {
                *owner
            }
            _ => return false,
        };
        self.dissolve(network, |record| record.id == owner)
    }

    /// Takes a ready endpoint of a network apart; tells whether there was one.
    pub(super) fn dissolve_one(&mut self, network: &NetworkName) -> bool {
        let last = self.networks.get_mut(network).and_then(|entry| entry.ready.pop_back());
        self.take_apart(last.into_iter().collect())
    }

    /// Takes the ready endpoints of a network apart that are meant; tells whether there were any.
    pub(super) fn dissolve(
        &mut self,
        network: &NetworkName,
        is_meant: impl Fn(&EndpointRecord) -> bool,
    ) -> bool {
        let Some(entry) = self.networks.get_mut(network) else { return false };
        let (gone, kept): (Vec<_>, Vec<_>) = mem::take(&mut entry.ready).into_iter().partition(is_meant);
        entry.ready = kept.into();
        self.take_apart(gone)
    }

    /// Takes all ready endpoints apart that are meant.
    pub(super) fn dissolve_all(&mut self, is_meant: impl Fn(&Network, &EndpointRecord) -> bool) {
        let keeping = self.networks.values().filter(|entry| !entry.ready.is_empty());
        let networks: Vec<Network> = keeping.map(|entry| entry.record.network.clone()).collect();
        for network in networks {
            self.dissolve(&network.name, |record| is_meant(&network, record));
        }
    }

    /// Takes endpoints apart that nobody had; tells whether there were any.
    fn take_apart(&mut self, records: Vec<EndpointRecord>) -> bool {
        if records.is_empty() {
            return false;
        }
        self.is_reaping_due = true;
        let all = Applied::together(records.iter().map(|record| self.plan_ready(record).applied()));
        let is_done = all.undo(&mut *self.kernel).is_ok();
        for record in records {
            // What is undone already can be undone again, so each is left with what is left of it.
            let again = self.plan_ready(&record).applied();
            let left = if is_done { None } else { again.undo(&mut *self.kernel).err() };
            self.want_ready(&record.network);
            self.forget_ready(record, left.as_ref());
        }
        true
    }

    /// Forgets an endpoint that nobody had. Its addresses need no rest, unless something of it is left.
    fn forget_ready(&mut self, record: EndpointRecord, left: Option<&Leftover>) {
        if left.is_some() {
            self.give_up(left, Some(record));
        } else if let Some(entry) = self.networks.get_mut(&record.network) {
            for (pool, held) in entry.pools.iter_mut().zip(&record.addresses) {
                pool.give_back(record.id, held.address());
            }
            entry.macs.remove(&record.mac);
        }
    }

    /// Has what is short of a network's ready endpoints made when there is time.
    pub(super) fn want_ready(&mut self, network: &NetworkName) {
        let is_kept = |entry: &NetworkEntry| entry.record.network.ready > ReadyCount::NONE;
        if self.networks.get(network).is_some_and(is_kept) {
            self.refills.want(network);
        }
    }

    /// As [`State::want_ready`], and forgets failures: something that may have been in the way is gone.
    pub(super) fn want_ready_at_once(&mut self, network: &NetworkName) {
        self.refills.forget(network);
        self.want_ready(network);
    }

    /// How long nothing must happen before [`State::refill`] is due; `None` if nothing is short.
    pub(super) fn refill_after(&self) -> Option<Duration> {
        self.refills.wait().map(|wait| wait.max(BREATH))
    }

    /// Makes one ready endpoint, of the network whose turn it is.
    pub(super) fn refill(&mut self) -> Refilled {
        let now = Instant::now();
        let Some(name) = self.refills.next(now) else { return Refilled::NotDue };
        if self.is_short(&name)
            && let Err(error) = self.make_ready(&name)
        {
            // Whoever attaches next has an endpoint made, and gets to hear why if that cannot be.
            debug!(network = %name, error = chain(&error), "no endpoint could be made ready");
            self.refills.due.insert(name, now + SULK);
            return Refilled::Failed;
        }
        if !self.is_short(&name) {
            self.refills.forget(&name);
        }
        Refilled::Made
    }

    fn is_short(&self, network: &NetworkName) -> bool {
        self.networks.get(network).is_some_and(|entry| {
            let wanted = entry.record.network.ready.number() as usize;
            entry.record.phase == Phase::Made && entry.ready.len() < wanted
        })
    }

    fn make_ready(&mut self, name: &NetworkName) -> Result<(), Error> {
        let record = self.claim_for_nobody(name)?;
        match self.plan_ready(&record).apply(&mut *self.kernel) {
            Ok(()) => {
                let entry = self.networks.get_mut(name).expect("it was there a moment ago");
                entry.ready.push_back(record);
                Ok(())
            }
            Err(source) => {
                self.is_reaping_due = true;
                let (network, sandbox) = (record.network.clone(), record.sandbox.clone());
                self.forget_ready(record, source.left.as_ref());
                Err(Error::Attach { network, sandbox, source })
            }
        }
    }

    /// Claims what an endpoint needs that asks for nothing in particular; or nothing.
    fn claim_for_nobody(&mut self, name: &NetworkName) -> Result<EndpointRecord, Error> {
        let network = self.networks[name].record.network.clone();
        let spec = AttachSpec::new(name.clone(), nobody());
        let id = self.fresh_id();
        let requests = vec![Request::Rested; network.segments.len()];
        // Nobody comes back for its addresses.
        let addresses = self.claim_addresses(id, Tenant::from_number(id.number()), requests, &spec)?;
        let record = EndpointRecord {
            id,
            network: network.name.clone(),
            sandbox: spec.sandbox,
            netns: None,
            interface: InterfaceName::ethernet(0),
            mac: derived_mac(&network.name, addresses[0].address()),
            addresses,
            gateways: way_out(&network),
            metric: None,
            routes: Vec::new(),
            ports: Vec::new(),
            bandwidth: spec.bandwidth,
            sysctls: spec.sysctls,
            dns: spec.dns,
            phase: Phase::Intended,
            note: None,
        };
        let entry = self.networks.get_mut(name).expect("it was there a moment ago");
        match entry.claim_mac(id, record.mac) {
            Ok(()) => Ok(record),
            Err(error) => {
                for (pool, held) in entry.pools.iter_mut().zip(&record.addresses) {
                    pool.give_back(id, held.address());
                }
                Err(error)
            }
        }
    }
}

/// What came of making something ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refilled {
    NotDue,
    Made,
    Failed,
}

/// What a record says for a sandbox while that is not known. No kernel asks for it.
fn nobody() -> SandboxName {
    "nobody".parse().expect("six letters are a legal name")
}

/// Whether something is asked for that is settled when an endpoint is made. Ports are published and names told later.
fn is_plain(spec: &AttachSpec) -> bool {
    let AttachSpec {
        network: _,
        sandbox: _,
        publish: _,
        dns: _,
        netns,
        interface,
        addresses,
        mac,
        default_route,
        routes,
        bandwidth,
        sysctls,
    } = spec;
    netns.is_none()
        && interface.as_ref().is_none_or(|name| *name == InterfaceName::ethernet(0))
        && addresses.is_empty()
        && mac.is_none()
        && *default_route == DefaultRoute::Auto
        && routes.is_empty()
        && !bandwidth.is_limited()
        && sysctls.is_empty()
}
