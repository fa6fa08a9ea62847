//! Commands: decided here by the rules of every store, and carried out in etcd if all is still as it was when deciding.
//!
//! What this server knows may be old. So a decision is never the last word: one that changes something is checked by
//! the transaction itself, and one that does not, a refusal for example, holds only after everything was read that had
//! been answered before the command came.

use std::sync::Arc;

use netloft_registry::{Applied, ClusterFault, Command, Effect, Error};
use netloft_types::{Revision, SessionId};
use tokio::time::{Instant, sleep, timeout_at};

use crate::cache::revision;
use crate::cluster::Failure;
use crate::keys::Key;
use crate::liveness::Renewal;
use crate::pb::TxnRequest;
use crate::shared::{Pending, Shared, UnderWay};
use crate::transaction::{Transaction, head_version};

/// The pause before something is tried again that failed for no reason of its own.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// What a transaction came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It was carried out; the store's revision then.
    Done(Revision),
    /// Something is not as it was when it was decided.
    Conflict,
    /// It was not carried out, for no reason of its own.
    NotDone(ClusterFault),
}

/// What is to be done for a command, as far as this server knows.
enum Plan {
    Answer(Result<Applied, Error>),
    RenewHere(SessionId),
    Transact { request: TxnRequest, base: u64, under_way: UnderWay },
}

impl Shared {
    pub(crate) async fn apply(self: &Arc<Self>, command: Command) -> Result<Applied, Error> {
        let deadline = self.deadline();
        let session = command.session();
        let mut is_sure = false;
        if let Command::RenewSession { session } = &command
            && let (Renewal::Done, Some(applied)) = self.try_renew(*session)
        {
            return Ok(applied);
        }
        loop {
            match self.plan(&command) {
                Plan::Answer(_) if !is_sure => {
                    self.sync(deadline).await?;
                    is_sure = true;
                }
                Plan::Answer(answer) => return answer,
                Plan::RenewHere(session) => {
                    if let Some(applied) = self.renew_here(session, deadline).await? {
                        return Ok(applied);
                    }
                }
                Plan::Transact { request, base, under_way } => {
                    match self.commit(request, base, under_way, deadline).await? {
                        Outcome::Done(at) => {
                            let ttl = session.and_then(|session| self.cache().state().ttl(session));
                            return Ok(Applied { at, ttl });
                        }
                        Outcome::Conflict if Instant::now() < deadline => {
                            self.sync(deadline).await?;
                            is_sure = true;
                        }
                        Outcome::NotDone(_) if Instant::now() + PAUSE < deadline => sleep(PAUSE).await,
                        Outcome::NotDone(fault) => return Err(Error::Away { fault }),
                        Outcome::Conflict => {
                            let said = "others change the same all the time";
                            return Err(Error::Away {
                                fault: ClusterFault::new("change the registry", said),
                            });
                        }
                    }
                }
            }
        }
    }

    fn plan(self: &Arc<Self>, command: &Command) -> Plan {
        let cache = self.cache();
        let applied = |session: Option<SessionId>| Applied {
            at: cache.state().revision(),
            ttl: session.and_then(|session| cache.state().ttl(session)),
        };
        let effect = match cache.state().decide(command.clone()) {
            Ok(Some(effect)) => effect,
            Ok(None) => return Plan::Answer(Ok(applied(command.session()))),
            Err(error) => return Plan::Answer(Err(error)),
        };
        if let Effect::Renew { session } = &effect
            && cache.liveness.owner(*session) == Some(self.me)
        {
            return Plan::RenewHere(*session);
        }
        let mut transaction = Transaction::of(&effect, &cache, &self.keys, self.me);
        transaction.must_be_unchanged(&Key::Epoch(self.me), cache.epoch(self.me));
        let (base, under_way) = (cache.base(), self.begin());
        Plan::Transact { request: transaction.request(base, under_way.mark), base, under_way }
    }

    /// Renews from memory, if that is this server's to do now.
    fn try_renew(&self, session: SessionId) -> (Renewal, Option<Applied>) {
        if !self.is_in_touch() {
            return (Renewal::NotMine, None);
        }
        let now = self.now();
        let mut cache = self.cache();
        let renewal = cache.liveness.renew(now, session);
        let applied = Applied { at: self.feed.revision(), ttl: cache.state().ttl(session) };
        (renewal, (renewal == Renewal::Done).then_some(applied))
    }

    /// Renews a session of this server from memory, once it may; `None` if it is not this server's any more.
    async fn renew_here(&self, session: SessionId, deadline: Instant) -> Result<Option<Applied>, Error> {
        loop {
            let ended = self.ended.notified();
            let lease_changed = self.lease_changed.notified();
            if !self.is_in_touch() {
                self.sync(deadline).await?;
            }
            let is_in_touch = self.is_in_touch();
            match self.try_renew(session) {
                (Renewal::Done, applied) => return Ok(applied),
                (Renewal::NotMine, _) if is_in_touch => return Ok(None),
                (Renewal::NotMine | Renewal::Ending, _) => {}
            }
            let either = async {
                tokio::select! {
                    () = ended => {}
                    () = lease_changed => {}
                    // The lease may hold again before anybody tells.
                    () = sleep(PAUSE) => {}
                }
            };
            if timeout_at(deadline, either).await.is_err() {
                let fault =
                    ClusterFault::new("confirm the session", "this server has lost touch with the others");
                return Err(Error::Away { fault });
            }
        }
    }

    /// Has a transaction carried out, and finds out whether it was.
    pub(crate) async fn commit(
        self: &Arc<Self>,
        request: TxnRequest,
        base: u64,
        under_way: UnderWay,
        deadline: Instant,
    ) -> Result<Outcome, Error> {
        match self.cluster.transact(request).await {
            Ok(answer) if answer.succeeded => {
                let at = revision(base, head_version(&answer).unwrap_or_default());
                // Carried out it is, even if nobody here sees that in time.
                self.wait_applied(answer.header.map_or(0, |header| header.revision), deadline).await;
                Ok(Outcome::Done(at))
            }
            Ok(_) => Ok(Outcome::Conflict),
            Err(Failure::NoSpace) => Err(Error::DiskFull),
            Err(Failure::Unknown(fault)) => self.find_out(&under_way, fault, deadline).await,
            Err(failure) => Ok(Outcome::NotDone(failure.fault("change the registry"))),
        }
    }

    /// Finds out what became of a transaction whose answer was lost: puts up a fence behind which it cannot be carried
    /// out any more, and looks whether it is in the history before that.
    async fn find_out(
        &self,
        under_way: &UnderWay,
        fault: ClusterFault,
        deadline: Instant,
    ) -> Result<Outcome, Error> {
        let fence = self.fence_off(Instant::now(), deadline).await;
        let is_seen = match fence {
            Ok(fence) => self.wait_applied(fence, deadline).await,
            Err(_) => false,
        };
        match under_way.outcome() {
            Pending::Done(at) => Ok(Outcome::Done(at)),
            Pending::UnderWay if is_seen => Ok(Outcome::NotDone(fault)),
            Pending::UnderWay | Pending::Missed => Err(Error::OutcomeUnknown { fault }),
        }
    }

    /// Sees to it that no transaction of this server sent before `since` is carried out any more; answers the revision
    /// of etcd before which it was, if it was. All of them demand that the epoch of this server is as they knew it.
    pub(crate) async fn fence_off(&self, since: Instant, deadline: Instant) -> Result<i64, Failure> {
        let mut fence = self.fence.lock().await;
        if let Some((begun, revision)) = *fence
            && begun >= since
        {
            return Ok(revision);
        }
        let begun = Instant::now();
        let mut transaction = Transaction::new(&self.keys);
        transaction.put(&Key::Epoch(self.me), vec![crate::records::FORMAT]);
        let mark = crate::records::Mark { server: self.me, sequence: u64::MAX };
        let request = transaction.request(self.cache().base(), mark);
        let answer = self.cluster.transact_until("find out what was done", request, deadline).await?;
        let revision = answer.header.map_or(0, |header| header.revision);
        *fence = Some((begun, revision));
        Ok(revision)
    }
}
