//! The store that lives in memory.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use netloft_health::{AwakeClock, BEAT};
use netloft_types::{InstanceId, Query, ReadMode, Revision};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tracing::info;

use crate::{
    Applied, BoxFuture, Command, Error, Feed, Found, Services, Snapshot, State, Store, StoreOptions, Usage,
    Watch,
};

/// A store whose registrations live as long as the process: for tests, for one host, and for whoever prefers
/// clients registering again to a disk.
///
/// It knows everything that there is to know, so its reads are linearizable whatever their mode. Its revisions begin at the microseconds since 1970, so that a watch resumed
/// from before a restart finds its revision older than the history and begins with a `Reset`, instead of
/// going on in a history that is not its own.
pub struct MemoryStore {
    shared: Arc<Shared>,
    expiry: JoinHandle<()>,
}

struct Shared {
    /// Held while a change is decided and published, so that changes are published in order.
    state: Mutex<Clocked>,
    feed: Feed,
    /// The time that the state calls zero.
    origin: Instant,
    /// Told when the next deadline has come nearer.
    nearer: Notify,
}

/// A state with the time that it is told: that in which renewals could be heard.
struct Clocked {
    state: State,
    clock: AwakeClock,
}

impl Clocked {
    /// Takes note of the real time, and answers the state's.
    fn tick(&mut self, now: Duration) -> Duration {
        if self.state.next_deadline().is_none() {
            self.clock.resume(now);
        }
        self.clock.tick(now)
    }
}

impl MemoryStore {
    /// Starts an empty store and the task that expires its sessions. Dropping the store ends both.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with time enabled.
    pub fn start(options: StoreOptions) -> Self {
        let start = first_revision();
        let shared = Arc::new(Shared {
            feed: Feed::new(start, &options.feed),
            state: Mutex::new(Clocked {
                state: State::new(start, options.limits),
                clock: AwakeClock::new(Duration::ZERO),
            }),
            origin: Instant::now(),
            nearer: Notify::new(),
        });
        let expiry = tokio::spawn(expire(Arc::clone(&shared)));
        Self { shared, expiry }
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        self.expiry.abort();
        self.shared.feed.close();
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl Store for MemoryStore {
    fn apply(&self, command: Command) -> BoxFuture<'_, Result<Applied, Error>> {
        Box::pin(async move { self.shared.apply(command) })
    }

    fn get<'a>(&'a self, id: &'a InstanceId, _: ReadMode) -> BoxFuture<'a, Result<Found, Error>> {
        Box::pin(async move { Ok(self.shared.feed.get(id)) })
    }

    fn list<'a>(&'a self, query: &'a Query, _: ReadMode) -> BoxFuture<'a, Result<Snapshot, Error>> {
        Box::pin(async move { Ok(self.shared.feed.list(query)) })
    }

    fn services(&self, _: ReadMode) -> BoxFuture<'_, Result<Services, Error>> {
        Box::pin(async move { Ok(self.shared.feed.services()) })
    }

    fn watch(&self, query: Query, from: Option<Revision>) -> Result<Watch, Error> {
        self.shared.feed.watch(query, from)
    }

    fn usage(&self) -> Usage {
        self.shared.feed.usage(&self.shared.lock().state)
    }
}

impl Shared {
    fn apply(&self, command: Command) -> Result<Applied, Error> {
        let session = command.session();
        let mut held = self.lock();
        let now = held.tick(self.origin.elapsed());
        let state = &mut held.state;
        let deadline = state.next_deadline();
        if let Some(change) = state.apply(now, command)? {
            self.feed.publish(change);
        }
        let is_nearer = match (state.next_deadline(), deadline) {
            (Some(now), Some(before)) => now < before,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if is_nearer {
            self.nearer.notify_one();
        }
        Ok(Applied { at: state.revision(), ttl: session.and_then(|session| state.ttl(session)) })
    }

    /// Ends one overdue session, or tells when the next will be.
    fn expire_one(&self) -> Next {
        let mut held = self.lock();
        let now = held.tick(self.origin.elapsed());
        let Some(expired) = held.state.expire_next(now) else {
            let deadline = held.state.next_deadline();
            return deadline.map_or(Next::Never, |deadline| Next::At(held.clock.real_time_of(deadline)));
        };
        let instances = expired.change.as_ref().map_or(0, |change| change.deltas.len());
        if let Some(change) = expired.change {
            self.feed.publish(change);
        }
        drop(held);
        info!(instances, "session expired");
        Next::Now
    }

    fn lock(&self) -> MutexGuard<'_, Clocked> {
        self.state.lock().expect("an earlier panic left the state half changed: it refuses further work")
    }
}

/// When a session expires next.
enum Next {
    Now,
    At(Duration),
    Never,
}

async fn expire(shared: Arc<Shared>) {
    loop {
        match shared.expire_one() {
            // Thousands may end at once; let those that renew and those that read in between.
            Next::Now => tokio::task::yield_now().await,
            Next::At(deadline) => {
                // Elapsed, or told that another deadline is nearer, or just to see that time passes: look again.
                let next = (shared.origin + deadline).min(Instant::now() + BEAT);
                let _ = timeout_at(next, shared.nearer.notified()).await;
            }
            Next::Never => shared.nearer.notified().await,
        }
    }
}

/// Above every revision of an earlier process, as long as none made more than a million changes a second and
/// the clock did not go back by more than that process lived. It stays below 2^53 until the year 2255, so
/// that JSON readers keep it exact.
pub(crate) fn first_revision() -> Revision {
    let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Revision::new(u64::try_from(age.as_micros()).unwrap_or_default())
}
