//! Attaching and detaching, several at a time.
//!
//! What waits is carried out together: decided, written to the journal as intended where need be, done one after another,
//! written as made. So eight callers wait for one write to disk or two, not for sixteen.

use std::time::Duration;

use netloft_types::{AttachSpec, EndpointId};
use tracing::{debug, info};

use super::{State, millis};
use crate::attached::Attached;
use crate::driver;
use crate::error::Error;
use crate::journal::Entry;
use crate::plan::{Failure, Plan};
use crate::record::{EndpointRecord, Phase, RestRecord, tenant};

/// How long the kernel may be busy with a batch, roughly, for whoever comes first in it waits for all of it.
const BATCH_COST_MAX: Duration = Duration::from_millis(30);

/// A change that somebody waits for.
#[derive(Debug)]
pub(crate) enum Change {
    Attach(Box<AttachSpec>, Option<String>),
    Detach(EndpointId),
}

/// What became of a change.
#[derive(Debug)]
pub(crate) enum Outcome {
    Attached(Result<Attached, Error>),
    Detached(Result<(), Error>),
}

impl Outcome {
    pub(crate) fn into_error(self) -> Option<Error> {
        match self {
            Self::Attached(outcome) => outcome.err(),
            Self::Detached(outcome) => outcome.err(),
        }
    }
}

/// Where an endpoint comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// It is made.
    New,
    /// It was ready.
    Ready,
}

/// A change on its way.
#[expect(clippy::large_enum_variant, reason = "a batch has few, for milliseconds")]
enum Work {
    Attaching(EndpointId, Origin),
    Detaching(EndpointId),
    Done(Outcome),
}

impl Work {
    /// How long it takes the kernel, roughly: a namespace and a pair of links take a hundred times as long as a name.
    fn cost(&self) -> Duration {
        Duration::from_micros(match self {
            Self::Attaching(_, Origin::New) => 1_000,
            Self::Attaching(_, Origin::Ready) => 10,
            Self::Detaching(_) => 250,
            Self::Done(_) => 0,
        })
    }
}

impl State {
    /// Carries changes out, and tells what became of each, in order.
    pub(crate) fn carry_out(&mut self, changes: Vec<Change>) -> Vec<Outcome> {
        let works = changes.into_iter().map(|change| self.decide(change)).collect();
        self.carry_out_decided(works)
    }

    /// Carries out what waits, as much of it as shares its writes to the journal; tells what became of each, in order.
    pub(crate) fn carry_out_waiting(&mut self, waiting: impl IntoIterator<Item = Change>) -> Vec<Outcome> {
        let mut waiting = waiting.into_iter();
        let (mut works, mut cost) = (Vec::new(), Duration::ZERO);
        while cost < BATCH_COST_MAX
            && let Some(change) = waiting.next()
        {
            let work = self.decide(change);
            cost += work.cost();
            works.push(work);
        }
        self.carry_out_decided(works)
    }

    fn carry_out_decided(&mut self, works: Vec<Work>) -> Vec<Outcome> {
        let works = self.intend(works);
        let works: Vec<Work> = works.into_iter().map(|work| self.perform(work)).collect();
        let outcomes = self.conclude(works);
        if self.is_reaping_due
            && let Err(error) = self.reap()
        {
            self.did_tidying_fail = true;
            tracing::warn!(error = crate::error::chain(&error), "deleting links failed");
        }
        outcomes
    }

    fn decide(&mut self, change: Change) -> Work {
        match change {
            Change::Attach(spec, note) => {
                let (claimed, origin) = if self.can_use_ready(&spec) {
                    (self.claim_ready(&spec, note), Origin::Ready)
                } else {
                    self.is_stock_short = true;
                    (self.claim(&spec, note), Origin::New)
                };
                match claimed {
                    Ok(id) => Work::Attaching(id, origin),
                    Err(error) => Work::Done(Outcome::Attached(Err(error))),
                }
            }
            Change::Detach(id) => {
                let can_leave = |entry: &&mut super::EndpointEntry| {
                    entry.record.phase == Phase::Made || entry.left.is_some()
                };
                match self.endpoints.get_mut(&id).filter(can_leave) {
                    Some(entry) => {
                        entry.record.phase = Phase::Leaving;
                        Work::Detaching(id)
                    }
                    None => Work::Done(Outcome::Detached(Err(Error::NoSuchEndpoint { endpoint: id }))),
                }
            }
        }
    }

    /// Writes down what is about to be done, where nothing else would tell of it after a crash: what leaves, and what is
    /// made in a namespace of somebody else. Whatever is made in the host says that it is ours, and goes unless the
    /// journal knows it; so does a namespace of ours, with all that is in it.
    ///
    /// What cannot be written down is not begun; only what leaves leaves all the same, because after a crash it would be
    /// found dead and forgotten.
    fn intend(&mut self, works: Vec<Work>) -> Vec<Work> {
        let now = std::time::SystemTime::now();
        let mut entries = Vec::new();
        for work in &works {
            match work {
                Work::Attaching(id, _) => {
                    let record = &self.endpoints[id].record;
                    let elsewhere = record.netns.is_some().then(|| Box::new(record.clone()));
                    entries.extend(elsewhere.map(Entry::PutEndpoint));
                }
                Work::Detaching(id) => {
                    let record = self.endpoints[id].record.clone();
                    entries.extend(self.rests(&record, now).into_iter().map(Entry::PutRest));
                    entries.push(Entry::PutEndpoint(Box::new(record)));
                }
                Work::Done(_) => {}
            }
        }
        let Err(error) = self.commit(entries) else { return works };
        let mut error = Some(error);
        let refuse = |work| match work {
            Work::Attaching(id, origin) => {
                match origin {
                    Origin::New => self.forget(id),
                    Origin::Ready => self.take_back(id, origin),
                }
                // A write that failed may be on disk all the same.
                self.commit_later([Entry::DeleteEndpoint(id)]);
                let error = error.take().unwrap_or(Error::JournalFailed);
                Work::Done(Outcome::Attached(Err(error)))
            }
            leaving => leaving,
        };
        works.into_iter().map(refuse).collect()
    }

    fn perform(&mut self, work: Work) -> Work {
        match work {
            Work::Attaching(id, origin) => match self.attach(id, origin) {
                Ok(()) => work,
                Err(error) => Work::Done(Outcome::Attached(Err(error))),
            },
            Work::Detaching(id) => Work::Done(Outcome::Detached(self.detach(id))),
            Work::Done(_) => work,
        }
    }

    /// Writes down what was made, before anybody is told. What cannot be written down is taken back.
    fn conclude(&mut self, works: Vec<Work>) -> Vec<Outcome> {
        let mut entries = Vec::new();
        for work in &works {
            if let Work::Attaching(id, _) = work {
                let record = EndpointRecord { phase: Phase::Made, ..self.endpoints[id].record.clone() };
                entries.push(Entry::PutEndpoint(Box::new(record)));
            }
        }
        let mut failure = self.commit(entries).err().map(Some);
        let conclude = |work| match work {
            Work::Attaching(id, origin) => Outcome::Attached(match &mut failure {
                None => Ok(self.announce(id)),
                Some(error) => {
                    self.take_back(id, origin);
                    Err(error.take().unwrap_or(Error::JournalFailed))
                }
            }),
            Work::Detaching(id) => Outcome::Detached(Err(Error::NoSuchEndpoint { endpoint: id })),
            Work::Done(outcome) => outcome,
        };
        works.into_iter().map(conclude).collect()
    }

    fn announce(&mut self, id: EndpointId) -> Attached {
        let entry = self.endpoints.get_mut(&id).expect("it was attached a moment ago");
        entry.record.phase = Phase::Made;
        let record = entry.record.clone();
        info!(endpoint = %id, "attached");
        debug!(endpoint = %id, network = %record.network, sandbox = %record.sandbox, "attached");
        self.attached(&record).expect("its network and its sandbox are there")
    }

    /// Makes what an endpoint consists of, or nothing. If the bridge is full of what is ready, that makes way.
    fn attach(&mut self, id: EndpointId, origin: Origin) -> Result<(), Error> {
        let record = self.endpoints[&id].record.clone();
        let made = loop {
            match self.make(&record, origin) {
                Err(failure)
                    if failure.error.is_exhausted()
                        && failure.left.is_none()
                        && self.dissolve_one(&record.network) => {}
                outcome => break outcome,
            }
        };
        match made {
            Ok(()) => Ok(()),
            Err(failure) => {
                self.is_reaping_due = true;
                self.endpoints.remove(&id);
                let (network, sandbox) = (record.network.clone(), record.sandbox.clone());
                self.give_up(failure.left.as_ref(), Some(record));
                Err(Error::Attach { network, sandbox, source: failure })
            }
        }
    }

    fn make(&mut self, record: &EndpointRecord, origin: Origin) -> Result<(), Box<Failure>> {
        let (plan, done) = self.plan_by(record, origin);
        if let Some(sandbox) = self.sandboxes.get_mut(&record.sandbox) {
            sandbox.inside.insert(record.id);
        }
        plan.apply_from(done, &mut *self.kernel)?;
        match self.kernel.sandbox(&record.sandbox) {
            Ok(netns) => {
                let sandbox = self.sandboxes.get_mut(&record.sandbox).expect("claimed with the endpoint");
                sandbox.netns = Some(netns);
                Ok(())
            }
            Err(error) => {
                let left = plan.applied().undo(&mut *self.kernel).err();
                Err(Box::new(Failure { step: plan.steps()[0].clone(), error, left }))
            }
        }
    }

    /// How an endpoint of that origin is made, and how much of it is done already.
    fn plan_by(&self, record: &EndpointRecord, origin: Origin) -> (Plan, usize) {
        match origin {
            Origin::New => (self.plan(record), 0),
            Origin::Ready => self.plan_from_ready(record),
        }
    }

    /// How an endpoint is made, with its sandbox if no other is in it.
    pub(super) fn plan(&self, record: &EndpointRecord) -> Plan {
        let network = self.network_of(record);
        let endpoint = driver::of(network).plan_endpoint(network, record);
        let has_others = |sandbox: &super::SandboxEntry| sandbox.inside.iter().any(|id| *id != record.id);
        if self.sandboxes.get(&record.sandbox).is_some_and(has_others) {
            endpoint
        } else {
            driver::plan_sandbox(record).then(endpoint)
        }
    }

    /// Cuts an endpoint off, then gives its addresses back, then forgets it. In this order: when an address can be
    /// given to another, no device is left that would answer for it, for one that is down does not. The device itself
    /// and the namespace go afterwards, when the kernel gets round to it.
    fn detach(&mut self, id: EndpointId) -> Result<(), Error> {
        let entry = self.endpoints.get_mut(&id).ok_or(Error::NoSuchEndpoint { endpoint: id })?;
        self.is_reaping_due = true;
        let left = entry.left.take();
        let record = entry.record.clone();
        let made = left.unwrap_or_else(|| self.plan(&record).applied());
        if let Err(source) = made.undo(&mut *self.kernel) {
            if let Some(entry) = self.endpoints.get_mut(&id) {
                entry.left = Some(source.remaining());
            }
            return Err(Error::Detach { endpoint: id, source });
        }
        self.forget(id);
        self.commit_later([Entry::DeleteEndpoint(id)]);
        self.want_ready_at_once(&record.network);
        info!(endpoint = %id, "detached");
        Ok(())
    }

    /// Takes back an endpoint that nobody was told of.
    fn take_back(&mut self, id: EndpointId, origin: Origin) {
        self.is_reaping_due = true;
        if let Some(entry) = self.endpoints.remove(&id) {
            let (plan, _) = self.plan_by(&entry.record, origin);
            let left = plan.applied().undo(&mut *self.kernel).err();
            self.give_up(left.as_ref(), Some(entry.record));
        }
    }

    /// Forgets an endpoint of which nothing is left, and gives back what it claimed.
    pub(super) fn forget(&mut self, id: EndpointId) {
        if let Some(entry) = self.endpoints.remove(&id) {
            self.release(&entry.record);
        }
    }

    /// The addresses of an endpoint, as they rest from now on.
    pub(super) fn rests(&self, record: &EndpointRecord, now: std::time::SystemTime) -> Vec<RestRecord> {
        let until = millis(now + self.policy.rest);
        let tenant = tenant(&record.sandbox).number();
        let rest = |address| RestRecord { network: record.network.clone(), address, tenant, until };
        record.addresses.iter().map(|held| rest(held.address())).collect()
    }
}
