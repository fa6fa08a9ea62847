//! From the vocabulary to the wire.

use netloft_types::{
    AttachSpec, Attachment, Health, HealthFilter, Instance, Lifecycle, LifecycleFilter, Lifetime, Locality,
    Metadata, Network, NetworkSpec, Query, ReadyCheck, Segment, ServiceSpec, Tags, Update,
};

use crate::network::v1 as net;
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
    }
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

/// Writes the wish for a network out.
pub fn network_spec(spec: &NetworkSpec) -> net::CreateNetworkRequest {
    net::CreateNetworkRequest {
        name: spec.name.to_string(),
        subnets: spec.segments.iter().map(segment).collect(),
        mtu: spec.mtu.map(Into::into),
        bridge: or_empty(spec.bridge.as_ref()),
    }
}

fn segment(segment: &Segment) -> net::Subnet {
    net::Subnet { prefix: segment.subnet().to_string(), gateway: segment.gateway().to_string() }
}

/// Writes a network out.
pub fn network(network: &Network) -> net::Network {
    net::Network {
        name: network.name.to_string(),
        bridge: network.bridge.to_string(),
        subnets: network.segments.iter().map(segment).collect(),
        mtu: network.mtu.map(Into::into),
        bridge_mac: network.bridge_mac.to_string(),
    }
}

/// Writes the wish for an attachment out.
pub fn attach(spec: &AttachSpec, service: Option<&ServiceSpec>, lifetime: Lifetime) -> net::AttachRequest {
    let lifetime = match lifetime {
        Lifetime::Caller => net::Lifetime::Caller,
        Lifetime::UntilDetached => net::Lifetime::UntilDetached,
    };
    net::AttachRequest {
        network: spec.network.to_string(),
        sandbox: spec.sandbox.to_string(),
        interface: spec.interface.to_string(),
        addresses: spec.addresses.iter().map(ToString::to_string).collect(),
        mac: or_empty(spec.mac.as_ref()),
        service: service.map(service_spec),
        lifetime: lifetime.into(),
    }
}

fn service_spec(service: &ServiceSpec) -> net::Service {
    let ready_check = match service.ready_check {
        ReadyCheck::Tcp => net::ReadyCheck::Tcp,
        ReadyCheck::None => net::ReadyCheck::None,
    };
    net::Service {
        name: service.name.to_string(),
        port: service.port.number().into(),
        weight: Some(service.weight.number().into()),
        tags: tags(&service.tags),
        metadata: metadata(&service.metadata),
        ready_check: ready_check.into(),
    }
}

/// Writes an attachment out.
pub fn attachment(attachment: &Attachment) -> net::Endpoint {
    let endpoint = &attachment.endpoint;
    net::Endpoint {
        id: endpoint.id.to_string(),
        network: endpoint.network.to_string(),
        sandbox: endpoint.sandbox.to_string(),
        interface: endpoint.interface.to_string(),
        host_link: endpoint.host_link.to_string(),
        mac: endpoint.mac.to_string(),
        addresses: endpoint.addresses.iter().map(ToString::to_string).collect(),
        gateways: endpoint.gateways.iter().map(ToString::to_string).collect(),
        netns: attachment.netns.to_string_lossy().into_owned(),
        userns: attachment
            .userns
            .as_deref()
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default(),
        instance_id: or_empty(attachment.instance.as_ref()),
        pid: attachment.pid.unwrap_or_default(),
    }
}

fn or_empty(value: Option<&impl ToString>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}
