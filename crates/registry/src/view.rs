//! What readers see: the instances, the recent changes, and where to wait for more.
//!
//! Two kinds of reader exist, those of one service and those of everything, so everything is kept per
//! [`Scope`]. A scope's list is immutable, shared by all its readers, and built by the first who asks after
//! a change: a burst of a thousand registrations costs one list and not a thousand.
//!
//! The history of a scope holds the same changes as the one ring, by reference. Thus a reader of a quiet
//! service looks only at changes of that service, and has missed none merely because the ring has turned
//! over since.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use netloft_types::{Instance, InstanceId, Instances, Query, Revision, ServiceName, Update};
use tokio::sync::Notify;

use crate::Change;

/// Updates after which a batch ends, at the next revision. It bounds the memory and the time under the lock
/// that one read can take to about those of the largest revision.
const BATCH_LEN_MAX: usize = 1_024;

pub(crate) struct View {
    /// The revision up to which everything here is.
    pub(crate) at: Revision,
    /// How many deltas were ever published; it tells how far the ring has turned.
    pub(crate) published: u64,
    pub(crate) watchers: usize,
    pub(crate) closed: bool,
    /// Deltas in the history.
    history_len: usize,
    history_len_max: usize,
    everything: Scope,
    /// Those that have an instance, a change in the history, or a watcher.
    services: BTreeMap<ServiceName, Scope>,
}

/// One service, or everything.
struct Scope {
    instances: BTreeMap<InstanceId, Arc<Instance>>,
    list: OnceLock<Instances>,
    /// The changes in the history that touched this scope, oldest first.
    recent: VecDeque<Arc<Change>>,
    /// The newest change that may have touched this scope and is no longer in the history.
    lost: Revision,
    watchers: usize,
    changed: Arc<Notify>,
}

/// What happened after a revision, as far as it was read.
pub(crate) struct News {
    pub(crate) updates: Vec<Update>,
    /// Nothing else happened up to here.
    pub(crate) reached: Revision,
}

impl View {
    pub(crate) fn new(start: Revision, history_len_max: usize) -> Self {
        Self {
            at: start,
            published: 0,
            watchers: 0,
            closed: false,
            history_len: 0,
            history_len_max,
            everything: Scope::new(start),
            services: BTreeMap::new(),
        }
    }

    /// A view of what was published by another one, as if it were the same: `instances` and the `history` that
    /// led to them, of which the last change before is at `lost`.
    pub(crate) fn resume(
        at: Revision,
        instances: &[Arc<Instance>],
        history: Vec<Change>,
        lost: Revision,
        history_len_max: usize,
    ) -> Self {
        let mut view = Self { at, ..Self::new(lost, history_len_max) };
        let by_id = |instance: &Arc<Instance>| (instance.id.clone(), Arc::clone(instance));
        view.everything.instances = instances.iter().map(by_id).collect();
        // Whole maps from sorted parts: instance by instance, it would be most of the time that a store with many
        // of them takes to open.
        let mut by_service: HashMap<&ServiceName, Vec<&Arc<Instance>>> = HashMap::new();
        for instance in instances {
            by_service.entry(&instance.service).or_default().push(instance);
        }
        for (service, instances) in by_service {
            view.service_mut(service).instances = instances.into_iter().map(by_id).collect();
        }
        for change in history.into_iter().map(Arc::new) {
            view.history_len += change.deltas.len();
            view.everything.record(&change);
            for service in change.services() {
                view.service_mut(service).record(&change);
            }
        }
        view.trim();
        view
    }

    pub(crate) fn get(&self, id: &InstanceId) -> Option<Arc<Instance>> {
        self.everything.instances.get(id).cloned()
    }

    /// Everything in the scope of `query`: its service's instances, not filtered yet.
    pub(crate) fn list(&self, query: &Query) -> Instances {
        self.scope(query).map_or_else(Instances::default, Scope::list)
    }

    /// The lists of all services that have an instance.
    pub(crate) fn lists(&self) -> Vec<(ServiceName, Instances)> {
        let inhabited = self.services.iter().filter(|(_, scope)| !scope.instances.is_empty());
        inhabited.map(|(name, scope)| (name.clone(), scope.list())).collect()
    }

    /// What happened to what `query` selects after `position`, or `None` if that is no longer known.
    pub(crate) fn news(&self, query: &Query, position: Revision) -> Option<News> {
        let scope = self.scope(query).filter(|scope| scope.lost <= position)?;
        let first = scope.recent.partition_point(|change| change.at <= position);
        let mut updates = Vec::new();
        let mut reached = position;
        for change in scope.recent.range(first..) {
            if updates.len() >= BATCH_LEN_MAX {
                return Some(News { updates, reached });
            }
            updates.extend(change.updates(query));
            reached = change.at;
        }
        let reached = self.at;
        Some(News { updates, reached })
    }

    /// Whether the ring has turned so far since `published` that a watch should tell where it stands.
    ///
    /// A quarter: what is told at least that often stays well inside the history.
    pub(crate) fn is_progress_due(&self, published: u64) -> bool {
        self.published - published >= self.progress_len()
    }

    fn progress_len(&self) -> u64 {
        (self.history_len_max as u64 / 4).max(1)
    }

    /// Takes in a change, and returns whom to wake: the watchers of what it touched, and, each time the ring
    /// has turned by a quarter, all watchers, so that those of quiet services can tell their progress.
    ///
    /// # Panics
    ///
    /// If the change is not newer than all before it: the store is broken, and going on would spread that.
    pub(crate) fn push(&mut self, change: Change) -> Vec<Arc<Notify>> {
        assert!(change.at > self.at, "change {} published after {}", change.at, self.at);
        self.at = change.at;
        let change = Arc::new(change);
        for delta in &change.deltas {
            if let Some(before) = &delta.before {
                self.everything.remove(before);
                self.service_mut(&before.service).remove(before);
            }
            if let Some(after) = &delta.after {
                self.everything.insert(after);
                self.service_mut(&after.service).insert(after);
            }
        }

        self.everything.record(&change);
        let mut wake = vec![Arc::clone(&self.everything.changed)];
        for service in change.services() {
            let scope = self.service_mut(service);
            scope.record(&change);
            if scope.watchers > 0 {
                wake.push(Arc::clone(&scope.changed));
            }
        }

        self.history_len += change.deltas.len();
        self.trim();
        let quarter = self.published / self.progress_len();
        self.published += change.deltas.len() as u64;
        if self.published / self.progress_len() > quarter {
            let watched = self.services.values().filter(|scope| scope.watchers > 0);
            wake.extend(watched.map(|scope| Arc::clone(&scope.changed)));
        }
        wake
    }

    /// Has other contents from now on, without the history that led to them. Returns whom to wake: everybody.
    ///
    /// # Panics
    ///
    /// If `at` is not newer than all before it.
    pub(crate) fn replace(&mut self, at: Revision, instances: &[Arc<Instance>]) -> Vec<Arc<Notify>> {
        assert!(at > self.at, "contents of {at} published after {}", self.at);
        self.at = at;
        self.history_len = 0;
        self.everything.clear(at);
        self.services.values_mut().for_each(|scope| scope.clear(at));
        for instance in instances {
            self.everything.insert(instance);
            self.service_mut(&instance.service).insert(instance);
        }
        self.services.retain(|_, scope| !scope.is_idle());
        self.waiting()
    }

    /// Forgets the oldest changes until the history is within its bound.
    fn trim(&mut self) {
        while self.history_len > self.history_len_max {
            let Some(oldest) = self.everything.forget_oldest() else {
                return;
            };
            self.history_len -= oldest.deltas.len();
            for service in oldest.services() {
                self.service_mut(service).forget_oldest();
                self.drop_if_idle(service);
            }
        }
    }

    /// Counts one more watcher of the scope of `query`, and tells where it is to wait.
    pub(crate) fn add_watcher(&mut self, query: &Query) -> Arc<Notify> {
        self.watchers += 1;
        let scope = match &query.service {
            None => &mut self.everything,
            Some(service) => self.service_mut(service),
        };
        scope.watchers += 1;
        Arc::clone(&scope.changed)
    }

    /// Undoes [`View::add_watcher`].
    pub(crate) fn remove_watcher(&mut self, query: &Query) {
        self.watchers -= 1;
        match &query.service {
            None => self.everything.watchers -= 1,
            Some(service) => {
                self.service_mut(service).watchers -= 1;
                self.drop_if_idle(service);
            }
        }
    }

    /// All places where watchers wait.
    pub(crate) fn waiting(&self) -> Vec<Arc<Notify>> {
        let scopes = self.services.values().chain([&self.everything]);
        scopes.map(|scope| Arc::clone(&scope.changed)).collect()
    }

    fn scope(&self, query: &Query) -> Option<&Scope> {
        match &query.service {
            None => Some(&self.everything),
            Some(service) => self.services.get(service),
        }
    }

    /// A service unknown until now has had no change since the oldest in the history; before that, who knows.
    fn service_mut(&mut self, service: &ServiceName) -> &mut Scope {
        let lost = self.everything.lost;
        // Not `entry`: it would clone the name each time, and nearly always the service is there.
        if !self.services.contains_key(service) {
            self.services.insert(service.clone(), Scope::new(lost));
        }
        self.services.get_mut(service).expect("was just ensured")
    }

    fn drop_if_idle(&mut self, service: &ServiceName) {
        if self.services.get(service).is_some_and(Scope::is_idle) {
            self.services.remove(service);
        }
    }
}

impl Scope {
    fn new(lost: Revision) -> Self {
        Self {
            instances: BTreeMap::new(),
            list: OnceLock::new(),
            recent: VecDeque::new(),
            lost,
            watchers: 0,
            changed: Arc::new(Notify::new()),
        }
    }

    fn list(&self) -> Instances {
        self.list.get_or_init(|| self.instances.values().cloned().collect()).clone()
    }

    fn clear(&mut self, at: Revision) {
        self.instances.clear();
        self.list = OnceLock::new();
        self.recent.clear();
        self.lost = at;
    }

    fn insert(&mut self, instance: &Arc<Instance>) {
        self.instances.insert(instance.id.clone(), Arc::clone(instance));
    }

    fn remove(&mut self, instance: &Instance) {
        self.instances.remove(&instance.id);
    }

    fn record(&mut self, change: &Arc<Change>) {
        self.list = OnceLock::new();
        self.recent.push_back(Arc::clone(change));
    }

    fn forget_oldest(&mut self) -> Option<Arc<Change>> {
        let oldest = self.recent.pop_front()?;
        self.lost = oldest.at;
        Some(oldest)
    }

    fn is_idle(&self) -> bool {
        self.instances.is_empty() && self.recent.is_empty() && self.watchers == 0
    }
}
