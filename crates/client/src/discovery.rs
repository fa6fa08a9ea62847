//! A local copy of what a query selects, fed by a watch.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use netloft_balance::Snapshot;
use netloft_types::{Query, Revision, Update};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::backoff::Backoff;
use crate::calls::Calls;
use crate::{Error, Operation};

/// The first wait after a watch was lost: a registry that only restarts is back within a few of these.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// So a registry that was away for long is noticed within seconds of its return.
const RETRY_LONGEST: Duration = Duration::from_secs(5);

/// What a query selects, followed in a task through lost connections and restarts of the registry.
///
/// While the registry is away, the last known set stays, and [`age`](Self::age) tells since when. The registry is
/// asked nothing when the set is read. Each clone sees [changes](Self::changed) for itself; the task ends with the
/// last of them.
#[derive(Debug, Clone)]
pub struct Discovery {
    follower: Arc<Follower>,
    news: watch::Receiver<News>,
    /// The version last seen by [`changed`](Self::changed).
    seen: u64,
}

impl Discovery {
    pub(crate) fn start(calls: Calls, query: Query) -> Self {
        Self::start_with(calls, query, Box::new(|_| {}))
    }

    /// Like [`start`](Self::start); `derive` is given every set before anybody else learns of it.
    pub(crate) fn start_with(calls: Calls, query: Query, derive: Derive) -> Self {
        let (publish, news) = watch::channel(News::default());
        let operation = Operation::Watch(query.service.clone());
        let target = calls.connection().target().clone();
        let snapshot = Arc::new(ArcSwap::default());
        let feed = Feed { calls, query, snapshot: Arc::clone(&snapshot), derive, publish };
        let follower = Arc::new(Follower {
            snapshot,
            task: tokio::spawn(feed.follow()),
            overdue: Box::new(move |timeout| Error::TimedOut {
                operation: operation.clone(),
                target: target.clone(),
                timeout,
            }),
        });
        Self { follower, news, seen: 0 }
    }

    /// The set as it was last known; empty before the first answer.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.follower.snapshot.load_full()
    }

    /// Waits for the first answer, no longer than `patience`. If there is none, the error tells why, and the task
    /// goes on trying.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn ready(&self, patience: Duration) -> Result<(), Error> {
        let mut news = self.news.clone();
        let answered = news.wait_for(|news| news.version > 0);
        let answered = timeout(patience, answered).await.is_ok_and(|answered| answered.is_ok());
        if answered {
            return Ok(());
        }
        let failure = self.news.borrow().failure.clone();
        Err(failure.unwrap_or_else(|| (self.follower.overdue)(patience)))
    }

    /// Waits until the set is another than when this was last called on this value, and returns it. The first call
    /// returns at the first answer.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped: the next call returns at once.
    pub async fn changed(&mut self) -> Arc<Snapshot> {
        let seen = self.seen;
        // The lock on the news is let go of at once, so that this can be awaited in a task of any runtime.
        let changed = self.news.wait_for(|news| news.version != seen).await.map(|news| news.version);
        match changed {
            Ok(version) => self.seen = version,
            // Without its task, as when the runtime shuts down, the set changes no more.
            Err(_) => std::future::pending().await,
        }
        self.snapshot()
    }

    /// How old the set may be: zero while the registry is watched, else the time since it was lost; `None` before
    /// the first answer.
    pub fn age(&self) -> Option<Duration> {
        let news = self.news.borrow();
        let lost_for = news.lost.map(|lost| lost.elapsed());
        (news.version > 0).then(|| lost_for.unwrap_or_default())
    }

    /// Whether the registry is away, so that changes are missed for now.
    pub fn is_stale(&self) -> bool {
        self.news.borrow().lost.is_some()
    }
}

/// What is called with every new set.
pub(crate) type Derive = Box<dyn Fn(&Snapshot) + Send + Sync>;

/// What all clones share: dropped with the last of them, it ends the task.
struct Follower {
    snapshot: Arc<ArcSwap<Snapshot>>,
    task: JoinHandle<()>,
    overdue: Box<dyn Fn(Duration) -> Error + Send + Sync>,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follower").field("snapshot", &self.snapshot).finish_non_exhaustive()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What readers wait for.
#[derive(Debug, Clone, Default)]
struct News {
    /// 0 before the first answer, then one more for each set.
    version: u64,
    /// Since when the registry is not watched.
    lost: Option<Instant>,
    failure: Option<Error>,
}

/// The task's side.
struct Feed {
    calls: Calls,
    query: Query,
    snapshot: Arc<ArcSwap<Snapshot>>,
    derive: Derive,
    publish: watch::Sender<News>,
}

impl Feed {
    /// Follows the registry. There is no last attempt, because whoever balances over the set needs it for as long
    /// as it runs.
    async fn follow(self) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
        let mut after = None;
        loop {
            let begun = Instant::now();
            let error = self.follow_once(&mut after).await;
            if begun.elapsed() > RETRY_LONGEST {
                backoff.reset();
            }
            let pause = backoff.draw();
            self.tell_lost(error, pause);
            sleep(pause).await;
        }
    }

    /// Follows one watch until it is lost, which is the error.
    async fn follow_once(&self, after: &mut Option<Revision>) -> Error {
        let mut watch = match self.calls.watch(&self.query, *after).await {
            Ok(watch) => watch,
            Err(error) => return error,
        };
        self.tell_found();
        loop {
            match watch.next().await {
                Ok(batch) => {
                    self.apply(&batch);
                    *after = batch.last().map(Update::at).or(*after);
                }
                Err(error) => return error,
            }
        }
    }

    fn apply(&self, batch: &[Update]) {
        let before = self.snapshot.load();
        let snapshot = before.apply(batch);
        let is_reset = matches!(batch.first(), Some(Update::Reset { .. }));
        let is_other = is_reset || !before.instances().is_same(snapshot.instances());
        if is_other {
            (self.derive)(&snapshot);
        }
        self.snapshot.store(Arc::new(snapshot));
        if is_other {
            self.publish.send_modify(|news| news.version += 1);
        }
    }

    fn tell_found(&self) {
        self.publish.send_modify(|news| {
            if let Some(lost) = news.lost.take() {
                info!(query = ?self.query, away = ?lost.elapsed(), "registry watched again");
            }
            news.failure = None;
        });
    }

    /// Logged once when the registry is lost, not each time it is still away.
    fn tell_lost(&self, error: Error, pause: Duration) {
        self.publish.send_modify(|news| {
            if news.lost.is_none() {
                warn!(query = ?self.query, error = error.chain(), retry_in = ?pause, "registry not watched; the last known set stays");
            }
            news.lost.get_or_insert_with(Instant::now);
            news.failure = Some(error);
        });
    }
}
