//! Somebody who calls, for as long as the call lasts.

use std::sync::Arc;
use std::time::Duration;

use netloft_access::{Account, Admitted, Credential, Exceeded, Quota, Right};
use netloft_types::{Query, Revision, ServiceName, SessionId};
use rand::RngExt as _;
use tokio::time::sleep;
use tonic::{Extensions, Status};

use super::{Access, exhausted, now};
use crate::Peer;

/// Who calls, and what they may do; in the extensions of every request that the gate let in.
#[derive(Debug)]
pub(crate) struct Requester {
    pub(super) access: Access,
    pub(super) credential: Credential,
    pub(super) admitted: Admitted,
    pub(super) peer: Peer,
}

impl Requester {
    /// Who calls a server with access control; `None` on a server without.
    pub(crate) fn find(extensions: &Extensions) -> Option<Arc<Self>> {
        extensions.get::<Arc<Self>>().cloned()
    }

    /// Who calls a server with access control.
    ///
    /// # Errors
    ///
    /// If the gate did not see the call, which nobody who denies by default lets through.
    pub(super) fn of(extensions: &Extensions) -> Result<Arc<Self>, Status> {
        Self::find(extensions)
            .ok_or_else(|| Status::unauthenticated("the call did not come through the gate"))
    }

    pub(crate) fn may(&self, right: Right, service: &ServiceName) -> bool {
        self.admitted.grants.allow(right, service)
    }

    pub(crate) fn owns(&self, session: SessionId) -> bool {
        self.access.0.key.is_of(session, &self.admitted.identity)
    }

    /// Draws the id of a new session that is theirs.
    pub(crate) fn draw_session(&self) -> SessionId {
        self.access.0.key.session(&self.admitted.identity, rand::rng().random())
    }

    /// The query, of what they may see.
    pub(crate) fn narrow(&self, query: Query) -> Query {
        Query { within: self.admitted.grants.readable(), ..query }
    }

    /// The revision from which on they have seen what they may see now; `at` is that of the store.
    pub(super) fn seen_since(&self, at: Revision) -> Revision {
        let Admitted { identity, grants, .. } = &self.admitted;
        self.access.seen_since(identity, grants.readable(), at)
    }

    /// Counts a renewal, which is a call that has no request of its own.
    pub(crate) fn count_renewal(&self) -> Result<(), Status> {
        self.count(Account::call)
    }

    pub(crate) fn renewed(&self, session: SessionId, ttl: Duration) {
        self.account(|account, _, now| account.renewed(session, ttl, now));
    }

    pub(super) fn count(
        &self,
        take: impl FnOnce(&mut Account, &Quota, Duration) -> Result<(), Exceeded>,
    ) -> Result<(), Status> {
        self.account(take).map_err(|exceeded| exhausted(&exceeded))
    }

    pub(super) fn account<T>(&self, look: impl FnOnce(&mut Account, &Quota, Duration) -> T) -> T {
        self.access.account(&self.admitted.identity, look)
    }

    /// Waits until they are no longer who they were, or may do something else; answers how to end their streams.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub(super) async fn ended(&self) -> Status {
        let mut lists = self.access.0.list.clone();
        loop {
            let list = Arc::clone(&lists.borrow_and_update());
            match list.admit(&self.credential, now()) {
                Ok(admitted) if admitted.grants == self.admitted.grants => {}
                Ok(_) => return Status::unavailable("what you may do has changed: call again"),
                Err(error) => return Status::unauthenticated(error.to_string()),
            }
            let expired = async {
                match self.admitted.until {
                    Some(until) => sleep(Duration::from_secs(until.saturating_sub(now()).max(1))).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = lists.changed() => if changed.is_err() {
                    // The list will never change again.
                    std::future::pending::<()>().await;
                },
                () = expired => {}
            }
        }
    }
}
