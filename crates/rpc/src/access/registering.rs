//! Whether an instance may be registered by whoever asks.

use netloft_access::Right;
use netloft_proto::from_wire;
use netloft_proto::registry::v1 as wire;
use netloft_registry::Store;
use netloft_types::{Health, Instance, InstanceId, Invalid, Lifecycle, ReadMode};
use tonic::Status;

use super::call::Denied;
use super::{Requester, exhausted};
use crate::{Peer, status};

/// The instance of a request if it may be registered; `None` if it makes no sense, which the service will say.
pub(super) async fn admit(
    requester: &Requester,
    store: &dyn Store,
    request: &wire::RegisterRequest,
) -> Result<Option<InstanceId>, Denied> {
    let parsed = request.instance.clone().and_then(|instance| from_wire::instance(instance).ok());
    let Some(instance) = parsed else { return Ok(None) };
    let identity = &requester.admitted.identity;
    if !requester.may(Right::Register, &instance.service) {
        let text = format!("{identity} may not register service {}", instance.service);
        return Err(Status::permission_denied(text).into());
    }
    check_address(requester, &instance)?;
    check_id(requester, &instance)?;
    if instance.health == Health::Critical || instance.lifecycle == Lifecycle::Draining {
        requester.count(|account, quota, now| account.remove(1, quota, now))?;
    }
    check_count(requester, store, &instance.id).await?;
    Ok(Some(instance.id))
}

/// Whoever can register an address that is not theirs has the calls of others go there.
fn check_address(requester: &Requester, instance: &Instance) -> Result<(), Denied> {
    let peer = match &requester.peer {
        Peer::Tcp(address) | Peer::Tls { address, .. } => Some(address.ip()),
        Peer::Unix { .. } => None,
    };
    if requester.admitted.grants.addresses().admit(instance.address, peer) {
        return Ok(());
    }
    let identity = &requester.admitted.identity;
    let text = format!("{identity} may not register address {}", instance.address);
    Err(Status::permission_denied(text).into())
}

/// Ids are unique in a registry, so whoever may choose any can take one, or learn that it is taken.
fn check_id(requester: &Requester, instance: &Instance) -> Result<(), Denied> {
    let may_be_in_a_name = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    let rest = instance.id.as_str().strip_prefix(instance.service.as_str());
    let is_strict = rest.is_some_and(|rest| !rest.as_bytes().first().is_some_and(may_be_in_a_name));
    if is_strict || !requester.access.0.options.strict_ids {
        return Ok(());
    }
    let rule = "must be the service, or begin with it and a character other than a-z, 0-9 and '-'";
    Err(status::invalid(&Invalid::new("instance id", &instance.id, rule)).into())
}

async fn check_count(requester: &Requester, store: &dyn Store, id: &InstanceId) -> Result<(), Denied> {
    let check = || requester.account(|account, quota, now| account.check_instance(id, quota, now));
    if check().is_ok() {
        return Ok(());
    }
    // Checks and drain windows remove instances without a word to the account.
    for counted in requester.account(|account, _, now| account.instances_to_compare(now)) {
        if store.get(&counted, ReadMode::Linearizable).await.is_ok_and(|found| found.instance.is_none()) {
            requester.account(|account, _, _| account.deregistered(&counted));
        }
    }
    check().map_err(|exceeded| exhausted(&exceeded).into())
}
