//! From the wire to the vocabulary: everything is parsed, and an error names the field.

mod check;
mod load;
mod net;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use netloft_types::{
    Health, HealthFilter, Instance, Invalid, Lifecycle, LifecycleFilter, Locality, Metadata, Port, Query,
    ReadMode, Revision, Tag, Tags, Update, Weight,
};

pub use self::check::{check, checks, report, span};
pub use self::load::{SEEN_MAX, advised, instance_load, load_report};
pub use self::net::{attach_spec, attachment, lifetime, network, network_spec, service_spec};
use crate::registry::v1 as wire;

/// Parses an instance; what is absent gets the default that the schema states.
pub fn instance(instance: wire::Instance) -> Result<Instance, Invalid> {
    let checks = checks(instance.checks)?;
    let begins = if checks.is_empty() { Lifecycle::Ready } else { Lifecycle::Starting };
    let maintenance = Some(instance.maintenance).filter(|reason| !reason.is_empty());
    Ok(Instance {
        id: instance.id.parse()?,
        service: instance.service.parse()?,
        address: address(&instance.address)?,
        port: Port::try_from(instance.port)?,
        weight: weight(instance.weight)?.unwrap_or_default(),
        tags: tags(instance.tags)?,
        metadata: metadata(instance.metadata)?,
        health: health(instance.health)?.unwrap_or(Health::Passing),
        lifecycle: lifecycle(instance.lifecycle)?.unwrap_or(begins),
        locality: locality(instance.locality.as_ref())?.unwrap_or_default(),
        checks,
        drain_window: span(instance.drain_window_ms)?,
        maintenance: maintenance.map(|reason| reason.parse()).transpose()?,
    })
}

/// Parses an IP address.
pub fn address(text: &str) -> Result<IpAddr, Invalid> {
    let address: IpAddr = text
        .parse()
        .map_err(|_| Invalid::new("address", text, "must be an IPv4 or IPv6 address, as in 10.89.0.2"))?;
    if address.is_unspecified() || address.is_multicast() {
        return Err(Invalid::new("address", text, "must be the address of one host"));
    }
    Ok(address)
}

/// Parses a weight that may be absent.
pub fn weight(weight: Option<u32>) -> Result<Option<Weight>, Invalid> {
    weight.map(Weight::try_from).transpose()
}

/// Parses tags; repeated ones count once.
pub fn tags(tags: Vec<String>) -> Result<Tags, Invalid> {
    tags.into_iter().map(Tag::try_from).collect::<Result<BTreeSet<_>, _>>()?.try_into()
}

/// Parses metadata.
pub fn metadata(entries: impl IntoIterator<Item = (String, String)>) -> Result<Metadata, Invalid> {
    entries.into_iter().collect::<BTreeMap<_, _>>().try_into()
}

/// Parses a health that may be absent.
pub fn health(health: i32) -> Result<Option<Health>, Invalid> {
    match wire::Health::try_from(health) {
        Ok(wire::Health::Unspecified) => Ok(None),
        Ok(wire::Health::Passing) => Ok(Some(Health::Passing)),
        Ok(wire::Health::Warning) => Ok(Some(Health::Warning)),
        Ok(wire::Health::Critical) => Ok(Some(Health::Critical)),
        Err(_) => Err(unknown("health", health)),
    }
}

/// Parses how much a read has to know; linearizable if absent.
pub fn read_mode(mode: i32) -> Result<ReadMode, Invalid> {
    match wire::ReadMode::try_from(mode) {
        Ok(wire::ReadMode::Unspecified | wire::ReadMode::Linearizable) => Ok(ReadMode::Linearizable),
        Ok(wire::ReadMode::Stale) => Ok(ReadMode::Stale),
        Err(_) => Err(unknown("read mode", mode)),
    }
}

/// Parses a lifecycle that may be absent.
pub fn lifecycle(lifecycle: i32) -> Result<Option<Lifecycle>, Invalid> {
    match wire::Lifecycle::try_from(lifecycle) {
        Ok(wire::Lifecycle::Unspecified) => Ok(None),
        Ok(wire::Lifecycle::Starting) => Ok(Some(Lifecycle::Starting)),
        Ok(wire::Lifecycle::Ready) => Ok(Some(Lifecycle::Ready)),
        Ok(wire::Lifecycle::Draining) => Ok(Some(Lifecycle::Draining)),
        Err(_) => Err(unknown("lifecycle", lifecycle)),
    }
}

/// Parses a locality that may be absent.
pub fn locality(locality: Option<&wire::Locality>) -> Result<Option<Locality>, Invalid> {
    locality.map(|wire| Locality::new(&wire.region, &wire.zone, &wire.host)).transpose()
}

/// Parses a query; an absent one selects what is usable of every service.
pub fn query(query: Option<wire::Query>) -> Result<Query, Invalid> {
    let query = query.unwrap_or_default();
    let health = match wire::HealthFilter::try_from(query.health) {
        Ok(wire::HealthFilter::Unspecified | wire::HealthFilter::Usable) => HealthFilter::Usable,
        Ok(wire::HealthFilter::Passing) => HealthFilter::Passing,
        Ok(wire::HealthFilter::Any) => HealthFilter::Any,
        Err(_) => return Err(unknown("health filter", query.health)),
    };
    let lifecycle = match wire::LifecycleFilter::try_from(query.lifecycle) {
        Ok(wire::LifecycleFilter::Unspecified | wire::LifecycleFilter::Ready) => LifecycleFilter::Ready,
        Ok(wire::LifecycleFilter::Any) => LifecycleFilter::Any,
        Err(_) => return Err(unknown("lifecycle filter", query.lifecycle)),
    };
    let service = if query.service.is_empty() { None } else { Some(query.service.parse()?) };
    Ok(Query { service, tags: tags(query.tags)?.into(), health, lifecycle, within: None })
}

/// Parses one step of a watch.
pub fn update(update: wire::Update) -> Result<Update, Invalid> {
    let step =
        update.step.ok_or_else(|| Invalid::new("update", "", "must have a step this program knows"))?;
    Ok(match step {
        wire::update::Step::Reset(reset) => {
            let all =
                reset.all.into_iter().map(|wire| instance(wire).map(Arc::new)).collect::<Result<_, _>>()?;
            Update::Reset { at: Revision::new(reset.at), all }
        }
        wire::update::Step::Put(put) => {
            let wire = put.instance.ok_or_else(|| Invalid::new("put", "", "must carry an instance"))?;
            Update::Put { at: Revision::new(put.at), instance: Arc::new(instance(wire)?) }
        }
        wire::update::Step::Delete(delete) => {
            Update::Delete { at: Revision::new(delete.at), id: delete.instance_id.parse()? }
        }
        wire::update::Step::Progress(progress) => Update::Progress { at: Revision::new(progress.at) },
    })
}

fn unknown(field: &'static str, number: i32) -> Invalid {
    Invalid::new(field, number, "must be a value of its enumeration in the schema")
}
