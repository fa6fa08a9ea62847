//! Attaching and detaching, several at a time.
//!
//! What waits is carried out together: decided, written to the journal as intended, done one after another, written as
//! made. So eight callers wait for two writes to disk, not for sixteen.

use netloft_types::{AttachSpec, EndpointId};
use tracing::{debug, info};

use super::{State, millis};
use crate::attached::Attached;
use crate::driver;
use crate::error::Error;
use crate::journal::Entry;
use crate::plan::{Failure, Plan};
use crate::record::{EndpointRecord, Phase, RestRecord, tenant};

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

/// A change on its way.
#[expect(clippy::large_enum_variant, reason = "a batch has few, for milliseconds")]
enum Work {
    Attaching(EndpointId),
    Detaching(EndpointId),
    Done(Outcome),
}

impl State {
    /// Carries changes out, and tells what became of each, in order.
    pub(crate) fn carry_out(&mut self, changes: Vec<Change>) -> Vec<Outcome> {
        let works: Vec<Work> = changes.into_iter().map(|change| self.decide(change)).collect();
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
                self.is_stock_short = true;
                match self.claim(&spec, note) {
                    Ok(id) => Work::Attaching(id),
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

    /// Writes down what is about to be done. What cannot be written down is not begun; only what leaves leaves all the
    /// same, because after a crash it would be found dead and forgotten.
    fn intend(&mut self, works: Vec<Work>) -> Vec<Work> {
        let now = std::time::SystemTime::now();
        let mut entries = Vec::new();
        for work in &works {
            match work {
                Work::Attaching(id) => {
                    entries.push(Entry::PutEndpoint(Box::new(self.endpoints[id].record.clone())));
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
            Work::Attaching(id) => {
                self.forget(id);
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
            Work::Attaching(id) => match self.attach(id) {
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
            if let Work::Attaching(id) = work {
                let record = EndpointRecord { phase: Phase::Made, ..self.endpoints[id].record.clone() };
                entries.push(Entry::PutEndpoint(Box::new(record)));
            }
        }
        let mut failure = self.commit(entries).err().map(Some);
        let conclude = |work| match work {
            Work::Attaching(id) => Outcome::Attached(match &mut failure {
                None => Ok(self.announce(id)),
                Some(error) => {
                    self.take_back(id);
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

    /// Makes what an endpoint consists of, or nothing.
    fn attach(&mut self, id: EndpointId) -> Result<(), Error> {
        let record = self.endpoints[&id].record.clone();
        match self.make(&record) {
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

    fn make(&mut self, record: &EndpointRecord) -> Result<(), Box<Failure>> {
        let plan = self.plan(record);
        plan.apply(&mut *self.kernel)?;
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

    /// How an endpoint is made, with its sandbox if no other is in it.
    pub(super) fn plan(&self, record: &EndpointRecord) -> Plan {
        let network = self.network_of(record);
        let endpoint = driver::of(network).plan_endpoint(network, record);
        let has_others = |sandbox: &super::SandboxEntry| sandbox.endpoints.iter().any(|id| *id != record.id);
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
        info!(endpoint = %id, "detached");
        Ok(())
    }

    /// Takes back an endpoint that nobody was told of.
    fn take_back(&mut self, id: EndpointId) {
        self.is_reaping_due = true;
        if let Some(entry) = self.endpoints.remove(&id) {
            let left = self.plan(&entry.record).applied().undo(&mut *self.kernel).err();
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
