//! What the handle of a store and its tasks have in common.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use netloft_health::AwakeClock;
use netloft_registry::embedded::Condition;
use netloft_registry::{ClusterFault, Error, Feed, Handover};
use netloft_types::{InstanceId, Revision};
use tokio::sync::{Mutex as AsyncMutex, Notify, broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use crate::EtcdOptions;
use crate::cache::{Cache, Step};
use crate::cluster::Cluster;
use crate::keys::{Keys, ServerId};
use crate::lease::Lease;
use crate::liveness::TAKEOVER_SLACK;
use crate::records::Mark;

/// How long a command or a read may take; clients of ours wait 5 seconds.
const PATIENCE: Duration = Duration::from_millis(4_500);
/// The same while etcd is known not to answer.
const PATIENCE_WHILE_AWAY: Duration = Duration::from_secs(1);
/// How long what is known to have happened may take to arrive by the watch, before that is begun anew elsewhere.
const WATCH_PATIENCE: Duration = Duration::from_millis(1_500);
/// Handovers that whoever runs the checks may be late with before it begins anew: each is the renewal of one session, and
/// is dealt with in less time than its transaction took.
const HANDOVERS_MAX: usize = 1_024;

pub(crate) struct Shared {
    pub(crate) options: EtcdOptions,
    pub(crate) keys: Keys,
    pub(crate) me: ServerId,
    pub(crate) cluster: Cluster,
    pub(crate) feed: Feed,
    cache: Mutex<Cache>,
    clock: Clock,
    lease: Mutex<Lease>,
    /// Told when the lease holds again, or is lost.
    pub(crate) lease_changed: Notify,
    /// The revision of etcd up to which everything is in the cache and published.
    applied: watch::Sender<i64>,
    pub(crate) condition: watch::Sender<Condition>,
    /// When everything there was then was known here.
    current_at: Mutex<Instant>,
    syncs: mpsc::Sender<SyncRequest>,
    /// Transactions of this server that are under way.
    pending: Mutex<HashMap<u64, Pending>>,
    sequence: AtomicU64,
    /// Told when the watch should be begun anew.
    pub(crate) nudge: Notify,
    /// What this server is to look after from now on, and what not.
    pub(crate) handovers: broadcast::Sender<Handover>,
    /// Told when endings were tried.
    pub(crate) ended: Notify,
    /// When the last fence was begun, and the revision of etcd at which it was up.
    pub(crate) fence: AsyncMutex<Option<(Instant, i64)>>,
}

/// Asks up to which revision of etcd somebody has written.
pub(crate) type SyncRequest = oneshot::Sender<Result<SyncAnswer, ClusterFault>>;

/// Up to `written`, and as of when that was so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SyncAnswer {
    pub(crate) written: i64,
    pub(crate) asked: Instant,
}

/// What is known of a transaction of this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pending {
    UnderWay,
    /// It was seen in the history.
    Done(Revision),
    /// A part of the history was missed in which it may have been.
    Missed,
}

/// The time in which renewals could be heard.
struct Clock {
    origin: Instant,
    awake: Mutex<AwakeClock>,
}

impl Shared {
    #[expect(clippy::too_many_arguments, reason = "it is a constructor, and they are its parts")]
    pub(crate) fn new(
        options: EtcdOptions,
        keys: Keys,
        me: ServerId,
        cluster: Cluster,
        feed: Feed,
        cache: Cache,
        condition: watch::Sender<Condition>,
        syncs: mpsc::Sender<SyncRequest>,
    ) -> Self {
        Self {
            options,
            keys,
            me,
            cluster,
            feed,
            applied: watch::Sender::new(cache.applied()),
            cache: Mutex::new(cache),
            clock: Clock { origin: Instant::now(), awake: Mutex::new(AwakeClock::new(Duration::ZERO)) },
            lease: Mutex::default(),
            lease_changed: Notify::new(),
            condition,
            current_at: Mutex::new(Instant::now()),
            syncs,
            pending: Mutex::default(),
            sequence: AtomicU64::new(0),
            nudge: Notify::new(),
            handovers: broadcast::Sender::new(HANDOVERS_MAX),
            ended: Notify::new(),
            fence: AsyncMutex::new(None),
        }
    }

    pub(crate) fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().expect("an earlier panic left the cache half changed: it refuses further work")
    }

    pub(crate) fn lease(&self) -> MutexGuard<'_, Lease> {
        self.lease.lock().expect("nothing panics while it holds the lease")
    }

    /// The present time as sessions are counted.
    pub(crate) fn now(&self) -> Duration {
        let mut awake = self.clock.awake.lock().expect("nothing panics while it holds the clock");
        awake.tick(self.clock.origin.elapsed())
    }

    /// How long ago everything was surely known here.
    pub(crate) fn age(&self) -> Duration {
        self.current_at().elapsed()
    }

    fn current_at(&self) -> Instant {
        *self.current_at.lock().expect("nothing panics while it holds the time")
    }

    /// Whether what is known here is young enough, and the lease holds: only then sessions are confirmed from memory,
    /// and ended.
    pub(crate) fn is_in_touch(&self) -> bool {
        self.age() <= TAKEOVER_SLACK && self.lease().holds() && self.cache().liveness.is_alive(self.me)
    }

    /// Whether this server looks after an instance: it counts its session, and the others surely know that it lives.
    pub(crate) fn looks_after(&self, id: &InstanceId) -> bool {
        self.lease().holds() && self.cache().is_mine(id)
    }

    pub(crate) fn hand_over(&self, handover: Handover) {
        // Fails if nobody runs checks here.
        let _ = self.handovers.send(handover);
    }

    /// Until when a command or a read that comes now is to be answered.
    pub(crate) fn deadline(&self) -> Instant {
        let is_away = *self.condition.borrow() == Condition::Away;
        Instant::now() + if is_away { PATIENCE_WHILE_AWAY } else { PATIENCE }
    }

    /// Waits until everything is known here that was answered before this was called, by whichever server.
    pub(crate) async fn sync(&self, deadline: Instant) -> Result<(), Error> {
        let away = |fault| Error::Away { fault };
        let late = || away(ClusterFault::new("read the last revision", "etcd does not answer in time"));
        let answer = timeout_at(deadline, self.ask()).await;
        let answer = answer.map_err(|_| late())?.map_err(away)?;
        if !self.wait_applied(answer.written, deadline).await {
            let said = "the watch does not get there in time";
            return Err(away(ClusterFault::new("follow the history", said)));
        }
        let mut current_at = self.current_at.lock().expect("nothing panics while it holds the time");
        *current_at = (*current_at).max(answer.asked);
        Ok(())
    }

    async fn ask(&self) -> Result<SyncAnswer, ClusterFault> {
        let closing = || ClusterFault::new("read the last revision", "the store is closing");
        let (request, answer) = oneshot::channel();
        self.syncs.send(request).await.map_err(|_| closing())?;
        answer.await.map_err(|_| closing())?
    }

    /// Waits until everything up to a revision of etcd is in the cache and published; whether it came to that.
    pub(crate) async fn wait_applied(&self, revision: i64, deadline: Instant) -> bool {
        let mut applied = self.applied.subscribe();
        let mut reached =
            async |until| timeout_at(until, applied.wait_for(|at| *at >= revision)).await.is_ok();
        if reached(deadline.min(Instant::now() + WATCH_PATIENCE)).await {
            return true;
        }
        self.nudge.notify_one();
        reached(deadline).await
    }

    /// Makes a step of the history known to everybody here. Called by one task only, in order.
    pub(crate) fn publish(&self, step: Step, applied: i64, at: Revision) {
        if let Some(change) = step.change {
            self.feed.publish(change);
        }
        if let Some(Mark { server, sequence }) = step.mark
            && server == self.me
            && let Some(pending) = self.pending().get_mut(&sequence)
        {
            *pending = Pending::Done(at);
        }
        if !step.handed_over.is_empty() {
            self.hand_over(Handover::Of(step.handed_over.into()));
        }
        self.applied.send_replace(applied);
    }

    /// Goes on from another cache, after a part of the history was missed.
    pub(crate) fn replace(&self, cache: Cache) {
        let (at, applied) = (cache.state().revision(), cache.applied());
        let instances = cache.everything();
        *self.cache() = cache;
        if at > self.feed.revision() {
            self.feed.replace(at, &instances);
        }
        for pending in self.pending().values_mut().filter(|pending| **pending == Pending::UnderWay) {
            *pending = Pending::Missed;
        }
        self.hand_over(Handover::Anew);
        self.applied.send_replace(applied);
    }

    /// Takes note of a transaction that is about to be sent, for as long as the guard lives.
    pub(crate) fn begin(self: &Arc<Self>) -> UnderWay {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        self.pending().insert(sequence, Pending::UnderWay);
        UnderWay { shared: Arc::clone(self), mark: Mark { server: self.me, sequence } }
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<u64, Pending>> {
        self.pending.lock().expect("nothing panics while it holds the transactions")
    }
}

/// A transaction that was sent, or is about to be.
pub(crate) struct UnderWay {
    shared: Arc<Shared>,
    pub(crate) mark: Mark,
}

impl UnderWay {
    /// What the history says of it so far.
    pub(crate) fn outcome(&self) -> Pending {
        self.shared.pending().get(&self.mark.sequence).copied().unwrap_or(Pending::Missed)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.shared.pending().remove(&self.mark.sequence);
    }
}
