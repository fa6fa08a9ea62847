//! What of a state is kept elsewhere, and how all of it comes back at once.

use super::effect::NO_SESSION;
use super::{Effect, Limits, Registration, Session, State, Unfit};

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
            state.carry_out(grace, Effect::Open { session, ttl })?;
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
    pub fn is_open(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    /// The session that holds an instance.
    pub fn holder(&self, id: &InstanceId) -> Option<SessionId> {
        self.instances.get(id).map(|held| held.session)
    }

    /// All instances, in order of their ids.
    pub fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.instances.values().map(|held| &held.instance)
    }

    /// The instances that a session holds, in order of their ids.
    pub fn instances_of(&self, session: SessionId) -> impl Iterator<Item = &InstanceId> {
        self.sessions.get(&session).into_iter().flat_map(|open| &open.instances)
    }

    /// The sessions that end only when they are closed, which is when their owner does.
    pub(crate) fn sessions_without_ttl(&self) -> Vec<SessionId> {
        let without = self.sessions.iter().filter(|(_, session)| session.lease.is_none());
        without.map(|(id, _)| *id).collect()
    }
}
