//! What is written to `netloft.network.v1` reads back as it was, and nothing that breaks a rule gets in.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod values;

use netloft_proto::network::v1 as net;
use netloft_proto::{from_wire, to_wire};
use netloft_types::{
    AttachSpec, Attachment, Bandwidth, DefaultRoute, Dns, Driver, DriverSpec, Endpoint, EndpointId,
    InterfaceAddr, InterfaceName, Lifetime, MacAddr, Mtu, Network, NetworkSpec, Port, PortRange, Protocol,
    PublishSpec, PublishedPort, Rate, ReadyCheck, RouteSpec, Segment, ServiceSpec, Subnet,
};
use proptest::prelude::*;

use self::values::{addresses, instance_ids, instances, service_names};

proptest! {
    #[test]
    fn every_wish_for_a_network_round_trips(spec in network_specs()) {
        prop_assert_eq!(from_wire::network_spec(to_wire::network_spec(&spec)).unwrap(), spec);
    }

    #[test]
    fn every_wish_for_an_attachment_round_trips(
        spec in attach_specs(),
        service in prop::option::of(service_specs()),
        lifetime in prop::sample::select(vec![Lifetime::Caller, Lifetime::UntilDetached]),
    ) {
        let wire = to_wire::attach(&spec, service.as_ref(), lifetime);
        prop_assert_eq!(from_wire::attach_spec(&wire).unwrap(), spec);
        prop_assert_eq!(from_wire::lifetime(wire.lifetime).unwrap(), lifetime);
        prop_assert_eq!(wire.service.map(from_wire::service_spec).transpose().unwrap(), service);
    }

    #[test]
    fn every_network_round_trips(spec in network_specs(), bridge in interfaces(), mac in any::<u64>()) {
        let network = Network {
            name: spec.name,
            driver: match spec.driver {
                DriverSpec::Macvlan { parent } => Driver::Macvlan { parent },
                _ => Driver::Bridge { bridge, mac: MacAddr::local(mac) },
            },
            segments: spec.segments,
            mtu: spec.mtu,
            internal: spec.internal,
            host_access: spec.host_access,
            ready: spec.ready,
        };
        prop_assert_eq!(from_wire::network(to_wire::network(&network)).unwrap(), network);
    }

    #[test]
    fn every_message_is_parsed_or_refused(
        texts in prop::array::uniform3("\\PC{0,20}"),
        address in prop::sample::select(vec!["", "10.0.0.1", "::1", "::", "10.0.0", "[::1]"]),
        numbers in prop::array::uniform3(prop_oneof![0..3_u32, 65_530..65_540_u32, any::<u32>()]),
        value in any::<i32>(),
    ) {
        let [name, destination, word] = texts;
        let [host_port, port, count] = numbers;
        let address = address.to_owned();
        let request = net::CreateNetworkRequest {
            driver: value % 4,
            parent: name.clone(),
            mtu: Some(port),
            ..create()
        };
        if let Ok(spec) = from_wire::network_spec(request) {
            prop_assert_eq!(spec.mtu.map(Mtu::bytes), Some(port));
        }
        let port = net::PublishedPort { protocol: value % 4, address: address.clone(), host_port, port, count };
        if let Ok(spec) = from_wire::attach_spec(&net::AttachRequest { publish: vec![port], ..attach() }) {
            prop_assert_eq!(u32::from(spec.publish[0].ports.count()), count.max(1));
        }
        let request = net::AttachRequest {
            interface: name,
            netns: word.clone(),
            routes: vec![net::Route { destination, via: address }],
            dns: Some(net::Dns { search: vec![word.clone()], ..net::Dns::default() }),
            ..attach()
        };
        if let Ok(spec) = from_wire::attach_spec(&request) {
            prop_assert_eq!(spec.dns.to_string(), format!("search {word}\n"));
        }
    }

    #[test]
    fn every_attachment_round_trips(attachment in attachments()) {
        prop_assert_eq!(from_wire::attachment(&to_wire::attachment(&attachment)).unwrap(), attachment);
    }
}

#[test]
fn a_network_that_breaks_a_rule_is_refused_by_the_name_of_its_field() {
    type Break = fn(&mut net::CreateNetworkRequest);
    let breaks: [(&str, Break); 8] = [
        ("network name", |wire| wire.name.clear()),
        ("driver", |wire| wire.driver = 9),
        ("parent", |wire| wire.driver = net::Driver::Macvlan.into()),
        ("parent", |wire| wire.parent = "eth0".into()),
        ("bridge", |wire| {
            wire.driver = net::Driver::Macvlan.into();
            wire.parent = "eth0".into();
            wire.bridge = "br0".into();
        }),
        ("interface name", |wire| wire.bridge = "a/b".into()),
        ("subnet", |wire| wire.subnets[0].prefix = "10.0.0.0".into()),
        ("MTU", |wire| wire.mtu = Some(1279)),
    ];
    assert!(from_wire::network_spec(create()).is_ok());
    for (field, break_it) in breaks {
        let mut wire = create();
        break_it(&mut wire);
        assert_eq!(from_wire::network_spec(wire).unwrap_err().field(), field);
    }
}

#[test]
fn an_attachment_that_breaks_a_rule_is_refused_by_the_name_of_its_field() {
    type Break = fn(&mut net::AttachRequest);
    let breaks: [(&str, Break); 18] = [
        ("network name", |wire| wire.network.clear()),
        ("sandbox name", |wire| wire.sandbox = "a".repeat(300)),
        ("network namespace", |wire| wire.netns = "run/netns/a".into()),
        ("interface name", |wire| wire.interface = "..".into()),
        ("protocol", |wire| wire.publish[0].protocol = 4),
        ("address", |wire| wire.publish[0].address = "0.0.0.0".into()),
        ("port", |wire| wire.publish[0].port = 0),
        ("port", |wire| wire.publish[0].port = 65_536),
        ("port", |wire| wire.publish[0].host_port = 65_536),
        // The last of them would be port 65537.
        ("port", |wire| wire.publish[0].count = 65_458),
        ("default route metric", |wire| wire.no_default_route = true),
        ("subnet", |wire| wire.routes[0].destination = "10.0.0.1/8".into()),
        ("address", |wire| wire.routes[0].via = "gateway".into()),
        ("rate", |wire| {
            wire.bandwidth = Some(net::Bandwidth { to_sandbox: Some(7_999), from_sandbox: None });
        }),
        ("address", |wire| dns(wire).servers.push("dns.example".into())),
        ("DNS search domain", |wire| dns(wire).search.push("a\nnameserver 10.6.6.6".into())),
        ("DNS option", |wire| dns(wire).options.push(String::new())),
        ("DNS option", |wire| dns(wire).options.push("o".repeat(254))),
    ];
    assert!(from_wire::attach_spec(&attach()).is_ok());
    for (field, break_it) in breaks {
        let mut wire = attach();
        break_it(&mut wire);
        assert_eq!(from_wire::attach_spec(&wire).unwrap_err().field(), field);
    }
}

#[test]
fn what_an_attachment_does_not_say_is_left_to_the_agent() {
    let request = net::AttachRequest {
        network: "blue".into(),
        sandbox: "api-1".into(),
        ..net::AttachRequest::default()
    };
    let spec = from_wire::attach_spec(&request).unwrap();
    assert_eq!(spec, AttachSpec::new("blue".parse().unwrap(), "api-1".parse().unwrap()));

    let published = net::PublishedPort { port: 80, ..net::PublishedPort::default() };
    let spec = from_wire::attach_spec(&net::AttachRequest { publish: vec![published], ..request }).unwrap();
    assert_eq!(spec.publish, ["80/tcp".parse().unwrap()]);
}

#[test]
fn an_endpoint_knows_at_which_ports_it_answers() {
    let attached = net::Endpoint {
        ports: vec![net::PublishedPort { port: 80, ..net::PublishedPort::default() }],
        ..net::Endpoint {
            id: EndpointId::from_number(1).to_string(),
            network: "blue".into(),
            sandbox: "api-1".into(),
            interface: "eth0".into(),
            mac: "02:00:00:00:00:01".into(),
            ..net::Endpoint::default()
        }
    };
    let undecided = from_wire::attachment(&attached).unwrap_err();
    assert_eq!(undecided.field(), "published port");
}

fn create() -> net::CreateNetworkRequest {
    net::CreateNetworkRequest {
        name: "blue".into(),
        subnets: vec![net::Subnet { prefix: "10.89.0.0/24".into(), gateway: String::new() }],
        ..net::CreateNetworkRequest::default()
    }
}

fn attach() -> net::AttachRequest {
    net::AttachRequest {
        network: "blue".into(),
        sandbox: "api-1".into(),
        publish: vec![net::PublishedPort { host_port: 8080, port: 80, ..net::PublishedPort::default() }],
        default_route_metric: Some(100),
        routes: vec![net::Route { destination: "10.0.0.0/8".into(), via: "10.89.0.7".into() }],
        ..net::AttachRequest::default()
    }
}

fn dns(request: &mut net::AttachRequest) -> &mut net::Dns {
    request.dns.get_or_insert_default()
}

fn interfaces() -> impl Strategy<Value = InterfaceName> {
    "[a-z0-9]{1,15}".prop_map(|text| text.parse().unwrap())
}

fn network_specs() -> impl Strategy<Value = NetworkSpec> {
    let segments = prop::sample::subsequence(vec!["10.89.0.0/24", "fd00:89::/64"], 0..=2);
    let drivers = prop_oneof![
        prop::option::of(interfaces()).prop_map(|bridge| DriverSpec::Bridge { bridge }),
        interfaces().prop_map(|parent| DriverSpec::Macvlan { parent }),
    ];
    let choices = (any::<[bool; 3]>(), 0..=1_000_u32);
    (service_names(), segments, prop::option::of(1280..=65_535_u32), drivers, choices).prop_map(
        |(name, segments, mtu, driver, ([ipv6, internal, host_access], ready))| {
            let segment = |text: &str| Segment::new(text.parse().unwrap()).unwrap();
            NetworkSpec {
                name: name.as_str().parse().unwrap(),
                driver,
                segments: segments.into_iter().map(segment).collect(),
                ipv6,
                mtu: mtu.map(|bytes| Mtu::try_from(bytes).unwrap()),
                internal,
                host_access,
                ready: ready.try_into().unwrap(),
            }
        },
    )
}

fn port_ranges() -> impl Strategy<Value = PortRange> {
    (1..=65_535_u32, 1..=65_535_u32).prop_map(|(one, other)| {
        let port = |number| Port::try_from(number).unwrap();
        PortRange::new(port(one.min(other)), port(one.max(other))).unwrap()
    })
}

fn published_ports() -> impl Strategy<Value = PublishedPort> {
    let protocols = prop::sample::select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
    (protocols, prop::option::of(addresses()), port_ranges(), any::<u16>()).prop_map(
        |(protocol, address, ports, shift)| {
            // As many in another place.
            let first = u32::from(shift) % u32::from(u16::MAX - (ports.count() - 1)) + 1;
            let port = |number| Port::try_from(number).unwrap();
            let host = PortRange::new(port(first), port(first + u32::from(ports.count()) - 1)).unwrap();
            PublishedPort { protocol, address, host, ports }
        },
    )
}

fn publish_specs() -> impl Strategy<Value = PublishSpec> {
    (published_ports(), any::<bool>()).prop_map(|(port, is_chosen)| {
        let spec = PublishSpec::from(port);
        PublishSpec { host: spec.host.filter(|_| is_chosen), ..spec }
    })
}

fn default_routes() -> impl Strategy<Value = DefaultRoute> {
    prop_oneof![
        Just(DefaultRoute::Auto),
        any::<u32>().prop_map(DefaultRoute::Metric),
        Just(DefaultRoute::Never)
    ]
}

fn routes() -> impl Strategy<Value = RouteSpec> {
    let destinations = prop::sample::select(vec!["10.0.0.0/8", "fd00::/8", "0.0.0.0/0", "192.0.2.7/32"])
        .prop_map(|text| text.parse::<Subnet>().unwrap());
    (destinations, prop::option::of(addresses()))
        .prop_map(|(destination, via)| RouteSpec { destination, via })
}

fn bandwidths() -> impl Strategy<Value = Bandwidth> {
    let rates = || prop::option::of((8_000..=u64::MAX).prop_map(|rate| Rate::try_from(rate).unwrap()));
    (rates(), rates()).prop_map(|(to_sandbox, from_sandbox)| Bandwidth { to_sandbox, from_sandbox })
}

fn dns_settings() -> impl Strategy<Value = Dns> {
    let words = || prop::collection::vec("[!-~]{1,20}", 0..3);
    (prop::collection::vec(addresses(), 0..3), words(), words()).prop_map(|(servers, search, options)| Dns {
        servers,
        search,
        options,
    })
}

fn attach_specs() -> impl Strategy<Value = AttachSpec> {
    let place = (service_names(), service_names(), prop::option::of("/[a-z/]{1,20}"));
    let link = (
        prop::option::of(interfaces()),
        prop::collection::vec(addresses(), 0..3),
        prop::option::of(any::<u64>()),
        prop::collection::vec(publish_specs(), 0..3),
    );
    let ways = (
        default_routes(),
        prop::collection::vec(routes(), 0..3),
        bandwidths(),
        prop::collection::btree_map("net[.][a-z0-9._]{1,20}", "[ -~]{0,10}", 0..3),
        dns_settings(),
    );
    (place, link, ways).prop_map(|((network, sandbox, netns), (interface, addresses, mac, publish), ways)| {
        let (default_route, routes, bandwidth, sysctls, dns) = ways;
        AttachSpec {
            network: network.as_str().parse().unwrap(),
            sandbox: sandbox.as_str().parse().unwrap(),
            netns: netns.map(Into::into),
            interface,
            addresses,
            mac: mac.map(MacAddr::local),
            publish,
            default_route,
            routes,
            bandwidth,
            sysctls,
            dns,
        }
    })
}

fn service_specs() -> impl Strategy<Value = ServiceSpec> {
    let checks = prop::sample::select(vec![ReadyCheck::Tcp, ReadyCheck::None]);
    (instances(), checks).prop_map(|(instance, ready_check)| ServiceSpec {
        weight: instance.weight,
        tags: instance.tags,
        metadata: instance.metadata,
        ready_check,
        ..ServiceSpec::new(instance.service, instance.port)
    })
}

fn attachments() -> impl Strategy<Value = Attachment> {
    let place = (any::<u64>(), attach_specs(), prop::collection::vec((addresses(), 0..=32_u8), 1..3));
    let link = (interfaces(), prop::option::of(interfaces()), prop::collection::vec(published_ports(), 0..3));
    let life =
        (prop::option::of(instance_ids()), prop::option::of(1..u32::MAX), prop::option::of("/[a-z]{1,20}"));
    (place, link, life).prop_map(|((id, spec, addresses), (interface, host_link, ports), life)| {
        let (instance, pid, userns) = life;
        let endpoint = Endpoint {
            id: EndpointId::from_number(id),
            network: spec.network,
            sandbox: spec.sandbox,
            interface,
            host_link,
            mac: MacAddr::local(id),
            gateways: addresses.iter().map(|(address, _)| *address).collect(),
            addresses: addresses
                .into_iter()
                .map(|(address, prefix_len)| InterfaceAddr::new(address, prefix_len).unwrap())
                .collect(),
            ports,
            dns: spec.dns,
        };
        let netns = "/run/netloft/netns/web-1".into();
        Attachment { endpoint, netns, userns: userns.map(Into::into), instance, pid }
    })
}
