//! How changes reach those who watch: they pull, nobody pushes.
//!
//! A [`Feed`] is the published side of a store: the current instances and one bounded history of changes.
//! A [`Watch`] is a query, a position in that history and a place to wait: it has no queue, so a slow reader
//! costs nothing and slows nobody. When its position has fallen off the history it gets a new snapshot.
//!
//! Everything published sits behind one lock, held for pointer swaps and copies, never across an await.
//! One lock per service, or a concurrent map of lists, would let a reader see a session's end in one service
//! and not yet in another; with one lock a list is exactly one revision of the whole store, and a read costs
//! the same on a small machine.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use netloft_types::{
    Health, HealthFilter, Instance, InstanceId, Instances, LifecycleFilter, Query, Revision, ServiceName,
    Update,
};
use tokio::sync::Notify;

use crate::view::View;
use crate::{Change, Closed, Error, Found, ServiceSummary, Services, Snapshot, State, Usage};

/// How much a feed remembers, and for how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedOptions {
    /// Changed instances in the history, which is how far back a watch can be resumed.
    ///
    /// The default of 16,384 covers half a minute, a client's reconnection, at the 463 changes a second that
    /// a million hosts with an instance life of one day make; an ordinary cluster gets hours. Full, it takes
    /// some 15 MiB beyond what is registered anyway.
    pub history_len_max: usize,
    /// Watches. The default of 65,536 is some 40 MiB, with the task that reads each.
    pub watchers_max: usize,
}

impl Default for FeedOptions {
    fn default() -> Self {
        Self { history_len_max: 16_384, watchers_max: 65_536 }
    }
}

/// The published side of a store: what it answers reads and watches from. A cheap handle, to be cloned.
///
/// A store publishes each [`Change`] here, in order, once it holds: for a store that promises durability,
/// once it is on disk.
#[derive(Clone)]
pub struct Feed {
    view: Arc<RwLock<View>>,
    watchers_max: usize,
}

impl Feed {
    /// Makes a feed of nothing at the revision `start`.
    pub fn new(start: Revision, options: &FeedOptions) -> Self {
        Self {
            view: Arc::new(RwLock::new(View::new(start, options.history_len_max))),
            watchers_max: options.watchers_max,
        }
    }

    /// Makes a feed that goes on where one before ended, at the revision `at`: with its `instances`, and with so
    /// much of the `history` behind it as is still known. The last change before that is at `lost`.
    pub fn resume(
        at: Revision,
        instances: &[Arc<Instance>],
        history: Vec<Change>,
        lost: Revision,
        options: &FeedOptions,
    ) -> Self {
        let view = View::resume(at, instances, history, lost, options.history_len_max);
        Self { view: Arc::new(RwLock::new(view)), watchers_max: options.watchers_max }
    }

    /// The revision of the last change that was published.
    pub fn revision(&self) -> Revision {
        self.read().at
    }

    /// Makes a change visible to all readers at once, and wakes the watchers that may care.
    ///
    /// # Panics
    ///
    /// If the change is not newer than all before it: a store that publishes out of order is broken.
    pub fn publish(&self, change: Change) {
        let wake = self.write().push(change);
        for place in wake {
            place.notify_waiters();
        }
    }

    /// Goes on from other contents, when what happened in between is not known: every watch gets a `Reset`.
    ///
    /// # Panics
    ///
    /// If `at` is not after everything published before.
    pub fn replace(&self, at: Revision, instances: &[Arc<Instance>]) {
        let wake = self.write().replace(at, instances);
        for place in wake {
            place.notify_waiters();
        }
    }

    /// Ends the feed: a watch that has read everything gets [`Closed`] from now on.
    pub fn close(&self) {
        // A poisoned feed is as good as closed; and this runs in destructors, which must not panic.
        let Ok(mut view) = self.view.write() else { return };
        view.closed = true;
        let wake = view.waiting();
        drop(view);
        for place in wake {
            place.notify_waiters();
        }
    }

    /// Finds one instance.
    pub fn get(&self, id: &InstanceId) -> Found {
        let view = self.read();
        Found { at: view.at, instance: view.get(id), age: Duration::ZERO }
    }

    /// Lists the instances that `query` selects.
    pub fn list(&self, query: &Query) -> Snapshot {
        let (at, list) = {
            let view = self.read();
            (view.at, view.list(query))
        };
        let instances = select(query, list);
        Snapshot { at, instances, age: Duration::ZERO }
    }

    /// Lists the services that have an instance.
    pub fn services(&self) -> Services {
        let (at, lists) = {
            let view = self.read();
            (view.at, view.lists())
        };
        let all = lists.into_iter().map(|(name, list)| summarize(name, &list)).collect();
        Services { at, all, age: Duration::ZERO }
    }

    /// How much of what `state` may hold, and of the watches there may be here, is there.
    pub fn usage(&self, state: &State) -> Usage {
        Usage {
            sessions: state.sessions_len(),
            instances: state.instances_len(),
            watchers: self.read().watchers,
            limits: state.limits().clone(),
            watchers_max: self.watchers_max,
        }
    }

    /// Watches what `query` selects; see [`Store::watch`](crate::Store::watch).
    ///
    /// # Errors
    ///
    /// [`Error::Exhausted`] if there are too many watches.
    pub fn watch(&self, query: Query, from: Option<Revision>) -> Result<Watch, Error> {
        let mut view = self.write();
        if view.watchers >= self.watchers_max {
            return Err(Error::Exhausted { limit: "watchers_max", max: self.watchers_max });
        }
        let changed = view.add_watcher(&query);
        // A revision that is yet to come is of another history than this one.
        let position = from.filter(|from| *from <= view.at);
        let told_at = position.unwrap_or(view.at);
        drop(view);
        Ok(Watch { feed: self.clone(), query, changed, position, told_at, told_published: 0, gate: None })
    }

    /// Watches what `query` selects from the beginning, but not before `gate` is through: for a store that may know
    /// less yet than the watcher was told elsewhere.
    ///
    /// # Errors
    ///
    /// [`Error::Exhausted`] if there are too many watches.
    pub fn watch_behind(
        &self,
        query: Query,
        gate: impl Future<Output = ()> + Send + Sync + 'static,
    ) -> Result<Watch, Error> {
        let mut watch = self.watch(query, None)?;
        watch.gate = Some(Box::pin(gate));
        Ok(watch)
    }

    fn read(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().expect(POISONED)
    }

    fn write(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().expect(POISONED)
    }
}

const POISONED: &str = "an earlier panic left the feed half changed: it refuses further work";

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").finish_non_exhaustive()
    }
}

/// A watch of what a query selects.
///
/// It delivers batches of [`Update`]s: first a `Reset`, unless it was resumed, then changes. What a consumer
/// may rely on:
///
/// - **ordered**: revisions never go back;
/// - **unique**: no change comes twice, not even after resuming;
/// - **atomic**: a batch holds all of a revision or nothing of it;
/// - **reliable**: nothing is missing between two batches; where that cannot be kept, because the reader was
///   slower than the history is long, the next batch is a `Reset`;
/// - **resumable**: a new watch of the same query, from the revision of the last update of the last batch,
///   goes on as if it were the same watch. If the history no longer reaches back so far, or never had that
///   revision, it begins with a `Reset`;
/// - **progress never ahead**: a `Progress` comes after everything up to its revision;
/// - **filter exact**: an instance comes by `Put` when it is selected, new or changed, and goes by `Delete`
///   when it no longer is, whether removed or merely changed.
///
/// A batch ends with a `Progress` if the watch got further than its last change. A watch that has had nothing
/// to say while a quarter of the history turned over says `Progress` by itself, so that it can still be
/// resumed however quiet its service is. That is counted in changes and not in seconds, because changes
/// are what pushes a revision out of the history: a store at rest sends nothing at all.
pub struct Watch {
    feed: Feed,
    query: Query,
    changed: Arc<Notify>,
    /// Everything up to here was delivered or is not selected; a `Reset` is due if there is none.
    position: Option<Revision>,
    /// The last revision the consumer heard of, and how far the history was then.
    told_at: Revision,
    told_published: u64,
    /// What is to be waited for before anything is said.
    gate: Option<Gate>,
}

type Gate = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

impl Watch {
    /// The query that selects what is watched.
    pub fn query(&self) -> &Query {
        &self.query
    }

    /// Waits for the next batch, which is never empty.
    ///
    /// # Errors
    ///
    /// [`Closed`] once the store has gone and everything it published was delivered.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped: the next call delivers what this one would have.
    pub async fn next(&mut self) -> Result<Vec<Update>, Closed> {
        // A reader that always finds news would otherwise never let others on its thread have a turn.
        tokio::task::coop::consume_budget().await;
        if let Some(gate) = &mut self.gate {
            gate.await;
            self.gate = None;
        }
        let changed = Arc::clone(&self.changed);
        loop {
            // Made before looking, so that a change between looking and waiting is not slept through.
            let woken = changed.notified();
            if let Some(batch) = self.read()? {
                return Ok(batch);
            }
            woken.await;
        }
    }

    /// Reads what there is to deliver now. Everything it changes in `self`, it returns.
    fn read(&mut self) -> Result<Option<Vec<Update>>, Closed> {
        let feed = self.feed.clone();
        let view = feed.read();
        let Some(news) = self.position.and_then(|position| view.news(&self.query, position)) else {
            let list = view.list(&self.query);
            let at = view.at;
            self.advance(at, view.published);
            drop(view);
            let all = select(&self.query, list);
            return Ok(Some(vec![Update::Reset { at, all }]));
        };
        let mut batch = news.updates;
        let unsaid = news.reached > batch.last().map_or(self.told_at, Update::at);
        if unsaid && (!batch.is_empty() || view.is_progress_due(self.told_published)) {
            batch.push(Update::Progress { at: news.reached });
        }
        if !batch.is_empty() {
            self.advance(news.reached, view.published);
            return Ok(Some(batch));
        }
        if view.closed {
            return Err(Closed);
        }
        self.position = Some(news.reached);
        Ok(None)
    }

    fn advance(&mut self, at: Revision, published: u64) {
        self.position = Some(at);
        self.told_at = at;
        self.told_published = published;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Ok(mut view) = self.feed.view.write() {
            view.remove_watcher(&self.query);
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("query", &self.query)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

/// What `query` selects of a list of its scope: most often all of it, which is then shared.
fn select(query: &Query, list: Instances) -> Instances {
    let is_ordinary = query.tags.is_empty()
        && query.within.is_none()
        && (query.health, query.lifecycle) == (HealthFilter::default(), LifecycleFilter::default());
    let selected =
        if is_ordinary { list.derive(|all| Usable(part(query, all))).0.clone() } else { part(query, &list) };
    selected.unwrap_or(list)
}

/// What an ordinary query selects of a list.
struct Usable(Option<Instances>);

/// What `query` selects of a list, if that is not all of it.
fn part(query: &Query, list: &[Arc<Instance>]) -> Option<Instances> {
    if list.iter().all(|instance| query.matches(instance)) {
        return None;
    }
    Some(list.iter().filter(|instance| query.matches(instance)).cloned().collect())
}

fn summarize(name: ServiceName, list: &Instances) -> ServiceSummary {
    let Counts { passing, critical, usable } = *list.derive(|all| {
        let count = |selected: &dyn Fn(&Instance) -> bool| all.iter().filter(|one| selected(one)).count();
        let ordinary = Query::default();
        Counts {
            passing: count(&|one| one.health == Health::Passing),
            critical: count(&|one| one.health == Health::Critical),
            usable: count(&|one| ordinary.matches(one)),
        }
    });
    ServiceSummary { instances: list.len(), passing, critical, usable, name }
}

/// How the instances of a service are.
struct Counts {
    passing: usize,
    critical: usize,
    usable: usize,
}
