//! A registration: kept true by a task of its own for as long as its guard lives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use netloft_types::limits::SESSION_TTL_MIN;
use netloft_types::{Health, Instance, InstanceId, Patch, SessionId, Span};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use crate::backoff::Backoff;
use crate::calls::Calls;
use crate::session::Session;
use crate::{Error, Operation};

/// Wishes that wait while one is carried out. A guard is used by one caller at a time, most often; more wait
/// to hand theirs in.
const WISHES_MAX: usize = 8;
/// The first wait after the registry refused or missed a registration that it had accepted before.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// Long enough that an id taken by another session costs nobody much.
const RETRY_LONGEST: Duration = Duration::from_secs(10);

/// What can be chosen about a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterOptions {
    /// How long the registration outlives a client that is killed or cut off: 1 second to 24 hours. It is
    /// renewed three times in that span. Registrations of the same time to live share one session.
    ///
    /// The default of 15 seconds rides out a pause or a restart of the registry, and is gone before most callers
    /// have given up on the dead.
    pub ttl: Duration,
}

impl Default for RegisterOptions {
    fn default() -> Self {
        Self { ttl: 15 * SESSION_TTL_MIN }
    }
}

/// A guard of a registered instance: it stays registered, through restarts of the registry and lost
/// connections, until the guard is closed or dropped.
///
/// [`close`](Self::close) waits until the registry has removed the instance. Dropping cannot wait: it asks a
/// task to remove the instance. While the registry is away, the task tries again for as long as other registrations
/// keep the session alive; otherwise, or if the runtime ends first, the time to live removes the instance. So a
/// program that is about to exit closes.
#[derive(Debug)]
pub struct Registration {
    id: InstanceId,
    wishes: mpsc::Sender<Wish>,
}

#[derive(Debug)]
enum Wish {
    Update(Patch, oneshot::Sender<Result<(), Error>>),
    Heartbeat(Health, String, oneshot::Sender<Result<Duration, Error>>),
    Close(oneshot::Sender<Result<(), Error>>),
}

impl Registration {
    /// The id of the instance.
    pub fn id(&self) -> &InstanceId {
        &self.id
    }

    /// Changes the instance; returns once the registry has done so.
    ///
    /// If the error [is retryable](Error::is_retryable), the change is kept and made as soon as the registry is
    /// back. After any other error the instance is as it was.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the change may have been made or not, but never by half.
    pub async fn update(&self, patch: Patch) -> Result<(), Error> {
        let operation = || Operation::Update(self.id.clone());
        self.wish(operation, |answer| Wish::Update(patch, answer)).await
    }

    /// Takes the instance out of every default lookup, so that it can finish the calls it has before it is
    /// closed. Otherwise as [`update`](Self::update).
    ///
    /// # Cancel safety
    ///
    /// As [`update`](Self::update).
    pub async fn drain(&self) -> Result<(), Error> {
        self.update(Patch::drain()).await
    }

    /// Takes the instance out of every default lookup, and has the registry remove it at the end of `window`, if it is
    /// not closed before. Otherwise as [`update`](Self::update).
    ///
    /// # Cancel safety
    ///
    /// As [`update`](Self::update).
    pub async fn drain_within(&self, window: Span) -> Result<(), Error> {
        self.update(Patch::drain_within(window)).await
    }

    /// Says for the ttl checks of the instance how it is; critical counts at once. Answers for how long it counts:
    /// another heartbeat is due before that, and twice as often is prudent.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, it may have been heard or not.
    pub async fn heartbeat(&self, health: Health, note: &str) -> Result<Duration, Error> {
        let operation = || Operation::Heartbeat(self.id.clone());
        self.wish(operation, |answer| Wish::Heartbeat(health, note.to_owned(), answer)).await
    }

    /// Removes the instance; returns once the registry has done so, or did not know it any more. If the error
    /// [is retryable](Error::is_retryable), it is removed as soon as the registry is back, as when the guard is
    /// dropped.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the instance is removed all the same, as when the guard is dropped.
    pub async fn close(self) -> Result<(), Error> {
        let operation = || Operation::Deregister(self.id.clone());
        match self.wish(operation, Wish::Close).await {
            Err(Error::Superseded { .. }) => Ok(()),
            closed => closed,
        }
    }

    async fn wish<T>(
        &self,
        operation: impl Fn() -> Operation,
        wish: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Wish,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let superseded = || Error::Superseded { operation: operation() };
        self.wishes.send(wish(answer)).await.map_err(|_| superseded())?;
        answered.await.map_err(|_| superseded())?
    }
}

/// The registrations of a client by id, so that registering an instance again takes it over from the guard
/// before, and dropping that guard afterwards does not take it away.
#[derive(Debug, Clone, Default)]
pub(crate) struct Registrations(Arc<Mutex<BTreeMap<InstanceId, Holder>>>);

/// A task that keeps a registration.
#[derive(Debug)]
struct Holder {
    /// Takes the session of whoever registers the instance next.
    supersede: oneshot::Sender<Arc<Session>>,
    ended: JoinHandle<()>,
}

impl Registrations {
    /// Registers `instance` in `session`, and returns when the registry has done so.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the instance is removed again.
    pub(crate) async fn register(
        &self,
        calls: Calls,
        session: Arc<Session>,
        instance: Instance,
    ) -> Result<Registration, Error> {
        let id = instance.id.clone();
        let (wishes, inbox) = mpsc::channel(WISHES_MAX);
        let (supersede, superseded) = oneshot::channel();
        let (first, registered) = oneshot::channel();
        let upkeep = Upkeep {
            calls,
            session,
            desired: instance,
            registered_in: None,
            backoff: Backoff::new(RETRY_FIRST, RETRY_LONGEST),
            retry_at: Instant::now(),
        };
        {
            let mut holders = self.lock();
            let before = holders.remove(&id);
            let registrations = self.clone();
            let held = id.clone();
            let ended = tokio::spawn(async move {
                if let Some(before) = before {
                    before.let_go(Arc::clone(&upkeep.session)).await;
                }
                upkeep.run(inbox, superseded, first).await;
                registrations.forget_this_task(&held);
            });
            holders.insert(id.clone(), Holder { supersede, ended });
        }
        let registration = Registration { id, wishes };
        let stopped = || Error::Stopped { operation: Operation::Register(registration.id.clone()) };
        registered.await.map_err(|_| stopped())??;
        Ok(registration)
    }

    /// Forgets the calling task, unless another has taken over from it.
    fn forget_this_task(&self, id: &InstanceId) {
        let mut holders = self.lock();
        if holders.get(id).is_some_and(|holder| holder.ended.id() == tokio::task::id()) {
            holders.remove(id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Holder>> {
        // Every change is one call of a map, so a panic elsewhere leaves nothing half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holder {
    /// Waits until the task has let go, so that what it last sent cannot overtake what comes now.
    async fn let_go(self, next: Arc<Session>) {
        // Either fails only if the task has ended already.
        let _ = self.supersede.send(next);
        let _ = self.ended.await;
    }
}

/// How the keeping of a registration ends.
enum End {
    /// Somebody registers the instance anew, in this session.
    Superseded(Arc<Session>),
    Dropped,
    Closed(oneshot::Sender<Result<(), Error>>),
}

/// The task that owns what an instance should be, and makes the registry agree.
struct Upkeep {
    calls: Calls,
    session: Arc<Session>,
    desired: Instance,
    /// The session in which the registry knows the instance as it is desired.
    registered_in: Option<SessionId>,
    backoff: Backoff,
    retry_at: Instant,
}

impl Upkeep {
    async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Wish>,
        mut superseded: oneshot::Receiver<Arc<Session>>,
        first: oneshot::Sender<Result<(), Error>>,
    ) {
        let registered = self.register().await;
        let failed = registered.as_ref().err().cloned();
        if first.send(registered).is_err() || failed.as_ref().is_some_and(Error::is_unavailable) {
            // Nobody waits any more, or nobody knows whether it happened.
            return self.withdraw(&mut superseded).await;
        }
        if failed.is_some() {
            return;
        }
        info!(instance = %self.desired.id, service = %self.desired.service, "registered");
        match self.keep(&mut inbox, &mut superseded).await {
            // In the same session it is simply replaced; another one would be refused what this one holds.
            End::Superseded(next) if Arc::ptr_eq(&next, &self.session) => {}
            // Who registers it anew waits, and tries again by itself.
            End::Superseded(_) => drop(self.deregister().await),
            End::Dropped => self.withdraw(&mut superseded).await,
            End::Closed(answer) => {
                let closed = self.deregister().await;
                let is_undone = closed.as_ref().is_err_and(Error::is_retryable);
                let _ = answer.send(closed);
                if is_undone {
                    self.withdraw(&mut superseded).await;
                }
            }
        }
    }

    /// Grants wishes and restores what was lost, until it ends. Never in the middle of a call: one that was sent
    /// has its answer before another task may send the next.
    async fn keep(
        &mut self,
        inbox: &mut mpsc::Receiver<Wish>,
        superseded: &mut oneshot::Receiver<Arc<Session>>,
    ) -> End {
        loop {
            tokio::select! {
                biased;
                Ok(next) = &mut *superseded => return End::Superseded(next),
                wish = inbox.recv() => match wish {
                    Some(Wish::Update(patch, answer)) => {
                        let _ = answer.send(self.update(patch).await);
                    }
                    Some(Wish::Heartbeat(health, note, answer)) => {
                        let _ = answer.send(self.heartbeat(health, note).await);
                    }
                    Some(Wish::Close(answer)) => return End::Closed(answer),
                    None => return End::Dropped,
                },
                () = due(&self.session, self.registered_in, self.retry_at) => self.restore().await,
            }
        }
    }

    async fn update(&mut self, patch: Patch) -> Result<(), Error> {
        let desired = patch.clone().applied_to(&self.desired);
        let before = std::mem::replace(&mut self.desired, desired);
        let updated = match self.registered_in {
            None => self.register().await,
            Some(session) => match self.calls.update(session, &before.id, &patch).await {
                Err(error) if error.is_not_found() => {
                    self.registered_in = None;
                    self.register().await
                }
                updated => updated.map(drop),
            },
        };
        match &updated {
            Ok(()) => {}
            // It is desired, and no longer known to be so: it will be restored.
            Err(error) if error.is_retryable() => self.registered_in = None,
            Err(_) => self.desired = before,
        }
        updated
    }

    async fn heartbeat(&mut self, health: Health, note: String) -> Result<Duration, Error> {
        if self.registered_in.is_none() {
            self.register().await?;
        }
        let session = self.session.open(None).await?;
        self.calls.heartbeat(session, &self.desired.id, health, note).await
    }

    /// Registers the instance as it is desired, in the session of the moment; if that turns out to be lost,
    /// in the next.
    async fn register(&mut self) -> Result<(), Error> {
        let mut session = self.session.open(None).await?;
        let mut registered = self.calls.register(session, &self.desired).await;
        if registered.as_ref().is_err_and(Error::is_not_found) {
            self.session.doubt();
            session = self.session.open(Some(session)).await?;
            registered = self.calls.register(session, &self.desired).await;
        }
        registered?;
        self.registered_in = Some(session);
        self.backoff.reset();
        Ok(())
    }

    async fn restore(&mut self) {
        self.registered_in = None;
        match self.register().await {
            Ok(()) => info!(instance = %self.desired.id, "registered again"),
            Err(error) => {
                let pause = self.backoff.draw();
                self.retry_at = Instant::now() + pause;
                warn!(instance = %self.desired.id, error = error.chain(), retry_in = ?pause, "not registered again");
            }
        }
    }

    async fn deregister(&self) -> Result<(), Error> {
        let session = match self.registered_in {
            Some(session) => session,
            None => self.session.open(None).await?,
        };
        match self.calls.deregister(session, &self.desired.id).await {
            Err(error) if error.is_not_found() => Ok(()),
            deregistered => deregistered.map(drop),
        }
    }

    /// Deregisters, with nobody to tell. While the registry cannot be asked, tries again for as long as somebody else
    /// holds the session and so keeps it alive: no time to live would end the instance. Who registers it anew ends
    /// that, but not in the middle of a call.
    async fn withdraw(&mut self, superseded: &mut oneshot::Receiver<Arc<Session>>) {
        while let Err(error) = self.deregister().await {
            debug!(instance = %self.desired.id, error = error.chain(), "not deregistered");
            let is_kept_alive = Arc::strong_count(&self.session) > 1;
            if !(error.is_retryable() && is_kept_alive) {
                return;
            }
            tokio::select! {
                _ = &mut *superseded => return,
                () = sleep(self.backoff.draw()) => {}
            }
        }
    }
}

/// Waits until an instance registered in `registered_in` has to be registered anew, but not before `retry_at`.
async fn due(session: &Session, registered_in: Option<SessionId>, retry_at: Instant) {
    session.replaced(registered_in).await;
    sleep_until(retry_at).await;
}
