//! `netloft.network.v1`, parsed.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use netloft_types::{
    AttachSpec, Attachment, Bandwidth, DefaultRoute, Dns, Driver, DriverSpec, Endpoint, InterfaceAddr,
    InterfaceName, Invalid, Lifetime, Mtu, Network, NetworkSpec, Port, PortRange, Protocol, PublishSpec,
    PublishedPort, Rate, ReadyCheck, RouteSpec, Segment, ServiceSpec, Subnet,
};

use super::{address, metadata, tags, unknown, weight};
use crate::network::v1 as wire;

/// Parses the wish for a network.
pub fn network_spec(request: wire::CreateNetworkRequest) -> Result<NetworkSpec, Invalid> {
    let driver = match driver(request.driver)? {
        wire::Driver::Macvlan => {
            unused("bridge", &request.bridge, "must be absent: driver macvlan has none")?;
            DriverSpec::Macvlan { parent: parent(&request.parent)? }
        }
        wire::Driver::Unspecified | wire::Driver::Bridge => {
            unused("parent", &request.parent, PARENT_RULE)?;
            DriverSpec::Bridge { bridge: optional(&request.bridge)? }
        }
    };
    Ok(NetworkSpec {
        name: request.name.parse()?,
        driver,
        segments: segments(&request.subnets)?,
        ipv6: request.ipv6,
        mtu: request.mtu.map(Mtu::try_from).transpose()?,
        internal: request.internal,
        host_access: request.host_access,
        ready: request.ready.try_into()?,
    })
}

/// Parses a network.
pub fn network(wire: wire::Network) -> Result<Network, Invalid> {
    let driver = match driver(wire.driver)? {
        wire::Driver::Macvlan => Driver::Macvlan { parent: parent(&wire.parent)? },
        wire::Driver::Unspecified | wire::Driver::Bridge => {
            Driver::Bridge { bridge: wire.bridge.parse()?, mac: wire.bridge_mac.parse()? }
        }
    };
    Ok(Network {
        name: wire.name.parse()?,
        driver,
        segments: segments(&wire.subnets)?,
        mtu: wire.mtu.map(Mtu::try_from).transpose()?,
        internal: wire.internal,
        host_access: wire.host_access,
        ready: wire.ready.try_into()?,
    })
}

const PARENT_RULE: &str = "must name a link of the host with driver macvlan, and be absent with any other";

fn driver(driver: i32) -> Result<wire::Driver, Invalid> {
    wire::Driver::try_from(driver).map_err(|_| unknown("driver", driver))
}

fn parent(text: &str) -> Result<InterfaceName, Invalid> {
    if text.is_empty() { Err(Invalid::new("parent", text, PARENT_RULE)) } else { text.parse() }
}

fn unused(field: &'static str, text: &str, rule: &'static str) -> Result<(), Invalid> {
    if text.is_empty() { Ok(()) } else { Err(Invalid::new(field, text, rule)) }
}

fn segments(subnets: &[wire::Subnet]) -> Result<Vec<Segment>, Invalid> {
    subnets.iter().map(segment).collect()
}

fn segment(wire: &wire::Subnet) -> Result<Segment, Invalid> {
    let subnet: Subnet = wire.prefix.parse()?;
    if wire.gateway.is_empty() {
        Segment::new(subnet)
    } else {
        Segment::with_gateway(subnet, address(&wire.gateway)?)
    }
}

/// Parses the network half of the wish for an attachment.
pub fn attach_spec(request: &wire::AttachRequest) -> Result<AttachSpec, Invalid> {
    Ok(AttachSpec {
        network: request.network.parse()?,
        sandbox: request.sandbox.parse()?,
        netns: netns(&request.netns)?,
        interface: optional(&request.interface)?,
        addresses: addresses(&request.addresses)?,
        mac: optional(&request.mac)?,
        publish: request.publish.iter().map(publish_spec).collect::<Result<_, _>>()?,
        default_route: default_route(request)?,
        routes: request.routes.iter().map(route).collect::<Result<_, _>>()?,
        bandwidth: bandwidth(request.bandwidth.as_ref())?,
        sysctls: request.sysctls.clone().into_iter().collect(),
        dns: dns(request.dns.as_ref())?,
    })
}

fn netns(text: &str) -> Result<Option<PathBuf>, Invalid> {
    if text.is_empty() {
        return Ok(None);
    }
    let path = Path::new(text);
    // Where the caller works is not where the agent does.
    if path.is_absolute() {
        Ok(Some(path.to_owned()))
    } else {
        Err(Invalid::new("network namespace", text, "must be an absolute path, as in /run/netns/web"))
    }
}

fn publish_spec(wire: &wire::PublishedPort) -> Result<PublishSpec, Invalid> {
    let protocol = match wire::Protocol::try_from(wire.protocol) {
        Ok(wire::Protocol::Unspecified | wire::Protocol::Tcp) => Protocol::Tcp,
        Ok(wire::Protocol::Udp) => Protocol::Udp,
        Ok(wire::Protocol::Sctp) => Protocol::Sctp,
        Err(_) => return Err(unknown("protocol", wire.protocol)),
    };
    Ok(PublishSpec {
        protocol,
        address: if wire.address.is_empty() { None } else { Some(address(&wire.address)?) },
        host: if wire.host_port == 0 { None } else { Some(ports(wire.host_port, wire.count)?) },
        ports: ports(wire.port, wire.count)?,
    })
}

/// So many ports in a row; one if it does not say how many.
fn ports(first: u32, count: u32) -> Result<PortRange, Invalid> {
    let last = first.saturating_add(count.saturating_sub(1));
    PortRange::new(Port::try_from(first)?, Port::try_from(last)?)
}

fn default_route(request: &wire::AttachRequest) -> Result<DefaultRoute, Invalid> {
    match (request.no_default_route, request.default_route_metric) {
        (false, None) => Ok(DefaultRoute::Auto),
        (false, Some(metric)) => Ok(DefaultRoute::Metric(metric)),
        (true, None) => Ok(DefaultRoute::Never),
        (true, Some(metric)) => Err(Invalid::new(
            "default route metric",
            metric,
            "must be absent where there is no default route",
        )),
    }
}

fn route(wire: &wire::Route) -> Result<RouteSpec, Invalid> {
    let via = if wire.via.is_empty() { None } else { Some(address(&wire.via)?) };
    Ok(RouteSpec { destination: wire.destination.parse()?, via })
}

fn bandwidth(wire: Option<&wire::Bandwidth>) -> Result<Bandwidth, Invalid> {
    let rate = |bits_per_second: Option<u64>| bits_per_second.map(Rate::try_from).transpose();
    let wire = wire.copied().unwrap_or_default();
    Ok(Bandwidth { to_sandbox: rate(wire.to_sandbox)?, from_sandbox: rate(wire.from_sandbox)? })
}

fn dns(wire: Option<&wire::Dns>) -> Result<Dns, Invalid> {
    let Some(wire) = wire else { return Ok(Dns::default()) };
    Ok(Dns {
        servers: addresses(&wire.servers)?,
        search: dns_words("DNS search domain", &wire.search)?,
        options: dns_words("DNS option", &wire.options)?,
    })
}

/// Words of one line in a `resolv.conf`. One with a line break in it would bring lines of its own.
fn dns_words(field: &'static str, texts: &[String]) -> Result<Vec<String>, Invalid> {
    let is_word = |text: &str| {
        (1..=DNS_WORD_LEN_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    match texts.iter().find(|text| !is_word(text)) {
        None => Ok(texts.to_vec()),
        Some(bad) => {
            Err(Invalid::new(field, bad, "must be 1 to 253 printable ASCII characters without spaces"))
        }
    }
}

/// Bytes of a domain name in text (RFC 1035, section 2.3.4, without the length bytes and the root).
const DNS_WORD_LEN_MAX: usize = 253;

/// Parses the service half of the wish for an attachment.
pub fn service_spec(wire: wire::Service) -> Result<ServiceSpec, Invalid> {
    let bare = ServiceSpec::new(wire.name.parse()?, Port::try_from(wire.port)?);
    let ready_check = match wire::ReadyCheck::try_from(wire.ready_check) {
        Ok(wire::ReadyCheck::Unspecified | wire::ReadyCheck::Tcp) => ReadyCheck::Tcp,
        Ok(wire::ReadyCheck::None) => ReadyCheck::None,
        Err(_) => return Err(unknown("ready check", wire.ready_check)),
    };
    Ok(ServiceSpec {
        weight: weight(wire.weight)?.unwrap_or_default(),
        tags: tags(wire.tags)?,
        metadata: metadata(wire.metadata)?,
        ready_check,
        ..bare
    })
}

/// Parses a lifetime.
pub fn lifetime(lifetime: i32) -> Result<Lifetime, Invalid> {
    match wire::Lifetime::try_from(lifetime) {
        Ok(wire::Lifetime::Unspecified | wire::Lifetime::Caller) => Ok(Lifetime::Caller),
        Ok(wire::Lifetime::UntilDetached) => Ok(Lifetime::UntilDetached),
        Err(_) => Err(unknown("lifetime", lifetime)),
    }
}

/// Parses an attachment.
pub fn attachment(wire: &wire::Endpoint) -> Result<Attachment, Invalid> {
    let published = |port| publish_spec(port).and_then(PublishedPort::try_from);
    let endpoint = Endpoint {
        id: wire.id.parse()?,
        network: wire.network.parse()?,
        sandbox: wire.sandbox.parse()?,
        interface: wire.interface.parse()?,
        host_link: optional(&wire.host_link)?,
        mac: wire.mac.parse()?,
        addresses: wire
            .addresses
            .iter()
            .map(|text| text.parse::<InterfaceAddr>())
            .collect::<Result<_, _>>()?,
        gateways: addresses(&wire.gateways)?,
        ports: wire.ports.iter().map(published).collect::<Result<_, _>>()?,
        dns: dns(wire.dns.as_ref())?,
    };
    Ok(Attachment {
        endpoint,
        netns: wire.netns.as_str().into(),
        userns: Some(&wire.userns).filter(|path| !path.is_empty()).map(Into::into),
        instance: optional(&wire.instance_id)?,
        pid: Some(wire.pid).filter(|pid| *pid != 0),
    })
}

fn addresses(texts: &[String]) -> Result<Vec<IpAddr>, Invalid> {
    texts.iter().map(|text| address(text)).collect()
}

/// Parses text that is absent when empty.
fn optional<T: FromStr<Err = Invalid>>(text: &str) -> Result<Option<T>, Invalid> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}
