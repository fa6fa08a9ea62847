//! Sessions, instances and the rules between them: the part of a store that decides.
//!
//! Pure: no clock, no task, no lock. Time is an argument, counted from an origin that the caller chose. So
//! the same rules serve every store, and a test can drive them through years in a millisecond.
//!
//! Time only ever ends a session in [`State::expire_next`], never as a side effect of a command. A renewal
//! that comes late but before the store noticed is therefore honoured: when in doubt, the living win.
//!
//! Deciding what a command does and doing it are two steps, [`State::decide`] and [`State::carry_out`], with an
//! [`Effect`] between them: what was decided here can be made durable, or agreed on with others, before it is done.

mod decide;
mod effect;
mod kept;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub use self::effect::{Effect, Unfit};
pub(crate) use self::kept::Contents;

use netloft_types::{Instance, InstanceId, Revision, SessionId};

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

    /// How many sessions are open.
    pub fn sessions_len(&self) -> usize {
        self.sessions.len()
    }

    /// How many instances are registered.
    pub fn instances_len(&self) -> usize {
        self.instances.len()
    }

    /// How much may be registered.
    pub fn limits(&self) -> &Limits {
        &self.limits
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
    ///
    /// # Panics
    ///
    /// Never: what is decided of a state fits it.
    pub fn apply(&mut self, now: Duration, command: Command) -> Result<Option<Change>, Error> {
        let Some(effect) = self.decide(command)? else { return Ok(None) };
        let change = self.carry_out(now, effect);
        Ok(change.expect("what was decided of a state fits it"))
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
        let change = self.close(session);
        Some(Expired { session, change })
    }

    fn commit(&mut self, deltas: Vec<Delta>) -> Change {
        self.revision = self.revision.next();
        let at = self.revision;
        Change { at, deltas }
    }
}
