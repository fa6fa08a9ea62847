//! What is written to the wire reads back as it was, and nothing that breaks a rule gets in.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use netloft_proto::registry::v1 as wire;
use netloft_proto::{from_wire, to_wire};
use netloft_types::{
    AttachSpec, Attachment, Endpoint, EndpointId, Health, HealthFilter, Instance, InstanceId, InterfaceAddr,
    InterfaceName, Lifecycle, LifecycleFilter, Lifetime, Locality, MacAddr, Metadata, Mtu, Network,
    NetworkSpec, Port, Query, ReadyCheck, Revision, Segment, ServiceName, ServiceSpec, Tag, Tags, Update,
    Weight,
};
use proptest::prelude::*;

proptest! {
    #[test]
    fn every_instance_round_trips(instance in instances()) {
        prop_assert_eq!(from_wire::instance(to_wire::instance(&instance)).unwrap(), instance);
    }

    #[test]
    fn every_query_round_trips(query in queries()) {
        prop_assert_eq!(from_wire::query(Some(to_wire::query(&query))).unwrap(), query);
    }

    #[test]
    fn every_update_round_trips(update in updates()) {
        prop_assert_eq!(from_wire::update(to_wire::update(&update)).unwrap(), update);
    }
}

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
    fn every_network_round_trips(spec in network_specs(), bridge_mac in any::<u64>()) {
        let network = Network {
            name: spec.name,
            segments: spec.segments,
            mtu: spec.mtu,
            bridge: spec.bridge.unwrap_or_else(InterfaceName::first_ethernet),
            bridge_mac: MacAddr::local(bridge_mac),
        };
        prop_assert_eq!(from_wire::network(to_wire::network(&network)).unwrap(), network);
    }

    #[test]
    fn every_attachment_round_trips(attachment in attachments()) {
        prop_assert_eq!(from_wire::attachment(&to_wire::attachment(&attachment)).unwrap(), attachment);
    }
}

#[test]
fn what_is_absent_gets_the_stated_default() {
    let instance = from_wire::instance(bare()).unwrap();
    let expected = Instance::new(
        "api-1".parse().unwrap(),
        "api".parse().unwrap(),
        "10.0.0.2".parse().unwrap(),
        "8080".parse().unwrap(),
    );
    assert_eq!(instance, expected);
    assert_eq!(from_wire::query(None).unwrap(), Query::default());
}

#[test]
fn what_breaks_a_rule_is_refused_by_the_name_of_its_field() {
    type Break = fn(&mut wire::Instance);
    let breaks: [(&str, Break); 12] = [
        ("instance id", |wire| wire.id.clear()),
        ("service name", |wire| wire.service = "a".repeat(300)),
        ("address", |wire| wire.address = "localhost".into()),
        ("address", |wire| wire.address = "0.0.0.0".into()),
        ("address", |wire| wire.address = "ff02::1".into()),
        ("port", |wire| wire.port = 0),
        ("port", |wire| wire.port = 65_536),
        ("weight", |wire| wire.weight = Some(0)),
        ("tag", |wire| wire.tags.push(String::new())),
        ("metadata key", |wire| {
            drop(wire.metadata.insert(String::new(), String::new()));
        }),
        ("health", |wire| wire.health = 9),
        ("zone", |wire| {
            wire.locality = Some(wire::Locality { zone: "z".repeat(64), ..wire::Locality::default() });
        }),
    ];
    for (field, break_it) in breaks {
        let mut wire = bare();
        break_it(&mut wire);
        assert_eq!(from_wire::instance(wire).unwrap_err().field(), field);
    }
    assert_eq!(from_wire::update(wire::Update { step: None }).unwrap_err().field(), "update");
}

fn bare() -> wire::Instance {
    wire::Instance {
        id: "api-1".into(),
        service: "api".into(),
        address: "10.0.0.2".into(),
        port: 8080,
        ..wire::Instance::default()
    }
}

fn service_names() -> impl Strategy<Value = ServiceName> {
    "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?".prop_map(|text| text.parse().unwrap())
}

fn instance_ids() -> impl Strategy<Value = InstanceId> {
    "[!-~]{1,128}".prop_map(|text| text.parse().unwrap())
}

fn tag_sets() -> impl Strategy<Value = BTreeSet<Tag>> {
    prop::collection::btree_set("[^\\p{Cc}]{1,32}".prop_map(|text| text.parse().unwrap()), 0..8)
}

fn addresses() -> impl Strategy<Value = IpAddr> {
    any::<IpAddr>().prop_filter("one host", |address| !address.is_unspecified() && !address.is_multicast())
}

fn healths() -> impl Strategy<Value = Health> {
    prop::sample::select(vec![Health::Passing, Health::Warning, Health::Critical])
}

fn lifecycles() -> impl Strategy<Value = Lifecycle> {
    prop::sample::select(vec![Lifecycle::Starting, Lifecycle::Ready, Lifecycle::Draining])
}

fn metadata() -> impl Strategy<Value = Metadata> {
    prop::collection::btree_map("[a-zA-Z0-9_./-]{1,32}", "[^\\p{Cc}]{0,64}", 0..8)
        .prop_map(|entries: BTreeMap<String, String>| entries.try_into().unwrap())
}

fn instances() -> impl Strategy<Value = Instance> {
    let place = (instance_ids(), service_names(), addresses(), 1..=65_535_u32);
    let facts = (1..=65_535_u32, tag_sets(), metadata(), healths(), lifecycles(), "[a-z0-9-]{0,63}");
    (place, facts).prop_map(
        |((id, service, address, port), (weight, tags, metadata, health, lifecycle, zone))| Instance {
            weight: Weight::try_from(weight).unwrap(),
            tags: Tags::try_from(tags).unwrap(),
            metadata,
            health,
            lifecycle,
            locality: Locality::new("", &zone, "").unwrap(),
            ..Instance::new(id, service, address, Port::try_from(port).unwrap())
        },
    )
}

fn queries() -> impl Strategy<Value = Query> {
    let health = prop::sample::select(vec![HealthFilter::Passing, HealthFilter::Usable, HealthFilter::Any]);
    let lifecycle = prop::sample::select(vec![LifecycleFilter::Ready, LifecycleFilter::Any]);
    (prop::option::of(service_names()), tag_sets(), health, lifecycle)
        .prop_map(|(service, tags, health, lifecycle)| Query { service, tags, health, lifecycle })
}

fn updates() -> impl Strategy<Value = Update> {
    let at = || any::<u64>().prop_map(Revision::new);
    prop_oneof![
        (at(), prop::collection::vec(instances().prop_map(Arc::new), 0..4))
            .prop_map(|(at, all)| Update::Reset { at, all: all.into() }),
        (at(), instances()).prop_map(|(at, instance)| Update::Put { at, instance: Arc::new(instance) }),
        (at(), instance_ids()).prop_map(|(at, id)| Update::Delete { at, id }),
        at().prop_map(|at| Update::Progress { at }),
    ]
}

fn network_specs() -> impl Strategy<Value = NetworkSpec> {
    let segments = prop::sample::subsequence(vec!["10.89.0.0/24", "fd00:89::/64"], 0..=2);
    let bridge = prop::option::of("[a-z0-9]{1,15}".prop_map(|text| text.parse().unwrap()));
    (service_names(), segments, prop::option::of(1280..=65_535_u32), bridge).prop_map(
        |(name, segments, mtu, bridge)| {
            let segment = |text: &str| Segment::new(text.parse().unwrap()).unwrap();
            NetworkSpec {
                segments: segments.into_iter().map(segment).collect(),
                mtu: mtu.map(|bytes| Mtu::try_from(bytes).unwrap()),
                bridge,
                ..NetworkSpec::new(name.as_str().parse().unwrap())
            }
        },
    )
}

fn attach_specs() -> impl Strategy<Value = AttachSpec> {
    (
        service_names(),
        service_names(),
        prop::collection::vec(addresses(), 0..3),
        prop::option::of(any::<u64>()),
    )
        .prop_map(|(network, sandbox, addresses, mac)| AttachSpec {
            addresses,
            mac: mac.map(MacAddr::local),
            ..AttachSpec::new(network.as_str().parse().unwrap(), sandbox.as_str().parse().unwrap())
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
    let life =
        (prop::option::of(instance_ids()), prop::option::of(1..u32::MAX), prop::option::of("/[a-z]{1,20}"));
    (place, life).prop_map(|((id, spec, addresses), (instance, pid, userns))| Attachment {
        endpoint: Endpoint {
            id: EndpointId::from_number(id),
            network: spec.network,
            sandbox: spec.sandbox,
            interface: spec.interface,
            host_link: "nl0123456789ab".parse().unwrap(),
            mac: MacAddr::local(id),
            gateways: addresses.iter().map(|(address, _)| *address).collect(),
            addresses: addresses
                .into_iter()
                .map(|(address, prefix_len)| InterfaceAddr::new(address, prefix_len).unwrap())
                .collect(),
        },
        netns: "/run/netloft/netns/web-1".into(),
        userns: userns.map(Into::into),
        instance,
        pid,
    })
}
