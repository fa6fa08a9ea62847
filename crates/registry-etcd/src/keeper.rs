//! Keeps this server known to the others, ends sessions nobody renews, and sweeps up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use netloft_health::BEAT;
use netloft_registry::{Error, Handover};
use netloft_types::SessionId;
use rand::RngExt as _;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tracing::{info, warn};

use crate::cluster::{Failure, RPC_TIMEOUT};
use crate::commands::Outcome;
use crate::keys::{Key, ServerId};
use crate::lease::Asked;
use crate::records::{FORMAT, Mark};
use crate::shared::Shared;
use crate::transaction::Transaction;

/// Sessions that are ended at a time. Others are served in between.
const ENDINGS_MAX: usize = 32;
/// The pause after something went wrong.
const PAUSE: Duration = Duration::from_millis(200);
/// How often what is left over is looked for. It goes when it was seen twice.
const SWEEP: Duration = Duration::from_secs(5);
/// Left-over keys that go in one transaction, and in one sweep. Etcd takes 128 operations (`--max-txn-ops`).
const SWEPT_TOGETHER: usize = 32;
const SWEPT_MAX: usize = 1_024;

/// Keeps the lease of this server, and gets another one when it is lost.
pub(crate) async fn keep_lease(shared: Arc<Shared>) {
    let ttl = shared.options.lease_ttl;
    loop {
        let (id, did_hold) = {
            let lease = shared.lease();
            (lease.id, lease.holds())
        };
        let asked = Asked::now();
        let kept = match id {
            Some(id) => shared.cluster.keep(id, Instant::now() + RPC_TIMEOUT * 2).await.map(|ttl| (id, ttl)),
            None => shared.introduce().await,
        };
        match kept {
            Ok((id, ttl)) => {
                if !did_hold {
                    // Since the lease ran out nothing was confirmed here, and nothing could be.
                    let now = shared.now();
                    shared.cache().liveness.restart_all(now);
                }
                shared.lease().keep(id, asked, ttl);
                if !did_hold {
                    // Nor was anything heard of the instances.
                    shared.hand_over(Handover::Anew);
                    shared.lease_changed.notify_waiters();
                }
            }
            Err(Failure::NoLease) => {
                warn!("the lease of this server ran out: the others took it for gone");
                shared.lease().lose();
                continue;
            }
            Err(_) => {
                sleep(PAUSE).await;
                continue;
            }
        }
        // Ends early when the history tells that the lease is gone.
        let _ = timeout(ttl / 3, shared.lease_changed.notified()).await;
    }
}

impl Shared {
    /// Tells the others that this server lives, and that nothing it did before counts.
    async fn introduce(&self) -> Result<(i64, Duration), Failure> {
        let deadline = Instant::now() + RPC_TIMEOUT * 2;
        let ttl = self.options.lease_ttl;
        let lease = self.cluster.grant(ttl, deadline).await?;
        let mut transaction = Transaction::new(&self.keys);
        transaction.put_leased(&Key::Server(self.me), vec![FORMAT], lease);
        transaction.put(&Key::Epoch(self.me), vec![FORMAT]);
        let mark = Mark { server: self.me, sequence: u64::MAX };
        let request = transaction.request(self.cache().base(), mark);
        self.cluster.transact_until("introduce this server", request, deadline).await?;
        Ok((lease, ttl))
    }
}

/// Ends the sessions that nobody renewed.
pub(crate) async fn end_sessions(shared: Arc<Shared>) {
    loop {
        let now = shared.now();
        let overdue = if shared.is_in_touch() {
            shared.cache().liveness.begin_endings(now, ENDINGS_MAX)
        } else {
            Vec::new()
        };
        if overdue.is_empty() {
            let next = shared.cache().liveness.next_deadline();
            let until = next.map_or(BEAT, |next| next.saturating_sub(now)).clamp(BEAT / 25, BEAT);
            sleep(until).await;
            continue;
        }
        let mut endings = JoinSet::new();
        for session in overdue {
            endings.spawn(Arc::clone(&shared).end_session(session));
        }
        let ended = endings.join_all().await.into_iter().filter(|is_ended| *is_ended).count();
        shared.ended.notify_waiters();
        if ended > 0 {
            info!(sessions = ended, "sessions expired");
        } else {
            sleep(PAUSE).await;
        }
    }
}

impl Shared {
    /// Ends a session if it is still this server's to end; whether it did.
    async fn end_session(self: Arc<Self>, session: SessionId) -> bool {
        let Some((request, base, under_way)) = self.plan_ending(session) else {
            self.cache().liveness.give_up_ending(session);
            return false;
        };
        let deadline = Instant::now() + RPC_TIMEOUT * 3;
        let outcome = self.commit(request, base, under_way, deadline).await;
        if let Err(Error::OutcomeUnknown { .. }) = &outcome {
            self.await_certainty().await;
        }
        self.cache().liveness.give_up_ending(session);
        matches!(outcome, Ok(Outcome::Done(_)))
    }

    fn plan_ending(
        self: &Arc<Self>,
        session: SessionId,
    ) -> Option<(crate::pb::TxnRequest, u64, crate::shared::UnderWay)> {
        let cache = self.cache();
        let owner = cache.liveness.owner(session)?;
        let mut transaction = Transaction::new(&self.keys);
        // Whoever renewed it elsewhere has put it since.
        transaction.must_be_unchanged(&Key::Session(session), cache.session_modified(session));
        transaction.must_be_unchanged(&Key::Epoch(self.me), cache.epoch(self.me));
        if owner == self.me {
            transaction.must_be_there(&Key::Server(owner));
        } else {
            // Gone, and not back and gone again.
            transaction.must_be_absent(&Key::Server(owner));
            transaction.must_be_unchanged(&Key::Epoch(owner), cache.epoch(owner));
        }
        transaction.close(session, &cache);
        let (base, under_way) = (cache.base(), self.begin());
        Some((transaction.request(base, under_way.mark), base, under_way))
    }

    /// Waits until nothing that was sent can still be carried out: until then nothing that it would end is confirmed.
    async fn await_certainty(&self) {
        let since = Instant::now();
        loop {
            let deadline = Instant::now() + RPC_TIMEOUT * 3;
            if let Ok(fence) = self.fence_off(since, deadline).await
                && self.wait_applied(fence, deadline).await
            {
                return;
            }
            sleep(PAUSE).await;
        }
    }
}

/// Removes from etcd what ended sessions and servers leave behind, some time after.
pub(crate) async fn sweep(shared: Arc<Shared>) {
    let mut sweeps = interval(SWEEP);
    sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut stale, mut gone) = (BTreeSet::new(), BTreeSet::<(ServerId, i64)>::new());
    loop {
        sweeps.tick().await;
        // So that of several servers one is mostly done before the others begin.
        let jitter = rand::rng().random_range(Duration::ZERO..SWEEP / 2);
        sleep(jitter).await;
        let (stale_now, gone_now) = {
            let cache = shared.cache();
            (BTreeSet::from_iter(cache.stale_index(SWEPT_MAX)), BTreeSet::from_iter(cache.gone_servers()))
        };
        let index = stale_now.intersection(&stale).map(|(id, modified)| (Key::Index(id.clone()), *modified));
        let servers = gone_now.intersection(&gone).map(|(server, modified)| (Key::Epoch(*server), *modified));
        let swept: Vec<_> = index.chain(servers).collect();
        for some in swept.chunks(SWEPT_TOGETHER) {
            // What fails is seen again next time.
            let _ = shared.cluster.transact(shared.sweeping(some)).await;
        }
        (stale, gone) = (stale_now, gone_now);
    }
}

impl Shared {
    fn sweeping(&self, some: &[(Key, i64)]) -> crate::pb::TxnRequest {
        let mut transaction = Transaction::new(&self.keys);
        for (key, modified) in some {
            transaction.must_be_unchanged(key, *modified);
            if let Key::Epoch(server) = key {
                transaction.must_be_absent(&Key::Server(*server));
            }
            transaction.delete(key);
        }
        transaction.request(self.cache().base(), Mark { server: self.me, sequence: u64::MAX })
    }

    /// Ends what lives only as long as this server, and tells the others that it is gone.
    pub(crate) async fn take_leave(self: Arc<Self>) {
        let mut endings = JoinSet::new();
        let orphans = self.cache().liveness.without_ttl();
        for session in orphans {
            if let Some((request, ..)) = self.plan_ending(session) {
                let cluster = self.cluster.clone();
                endings.spawn(async move { cluster.transact(request).await.map(drop) });
            }
        }
        // What fails ends with the lease.
        endings.join_all().await;
        let lease = self.lease().id;
        if let Some(lease) = lease {
            let _ = self.cluster.revoke(lease, Instant::now() + RPC_TIMEOUT).await;
        }
    }
}
