//! The rules: what a command does to a state, or why it does nothing.

use std::sync::Arc;
use std::time::Duration;

use netloft_types::limits::{SESSION_TTL_MAX, SESSION_TTL_MIN};
use netloft_types::{Instance, InstanceId, Invalid, Patch, SessionId};

use super::{Effect, Registration, State};
use crate::{Command, Error};

impl State {
    /// Decides what `command` does, without doing it; `None` if everything is already as it is to be.
    pub fn decide(&self, command: Command) -> Result<Option<Effect>, Error> {
        match command {
            Command::OpenSession { session, ttl } => self.decide_open(session, ttl).map(Some),
            Command::RenewSession { session } => {
                self.check_open(session)?;
                Ok(Some(Effect::Renew { session }))
            }
            Command::CloseSession { session } => {
                self.check_open(session)?;
                Ok(Some(Effect::Close { session }))
            }
            Command::Register { session, instance } => self.decide_register(session, instance),
            Command::Update { session, id, patch } => self.decide_update(session, &id, patch),
            Command::Deregister { session, id } => {
                self.registered_by(session, &id)?;
                Ok(Some(Effect::Delete { id }))
            }
            Command::Amend { seen, becomes } => self.decide_amend(&seen, becomes),
        }
    }

    fn decide_open(&self, session: SessionId, ttl: Option<Duration>) -> Result<Effect, Error> {
        check_ttl(ttl)?;
        match self.sessions.get(&session) {
            Some(open) if open.lease.map(|lease| lease.ttl) == ttl => Ok(Effect::Renew { session }),
            Some(_) => Err(Error::SessionExists),
            None => {
                check_limit("sessions_max", self.sessions.len(), self.limits.sessions_max)?;
                Ok(Effect::Open { session, ttl })
            }
        }
    }

    fn decide_register(&self, session: SessionId, instance: Instance) -> Result<Option<Effect>, Error> {
        let open = self.sessions.get(&session).ok_or(Error::SessionNotFound)?;
        if let Some(registered) = self.instances.get(&instance.id) {
            registered.check_held_by(session)?;
            let instance = instance.registered_over(Some(&registered.instance));
            return Ok(registered.decide_put(instance));
        }
        let limits = &self.limits;
        check_limit("instances_max", self.instances.len(), limits.instances_max)?;
        let held = open.instances.len();
        check_limit("instances_per_session_max", held, limits.instances_per_session_max)?;
        let instance = Arc::new(instance.registered_over(None));
        Ok(Some(Effect::Put { session, instance }))
    }

    fn decide_update(
        &self,
        session: SessionId,
        id: &InstanceId,
        patch: Patch,
    ) -> Result<Option<Effect>, Error> {
        let registered = self.registered_by(session, id)?;
        patch.check_owned(&registered.instance)?;
        Ok(registered.decide_put(patch.applied_to(&registered.instance)))
    }

    fn decide_amend(&self, seen: &Instance, becomes: Option<Arc<Instance>>) -> Result<Option<Effect>, Error> {
        let id = &seen.id;
        let not_found = || Error::InstanceNotFound { id: id.clone() };
        let registered = self.instances.get(id).ok_or_else(not_found)?;
        if *registered.instance != *seen {
            return Err(Error::InstanceChanged { id: id.clone() });
        }
        match becomes {
            None => Ok(Some(Effect::Delete { id: id.clone() })),
            Some(instance) if instance.id != *id => {
                Err(Invalid::new("instance id", &instance.id, "must stay as it is").into())
            }
            Some(instance) => Ok(registered.decide_put(Arc::unwrap_or_clone(instance))),
        }
    }

    fn check_open(&self, session: SessionId) -> Result<(), Error> {
        if self.is_open(session) { Ok(()) } else { Err(Error::SessionNotFound) }
    }

    fn registered_by(&self, session: SessionId, id: &InstanceId) -> Result<&Registration, Error> {
        self.check_open(session)?;
        let not_found = || Error::InstanceNotFound { id: id.clone() };
        let registered = self.instances.get(id).ok_or_else(not_found)?;
        registered.check_held_by(session)?;
        Ok(registered)
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
    fn decide_put(&self, instance: Instance) -> Option<Effect> {
        let session = self.session;
        (*self.instance != instance).then(|| Effect::Put { session, instance: Arc::new(instance) })
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
