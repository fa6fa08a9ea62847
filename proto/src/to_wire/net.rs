//! `netloft.network.v1`, written.

use std::path::Path;

use netloft_types::{
    AttachSpec, Attachment, Bandwidth, DefaultRoute, Dns, Driver, DriverSpec, Lifetime, Network, NetworkSpec,
    PortRange, Protocol, PublishSpec, ReadyCheck, RouteSpec, Segment, ServiceSpec,
};

use super::{metadata, tags};
use crate::network::v1 as wire;

/// A driver that the vocabulary has and the schema has not: whoever reads it refuses it by its name.
const UNKNOWN_DRIVER: i32 = -1;

/// Writes the wish for a network out.
pub fn network_spec(spec: &NetworkSpec) -> wire::CreateNetworkRequest {
    let (driver, bridge, parent) = match &spec.driver {
        DriverSpec::Bridge { bridge } => {
            (wire::Driver::Bridge.into(), or_empty(bridge.as_ref()), String::new())
        }
        DriverSpec::Macvlan { parent } => (wire::Driver::Macvlan.into(), String::new(), parent.to_string()),
        _ => (UNKNOWN_DRIVER, String::new(), String::new()),
    };
    wire::CreateNetworkRequest {
        name: spec.name.to_string(),
        subnets: spec.segments.iter().map(segment).collect(),
        mtu: spec.mtu.map(Into::into),
        bridge,
        driver,
        parent,
        ipv6: spec.ipv6,
        internal: spec.internal,
        host_access: spec.host_access,
        ready: spec.ready.into(),
    }
}

/// Writes a network out.
pub fn network(network: &Network) -> wire::Network {
    let (driver, parent) = match &network.driver {
        Driver::Bridge { .. } => (wire::Driver::Bridge.into(), String::new()),
        Driver::Macvlan { parent } => (wire::Driver::Macvlan.into(), parent.to_string()),
        _ => (UNKNOWN_DRIVER, String::new()),
    };
    let bridge_mac = match &network.driver {
        Driver::Bridge { mac, .. } => mac.to_string(),
        _ => String::new(),
    };
    wire::Network {
        name: network.name.to_string(),
        bridge: or_empty(network.bridge()),
        subnets: network.segments.iter().map(segment).collect(),
        mtu: network.mtu.map(Into::into),
        bridge_mac,
        driver,
        parent,
        internal: network.internal,
        host_access: network.host_access,
        ready: network.ready.into(),
    }
}

fn segment(segment: &Segment) -> wire::Subnet {
    wire::Subnet { prefix: segment.subnet().to_string(), gateway: segment.gateway().to_string() }
}

/// Writes the wish for an attachment out.
pub fn attach(spec: &AttachSpec, service: Option<&ServiceSpec>, lifetime: Lifetime) -> wire::AttachRequest {
    let lifetime = match lifetime {
        Lifetime::Caller => wire::Lifetime::Caller,
        Lifetime::UntilDetached => wire::Lifetime::UntilDetached,
    };
    let default_route_metric = match spec.default_route {
        DefaultRoute::Metric(metric) => Some(metric),
        DefaultRoute::Auto | DefaultRoute::Never => None,
    };
    wire::AttachRequest {
        network: spec.network.to_string(),
        sandbox: spec.sandbox.to_string(),
        interface: or_empty(spec.interface.as_ref()),
        addresses: texts(&spec.addresses),
        mac: or_empty(spec.mac.as_ref()),
        service: service.map(service_spec),
        lifetime: lifetime.into(),
        netns: path(spec.netns.as_deref()),
        publish: spec.publish.iter().map(published_port).collect(),
        default_route_metric,
        no_default_route: spec.default_route == DefaultRoute::Never,
        routes: spec.routes.iter().map(route).collect(),
        bandwidth: spec.bandwidth.is_limited().then(|| bandwidth(spec.bandwidth)),
        sysctls: spec.sysctls.clone().into_iter().collect(),
        dns: dns(&spec.dns),
    }
}

fn published_port(spec: &PublishSpec) -> wire::PublishedPort {
    let protocol = match spec.protocol {
        Protocol::Tcp => wire::Protocol::Tcp,
        Protocol::Udp => wire::Protocol::Udp,
        Protocol::Sctp => wire::Protocol::Sctp,
    };
    let first = |range: PortRange| range.first().number().into();
    wire::PublishedPort {
        protocol: protocol.into(),
        address: or_empty(spec.address.as_ref()),
        host_port: spec.host.map(first).unwrap_or_default(),
        port: first(spec.ports),
        count: spec.ports.count().into(),
    }
}

fn route(route: &RouteSpec) -> wire::Route {
    wire::Route { destination: route.destination.to_string(), via: or_empty(route.via.as_ref()) }
}

fn bandwidth(bandwidth: Bandwidth) -> wire::Bandwidth {
    wire::Bandwidth {
        to_sandbox: bandwidth.to_sandbox.map(Into::into),
        from_sandbox: bandwidth.from_sandbox.map(Into::into),
    }
}

fn dns(dns: &Dns) -> Option<wire::Dns> {
    let written = || wire::Dns {
        servers: texts(&dns.servers),
        search: dns.search.clone(),
        options: dns.options.clone(),
    };
    (!dns.is_empty()).then(written)
}

fn service_spec(service: &ServiceSpec) -> wire::Service {
    let ready_check = match service.ready_check {
        ReadyCheck::Tcp => wire::ReadyCheck::Tcp,
        ReadyCheck::None => wire::ReadyCheck::None,
    };
    wire::Service {
        name: service.name.to_string(),
        port: service.port.number().into(),
        weight: Some(service.weight.number().into()),
        tags: tags(&service.tags),
        metadata: metadata(&service.metadata),
        ready_check: ready_check.into(),
    }
}

/// Writes an attachment out.
pub fn attachment(attachment: &Attachment) -> wire::Endpoint {
    let endpoint = &attachment.endpoint;
    wire::Endpoint {
        id: endpoint.id.to_string(),
        network: endpoint.network.to_string(),
        sandbox: endpoint.sandbox.to_string(),
        interface: endpoint.interface.to_string(),
        host_link: or_empty(endpoint.host_link.as_ref()),
        mac: endpoint.mac.to_string(),
        addresses: texts(&endpoint.addresses),
        gateways: texts(&endpoint.gateways),
        netns: path(Some(&attachment.netns)),
        userns: path(attachment.userns.as_deref()),
        instance_id: or_empty(attachment.instance.as_ref()),
        pid: attachment.pid.unwrap_or_default(),
        ports: endpoint.ports.iter().map(|port| published_port(&(*port).into())).collect(),
        dns: dns(&endpoint.dns),
    }
}

fn path(path: Option<&Path>) -> String {
    path.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
}

fn texts(values: &[impl ToString]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn or_empty(value: Option<&impl ToString>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}
