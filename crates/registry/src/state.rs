//! Sessions, instances and the rules between them: the part of a store that decides.
//!
//! Pure: no clock, no task, no lock. Time is an argument, counted from an origin that the caller chose. So
//! the same rules serve every store, and a test can drive them through years in a millisecond.
//!
//! Time only ever ends a session in [`State::expire_next`], never as a side effect of a command. A renewal
//! that comes late but before the store noticed is therefore honoured: when in doubt, the living win.

mod kept;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::kept::{Contents, Unfit};

use netloft_types::limits::{SESSION_TTL_MAX, SESSION_TTL_MIN};
use netloft_types::{Instance, InstanceId, Invalid, Patch, Revision, SessionId};

use crate::{Change, Command, Delta, Error};

/// How much may be registered. What is over a limit is refused with [`Error::Exhausted`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open sessions. The default of 65,536 is some 12 MiB; a session is a client process or a host's agent.
    pub sessions_max: usize,
    /// Instances. The default of 262,144 is some 200 MiB of ordinary instances: with 200 bytes of tags and metadata
    /// one takes 0.8 kB, and another quarter of one once its service is asked for.
    pub instances_max: usize,
    /// Instances of one session, which all go in one revision. The default of 4,096 is well over what one
    /// host runs, and keeps that revision at a size that a watch can carry.
    pub instances_per_session_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { sessions_max: 65_536, instances_max: 262_144, instances_per_session_max: 4_096 }
    }
}

/// The registrations of a store and the sessions that hold them.
#[derive(Debug)]
pub struct State {
    limits: Limits,
    revision: Revision,
    sessions: BTreeMap<SessionId, Session>,
    /// The deadline of every session that has one: exactly those in `sessions`.
    deadlines: BTreeSet<(Duration, SessionId)>,
    instances: BTreeMap<InstanceId, Registration>,
}

#[derive(Debug)]
struct Session {
    lease: Option<Lease>,
    /// Exactly those whose registration names this session.
    instances: BTreeSet<InstanceId>,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    ttl: Duration,
    deadline: Duration,
}

#[derive(Debug)]
struct Registration {
    session: SessionId,
    instance: Arc<Instance>,
}

/// A session that has expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// Which one.
    pub session: SessionId,
    /// What went with it, if it held any instance.
    pub change: Option<Change>,
}

impl State {
    /// Makes an empty state whose next change is the one after `start`.
    pub fn new(start: Revision, limits: Limits) -> Self {
        Self {
            limits,
            revision: start,
            sessions: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            instances: BTreeMap::new(),
        }
    }

    /// The revision of the last change.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// When the next session expires, if none is renewed until then.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// The time to live of a session; `None` if it has none, or if there is no such session.
    pub fn ttl(&self, session: SessionId) -> Option<Duration> {
        self.sessions.get(&session)?.lease.map(|lease| lease.ttl)
    }

    /// Carries out `command` at the time `now`, and tells what changed for those who watch.
    ///
    /// A clock that runs backwards makes no session end early: a renewal never shortens a life.
    pub fn apply(&mut self, now: Duration, command: Command) -> Result<Option<Change>, Error> {
        match command {
            Command::OpenSession { session, ttl } => self.open(now, session, ttl).map(|()| None),
            Command::RenewSession { session } => self.renew(now, session).map(|()| None),
            Command::CloseSession { session } => self.close(session),
            Command::Register { session, instance } => self.register(session, instance),
            Command::Update { session, id, patch } => self.update(session, &id, patch),
            Command::Deregister { session, id } => self.deregister(session, &id),
            Command::Amend { seen, becomes } => self.amend(&seen, becomes),
        }
    }

    /// Ends the session that is overdue the longest at the time `now`, if there is one.
    ///
    /// One session is one revision: that is the unit in which instances truly died together, and it keeps a
    /// revision bounded however many sessions end at once. Between two of them a store can serve others.
    pub fn expire_next(&mut self, now: Duration) -> Option<Expired> {
        let &(deadline, session) = self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        let change = self.close(session).ok().flatten();
        Some(Expired { session, change })
    }

    fn open(&mut self, now: Duration, session: SessionId, ttl: Option<Duration>) -> Result<(), Error> {
        check_ttl(ttl)?;
        if let Some(open) = self.sessions.get(&session) {
            return if open.lease.map(|lease| lease.ttl) == ttl {
                self.renew(now, session)
            } else {
                Err(Error::SessionExists)
            };
        }
        check_limit("sessions_max", self.sessions.len(), self.limits.sessions_max)?;
        let lease = ttl.map(|ttl| Lease { ttl, deadline: now.saturating_add(ttl) });
        if let Some(lease) = lease {
            self.deadlines.insert((lease.deadline, session));
        }
        let instances = BTreeSet::new();
        self.sessions.insert(session, Session { lease, instances });
        Ok(())
    }

    fn renew(&mut self, now: Duration, session: SessionId) -> Result<(), Error> {
        let open = self.sessions.get_mut(&session).ok_or(Error::SessionNotFound)?;
        if let Some(lease) = &mut open.lease {
            self.deadlines.remove(&(lease.deadline, session));
            lease.deadline = lease.deadline.max(now.saturating_add(lease.ttl));
            self.deadlines.insert((lease.deadline, session));
        }
        Ok(())
    }

    fn close(&mut self, session: SessionId) -> Result<Option<Change>, Error> {
        let closed = self.sessions.remove(&session).ok_or(Error::SessionNotFound)?;
        if let Some(lease) = closed.lease {
            self.deadlines.remove(&(lease.deadline, session));
        }
        let gone = closed.instances.iter().filter_map(|id| self.instances.remove(id));
        let deltas: Vec<Delta> =
            gone.map(|registration| Delta { before: Some(registration.instance), after: None }).collect();
        Ok((!deltas.is_empty()).then(|| self.commit(deltas)))
    }

    fn register(&mut self, session: SessionId, instance: Instance) -> Result<Option<Change>, Error> {
        let open = self.sessions.get_mut(&session).ok_or(Error::SessionNotFound)?;
        if let Some(registered) = self.instances.get_mut(&instance.id) {
            registered.check_held_by(session)?;
            let delta = registered.replace(instance.registered_over(Some(&registered.instance)));
            return Ok(delta.map(|delta| self.commit(vec![delta])));
        }
        let limits = &self.limits;
        check_limit("instances_max", self.instances.len(), limits.instances_max)?;
        let held = open.instances.len();
        check_limit("instances_per_session_max", held, limits.instances_per_session_max)?;

        let id = instance.id.clone();
        let instance = Arc::new(instance.registered_over(None));
        let after = Some(Arc::clone(&instance));
        open.instances.insert(id.clone());
        self.instances.insert(id, Registration { session, instance });
        Ok(Some(self.commit(vec![Delta { before: None, after }])))
    }

    fn update(&mut self, session: SessionId, id: &InstanceId, patch: Patch) -> Result<Option<Change>, Error> {
        let registered = self.registered_by(session, id)?;
        patch.check_owned(&registered.instance)?;
        let patched = patch.applied_to(&registered.instance);
        let delta = registered.replace(patched);
        Ok(delta.map(|delta| self.commit(vec![delta])))
    }

    fn deregister(&mut self, session: SessionId, id: &InstanceId) -> Result<Option<Change>, Error> {
        self.registered_by(session, id)?;
        Ok(self.remove(id))
    }

    fn amend(&mut self, seen: &Instance, becomes: Option<Arc<Instance>>) -> Result<Option<Change>, Error> {
        let id = &seen.id;
        let not_found = || Error::InstanceNotFound { id: id.clone() };
        let registered = self.instances.get_mut(id).ok_or_else(not_found)?;
        if *registered.instance != *seen {
            return Err(Error::InstanceChanged { id: id.clone() });
        }
        match becomes {
            None => Ok(self.remove(id)),
            Some(instance) if instance.id != *id => {
                Err(Invalid::new("instance id", &instance.id, "must stay as it is").into())
            }
            Some(instance) => {
                let delta = registered.replace(Arc::unwrap_or_clone(instance));
                Ok(delta.map(|delta| self.commit(vec![delta])))
            }
        }
    }

    fn remove(&mut self, id: &InstanceId) -> Option<Change> {
        let gone = self.instances.remove(id)?;
        if let Some(open) = self.sessions.get_mut(&gone.session) {
            open.instances.remove(id);
        }
        Some(self.commit(vec![Delta { before: Some(gone.instance), after: None }]))
    }

    fn registered_by(&mut self, session: SessionId, id: &InstanceId) -> Result<&mut Registration, Error> {
        if !self.sessions.contains_key(&session) {
            return Err(Error::SessionNotFound);
        }
        let not_found = || Error::InstanceNotFound { id: id.clone() };
        let registered = self.instances.get_mut(id).ok_or_else(not_found)?;
        registered.check_held_by(session)?;
        Ok(registered)
    }

    fn commit(&mut self, deltas: Vec<Delta>) -> Change {
        self.revision = self.revision.next();
        let at = self.revision;
        Change { at, deltas }
    }
}

impl Registration {
    fn check_held_by(&self, session: SessionId) -> Result<(), Error> {
        if self.session == session {
            return Ok(());
        }
        let id = self.instance.id.clone();
        Err(Error::InstanceHeld { id })
    }

    /// Replaces the instance, unless it is the same already.
    fn replace(&mut self, instance: Instance) -> Option<Delta> {
        if *self.instance == instance {
            return None;
        }
        let after = Arc::new(instance);
        let before = std::mem::replace(&mut self.instance, Arc::clone(&after));
        Some(Delta { before: Some(before), after: Some(after) })
    }
}

fn check_ttl(ttl: Option<Duration>) -> Result<(), Invalid> {
    match ttl {
        Some(ttl) if !(SESSION_TTL_MIN..=SESSION_TTL_MAX).contains(&ttl) => Err(Invalid::new(
            "session time to live",
            format_args!("{ttl:?}"),
            "must be from 1 second to 24 hours",
        )),
        _ => Ok(()),
    }
}

fn check_limit(limit: &'static str, len: usize, max: usize) -> Result<(), Error> {
    if len < max { Ok(()) } else { Err(Error::Exhausted { limit, max }) }
}
