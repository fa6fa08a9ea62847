//! What this host has, and every change to it. Blocking; owned by one thread.

mod claim;
mod networks;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::mem;
use std::time::Duration;

use netloft_ipam::{Pool, Space};
use netloft_types::{AttachSpec, EndpointId, MacAddr, Network, NetworkName, SandboxName, Subnet};
use tracing::{debug, info, warn};

use crate::attached::Attached;
use crate::bridge::{self, Decided};
use crate::error::{Error, chain};
use crate::kernel::{Kernel, SandboxNetns};
use crate::plan::{Applied, Failure, Leftover, Plan, Step};
pub(crate) use networks::CARVED_PREFIX_LEN;

/// Links that may wait to be deleted before a detach waits for it: the 20 ms that it takes are then spread over so
/// many that none of them notices.
const CUT_MAX: usize = 256;

/// How long nothing must happen before something is made ahead of need, which takes half a millisecond: longer than a
/// caller takes for the next of many calls in a row, for which it would be in the way.
const BREATH: Duration = Duration::from_millis(2);

/// How long nothing must happen before we tidy up: long enough not to get in the way of the next of many calls.
const QUIET: Duration = Duration::from_millis(200);

/// How long to wait after tidying up failed, for another try and another line in the log.
const SULK: Duration = Duration::from_secs(10);

/// The networks and endpoints of a host.
pub(crate) struct State {
    kernel: Box<dyn Kernel>,
    default_pools: Vec<Subnet>,
    space: Space,
    networks: BTreeMap<NetworkName, NetworkEntry>,
    endpoints: BTreeMap<EndpointId, EndpointEntry>,
    sandboxes: BTreeMap<SandboxName, (NetworkName, EndpointId)>,
    /// What nobody will ask us to undo again: calls that failed and could not be unwound.
    debris: Vec<Debris>,
    /// How many links were cut since the last reaping.
    cut: usize,
    did_tidying_fail: bool,
    is_stock_short: bool,
    is_closed: bool,
}

struct NetworkEntry {
    network: Network,
    /// One for each segment, in the same order.
    pools: Vec<Pool>,
    macs: BTreeMap<MacAddr, EndpointId>,
    made: Applied,
}

struct EndpointEntry {
    attached: Attached,
    decided: Decided,
    made: Applied,
}

struct Debris {
    made: Applied,
    /// Stays claimed until all is undone, for a device that could not be cut may still answer for its address.
    claimed: Option<Decided>,
}

impl State {
    pub(crate) fn new(kernel: Box<dyn Kernel>, default_pools: Vec<Subnet>) -> Self {
        Self {
            kernel,
            default_pools,
            space: Space::default(),
            networks: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            sandboxes: BTreeMap::new(),
            debris: Vec::new(),
            cut: 0,
            did_tidying_fail: false,
            is_stock_short: false,
            is_closed: false,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    pub(crate) fn endpoints(&self) -> Vec<Attached> {
        let entries = self.endpoints.values();
        entries.map(|entry| entry.attached.clone()).collect()
    }

    pub(crate) fn attach(&mut self, spec: &AttachSpec) -> Result<Attached, Error> {
        self.is_stock_short = true;
        let (network, decided) = self.claim(spec)?;
        let plan = bridge::plan_endpoint(&network, &decided);
        match self.carry_out(plan, &decided.sandbox) {
            Ok((made, netns)) => {
                let attached = Attached::new(&network, &decided, netns);
                info!(endpoint = %decided.id, "attached");
                debug!(endpoint = %decided.id, network = %network.name, sandbox = %decided.sandbox, "attached");
                let entry = EndpointEntry { attached: attached.clone(), decided, made };
                self.endpoints.insert(attached.endpoint.id, entry);
                Ok(attached)
            }
            Err(failure) => {
                let (network, sandbox) = (network.name, decided.sandbox.clone());
                self.cut += 1;
                self.give_up(failure.left.as_ref(), Some(decided));
                Err(Error::Attach { network, sandbox, source: failure })
            }
        }
    }

    fn carry_out(
        &mut self,
        plan: Plan,
        sandbox: &SandboxName,
    ) -> Result<(Applied, SandboxNetns), Box<Failure>> {
        let made = plan.apply(&mut *self.kernel)?;
        match self.kernel.sandbox(sandbox) {
            Ok(netns) => Ok((made, netns)),
            Err(error) => Err(Box::new(Failure {
                step: Step::CreateNetns { sandbox: sandbox.clone() },
                error,
                left: made.undo(&mut *self.kernel).err(),
            })),
        }
    }

    /// Cuts an endpoint off, then gives its addresses back, then forgets it. In this order: when an address can be
    /// given to another, no device is left that would answer for it, for one that is down does not. The device itself
    /// and the namespace go afterwards, when the kernel gets round to it.
    pub(crate) fn detach(&mut self, id: EndpointId) -> Result<(), Error> {
        let entry = self.endpoints.get_mut(&id).ok_or(Error::NoSuchEndpoint { endpoint: id })?;
        self.cut += 1;
        if let Err(source) = mem::take(&mut entry.made).undo(&mut *self.kernel) {
            entry.made = source.remaining();
            return Err(Error::Detach { endpoint: id, source });
        }
        if let Some(entry) = self.endpoints.remove(&id) {
            self.release(&entry.decided);
        }
        info!(endpoint = %id, "detached");
        if self.cut >= CUT_MAX {
            self.reap_or_warn();
        }
        Ok(())
    }

    /// Detaches an endpoint that nobody took.
    pub(crate) fn discard(&mut self, id: EndpointId) {
        debug!(endpoint = %id, "nobody took it");
        if let Err(Error::Detach { source, .. }) = self.detach(id)
            && let Some(entry) = self.endpoints.remove(&id)
        {
            self.give_up(Some(&source), Some(entry.decided));
        }
    }

    /// Detaches everything and removes every network, going on past errors.
    pub(crate) fn close(&mut self) -> Result<(), Error> {
        let mut failures = Vec::new();
        let endpoints: Vec<EndpointId> = self.endpoints.keys().copied().collect();
        failures.extend(endpoints.into_iter().filter_map(|id| self.detach(id).err()));
        failures.extend(self.tidy());
        let networks: Vec<NetworkName> = self.networks.keys().cloned().collect();
        failures.extend(networks.iter().filter_map(|name| self.remove_network(name).err()));
        if failures.is_empty() {
            self.is_closed = true;
            Ok(())
        } else {
            Err(Error::Close { failures })
        }
    }

    /// How long nothing must happen before [`State::use_quiet`] is due; `None` if there is nothing to do.
    pub(crate) fn patience(&self) -> Option<Duration> {
        if self.is_stock_short { Some(BREATH) } else { self.tidy_after() }
    }

    /// Does a piece of what can be done while nobody waits.
    pub(crate) fn use_quiet(&mut self) {
        if self.is_stock_short {
            self.stock_up();
        } else {
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
        let is_tidy = self.cut == 0 && self.debris.is_empty();
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
        if self.cut > 0 {
            failures.extend(self.reap().err());
        }
        failures
    }

    fn reap(&mut self) -> Result<(), Error> {
        self.kernel.reap().map_err(Error::Reap)?;
        self.cut = 0;
        Ok(())
    }

    fn reap_or_warn(&mut self) {
        if let Err(error) = self.reap() {
            self.did_tidying_fail = true;
            warn!(error = chain(&error), "deleting links failed");
        }
    }

    /// Forgets something that is undone; keeps what is not, to try again.
    fn give_up(&mut self, left: Option<&Leftover>, claimed: Option<Decided>) {
        if let Some(left) = left {
            let made = left.remaining();
            self.debris.push(Debris { made, claimed });
        } else if let Some(decided) = claimed {
            self.release(&decided);
        }
    }
}
