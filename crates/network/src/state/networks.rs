//! Making and removing networks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::net::IpAddr;

use netloft_ipam::{Gateway, Pool, PoolOptions, Space};
use netloft_types::{
    Driver as Kind, DriverSpec, EndpointId, Family, InterfaceName, MacAddr, Network, NetworkName,
    NetworkSpec, ReadyCount, Segment, Subnet,
};
use tracing::{debug, info, warn};

use super::{NetworkEntry, State};
use crate::driver;
use crate::error::{Error, chain};
use crate::journal::Entry;
use crate::kernel::HostFacts;
use crate::plan::Applied;
use crate::record::{NetworkRecord, Phase};

/// The size of an IPv4 subnet that nobody chose: 253 endpoints.
pub(crate) const CARVED_PREFIX_LEN: u8 = 24;

/// The size of an IPv6 subnet (RFC 4291, section 2.5.4).
const CARVED_PREFIX_LEN_V6: u8 = 64;

impl State {
    pub(crate) fn networks(&self) -> Vec<Network> {
        self.made_networks().cloned().collect()
    }

    pub(crate) fn create_network(&mut self, spec: &NetworkSpec) -> Result<Network, Error> {
        let host = self.kernel.host().map_err(Error::ReadHost)?;
        let driver = self.choose_driver(spec)?;
        if spec.ready > ReadyCount::NONE && !matches!(driver, Kind::Bridge { .. }) {
            let what = "keep endpoints ready: only a bridge knows which addresses are free";
            return Err(Error::Unsupported { network: spec.name.clone(), what });
        }
        // Changed aside and swapped in at the end, so that a failure leaves no trace.
        let mut space = self.space.clone();
        let network = Network {
            name: spec.name.clone(),
            segments: self.choose_segments(spec, &driver, &host, &mut space)?,
            driver,
            mtu: spec.mtu.or(host.outgoing_mtu),
            internal: spec.internal,
            host_access: spec.host_access,
            ready: spec.ready,
        };
        let pools = self.pools(&network, &host)?;
        let switched_on = Self::to_switch_on(&network, &host);
        let mut record = NetworkRecord { network, phase: Phase::Intended };
        let mut entries = vec![Entry::PutNetwork(record.clone())];
        entries.extend(switched_on.iter().map(|family| Entry::Forwarding(*family, true)));
        if let Err(error) = self.commit(entries) {
            // A write that failed may be on disk all the same.
            self.commit_later([Entry::DeleteNetwork(spec.name.clone())]);
            self.commit_later(switched_on.iter().map(|family| Entry::Forwarding(*family, false)));
            return Err(error);
        }
        self.forwarded.extend(&switched_on);
        let made = self.make_network(&record.network, &switched_on);
        record.phase = Phase::Made;
        let made = made.and_then(|()| {
            let written = self.commit(vec![Entry::PutNetwork(record.clone())]);
            written.inspect_err(|_| self.unmake(&record.network))
        });
        if let Err(error) = made {
            self.commit_later([Entry::DeleteNetwork(spec.name.clone())]);
            self.switch_off_if_unused();
            return Err(error);
        }
        let network = record.network.clone();
        info!(networks = self.networks.len() + 1, "network created");
        debug!(network = %network.name, "network created");
        self.space = space;
        let entry = NetworkEntry { record, pools, macs: BTreeMap::new(), ready: VecDeque::new(), left: None };
        self.networks.insert(network.name.clone(), entry);
        self.is_stock_short = true;
        self.want_ready(&network.name);
        Ok(network)
    }

    pub(crate) fn remove_network(&mut self, name: &NetworkName) -> Result<(), Error> {
        let network = || name.clone();
        let entry = self.networks.get(name).ok_or_else(|| Error::NoSuchNetwork { network: network() })?;
        let endpoints: Vec<EndpointId> = users(entry);
        if !endpoints.is_empty() {
            return Err(Error::NetworkInUse { network: network(), endpoints });
        }
        self.dissolve(name, |_| true);
        let entry = self.networks.get_mut(name).ok_or_else(|| Error::NoSuchNetwork { network: network() })?;
        let record = NetworkRecord { phase: Phase::Leaving, ..entry.record.clone() };
        // Whoever finds it half removed after a crash has to know that it was to go; else it would be made anew.
        let kept = mem::replace(&mut entry.record, record.clone());
        let left = entry.left.take();
        if let Err(error) = self.commit(vec![Entry::PutNetwork(record.clone())]) {
            return Err(self.keep(kept, left, error));
        }
        let made =
            left.unwrap_or_else(|| driver::of(&record.network).plan_network(&record.network).applied());
        let outcome = made.undo(&mut *self.kernel);
        if let Err(source) = outcome {
            if let Some(entry) = self.networks.get_mut(name) {
                entry.left = Some(source.remaining());
            }
            return Err(Error::RemoveNetwork { network: network(), source });
        }
        if let Some(entry) = self.networks.remove(name) {
            for segment in entry.record.network.segments {
                self.space.release(name, segment.subnet());
            }
        }
        self.refills.forget(name);
        self.commit_later([Entry::DeleteNetwork(network())]);
        self.wake(name);
        self.switch_off_if_unused();
        info!(networks = self.networks.len(), "network removed");
        debug!(network = %name, "network removed");
        Ok(())
    }

    /// Forgets what rests of a network that is gone: its addresses are another's when it is made again.
    fn wake(&mut self, network: &NetworkName) {
        let (gone, resting) =
            mem::take(&mut self.resting).into_iter().partition(|(key, _)| key.1 == *network);
        self.resting = resting;
        let gone: BTreeMap<_, _> = gone;
        self.commit_later(gone.into_values().map(Entry::DeleteRest));
    }

    /// Keeps a network whose removal could not be written down; answers why it could not.
    fn keep(&mut self, record: NetworkRecord, left: Option<Applied>, error: Error) -> Error {
        // A write that failed may be on disk all the same.
        self.commit_later([Entry::PutNetwork(record.clone())]);
        if let Some(entry) = self.networks.get_mut(&record.network.name) {
            entry.record = record;
            entry.left = left;
        }
        error
    }

    /// Makes what a network consists of, or nothing.
    fn make_network(&mut self, network: &Network, switched_on: &[Family]) -> Result<(), Error> {
        if self.networks.is_empty() || !switched_on.is_empty() {
            self.establish()?;
        }
        if let Err(source) = driver::of(network).plan_network(network).apply(&mut *self.kernel) {
            self.give_up(source.left.as_ref(), None);
            return Err(Error::CreateNetwork { network: network.name.clone(), source });
        }
        for &family in switched_on {
            if let Err(source) = self.kernel.forward(family, true) {
                self.unmake(network);
                return Err(Error::Forward { family, source });
            }
        }
        Ok(())
    }

    fn unmake(&mut self, network: &Network) {
        let made = driver::of(network).plan_network(network).applied();
        let left = made.undo(&mut *self.kernel).err();
        self.give_up(left.as_ref(), None);
    }

    /// The families that the host has to forward for a network and does not.
    fn to_switch_on(network: &Network, host: &HostFacts) -> Vec<Family> {
        let is_needed = network.bridge().is_some() && !network.internal;
        let families = network.segments.iter().map(|segment| family(segment.subnet()));
        families.filter(|family| is_needed && !host.forwards.contains(family)).collect()
    }

    /// Has the host forward no longer what it forwards only because of us, once no network needs it; and takes the
    /// packet filter away with the last network.
    pub(super) fn switch_off_if_unused(&mut self) {
        let needing =
            |entry: &&NetworkEntry| entry.record.network.bridge().is_some() && !entry.record.network.internal;
        let needed: Vec<Family> = self.networks.values().filter(needing).flat_map(families).collect();
        let idle: Vec<Family> =
            self.forwarded.iter().copied().filter(|family| !needed.contains(family)).collect();
        for family in idle {
            match self.kernel.forward(family, false) {
                Ok(()) => {
                    self.forwarded.remove(&family);
                    self.commit_later([Entry::Forwarding(family, false)]);
                }
                Err(error) => warn!(%family, error = chain(&error), "the host goes on forwarding"),
            }
        }
        if self.networks.is_empty()
            && let Err(error) = self.kernel.dismantle()
        {
            warn!(error = chain(&error), "the packet filter could not be taken away");
        }
    }

    fn choose_driver(&mut self, spec: &NetworkSpec) -> Result<Kind, Error> {
        if self.networks.contains_key(&spec.name) {
            let network = spec.name.clone();
            return Err(Error::NetworkExists { network });
        }
        match &spec.driver {
            DriverSpec::Macvlan { .. } if spec.segments.is_empty() => {
                Err(Error::SubnetNeeded { network: spec.name.clone() })
            }
            DriverSpec::Macvlan { parent } if self.kernel.is_link(parent).map_err(Error::ReadHost)? => {
                Ok(Kind::Macvlan { parent: parent.clone() })
            }
            DriverSpec::Macvlan { parent } => {
                Err(Error::NoSuchLink { network: spec.name.clone(), link: parent.clone() })
            }
            DriverSpec::Bridge { bridge } => {
                let bridge = bridge.clone().unwrap_or_else(|| driver::bridge_name(&spec.name));
                self.check_bridge(&bridge)?;
                // Random, not derived: it tells the bridge we make from one of the same name, be it our own from
                // before a crash.
                Ok(Kind::Bridge { bridge, mac: MacAddr::local(rand::random()) })
            }
            _ => Err(Error::Unsupported { network: spec.name.clone(), what: "be made of that" }),
        }
    }

    fn check_bridge(&self, bridge: &InterfaceName) -> Result<(), Error> {
        let mut entries = self.networks.values();
        match entries.find(|entry| entry.record.network.bridge() == Some(bridge)) {
            Some(entry) => {
                let owner = entry.record.network.name.clone();
                Err(Error::BridgeTaken { bridge: bridge.clone(), owner })
            }
            None => Ok(()),
        }
    }

    fn choose_segments(
        &self,
        spec: &NetworkSpec,
        driver: &Kind,
        host: &HostFacts,
        space: &mut Space,
    ) -> Result<Vec<Segment>, Error> {
        let refused = |source| Error::Subnet { network: spec.name.clone(), source };
        let mut foreign = host.subnets.clone();
        foreign.retain(|used| self.space.in_use().all(|(ours, _)| ours != *used));
        let mut segments = Vec::new();
        for &segment in &spec.segments {
            let subnet = segment.subnet();
            let mut before = segments.iter().map(Segment::subnet);
            if let Some(first) = before.find(|first| first.is_ipv4() == subnet.is_ipv4()) {
                return Err(Error::FamilyTwice { network: spec.name.clone(), first, second: subnet });
            }
            space.reserve(spec.name.clone(), subnet).map_err(refused)?;
            // The subnet of a macvlan network is that of the link it shares: the host is in it by design.
            let is_shared = matches!(driver, Kind::Macvlan { .. });
            if !is_shared && let Some(&used) = foreign.iter().find(|used| used.overlaps(&subnet)) {
                return Err(Error::SubnetInUse { subnet, used });
            }
            segments.push(segment);
        }
        let mut carve = |ranges: &[Subnet], prefix_len| -> Result<Segment, Error> {
            let subnet = space.carve(spec.name.clone(), ranges, prefix_len, &foreign).map_err(refused)?;
            Ok(Segment::new(subnet).expect("what is carved from was checked when the host was opened"))
        };
        if segments.is_empty() {
            segments.push(carve(&self.policy.default_pools, CARVED_PREFIX_LEN)?);
        }
        if spec.ipv6 && segments.iter().all(|segment| segment.subnet().is_ipv4()) {
            segments.push(carve(&[self.policy.unique_local], CARVED_PREFIX_LEN_V6)?);
        }
        Ok(segments)
    }

    /// Pools of which nothing is held, one for each segment. What the host has itself is not given: it is in the subnet of
    /// a macvlan network by design.
    pub(super) fn pools(&self, network: &Network, host: &HostFacts) -> Result<Vec<Pool>, Error> {
        let pool = |segment: &Segment| {
            let gateway = Gateway::At(segment.gateway());
            let is_in =
                |address: &IpAddr| segment.subnet().contains(*address) && *address != segment.gateway();
            let reserved = host.addresses.iter().copied().filter(is_in).collect();
            let options = PoolOptions { gateway, reserved, rest: self.policy.rest, ..PoolOptions::default() };
            let refused = |source| Error::Subnet { network: network.name.clone(), source };
            Pool::new(segment.subnet(), &options).map_err(refused)
        };
        network.segments.iter().map(pool).collect()
    }
}

/// Who is attached to a network; not those that nobody has yet.
fn users(entry: &NetworkEntry) -> Vec<EndpointId> {
    let ready: BTreeSet<EndpointId> = entry.ready.iter().map(|record| record.id).collect();
    let ids: BTreeSet<EndpointId> = entry.macs.values().copied().collect();
    ids.difference(&ready).copied().collect()
}

fn families(entry: &NetworkEntry) -> impl Iterator<Item = Family> {
    entry.record.network.segments.iter().map(|segment| family(segment.subnet()))
}

fn family(subnet: Subnet) -> Family {
    Family::of(subnet.first())
}
