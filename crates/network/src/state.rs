//! What this host has, and every change to it. Blocking; owned by one thread.

mod change;
mod claim;
mod doctor;
#[cfg(test)]
mod feature_tests;
mod incidents;
mod networks;
mod ready;
#[cfg(test)]
mod ready_tests;
mod reconcile;
#[cfg(test)]
mod restart_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use netloft_ipam::{Pool, Ports, PortsOptions, Space};
use netloft_nft::Fact;
use netloft_types::{EndpointId, Family, MacAddr, Network, NetworkName, SandboxName, Subnet};
use tokio::sync::mpsc::UnboundedSender;
use tracing::{debug, warn};

pub(crate) use self::change::{Change, Outcome};
pub(crate) use self::networks::CARVED_PREFIX_LEN;
use self::ready::{Refilled, Refills};
use crate::attached::Attached;
use crate::driver;
use crate::error::{Error, chain};
use crate::journal::{Entry, Journal};
use crate::kernel::{Kernel, SandboxNetns};
use crate::plan::{Applied, Leftover};
use crate::record::{EndpointRecord, NetworkRecord, Phase, RestRecord};

/// How long nothing must happen before something is made ahead of need, which takes a millisecond or less: longer than a
/// caller takes for the next of many calls in a row, for which it would be in the way.
const BREATH: Duration = Duration::from_millis(2);

/// How long nothing must happen before we tidy up: long enough not to get in the way of the next of many calls.
const QUIET: Duration = Duration::from_millis(200);

/// How many released addresses the journal remembers when their rest is over, so that whoever comes back gets them again.
const RESTS_MAX: usize = 4_096;

/// How long to wait after tidying up failed, for another try and another line in the log.
const SULK: Duration = Duration::from_secs(10);

/// What a host is to do, beside the kernel it does it with.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    /// What subnets are carved from.
    pub(crate) default_pools: Vec<Subnet>,
    /// What IPv6 subnets are carved from.
    pub(crate) unique_local: Subnet,
    /// How long an address rests after its release.
    pub(crate) rest: Duration,
    /// Whether a host that lets nobody in also keeps published ports to itself.
    pub(crate) respect_firewall: bool,
}

/// The networks and endpoints of a host.
#[expect(clippy::struct_excessive_bools, reason = "each says that something of its own is due")]
pub(crate) struct State {
    kernel: Box<dyn Kernel>,
    journal: Option<Journal>,
    policy: Policy,
    space: Space,
    ports: Ports,
    networks: BTreeMap<NetworkName, NetworkEntry>,
    endpoints: BTreeMap<EndpointId, EndpointEntry>,
    sandboxes: BTreeMap<SandboxName, SandboxEntry>,
    /// The families that the host forwards only because of us.
    forwarded: BTreeSet<Family>,
    /// What rests, oldest first.
    resting: BTreeMap<(u64, NetworkName, IpAddr), RestRecord>,
    /// What nobody will ask us to undo again: calls that failed and could not be unwound.
    debris: Vec<Debris>,
    /// Addresses released since the last reaping.
    released: Vec<IpAddr>,
    refills: Refills,
    /// Whether links were cut since the last reaping.
    is_reaping_due: bool,
    did_tidying_fail: bool,
    is_stock_short: bool,
    is_closed: bool,
    /// Who is told of endpoints that are lost.
    mourners: Vec<UnboundedSender<EndpointId>>,
}

struct NetworkEntry {
    record: NetworkRecord,
    /// One for each segment, in the same order.
    pools: Vec<Pool>,
    macs: BTreeMap<MacAddr, EndpointId>,
    /// Endpoints that are made for whoever comes next, oldest first.
    ready: VecDeque<EndpointRecord>,
    /// What is left of it after it could not be removed wholly.
    left: Option<Applied>,
}

struct EndpointEntry {
    record: EndpointRecord,
    /// What is left of it after it could not be detached wholly.
    left: Option<Applied>,
}

#[derive(Default)]
struct SandboxEntry {
    /// Absent until its namespace is made.
    netns: Option<SandboxNetns>,
    endpoints: BTreeSet<EndpointId>,
    /// Those of them that are in the namespace, or on their way into it or out of it: as long as there is one it stays.
    inside: BTreeSet<EndpointId>,
}

struct Debris {
    made: Applied,
    /// Stays claimed until all is undone, for a device that could not be cut may still answer for its address.
    claimed: Option<EndpointRecord>,
}

impl State {
    pub(crate) fn new(mut kernel: Box<dyn Kernel>, policy: Policy) -> Result<Self, Error> {
        let reserved = kernel.reserved_ports().map_err(Error::Open)?;
        Ok(Self {
            kernel,
            journal: None,
            policy,
            space: Space::default(),
            ports: Ports::new(&PortsOptions { reserved, ..PortsOptions::default() }),
            networks: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            sandboxes: BTreeMap::new(),
            forwarded: BTreeSet::new(),
            resting: BTreeMap::new(),
            debris: Vec::new(),
            released: Vec::new(),
            refills: Refills::default(),
            is_reaping_due: false,
            did_tidying_fail: false,
            is_stock_short: false,
            is_closed: false,
            mourners: Vec::new(),
        })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    pub(crate) fn endpoints(&self) -> Vec<Attached> {
        self.made_endpoints().filter_map(|record| self.attached(record)).collect()
    }

    /// Remembers a note with an endpoint, in place of the one before.
    pub(crate) fn annotate(&mut self, id: EndpointId, note: String) -> Result<(), Error> {
        let made = self.endpoints.get_mut(&id).filter(|entry| entry.record.phase == Phase::Made);
        let entry = made.ok_or(Error::NoSuchEndpoint { endpoint: id })?;
        let record = EndpointRecord { note: Some(note), ..entry.record.clone() };
        if let Some(journal) = &mut self.journal {
            journal.write(vec![Entry::PutEndpoint(Box::new(record.clone()))])?;
        }
        entry.record = record;
        Ok(())
    }

    /// The networks that were made and are not leaving.
    fn made_networks(&self) -> impl Iterator<Item = &Network> {
        let made = self.networks.values().filter(|entry| entry.record.phase == Phase::Made);
        made.map(|entry| &entry.record.network)
    }

    /// The endpoints that were made and are not leaving.
    fn made_endpoints(&self) -> impl Iterator<Item = &EndpointRecord> {
        let made = self.endpoints.values().filter(|entry| entry.record.phase == Phase::Made);
        made.map(|entry| &entry.record)
    }

    /// The network of an endpoint, which is there as long as the endpoint is.
    fn network_of(&self, record: &EndpointRecord) -> &Network {
        &self.networks[&record.network].record.network
    }

    fn attached(&self, record: &EndpointRecord) -> Option<Attached> {
        let network = &self.networks.get(&record.network)?.record.network;
        let netns = self.sandboxes.get(&record.sandbox)?.netns.clone()?;
        Some(Attached {
            endpoint: record.endpoint(network),
            netns: netns.handle,
            netns_path: netns.path,
            note: record.note.clone(),
        })
    }

    /// Detaches an endpoint that nobody took.
    pub(crate) fn discard(&mut self, id: EndpointId) {
        debug!(endpoint = %id, "nobody took it");
        for outcome in self.carry_out(vec![Change::Detach(id)]) {
            if let Outcome::Detached(Err(Error::Detach { source, .. })) = outcome
                && let Some(entry) = self.endpoints.remove(&id)
            {
                self.give_up(Some(&source), Some(entry.record));
            }
        }
    }

    /// Detaches everything and removes every network, going on past errors.
    pub(crate) fn close(&mut self) -> Result<(), Error> {
        let detach = self.endpoints.keys().copied().map(Change::Detach).collect();
        let mut failures: Vec<Error> =
            self.carry_out(detach).into_iter().filter_map(Outcome::into_error).collect();
        failures.extend(self.tidy());
        let networks: Vec<NetworkName> = self.networks.keys().cloned().collect();
        failures.extend(networks.iter().filter_map(|name| self.remove_network(name).err()));
        failures.extend(self.catch_up().err());
        if failures.is_empty() {
            self.is_closed = true;
            Ok(())
        } else {
            Err(Error::Close { failures })
        }
    }

    /// Stops without taking anything away; the next one to open the journal takes over. Without a journal nobody
    /// could, so everything is taken away.
    pub(crate) fn leave(&mut self) -> Result<(), Error> {
        if self.journal.is_none() {
            return self.close();
        }
        self.dissolve_all(|_, _| true);
        self.catch_up()?;
        self.is_closed = true;
        Ok(())
    }

    /// How long nothing must happen before [`State::use_quiet`] is due; `None` if there is nothing to do.
    pub(crate) fn patience(&self) -> Option<Duration> {
        if self.is_stock_short {
            return Some(BREATH);
        }
        self.refill_after().into_iter().chain(self.tidy_after()).min()
    }

    /// Does a piece of what can be done while nobody waits.
    pub(crate) fn use_quiet(&mut self) {
        if self.is_stock_short {
            self.stock_up();
        } else if self.refill() != Refilled::Made {
            // After a failure, too: it comes again as often as that of tidying up, and would always be first.
            self.tidy_or_warn();
        }
    }

    fn stock_up(&mut self) {
        self.is_stock_short = self.kernel.stock_up().unwrap_or_else(|error| {
            // Whoever attaches next makes what is lacking, and gets to hear why if it cannot be made.
            debug!(error = chain(&error), "nothing could be made ahead of need");
            false
        });
    }

    /// How long nothing must happen before [`State::tidy_or_warn`] is due; `None` if there is nothing to tidy up.
    fn tidy_after(&self) -> Option<Duration> {
        let is_behind = self.journal.as_ref().is_some_and(Journal::is_behind);
        let is_tidy = !self.is_reaping_due && self.debris.is_empty() && !is_behind;
        let patience = if self.did_tidying_fail { SULK } else { QUIET };
        (!is_tidy).then_some(patience)
    }

    /// Deletes the links that were cut, and tries again to undo what could not be undone.
    fn tidy_or_warn(&mut self) {
        let failures = self.tidy();
        self.did_tidying_fail = !failures.is_empty();
        for failure in failures {
            warn!(error = chain(&failure), "tidying up failed");
        }
    }

    fn tidy(&mut self) -> Vec<Error> {
        let mut failures = Vec::new();
        for Debris { made, claimed } in mem::take(&mut self.debris) {
            let outcome = made.undo(&mut *self.kernel);
            self.give_up(outcome.as_ref().err(), claimed);
            failures.extend(outcome.map_err(Error::Unwind).err());
        }
        if self.is_reaping_due {
            failures.extend(self.reap().err());
        }
        failures.extend(self.catch_up().err());
        failures
    }

    fn reap(&mut self) -> Result<(), Error> {
        self.kernel.reap(&self.released).map_err(Error::Reap)?;
        self.released.clear();
        self.is_reaping_due = false;
        Ok(())
    }

    /// Writes what was put off.
    fn catch_up(&mut self) -> Result<(), Error> {
        let now = millis(SystemTime::now());
        while self.resting.len() > RESTS_MAX
            && let Some(oldest) = self.resting.first_entry()
            && oldest.key().0 <= now
        {
            let record = oldest.remove();
            self.commit_later([Entry::DeleteRest(record)]);
        }
        match &mut self.journal {
            Some(journal) if journal.is_behind() => Ok(journal.write(Vec::new())?),
            _ => Ok(()),
        }
    }

    /// Writes to the journal, if there is one; when this returns it is on disk.
    fn commit(&mut self, entries: Vec<Entry>) -> Result<(), Error> {
        match &mut self.journal {
            Some(journal) if !entries.is_empty() => Ok(journal.write(entries)?),
            _ => Ok(()),
        }
    }

    /// Writes to the journal, if there is one, with the next transaction.
    fn commit_later(&mut self, entries: impl IntoIterator<Item = Entry>) {
        if let Some(journal) = &mut self.journal {
            journal.write_later(entries);
        }
    }

    /// Forgets something that is undone; keeps what is not, to try again.
    fn give_up(&mut self, left: Option<&Leftover>, claimed: Option<EndpointRecord>) {
        if let Some(left) = left {
            let made = left.remaining();
            self.debris.push(Debris { made, claimed });
        } else if let Some(record) = claimed {
            self.release(&record);
            self.commit_later([Entry::DeleteEndpoint(record.id)]);
        }
    }

    /// Everything that the packet filter has to know.
    fn facts(&self) -> BTreeSet<Fact> {
        let of_networks = self.made_networks().flat_map(|network| driver::of(network).network_facts(network));
        let of_endpoints = self
            .made_endpoints()
            .flat_map(|record| driver::of(self.network_of(record)).endpoint_facts(record));
        // The host forwards only because of us: it is no router between the others.
        let closed = self.forwarded.iter().copied().map(Fact::ClosedToStrangers);
        of_networks.chain(of_endpoints).chain(self.ready_facts()).chain(closed).collect()
    }

    /// Has the packet filter know everything it has to.
    pub(crate) fn establish(&mut self) -> Result<(), Error> {
        let facts = self.facts();
        self.kernel.establish(&facts).map_err(Error::Filter)
    }
}

/// Milliseconds since 1970; a clock before that counts as 1970.
fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
