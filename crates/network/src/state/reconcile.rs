//! Taking over what an earlier process left: journal against kernel.
//!
//! What was made whole and is still there goes on as if nothing had happened; its traffic never stopped. What was on its
//! way, in or out, is taken away, for nobody was told that it was there. What says it is ours and is in no journal is
//! taken away too. What is not ours is not looked at.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use netloft_ipam::{Allocation, Released, Tenant};
use netloft_types::{Network, NetworkName, Segment};
use tracing::{info, warn};

use super::{EndpointEntry, NetworkEntry, State, millis};
use crate::driver;
use crate::error::{Error, chain};
use crate::journal::{Contents, Entry, Journal};
use crate::kernel::{HostFacts, Stray, Survey};
use crate::plan::Plan;
use crate::record::{EndpointRecord, NetworkRecord, Phase, RestRecord, tenant};

impl State {
    /// Takes over what the journal names.
    pub(crate) fn take_over(&mut self, journal: Journal, contents: Contents) -> Result<(), Error> {
        self.journal = Some(journal);
        self.forwarded = contents.forwarding.into_iter().collect();
        let survey = self.kernel.survey().map_err(Error::ReadHost)?;
        let host = self.kernel.host().map_err(Error::ReadHost)?;
        for record in contents.networks {
            self.restore_network(record, &host)?;
        }
        for rest in contents.rests {
            self.restore_rest(rest);
        }
        let missing = self.adopt_networks(&survey)?;
        let (mut kept, mut lost) = (0_u32, 0_u32);
        let mut going = Vec::new();
        for record in contents.endpoints {
            if record.phase == Phase::Made && self.restore_endpoint(&record, &survey)? {
                kept += 1;
            } else {
                lost += u32::from(record.phase == Phase::Made);
                going.push(record);
            }
        }
        // Before anything is taken away, so that what stays is guarded as it was, or sooner.
        self.establish()?;
        self.remake_networks(&missing)?;
        let has_buried = !going.is_empty();
        for record in going {
            self.bury(record);
        }
        if has_buried {
            // Whoever is buried may have had a port that somebody has now.
            self.establish()?;
        }
        self.bury_networks();
        self.discard_strays(contents.is_new)?;
        self.forget_who_rests();
        self.is_reaping_due = true;
        self.is_stock_short = !self.networks.is_empty();
        let names: Vec<NetworkName> = self.networks.keys().cloned().collect();
        for name in &names {
            self.want_ready(name);
        }
        info!(networks = self.networks.len(), kept, lost, "taken over");
        if let Err(error) = self.reap() {
            warn!(error = chain(&error), "deleting links failed");
        }
        self.switch_off_if_unused();
        self.catch_up()
    }

    /// Takes away what nobody knows. Not beside a journal that is new: then it may be that the journal was lost, and what
    /// it knew of still serves.
    fn discard_strays(&mut self, is_journal_new: bool) -> Result<(), Error> {
        for stray in self.strays()? {
            if is_journal_new {
                warn!(%stray, "nobody knows it: the journal is new. If the old one is lost, netloft gc takes it away");
            } else {
                info!(%stray, "taking away what nobody knows");
                self.kernel.discard(&stray).map_err(Error::ReadHost)?;
            }
        }
        Ok(())
    }

    /// Has the connections forgotten of addresses that rest: who released them may have died before it came to that.
    fn forget_who_rests(&mut self) {
        let endpoints = self.endpoints.values();
        let held: BTreeSet<IpAddr> =
            endpoints.flat_map(|entry| entry.record.addresses.iter().map(|it| it.address())).collect();
        let now = millis(SystemTime::now());
        let resting = self.resting.keys().filter(|(until, ..)| *until > now).map(|(_, _, address)| *address);
        self.released.extend(resting.filter(|address| !held.contains(address)));
    }

    /// What says it is ours and nobody knows.
    pub(crate) fn strays(&mut self) -> Result<Vec<Stray>, Error> {
        let survey = self.kernel.survey().map_err(Error::ReadHost)?;
        Ok(self.strays_in(survey))
    }

    /// What of a survey says it is ours and nobody knows.
    pub(super) fn strays_in(&self, survey: Survey) -> Vec<Stray> {
        let mut known: BTreeSet<Stray> = BTreeSet::new();
        let networks = self.networks.values().map(|entry| &entry.record.network);
        let plans = networks.map(|network| driver::of(network).plan_network(network));
        let endpoints = self.endpoints.values().map(|entry| {
            let network = self.network_of(&entry.record);
            driver::of(network).plan_endpoint(network, &entry.record)
        });
        for plan in plans.chain(endpoints).chain(self.ready_plans()) {
            known.extend(plan.steps().iter().filter_map(crate::plan::Step::makes));
        }
        known.extend(self.sandboxes.keys().cloned().map(Stray::Sandbox));
        let links = survey.links.into_iter().filter(|link| !link.is_cut);
        let links = links.map(|link| Stray::Link { name: link.name, mac: link.mac });
        let sandboxes = survey.sandboxes.into_iter().map(Stray::Sandbox);
        let rules = survey.prohibitions.into_iter().map(Stray::Prohibition);
        links.chain(sandboxes).chain(rules).filter(|stray| !known.contains(stray)).collect()
    }

    /// Takes away what says it is ours and nobody knows; tells what it was.
    pub(crate) fn collect_garbage(&mut self, dry_run: bool) -> Result<Vec<Stray>, Error> {
        let strays = self.strays()?;
        if !dry_run {
            for stray in &strays {
                self.kernel.discard(stray).map_err(Error::Reap)?;
            }
            self.is_reaping_due |= !strays.is_empty();
        }
        Ok(strays)
    }

    fn restore_network(&mut self, record: NetworkRecord, host: &HostFacts) -> Result<(), Error> {
        let name = record.network.name.clone();
        for subnet in record.network.segments.iter().map(Segment::subnet) {
            let refused = |source| Error::Subnet { network: name.clone(), source };
            self.space.reserve(name.clone(), subnet).map_err(refused)?;
        }
        let pools = self.pools(&record.network, host)?;
        let entry = NetworkEntry { record, pools, macs: BTreeMap::new(), ready: VecDeque::new(), left: None };
        self.networks.insert(name, entry);
        Ok(())
    }

    fn restore_rest(&mut self, rest: RestRecord) {
        let now = SystemTime::now();
        let released = Released {
            address: rest.address,
            tenant: Tenant::from_number(rest.tenant),
            rest_until: SystemTime::UNIX_EPOCH + Duration::from_millis(rest.until),
        };
        let network = self.networks.get_mut(&rest.network);
        let pools = network.into_iter().flat_map(|entry| &mut entry.pools);
        for pool in pools.filter(|pool| pool.subnet().contains(rest.address)) {
            // Fails only if the network is not the one that it was; then nobody is to be kept from the address.
            if let Err(error) = pool.restore_released(released, now) {
                warn!(address = %rest.address, error = chain(&error), "an address does not rest");
            }
        }
        // One whose time is over is taken out of the journal by the next tidying up.
        self.resting.insert(
            (rest.until.min(millis(now + self.policy.rest)), rest.network.clone(), rest.address),
            rest,
        );
    }

    /// Takes an endpoint over if all of it is there; tells whether.
    fn restore_endpoint(&mut self, record: &EndpointRecord, survey: &Survey) -> Result<bool, Error> {
        let Some(entry) = self.networks.get(&record.network) else { return Ok(false) };
        let network = &entry.record.network;
        let plan = driver::of(network).plan_endpoint(network, record);
        let is_first = !self.sandboxes.contains_key(&record.sandbox);
        let is_there =
            (!is_first || self.adopt(&driver::plan_sandbox(record), survey)?) && self.adopt(&plan, survey)?;
        if !is_there || !self.reclaim(record) {
            return Ok(false);
        }
        let netns = self.kernel.sandbox(&record.sandbox).map_err(Error::ReadHost)?;
        let sandbox = self.sandboxes.entry(record.sandbox.clone()).or_default();
        sandbox.netns = Some(netns);
        sandbox.endpoints.insert(record.id);
        sandbox.inside.insert(record.id);
        self.endpoints.insert(record.id, EndpointEntry { record: record.clone(), left: None });
        Ok(true)
    }

    fn adopt(&mut self, plan: &Plan, survey: &Survey) -> Result<bool, Error> {
        for step in plan.steps() {
            if !self.kernel.adopt(step, survey).map_err(Error::ReadHost)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Claims what an endpoint had. Fails only if the journal contradicts itself.
    fn reclaim(&mut self, record: &EndpointRecord) -> bool {
        let tenant = tenant(&record.sandbox);
        let Some(entry) = self.networks.get_mut(&record.network) else { return false };
        let mut pools = entry.pools.iter_mut().zip(&record.addresses);
        let is_held = pools.all(|(pool, held)| {
            pool.restore(Allocation { address: held.address(), owner: record.id, tenant }).is_ok()
        });
        is_held
            && entry.claim_mac(record.id, record.mac).is_ok()
            && record.ports.iter().all(|port| self.ports.restore(record.id, *port).is_ok())
    }

    /// Takes over the networks that are there, and tells which are not, as after the machine was started again.
    fn adopt_networks(&mut self, survey: &Survey) -> Result<Vec<Network>, Error> {
        let mut missing = Vec::new();
        for network in self.networks() {
            if !self.adopt(&driver::of(&network).plan_network(&network), survey)? {
                missing.push(network);
            }
        }
        Ok(missing)
    }

    /// Makes networks anew.
    fn remake_networks(&mut self, missing: &[Network]) -> Result<(), Error> {
        for network in missing {
            info!(network = %network.name, "making it anew");
            let plan = driver::of(network).plan_network(network);
            // What is left of it goes first, so that nothing of it is in the way.
            let left = plan.applied().undo(&mut *self.kernel).err();
            self.give_up(left.as_ref(), None);
            let made = plan.apply(&mut *self.kernel);
            made.map_err(|source| Error::CreateNetwork { network: network.name.clone(), source })?;
        }
        for family in self.forwarded.clone() {
            self.kernel.forward(family, true).map_err(|source| Error::Forward { family, source })?;
        }
        Ok(())
    }

    /// Takes away what is left of an endpoint that is not to be, or is no more.
    fn bury(&mut self, record: EndpointRecord) {
        if !self.networks.contains_key(&record.network) {
            self.commit_later([Entry::DeleteEndpoint(record.id)]);
            return;
        }
        let left = self.plan(&record).applied().undo(&mut *self.kernel).err();
        let now = SystemTime::now();
        let rests = self.rests(&record, now);
        for rest in &rests {
            self.restore_rest(rest.clone());
        }
        self.commit_later(rests.into_iter().map(Entry::PutRest));
        self.released.extend(record.addresses.iter().map(|held| held.address()));
        match left {
            Some(left) => self.give_up(Some(&left), None),
            None => self.commit_later([Entry::DeleteEndpoint(record.id)]),
        }
    }

    /// Takes away networks that are not to be.
    fn bury_networks(&mut self) {
        let unmade = self.networks.values().filter(|entry| entry.record.phase != Phase::Made);
        let names: Vec<_> = unmade.map(|entry| entry.record.network.name.clone()).collect();
        for name in names {
            if let Err(error) = self.remove_network(&name) {
                warn!(network = %name, error = chain(&error), "cannot take away what is left of it");
            }
        }
    }
}
