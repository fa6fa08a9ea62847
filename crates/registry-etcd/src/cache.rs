//! What this server knows of the registry: all of it, as of one revision of etcd.
//!
//! The rules are those of every store ([`State`]); beside it stands what transactions have to name: at which revision
//! of etcd each key was last put.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use netloft_registry::codec::Reading;
use netloft_registry::{Change, Effect, Limits, State, Unfit};
use netloft_types::{Instance, InstanceId, Revision, SessionId};

use crate::keys::{Key, Keys, ServerId};
use crate::liveness::Liveness;
use crate::pb::event::EventType;
use crate::pb::{Event, KeyValue};
use crate::records::{Mark, SessionRecord, Unreadable, read_base, read_index, read_instance};

/// Everything that is known.
pub(crate) struct Cache {
    keys: Keys,
    state: State,
    pub(crate) liveness: Liveness,
    /// A revision is this and how often the head was put.
    base: u64,
    /// The revision of etcd up to which everything is here.
    applied: i64,
    /// The last transaction of anybody.
    last: (i64, Vec<u8>),
    sessions: HashMap<SessionId, i64>,
    instances: HashMap<InstanceId, i64>,
    index: HashMap<InstanceId, Indexed>,
    /// Those of the index whose instances are gone.
    stale: BTreeSet<InstanceId>,
    epochs: BTreeMap<ServerId, i64>,
    reading: Reading,
}

#[derive(Debug, Clone, Copy)]
struct Indexed {
    modified: i64,
    session: SessionId,
}

/// What one revision of etcd was to the registry.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// What changed for those who watch. It may be empty.
    pub(crate) change: Option<Change>,
    /// Whose transaction it was.
    pub(crate) mark: Option<Mark>,
    /// The instances of sessions that this server counts from now on, or does not any more.
    pub(crate) handed_over: Vec<InstanceId>,
}

/// What is in etcd was not written by servers like this one, or not all of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("{0}")]
    Unfit(&'static str),
}

impl From<Unfit> for Broken {
    fn from(_: Unfit) -> Self {
        Self::Unfit("a change does not fit what was there before")
    }
}

impl Cache {
    /// Makes a cache of everything below the prefix as of the revision `applied` of etcd.
    pub(crate) fn of(
        keys: Keys,
        mut liveness: Liveness,
        limits: Limits,
        now: Duration,
        applied: i64,
        contents: &[KeyValue],
    ) -> Result<Self, Broken> {
        let parsed: Vec<_> = contents.iter().filter_map(|kv| Some((keys.parse(&kv.key)?, kv))).collect();
        let find = |wanted: &Key| parsed.iter().find(|(key, _)| key == wanted).map(|(_, kv)| *kv);
        let head = find(&Key::Head).ok_or(Broken::Unfit("there is no head"))?;
        let last = find(&Key::Last).ok_or(Broken::Unfit("there is no last transaction"))?;
        let base = read_base(&head.value)?;
        for (key, _) in &parsed {
            if let Key::Server(server) = key {
                liveness.server_lives(*server);
            }
        }
        let mut cache = Self {
            state: State::new(Revision::ZERO, limits),
            liveness,
            base,
            applied,
            last: (last.mod_revision, last.value.clone()),
            sessions: HashMap::new(),
            instances: HashMap::new(),
            index: HashMap::new(),
            stale: BTreeSet::new(),
            epochs: BTreeMap::new(),
            reading: Reading::default(),
            keys,
        };
        // In the order of keys a session comes before its instances.
        for (key, kv) in parsed {
            cache.put(now, key, kv)?;
        }
        cache.state.skip_to(revision(base, head.version));
        let index = cache.index.iter();
        let stale = index.filter(|(id, indexed)| cache.state.holder(id) != Some(indexed.session));
        cache.stale = stale.map(|(id, _)| id.clone()).collect();
        Ok(cache)
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    pub(crate) fn applied(&self) -> i64 {
        self.applied
    }

    /// The last transaction of anybody: at which revision of etcd it was, and its mark.
    pub(crate) fn last(&self) -> &(i64, Vec<u8>) {
        &self.last
    }

    /// All instances, in order of their ids.
    pub(crate) fn everything(&self) -> Vec<Arc<Instance>> {
        self.state.instances().cloned().collect()
    }

    /// The revision of etcd at which a session was last put, 0 if it is not there. So are the next ones.
    pub(crate) fn session_modified(&self, session: SessionId) -> i64 {
        self.sessions.get(&session).copied().unwrap_or_default()
    }

    pub(crate) fn instance_modified(&self, id: &InstanceId) -> i64 {
        self.instances.get(id).copied().unwrap_or_default()
    }

    pub(crate) fn index_modified(&self, id: &InstanceId) -> i64 {
        self.index.get(id).map_or(0, |indexed| indexed.modified)
    }

    /// Whether the session of an instance is this server's to count.
    pub(crate) fn is_mine(&self, id: &InstanceId) -> bool {
        self.state.holder(id).is_some_and(|session| self.liveness.is_mine(session))
    }

    pub(crate) fn epoch(&self, server: ServerId) -> i64 {
        self.epochs.get(&server).copied().unwrap_or_default()
    }

    /// Keys of the index whose instances are gone, with the revision at which each was put; at most `max`.
    pub(crate) fn stale_index(&self, max: usize) -> Vec<(InstanceId, i64)> {
        self.stale.iter().take(max).map(|id| (id.clone(), self.index_modified(id))).collect()
    }

    /// Servers that are gone and own nothing any more.
    pub(crate) fn gone_servers(&self) -> Vec<(ServerId, i64)> {
        let gone = self
            .epochs
            .iter()
            .filter(|(server, _)| !self.liveness.is_alive(**server) && !self.liveness.owns_any(**server));
        gone.map(|(server, epoch)| (*server, *epoch)).collect()
    }

    /// Takes in all events of one revision of etcd.
    pub(crate) fn apply(&mut self, now: Duration, events: &[Event]) -> Result<Step, Broken> {
        let mut step = Step::default();
        let mut head = None;
        let before = self.state.revision();
        let parsed = events.iter().filter_map(|event| {
            let kv = event.kv.as_ref()?;
            Some((self.keys.parse(&kv.key)?, kv, event.r#type() == EventType::Delete))
        });
        let mut parsed: Vec<_> = parsed.collect();
        // The end of a session is one change, of which the ends of its instances are parts.
        parsed.sort_by_key(|(key, _, is_gone)| !(*is_gone && matches!(key, Key::Session(_))));
        for (key, kv, is_gone) in parsed {
            self.applied = self.applied.max(kv.mod_revision);
            let change = match key {
                Key::Head | Key::Last if is_gone => return Err(Broken::Unfit("somebody deleted the head")),
                Key::Head => {
                    if read_base(&kv.value)? != self.base {
                        return Err(Broken::Unfit("the history was begun anew"));
                    }
                    head = Some(revision(self.base, kv.version));
                    None
                }
                Key::Last => {
                    step.mark = Some(Mark::read(&kv.value)?);
                    self.last = (kv.mod_revision, kv.value.clone());
                    None
                }
                key if is_gone => self.delete(now, key)?,
                Key::Session(session) => {
                    let was_mine = self.liveness.is_mine(session);
                    let change = self.put(now, key, kv)?;
                    if self.liveness.is_mine(session) != was_mine {
                        step.handed_over.extend(self.state.instances_of(session).cloned());
                    }
                    change
                }
                key => self.put(now, key, kv)?,
            };
            if step.change.is_some() && change.is_some() {
                return Err(Broken::Unfit("two changes have one revision"));
            }
            step.change = step.change.or(change);
        }
        match head {
            Some(at) if at == before.next() => {
                self.state.skip_to(at);
                step.change.get_or_insert(Change { at, deltas: Vec::new() });
            }
            Some(_) => return Err(Broken::Unfit("a revision is missing")),
            None if step.change.is_some() => return Err(Broken::Unfit("a change has no revision")),
            None => {}
        }
        Ok(step)
    }

    fn put(&mut self, now: Duration, key: Key, kv: &KeyValue) -> Result<Option<Change>, Broken> {
        match key {
            Key::Session(session) => {
                let record = SessionRecord::read(&kv.value)?;
                if !self.state.is_open(session) {
                    self.state.carry_out(now, Effect::Open { session, ttl: record.ttl })?;
                } else if self.state.ttl(session) != record.ttl {
                    return Err(Broken::Unfit("a session has another time to live"));
                }
                self.sessions.insert(session, kv.mod_revision);
                self.liveness.session_is(now, session, record.ttl, record.owner);
                Ok(None)
            }
            Key::Instance(session, id) => {
                let instance = read_instance(&kv.value, &mut self.reading)?;
                if instance.id != id {
                    return Err(Unreadable::Malformed.into());
                }
                self.instances.insert(id, kv.mod_revision);
                let instance = Arc::new(instance);
                Ok(self.state.carry_out(now, Effect::Put { session, instance })?)
            }
            Key::Index(id) => {
                let session = read_index(&kv.value)?;
                self.stale.remove(&id);
                self.index.insert(id, Indexed { modified: kv.mod_revision, session });
                Ok(None)
            }
            Key::Server(server) => {
                self.liveness.server_lives(server);
                Ok(None)
            }
            Key::Epoch(server) => {
                self.epochs.insert(server, kv.mod_revision);
                Ok(None)
            }
            Key::Head | Key::Last => Ok(None),
        }
    }

    fn delete(&mut self, now: Duration, key: Key) -> Result<Option<Change>, Broken> {
        match key {
            Key::Session(session) => {
                self.sessions.remove(&session);
                self.liveness.forget(session);
                for id in self.state.instances_of(session) {
                    self.instances.remove(id);
                    self.stale.insert(id.clone());
                }
                Ok(self.state.carry_out(now, Effect::Close { session })?)
            }
            // Gone already if its session is.
            Key::Instance(session, id) if self.state.holder(&id) == Some(session) => {
                self.instances.remove(&id);
                Ok(self.state.carry_out(now, Effect::Delete { id })?)
            }
            Key::Index(id) => {
                self.index.remove(&id);
                self.stale.remove(&id);
                Ok(None)
            }
            Key::Server(server) => {
                self.liveness.server_is_gone(now, server);
                Ok(None)
            }
            Key::Epoch(server) => {
                self.epochs.remove(&server);
                Ok(None)
            }
            Key::Instance(..) | Key::Head | Key::Last => Ok(None),
        }
    }
}

/// The revision of the registry when the head was put so often.
pub(crate) fn revision(base: u64, head_version: i64) -> Revision {
    Revision::new(base + u64::try_from(head_version).unwrap_or_default())
}
