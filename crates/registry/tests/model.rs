//! Random commands and random time against a model too dumb to be wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use netloft_registry::{Change, Command, Error, Limits, State};
use netloft_types::{Health, Instance, InstanceId, Patch, Revision, SessionId};
use proptest::prelude::*;

const LIMITS: Limits = Limits { sessions_max: 3, instances_max: 5, instances_per_session_max: 3 };

/// Every session and every instance in a plain list; every question answered by looking at all of them.
#[derive(Default)]
struct Model {
    revision: u64,
    sessions: Vec<(SessionId, Option<Duration>, Duration)>,
    instances: Vec<(SessionId, Instance)>,
}

impl Model {
    /// What the command should answer: whether it makes a revision, or the kind of error.
    fn apply(&mut self, now: Duration, command: &Command) -> Result<bool, &'static str> {
        let before = self.instances.clone();
        match command {
            Command::OpenSession { session, ttl } => match self.find(*session) {
                Some((_, open, _)) if open == ttl => self.renew(now, *session),
                Some(_) => return Err("conflict"),
                None if self.sessions.len() == LIMITS.sessions_max => return Err("exhausted"),
                None => self.sessions.push((*session, *ttl, now + ttl.unwrap_or_default())),
            },
            Command::RenewSession { session } => {
                self.find(*session).ok_or("not found")?;
                self.renew(now, *session);
            }
            Command::CloseSession { session } => {
                self.find(*session).ok_or("not found")?;
                self.end(*session);
            }
            Command::Register { session, instance } => {
                self.find(*session).ok_or("not found")?;
                let held = self.instances.iter().filter(|(owner, _)| owner == session).count();
                let is_full =
                    self.instances.len() == LIMITS.instances_max || held == LIMITS.instances_per_session_max;
                match self.instances.iter_mut().find(|(_, other)| other.id == instance.id) {
                    Some((owner, _)) if owner != session => return Err("conflict"),
                    Some((_, old)) => *old = instance.clone(),
                    None if is_full => return Err("exhausted"),
                    None => self.instances.push((*session, instance.clone())),
                }
            }
            Command::Update { session, id, patch } => {
                let index = self.held(*session, id)?;
                let old = &mut self.instances[index].1;
                *old = patch.clone().applied_to(old);
            }
            Command::Deregister { session, id } => {
                let index = self.held(*session, id)?;
                self.instances.remove(index);
            }
            Command::Amend { seen, becomes } => {
                let index =
                    self.instances.iter().position(|(_, one)| one.id == seen.id).ok_or("not found")?;
                if self.instances[index].1 != **seen {
                    return Err("conflict");
                }
                match becomes {
                    Some(instance) => self.instances[index].1 = Instance::clone(instance),
                    None => drop(self.instances.remove(index)),
                }
            }
        }
        let is_changed = self.instances != before;
        self.revision += u64::from(is_changed);
        Ok(is_changed)
    }

    /// Ends all overdue sessions, those overdue longest first, and returns them.
    fn expire(&mut self, now: Duration) -> Vec<SessionId> {
        let mut overdue: Vec<_> = self.sessions.clone();
        overdue.retain(|(_, ttl, deadline)| ttl.is_some() && *deadline <= now);
        overdue.sort_by_key(|(session, _, deadline)| (*deadline, *session));
        for (session, ..) in &overdue {
            let before = self.instances.len();
            self.end(*session);
            self.revision += u64::from(self.instances.len() < before);
        }
        overdue.into_iter().map(|(session, ..)| session).collect()
    }

    fn find(&self, wanted: SessionId) -> Option<&(SessionId, Option<Duration>, Duration)> {
        self.sessions.iter().find(|(session, ..)| *session == wanted)
    }

    fn renew(&mut self, now: Duration, wanted: SessionId) {
        for (session, ttl, deadline) in &mut self.sessions {
            if *session == wanted {
                *deadline = now + ttl.unwrap_or_default();
            }
        }
    }

    fn end(&mut self, ended: SessionId) {
        self.sessions.retain(|(session, ..)| *session != ended);
        self.instances.retain(|(owner, _)| *owner != ended);
    }

    fn held(&self, session: SessionId, id: &InstanceId) -> Result<usize, &'static str> {
        self.find(session).ok_or("not found")?;
        let found = self.instances.iter().position(|(_, instance)| instance.id == *id);
        let index = found.ok_or("not found")?;
        if self.instances[index].0 == session { Ok(index) } else { Err("conflict") }
    }

    fn by_id(&self) -> BTreeMap<InstanceId, Instance> {
        let by_id = self.instances.iter().map(|(_, instance)| (instance.id.clone(), instance.clone()));
        by_id.collect()
    }
}

/// What someone knows who only heard the changes.
#[derive(Default)]
struct Listener {
    at: Revision,
    known: BTreeMap<InstanceId, Arc<Instance>>,
}

impl Listener {
    fn hear(&mut self, change: Change) {
        assert_eq!(change.at, self.at.next());
        self.at = change.at;
        assert!(!change.deltas.is_empty());
        let id = |side: &Option<Arc<Instance>>| side.as_ref().map(|instance| instance.id.clone());
        let ids: Vec<_> = change.deltas.iter().map(|delta| id(&delta.before).or(id(&delta.after))).collect();
        assert!(ids.is_sorted(), "{ids:?}");
        for (delta, id) in change.deltas.into_iter().zip(ids.into_iter().flatten()) {
            assert_ne!(delta.before, delta.after);
            assert_eq!(self.known.get(&id), delta.before.as_ref());
            match delta.after {
                Some(after) => self.known.insert(id, after),
                None => self.known.remove(&id),
            };
        }
    }
}

fn kind(error: &Error) -> &'static str {
    let kinds = [
        (error.is_not_found(), "not found"),
        (error.is_conflict(), "conflict"),
        (error.is_invalid(), "invalid"),
        (error.is_exhausted(), "exhausted"),
    ];
    let mut found = kinds.into_iter().filter(|(is_kind, _)| *is_kind);
    let (_, kind) = found.next().expect("every error is of a kind");
    assert!(found.next().is_none(), "{error:?} is of two kinds");
    kind
}

fn commands() -> impl Strategy<Value = Command> {
    let session = || (0..4_u128).prop_map(SessionId::from_number);
    let id = || (0..7_u8).prop_map(|number| format!("i{number}").parse::<InstanceId>().expect("an id"));
    let health = || prop::sample::select(vec![Health::Passing, Health::Critical]);
    let ttl = prop::option::of((1..4_u64).prop_map(Duration::from_secs));
    let instance =
        (id(), prop::sample::select(vec!["api", "web"]), health()).prop_map(|(id, service, health)| {
            let address = "10.0.0.2".parse().expect("an address");
            let mut instance = Instance::new(
                id,
                service.parse().expect("a service name"),
                address,
                "80".parse().expect("a port"),
            );
            instance.health = health;
            instance
        });
    let patch = prop::option::of(health()).prop_map(|health| Patch { health, ..Patch::default() });
    // What was seen is right as often as it is wrong, with so few values.
    let amend = (instance.clone(), prop::option::of(health())).prop_map(|(seen, health)| {
        let becomes = health.map(|health| Arc::new(seen.judged(health, true)));
        Command::Amend { seen: Arc::new(seen), becomes }
    });
    prop_oneof![
        2 => amend,
        2 => (session(), ttl).prop_map(|(session, ttl)| Command::OpenSession { session, ttl }),
        2 => session().prop_map(|session| Command::RenewSession { session }),
        1 => session().prop_map(|session| Command::CloseSession { session }),
        6 => (session(), instance).prop_map(|(session, instance)| Command::Register { session, instance }),
        3 => (session(), id(), patch).prop_map(|(session, id, patch)| Command::Update { session, id, patch }),
        2 => (session(), id()).prop_map(|(session, id)| Command::Deregister { session, id }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn state_agrees_with_a_model(steps in prop::collection::vec((0..900_u64, commands()), 1..120)) {
        let mut state = State::new(Revision::ZERO, LIMITS);
        let mut model = Model::default();
        let mut listener = Listener::default();
        let mut now = Duration::ZERO;
        for (pause_ms, command) in steps {
            now += Duration::from_millis(pause_ms);
            let mut expired = Vec::new();
            while let Some(one) = state.expire_next(now) {
                expired.push(one.session);
                one.change.into_iter().for_each(|change| listener.hear(change));
            }
            prop_assert_eq!(expired, model.expire(now));

            let expected = model.apply(now, &command);
            let answer = state.apply(now, command);
            prop_assert_eq!(answer.as_ref().map(Option::is_some).map_err(kind), expected);
            answer.into_iter().flatten().for_each(|change| listener.hear(change));

            prop_assert_eq!(state.revision().number(), model.revision);
            let known = listener.known.iter().map(|(id, instance)| (id.clone(), Instance::clone(instance)));
            prop_assert_eq!(known.collect::<BTreeMap<_, _>>(), model.by_id());
            let deadlines = model.sessions.iter().filter(|(_, ttl, _)| ttl.is_some());
            prop_assert_eq!(state.next_deadline(), deadlines.map(|(.., deadline)| *deadline).min());
        }
    }
}

#[test]
fn a_clock_that_runs_backwards_ends_no_session_early() {
    let mut state = State::new(Revision::ZERO, Limits::default());
    let session = SessionId::from_number(1);
    let seconds = Duration::from_secs;
    let ttl = Some(seconds(10));
    state.apply(seconds(100), Command::OpenSession { session, ttl }).unwrap();
    state.apply(seconds(50), Command::RenewSession { session }).unwrap();
    assert_eq!(state.expire_next(seconds(109)), None);
    assert!(state.expire_next(seconds(110)).is_some());
}

#[test]
fn a_renewal_that_comes_before_the_expiry_is_noticed_is_honoured() {
    let mut state = State::new(Revision::ZERO, Limits::default());
    let session = SessionId::from_number(1);
    let seconds = Duration::from_secs;
    let ttl = Some(seconds(10));
    state.apply(seconds(0), Command::OpenSession { session, ttl }).unwrap();
    state.apply(seconds(30), Command::RenewSession { session }).unwrap();
    assert_eq!(state.expire_next(seconds(30)), None);
    assert_eq!(state.next_deadline(), Some(seconds(40)));
}
