//! The session of a client: one liveness, shared by all its registrations.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use netloft_types::SessionId;
use rand::RngExt as _;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::backoff::Backoff;
use crate::calls::{Calls, Renewal, Renewals};
use crate::{Error, Operation};

/// Renewals per time to live: two may be lost before the session is.
const RENEWALS_PER_TTL: u32 = 3;
/// A registry that restarts is found again within a fraction of the shortest time to live.
const RETRY_FIRST: Duration = Duration::from_millis(50);
/// The longest pause between two attempts, unless renewals are due more often.
const RETRY_LONGEST: Duration = Duration::from_secs(5);

/// A session that is kept open for as long as this value lives, and closed afterwards.
#[derive(Debug)]
pub(crate) struct Session {
    state: watch::Receiver<State>,
    /// Told when somebody was answered that there is no such session.
    doubt: Arc<Notify>,
    calls: Calls,
}

#[derive(Debug, Clone)]
enum State {
    Opening,
    /// The last attempt failed; there will be more.
    Failed(Error),
    Open(SessionId),
}

impl Session {
    /// Starts to open a session. The task that keeps it ends when the value is dropped, after at most one more
    /// call that closes the session.
    pub(crate) fn start(calls: Calls, ttl: Duration) -> Self {
        let (publish, state) = watch::channel(State::Opening);
        let doubt = Arc::new(Notify::new());
        let keeper = Keeper { calls: calls.clone(), ttl, state: publish, doubt: Arc::clone(&doubt) };
        tokio::spawn(keeper.run());
        Self { state, doubt, calls }
    }

    /// Waits for an open session other than `stale`, no longer than a call may take.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped; so it is with [`Session::replaced`].
    pub(crate) async fn open(&self, stale: Option<SessionId>) -> Result<SessionId, Error> {
        let mut states = self.state.clone();
        let settled = states.wait_for(|state| match state {
            State::Opening => false,
            State::Failed(_) => true,
            State::Open(session) => Some(*session) != stale,
        });
        let connection = self.calls.connection();
        let operation = Operation::OpenSession;
        let Ok(settled) = timeout(connection.timeout(), settled).await else {
            return Err(connection.timed_out(&operation, connection.timeout()));
        };
        match settled.as_deref() {
            Ok(State::Open(session)) => Ok(*session),
            Ok(State::Failed(error)) => Err(error.clone()),
            Ok(State::Opening) | Err(_) => Err(Error::Stopped { operation }),
        }
    }

    /// Waits until a session other than `current` is open, however long it takes.
    pub(crate) async fn replaced(&self, current: Option<SessionId>) {
        let is_other = |state: &State| matches!(state, State::Open(session) if Some(*session) != current);
        if self.state.clone().wait_for(is_other).await.is_err() {
            // Without its keeper, as when the runtime shuts down, there will never be another.
            std::future::pending::<()>().await;
        }
    }

    /// Has the session renewed now, because the registry seems not to know it.
    pub(crate) fn doubt(&self) {
        self.doubt.notify_one();
    }
}

/// The task that owns the session.
struct Keeper {
    calls: Calls,
    ttl: Duration,
    state: watch::Sender<State>,
    doubt: Arc<Notify>,
}

impl Keeper {
    async fn run(self) {
        tokio::select! {
            () = self.state.closed() => {}
            never = self.keep() => match never {},
        }
        let last = self.state.borrow().clone();
        if let State::Open(session) = last {
            // If it fails, the session holds nothing and ends by itself.
            if let Err(error) = self.calls.close_session(session).await {
                debug!(error = error.chain(), "session not closed");
            }
        }
    }

    /// Keeps a session open: when one is lost, the next. There is no last attempt, because the registrations
    /// that need the session are promised for as long as they live.
    async fn keep(&self) -> Infallible {
        loop {
            let session = self.open().await;
            self.state.send_replace(State::Open(session));
            self.renew_until_lost(session).await;
            warn!(registry = %self.calls.connection().target(), "session lost; opening another");
            self.state.send_replace(State::Opening);
        }
    }

    async fn open(&self) -> SessionId {
        let mut backoff = self.backoff();
        loop {
            match self.calls.open_session(self.ttl).await {
                Ok(session) => return session,
                Err(error) => {
                    debug!(error = error.chain(), "session not opened");
                    self.state.send_replace(State::Failed(error));
                }
            }
            sleep(backoff.draw()).await;
        }
    }

    /// Renews `session` until the registry says that it is gone. As long as the registry does not answer, it
    /// may still be there.
    async fn renew_until_lost(&self, session: SessionId) {
        let mut backoff = self.backoff();
        loop {
            let error = match self.calls.keep_alive(session).await {
                Ok(renewals) => match self.renew(renewals, &mut backoff).await {
                    Ok(()) => return,
                    Err(error) => error,
                },
                Err(error) => error,
            };
            info!(error = error.chain(), "session not renewed; trying again");
            sleep(backoff.draw()).await;
        }
    }

    /// Renews over one stream until the session is lost, or the stream is, which is the error.
    async fn renew(&self, mut renewals: Renewals, backoff: &mut Backoff) -> Result<(), Error> {
        let patience = self.interval().min(self.calls.connection().timeout());
        loop {
            match renewals.renew(patience).await? {
                Renewal::Renewed => backoff.reset(),
                Renewal::Lost => return Ok(()),
            }
            // A fifth of jitter, downwards: thousands of clients that began together drift apart, and none
            // comes late.
            let pause = self.interval().mul_f64(rand::rng().random_range(0.8..=1.0));
            tokio::select! {
                () = sleep(pause) => {}
                () = self.doubt.notified() => {}
                error = renewals.broken() => return Err(error),
            }
        }
    }

    fn interval(&self) -> Duration {
        self.ttl / RENEWALS_PER_TTL
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(RETRY_FIRST, RETRY_LONGEST.min(self.interval()))
    }
}
