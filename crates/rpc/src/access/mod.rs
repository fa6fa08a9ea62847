//! Who calls, what they may do, and what they did.
//!
//! Three things stand between a call and the [`Service`](crate::service::Service), and nothing of them is in it: the
//! gate tells who calls, and lets nobody in whom the list does not know; the guard decides what they may do; and both
//! tell the audit log. The service itself only looks through the eyes of its requester, by [`Requester`].

mod audit;
mod call;
mod gate;
mod guard;
mod pass;
mod registering;
mod requester;
mod sweep;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use netloft_access::{AccessList, Account, Exceeded, Identity, Quota, SessionKey};
use netloft_types::{Revision, ServicePattern};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;

pub use self::audit::{Audit, AuditOptions, AuditWriter};
pub(crate) use self::audit::{Event, Outcome};
pub(crate) use self::gate::Gate;
pub(crate) use self::guard::Guard;
pub(crate) use self::requester::Requester;
pub(crate) use self::sweep::sweep;

/// Accounts of identities that are kept although they hold nothing; more are looked through for idle ones.
const ACCOUNTS_KEPT: usize = 4_096;

/// What a server with access control is given; see [`Server::guarded`](crate::Server::guarded).
#[derive(Debug, Clone, Default)]
pub struct AccessOptions {
    /// What each identity may have.
    pub quota: Quota,
    /// Where is written what was done and refused, if anywhere.
    pub audit: Option<Audit>,
    /// Whether the list is the one under which the store was served last, so that watches may go on from before. If not,
    /// each begins with a `Reset`: what it may see could have changed in between.
    pub resumable: bool,
    /// Whether the id of an instance has to begin with its service, and a character that no service's name has. Then
    /// nobody can take, or find out by trying, the id of an instance of a service that is not theirs.
    pub strict_ids: bool,
}

/// Access control: whom a server knows, at every moment. Cheap to clone.
///
/// When the list changes, streams of those who are no longer known, or may do something else than before, end at once.
#[derive(Debug, Clone)]
pub struct Access(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    list: watch::Receiver<Arc<AccessList>>,
    key: SessionKey,
    options: AccessOptions,
    accounts: Mutex<BTreeMap<Identity, Ledger>>,
    /// The time that accounts call zero.
    origin: Instant,
}

/// What is known of one identity.
#[derive(Debug, Default)]
struct Ledger {
    account: Account,
    /// What its last watch could see, and since when that has been so.
    sight: Option<(Option<Arc<[ServicePattern]>>, Revision)>,
}

impl Access {
    /// Makes access control of a list that may change, and of the key by which sessions are told whose they are.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with time enabled.
    pub fn new(list: watch::Receiver<Arc<AccessList>>, key: SessionKey, options: AccessOptions) -> Self {
        let accounts = Mutex::default();
        Self(Arc::new(Shared { list, key, options, accounts, origin: Instant::now() }))
    }

    pub(crate) fn tell(&self, event: impl FnOnce() -> Event) {
        if let Some(audit) = &self.0.options.audit {
            audit.tell(event());
        }
    }

    /// Looks at an account, or changes it.
    fn account<T>(&self, identity: &Identity, look: impl FnOnce(&mut Account, &Quota, Duration) -> T) -> T {
        let now = self.0.origin.elapsed();
        let quota = &self.0.options.quota;
        let mut accounts = self.accounts();
        if accounts.len() >= ACCOUNTS_KEPT && !accounts.contains_key(identity) {
            accounts.retain(|_, ledger| !ledger.account.is_idle(quota, now));
        }
        look(&mut accounts.entry(identity.clone()).or_default().account, quota, now)
    }

    /// Those of whom something may be there.
    fn holders(&self) -> Vec<Identity> {
        let accounts = self.accounts();
        let holding = accounts.iter().filter(|(_, ledger)| ledger.account.holds_sessions());
        holding.map(|(identity, _)| identity.clone()).collect()
    }

    /// The revision from which on a watch of `identity` has seen what it may see now; `at` is that of the store.
    fn seen_since(
        &self,
        identity: &Identity,
        readable: Option<Arc<[ServicePattern]>>,
        at: Revision,
    ) -> Revision {
        let mut accounts = self.accounts();
        let sight = &mut accounts.entry(identity.clone()).or_default().sight;
        match sight {
            Some((seen, since)) if *seen == readable => *since,
            Some(_) => sight.insert((readable, at)).1,
            None => sight.insert((readable, if self.0.options.resumable { Revision::new(0) } else { at })).1,
        }
    }

    fn accounts(&self) -> MutexGuard<'_, BTreeMap<Identity, Ledger>> {
        // Counts that a panic left wrong by one do no harm.
        self.0.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The status of a quota that is used up.
fn exhausted(exceeded: &Exceeded) -> Status {
    Status::resource_exhausted(exceeded.to_string())
}
