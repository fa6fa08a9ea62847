//! What commands do to a state, and doing it.
//!
//! An effect may come from elsewhere than [`State::decide`]: from a log, or from another process that shares what is
//! registered. It was allowed when it was decided: limits, which may be lower here, are not asked again. What does not
//! fit the state was not decided of it, and is refused.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use netloft_types::{Instance, InstanceId, Revision, SessionId};

use super::{Lease, Registration, Session, State};
use crate::{Change, Delta};

/// What a command does, as one step that happens wholly or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A session begins.
    Open {
        /// The session.
        session: SessionId,
        /// How long it lives without being renewed.
        ttl: Option<Duration>,
    },
    /// A session lives for another time to live.
    Renew {
        /// The session.
        session: SessionId,
    },
    /// A session ends, and its instances with it.
    Close {
        /// The session.
        session: SessionId,
    },
    /// An instance is registered, or becomes another.
    Put {
        /// The session that holds it.
        session: SessionId,
        /// The instance as it is from then on.
        instance: Arc<Instance>,
    },
    /// An instance is removed.
    Delete {
        /// The instance.
        id: InstanceId,
    },
}

/// Something does not fit the state: it was not decided of this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(pub(crate) &'static str);

pub(super) const NO_SESSION: Unfit = Unfit("an instance belongs to a session that is not open");

impl State {
    /// Does at the time `now` what was decided, and tells what changed for those who watch.
    ///
    /// # Errors
    ///
    /// If it does not fit; then nothing was done.
    pub fn carry_out(&mut self, now: Duration, effect: Effect) -> Result<Option<Change>, Unfit> {
        match effect {
            Effect::Open { session, ttl } => self.open(now, session, ttl).map(|()| None),
            Effect::Renew { session } => self.renew(now, session).map(|()| None),
            Effect::Close { session } if self.is_open(session) => Ok(self.close(session)),
            Effect::Close { .. } => Err(Unfit("a session is closed that is not open")),
            Effect::Put { session, instance } => self.put(session, instance).map(Some),
            Effect::Delete { id } => self.delete(&id).map(Some),
        }
    }

    /// Goes on from `at`, a revision that is not before its own: what happened in between changed no instance here.
    pub fn skip_to(&mut self, at: Revision) {
        self.revision = self.revision.max(at);
    }

    fn open(&mut self, now: Duration, session: SessionId, ttl: Option<Duration>) -> Result<(), Unfit> {
        if self.is_open(session) {
            return Err(Unfit("a session is opened that is open"));
        }
        let lease = ttl.map(|ttl| Lease { ttl, deadline: now.saturating_add(ttl) });
        if let Some(lease) = lease {
            self.deadlines.insert((lease.deadline, session));
        }
        self.sessions.insert(session, Session { lease, instances: BTreeSet::new() });
        Ok(())
    }

    fn renew(&mut self, now: Duration, session: SessionId) -> Result<(), Unfit> {
        let open = self.sessions.get_mut(&session).ok_or(Unfit("a session is renewed that is not open"))?;
        if let Some(lease) = &mut open.lease {
            self.deadlines.remove(&(lease.deadline, session));
            lease.deadline = lease.deadline.max(now.saturating_add(lease.ttl));
            self.deadlines.insert((lease.deadline, session));
        }
        Ok(())
    }

    pub(super) fn close(&mut self, session: SessionId) -> Option<Change> {
        let closed = self.sessions.remove(&session)?;
        if let Some(lease) = closed.lease {
            self.deadlines.remove(&(lease.deadline, session));
        }
        let gone = closed.instances.iter().filter_map(|id| self.instances.remove(id));
        let deltas: Vec<Delta> =
            gone.map(|registration| Delta { before: Some(registration.instance), after: None }).collect();
        (!deltas.is_empty()).then(|| self.commit(deltas))
    }

    fn put(&mut self, session: SessionId, instance: Arc<Instance>) -> Result<Change, Unfit> {
        let open = self.sessions.get_mut(&session).ok_or(NO_SESSION)?;
        let after = Some(Arc::clone(&instance));
        let before = match self.instances.get_mut(&instance.id) {
            Some(registered) if registered.session != session => {
                return Err(Unfit("an instance changes its session"));
            }
            Some(registered) if registered.instance == instance => {
                return Err(Unfit("a change changes nothing"));
            }
            Some(registered) => Some(std::mem::replace(&mut registered.instance, instance)),
            None => {
                open.instances.insert(instance.id.clone());
                self.instances.insert(instance.id.clone(), Registration { session, instance });
                None
            }
        };
        Ok(self.commit(vec![Delta { before, after }]))
    }

    fn delete(&mut self, id: &InstanceId) -> Result<Change, Unfit> {
        let gone = self.instances.remove(id).ok_or(Unfit("an instance is removed that is not there"))?;
        let open = self.sessions.get_mut(&gone.session).ok_or(NO_SESSION)?;
        open.instances.remove(id);
        Ok(self.commit(vec![Delta { before: Some(gone.instance), after: None }]))
    }
}
