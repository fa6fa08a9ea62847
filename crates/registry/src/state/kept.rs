//! What of a state is kept elsewhere, and how it comes back.
//!
//! What comes back was allowed when it happened: limits, which may be lower today, are not asked again. What
//! does not fit together was not written by a store, and is refused.

use super::{Change, Delta, Lease, Limits, Registration, Session, State};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use netloft_types::{Instance, InstanceId, Revision, SessionId};

/// Everything a state holds, except until when its sessions live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) revision: Revision,
    pub(crate) sessions: Vec<(SessionId, Option<Duration>)>,
    /// With the sessions that hold them, in order of their ids.
    pub(crate) instances: Vec<(SessionId, Arc<Instance>)>,
}

/// Something that came back does not fit what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unfit(pub(crate) &'static str);

const NO_SESSION: Unfit = Unfit("an instance belongs to a session that is not open");

impl State {
    /// What it holds. The cost is that of counting references.
    pub(crate) fn contents(&self) -> Contents {
        let ttl = |session: &Session| session.lease.map(|lease| lease.ttl);
        let instances = self.instances.values();
        Contents {
            revision: self.revision,
            sessions: self.sessions.iter().map(|(id, session)| (*id, ttl(session))).collect(),
            instances: instances.map(|held| (held.session, Arc::clone(&held.instance))).collect(),
        }
    }

    /// Makes a state of what another held. A session ends its time to live and `grace` after zero, unless it
    /// is renewed.
    pub(crate) fn of(contents: Contents, limits: Limits, grace: Duration) -> Result<Self, Unfit> {
        let mut state = Self::new(contents.revision, limits);
        for (session, ttl) in contents.sessions {
            state.reopen(session, ttl, grace)?;
        }
        let mut held: BTreeMap<SessionId, Vec<InstanceId>> = BTreeMap::new();
        let len = contents.instances.len();
        let instances = contents.instances.into_iter().map(|(session, instance)| {
            held.entry(session).or_default().push(instance.id.clone());
            (instance.id.clone(), Registration { session, instance })
        });
        state.instances = instances.collect();
        if state.instances.len() < len {
            return Err(Unfit("an instance is there twice"));
        }
        for (session, ids) in held {
            let open = state.sessions.get_mut(&session).ok_or(NO_SESSION)?;
            open.instances = BTreeSet::from_iter(ids);
        }
        Ok(state)
    }

    /// Whether a session is open.
    pub(crate) fn is_open(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    /// The sessions that end only when they are closed, which is when their owner does.
    pub(crate) fn sessions_without_ttl(&self) -> Vec<SessionId> {
        let without = self.sessions.iter().filter(|(_, session)| session.lease.is_none());
        without.map(|(id, _)| *id).collect()
    }

    pub(crate) fn reopen(
        &mut self,
        session: SessionId,
        ttl: Option<Duration>,
        grace: Duration,
    ) -> Result<(), Unfit> {
        if self.is_open(session) {
            return Err(Unfit("a session is opened that is open"));
        }
        let lease = ttl.map(|ttl| Lease { ttl, deadline: ttl.saturating_add(grace) });
        if let Some(lease) = lease {
            self.deadlines.insert((lease.deadline, session));
        }
        self.sessions.insert(session, Session { lease, instances: BTreeSet::new() });
        Ok(())
    }

    pub(crate) fn close_again(&mut self, session: SessionId) -> Result<Option<Change>, Unfit> {
        self.close(session).map_err(|_| Unfit("a session is closed that is not open"))
    }

    pub(crate) fn put_again(&mut self, session: SessionId, instance: Arc<Instance>) -> Result<Change, Unfit> {
        let open = self.sessions.get_mut(&session).ok_or(NO_SESSION)?;
        let after = Some(Arc::clone(&instance));
        let id = instance.id.clone();
        let before = match self.instances.insert(id.clone(), Registration { session, instance }) {
            Some(replaced) if replaced.session != session => {
                return Err(Unfit("an instance changes its session"));
            }
            replaced => replaced.map(|replaced| replaced.instance),
        };
        if before == after {
            return Err(Unfit("a change changes nothing"));
        }
        if before.is_none() {
            open.instances.insert(id);
        }
        Ok(self.commit(vec![Delta { before, after }]))
    }

    pub(crate) fn delete_again(&mut self, id: &InstanceId) -> Result<Change, Unfit> {
        let gone = self.instances.remove(id).ok_or(Unfit("an instance is removed that is not there"))?;
        let open = self.sessions.get_mut(&gone.session).ok_or(NO_SESSION)?;
        open.instances.remove(id);
        Ok(self.commit(vec![Delta { before: Some(gone.instance), after: None }]))
    }
}
