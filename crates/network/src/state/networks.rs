//! Making and removing networks.

use std::collections::BTreeMap;
use std::mem;

use netloft_ipam::{Gateway, Pool, PoolOptions, Space};
use netloft_types::{EndpointId, InterfaceName, MacAddr, Network, NetworkName, NetworkSpec, Segment, Subnet};
use tracing::{debug, info};

use super::{NetworkEntry, State};
use crate::bridge;
use crate::error::Error;

/// The size of a subnet that nobody chose: 253 endpoints.
pub(crate) const CARVED_PREFIX_LEN: u8 = 24;

impl State {
    pub(crate) fn networks(&self) -> Vec<Network> {
        let entries = self.networks.values();
        entries.map(|entry| entry.network.clone()).collect()
    }

    pub(crate) fn create_network(&mut self, spec: &NetworkSpec) -> Result<Network, Error> {
        let bridge = self.choose_bridge(spec)?;
        // Changed aside and swapped in at the end, so that a failure leaves no trace.
        let mut space = self.space.clone();
        let segments = self.choose_segments(spec, &mut space)?;
        let pools = segments.iter().map(|segment| pool(&spec.name, segment));
        let pools = pools.collect::<Result<_, _>>()?;
        let network = Network {
            name: spec.name.clone(),
            segments,
            mtu: spec.mtu,
            bridge,
            // Random, not derived: it tells the bridge we make from one of the same name, be it our own from before
            // a crash.
            bridge_mac: MacAddr::local(rand::random()),
        };
        let made = match bridge::plan_network(&network).apply(&mut *self.kernel) {
            Ok(made) => made,
            Err(failure) => {
                self.give_up(failure.left.as_ref(), None);
                return Err(Error::CreateNetwork { network: network.name, source: failure });
            }
        };
        info!(networks = self.networks.len() + 1, "network created");
        debug!(network = %network.name, bridge = %network.bridge, "network created");
        self.space = space;
        let entry = NetworkEntry { network: network.clone(), pools, macs: BTreeMap::new(), made };
        self.networks.insert(network.name.clone(), entry);
        self.is_stock_short = true;
        Ok(network)
    }

    pub(crate) fn remove_network(&mut self, name: &NetworkName) -> Result<(), Error> {
        let network = || name.clone();
        let entry = self.networks.get_mut(name).ok_or_else(|| Error::NoSuchNetwork { network: network() })?;
        let endpoints: Vec<EndpointId> = users(entry);
        if !endpoints.is_empty() {
            return Err(Error::NetworkInUse { network: network(), endpoints });
        }
        if let Err(source) = mem::take(&mut entry.made).undo(&mut *self.kernel) {
            entry.made = source.remaining();
            return Err(Error::RemoveNetwork { network: network(), source });
        }
        if let Some(entry) = self.networks.remove(name) {
            for segment in entry.network.segments {
                self.space.release(name, segment.subnet());
            }
        }
        info!(networks = self.networks.len(), "network removed");
        debug!(network = %name, "network removed");
        Ok(())
    }

    fn choose_bridge(&self, spec: &NetworkSpec) -> Result<InterfaceName, Error> {
        if self.networks.contains_key(&spec.name) {
            let network = spec.name.clone();
            return Err(Error::NetworkExists { network });
        }
        let derived = || bridge::bridge_name(&spec.name);
        let bridge = spec.bridge.clone().unwrap_or_else(derived);
        let mut entries = self.networks.values();
        match entries.find(|entry| entry.network.bridge == bridge) {
            Some(entry) => Err(Error::BridgeTaken { bridge, owner: entry.network.name.clone() }),
            None => Ok(bridge),
        }
    }

    fn choose_segments(&mut self, spec: &NetworkSpec, space: &mut Space) -> Result<Vec<Segment>, Error> {
        let refused = |source| Error::Subnet { network: spec.name.clone(), source };
        let foreign = self.foreign_subnets()?;
        if spec.segments.is_empty() {
            let carved = space.carve(spec.name.clone(), &self.default_pools, CARVED_PREFIX_LEN, &foreign);
            let segment = Segment::new(carved.map_err(refused)?);
            return Ok(vec![segment.expect("default pools were checked when the host was opened")]);
        }
        for (index, segment) in spec.segments.iter().enumerate() {
            let subnet = segment.subnet();
            let mut before = spec.segments[..index].iter().map(Segment::subnet);
            if let Some(first) = before.find(|first| first.is_ipv4() == subnet.is_ipv4()) {
                return Err(Error::FamilyTwice { network: spec.name.clone(), first, second: subnet });
            }
            space.reserve(spec.name.clone(), subnet).map_err(refused)?;
            if let Some(&used) = foreign.iter().find(|used| used.overlaps(&subnet)) {
                return Err(Error::SubnetInUse { subnet, used });
            }
        }
        Ok(spec.segments.clone())
    }

    /// What the host uses apart from our networks.
    fn foreign_subnets(&mut self) -> Result<Vec<Subnet>, Error> {
        let mut foreign = self.kernel.subnets_in_use().map_err(Error::ReadHost)?;
        foreign.retain(|used| self.space.in_use().all(|(ours, _)| ours != *used));
        Ok(foreign)
    }
}

fn users(entry: &NetworkEntry) -> Vec<EndpointId> {
    let mut ids: Vec<EndpointId> = entry.macs.values().copied().collect();
    ids.sort_unstable();
    ids
}

fn pool(network: &NetworkName, segment: &Segment) -> Result<Pool, Error> {
    let options = PoolOptions { gateway: Gateway::At(segment.gateway()), ..PoolOptions::default() };
    Pool::new(segment.subnet(), &options).map_err(|source| Error::Subnet { network: network.clone(), source })
}
