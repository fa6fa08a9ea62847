//! Takes away what somebody holds who may not any more.
//!
//! Without it, what was registered would stay until its session ends, which may be a day, and whoever registered it with a
//! token that is revoked since would be found all the while.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use netloft_access::{AccessList, Account, Grants, Identity, Right};
use netloft_registry::{Command, Store};
use netloft_types::{Instance, InstanceId, ReadMode};
use tokio::time::sleep;
use tracing::warn;

use super::{Access, Event, Outcome, now};
use crate::Peer;

/// How often it is looked whether a token has expired.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks whenever the list changes, and for tokens that expire.
pub(crate) async fn sweep(access: Access, store: Arc<dyn Store>) -> Infallible {
    let mut lists = access.0.list.clone();
    let mut known: BTreeMap<Identity, Arc<Grants>> = BTreeMap::new();
    loop {
        let list = Arc::clone(&lists.borrow_and_update());
        known = sweep_once(&access, &*store, &list, &known).await;
        tokio::select! {
            changed = lists.changed() => if changed.is_err() {
                // It never will again; tokens still expire.
                sleep(INTERVAL).await;
            },
            () = sleep(INTERVAL) => {}
        }
    }
}

/// Answers what each identity that holds something may do now.
async fn sweep_once(
    access: &Access,
    store: &dyn Store,
    list: &AccessList,
    known: &BTreeMap<Identity, Arc<Grants>>,
) -> BTreeMap<Identity, Arc<Grants>> {
    let mut still_known = BTreeMap::new();
    for identity in access.holders() {
        match list.grants(&identity, now()) {
            None => close_all(access, store, &identity).await,
            Some(grants) => {
                // One that is new here may have been told otherwise since it registered.
                if known.get(&identity).is_none_or(|before| *before != grants) {
                    withdraw(access, store, &identity, &grants).await;
                }
                still_known.insert(identity, grants);
            }
        }
    }
    still_known
}

async fn close_all(access: &Access, store: &dyn Store, identity: &Identity) {
    for session in access.account(identity, |account, _, _| account.sessions()) {
        let closed = store.apply(Command::CloseSession { session }).await;
        if closed.is_ok() {
            let alias = Some(access.0.key.alias(session));
            access.tell(|| Event::of_server(identity, "end session", Outcome::Done).about(None, alias));
        }
        // One that could not be closed, for want of a disk, is tried again.
        if closed.is_ok() || closed.is_err_and(|error| error.is_not_found()) {
            access.account(identity, |account, _, _| account.closed(session));
        }
    }
}

async fn withdraw(access: &Access, store: &dyn Store, identity: &Identity, grants: &Grants) {
    for id in access.account(identity, |account, _, _| account.instances()) {
        let Ok(found) = store.get(&id, ReadMode::Linearizable).await else { continue };
        let Some(seen) = found.instance.filter(|instance| !may_be_there(instance, grants)) else { continue };
        match store.apply(Command::Amend { seen, becomes: None }).await {
            Ok(_) => note(access, identity, &id),
            Err(error) => warn!(instance = %id, %error, "cannot remove what may not be there any more"),
        }
    }
}

/// An address of their own cannot be told from here: it was when it was registered.
fn may_be_there(instance: &Instance, grants: &Grants) -> bool {
    grants.allow(Right::Register, &instance.service)
        && grants.addresses().admit(instance.address, Some(instance.address))
}

fn note(access: &Access, identity: &Identity, id: &InstanceId) {
    access.account(identity, |account: &mut Account, _, _| account.deregistered(id));
    access.tell(|| Event::of_server(identity, "remove", Outcome::Done).about(Some(id.to_string()), None));
}

impl Event {
    /// Of what the server did with what is somebody's.
    fn of_server(identity: &Identity, operation: &'static str, outcome: Outcome) -> Self {
        let server = Peer::Unix { pid: Some(std::process::id()), uid: 0, gid: 0 };
        Self::of_peer(&server, operation, outcome).by(identity.clone())
    }
}
