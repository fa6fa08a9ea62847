//! From the vocabulary to the wire.

mod check;
mod load;
mod net;

use netloft_types::{
    Health, HealthFilter, Instance, Lifecycle, LifecycleFilter, Locality, Metadata, Query, ReadMode, Span,
    Tags, Update,
};

pub use self::check::{check, report};
pub use self::load::{advised, instance_load, load_report};
pub use self::net::{attach, attachment, network, network_spec};
use crate::registry::v1 as wire;

/// Writes an instance out in full.
pub fn instance(instance: &Instance) -> wire::Instance {
    wire::Instance {
        id: instance.id.to_string(),
        service: instance.service.to_string(),
        address: instance.address.to_string(),
        port: instance.port.number().into(),
        weight: Some(instance.weight.number().into()),
        tags: tags(&instance.tags),
        metadata: metadata(&instance.metadata),
        health: health(instance.health).into(),
        lifecycle: lifecycle(instance.lifecycle).into(),
        locality: Some(locality(&instance.locality)),
        checks: instance.checks.iter().map(check).collect(),
        drain_window_ms: span(instance.drain_window),
        maintenance: instance.maintenance.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

/// Writes a length of time out, absent as 0.
pub fn span(span: Option<Span>) -> u64 {
    span.map(check::ms).unwrap_or_default()
}

/// Writes tags out in order.
pub fn tags(tags: &Tags) -> Vec<String> {
    tags.iter().map(ToString::to_string).collect()
}

/// Writes metadata out.
pub fn metadata(metadata: &Metadata) -> std::collections::HashMap<String, String> {
    metadata.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Writes a health out.
pub fn health(health: Health) -> wire::Health {
    match health {
        Health::Passing => wire::Health::Passing,
        Health::Warning => wire::Health::Warning,
        Health::Critical => wire::Health::Critical,
    }
}

/// Writes out how much a read has to know.
pub fn read_mode(mode: ReadMode) -> wire::ReadMode {
    match mode {
        ReadMode::Linearizable => wire::ReadMode::Linearizable,
        ReadMode::Stale => wire::ReadMode::Stale,
    }
}

/// Writes a lifecycle out.
pub fn lifecycle(lifecycle: Lifecycle) -> wire::Lifecycle {
    match lifecycle {
        Lifecycle::Starting => wire::Lifecycle::Starting,
        Lifecycle::Ready => wire::Lifecycle::Ready,
        Lifecycle::Draining => wire::Lifecycle::Draining,
    }
}

/// Writes a locality out.
pub fn locality(locality: &Locality) -> wire::Locality {
    wire::Locality {
        region: locality.region().to_owned(),
        zone: locality.zone().to_owned(),
        host: locality.host().to_owned(),
    }
}

/// Writes a query out.
pub fn query(query: &Query) -> wire::Query {
    let health = match query.health {
        HealthFilter::Passing => wire::HealthFilter::Passing,
        HealthFilter::Usable => wire::HealthFilter::Usable,
        HealthFilter::Any => wire::HealthFilter::Any,
    };
    let lifecycle = match query.lifecycle {
        LifecycleFilter::Ready => wire::LifecycleFilter::Ready,
        LifecycleFilter::Any => wire::LifecycleFilter::Any,
    };
    wire::Query {
        service: query.service.as_ref().map(ToString::to_string).unwrap_or_default(),
        tags: query.tags.iter().map(ToString::to_string).collect(),
        health: health.into(),
        lifecycle: lifecycle.into(),
    }
}

/// Writes one step of a watch out.
pub fn update(update: &Update) -> wire::Update {
    let at = update.at().number();
    let step = match update {
        Update::Reset { all, .. } => {
            wire::update::Step::Reset(wire::Reset { at, all: all.iter().map(|one| instance(one)).collect() })
        }
        Update::Put { instance: put, .. } => {
            wire::update::Step::Put(wire::Put { at, instance: Some(instance(put)) })
        }
        Update::Delete { id, .. } => {
            wire::update::Step::Delete(wire::Delete { at, instance_id: id.to_string() })
        }
        Update::Progress { .. } => wire::update::Step::Progress(wire::Progress { at }),
    };
    wire::Update { step: Some(step) }
}
