//! Values for the tests, every legal one among them.

#[allow(dead_code, reason = "one of the test files uses it")]
pub(crate) mod load;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use netloft_types::{
    Check, Checks, Health, Instance, InstanceId, Lifecycle, Locality, Metadata, Port, ServiceName, Span, Tag,
    Tags, Weight,
};
use proptest::prelude::*;

pub(crate) fn service_names() -> impl Strategy<Value = ServiceName> {
    "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?".prop_map(|text| text.parse().unwrap())
}

pub(crate) fn instance_ids() -> impl Strategy<Value = InstanceId> {
    "[!-~]{1,128}".prop_map(|text| text.parse().unwrap())
}

pub(crate) fn tag_sets() -> impl Strategy<Value = BTreeSet<Tag>> {
    prop::collection::btree_set("[^\\p{Cc}]{1,32}".prop_map(|text| text.parse().unwrap()), 0..8)
}

pub(crate) fn addresses() -> impl Strategy<Value = IpAddr> {
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

fn spans() -> impl Strategy<Value = Span> {
    (10..=86_400_000_u64).prop_map(|ms| Duration::from_millis(ms).try_into().unwrap())
}

/// Checks of every kind, each with some of the options.
pub(crate) fn checks() -> impl Strategy<Value = Checks> {
    let http = |port: u16| {
        format!("http:{port}/a?b,method=HEAD,host=api.example.org,status=200-399,header=x-token:a b")
    };
    let kind = (1..u16::MAX, 0..8_usize).prop_map(move |(port, kind)| match kind {
        0 => "tcp".to_owned(),
        1 => format!("tcp:{port}"),
        2 => "http:/".to_owned(),
        3 => http(port),
        4 => "grpc".to_owned(),
        5 => format!("grpc:{port}/pkg.Api"),
        6 => "ttl,damping=none".to_owned(),
        _ => "ttl,damping=3/10s,jitter=0%".to_owned(),
    });
    let check = (kind, spans(), spans(), healths(), 1..=255_u8, prop::option::of(spans()));
    let check = check.prop_map(|(kind, interval, timeout, initial, passes, remove_after)| {
        let check: Check = kind.parse().unwrap();
        let passes = passes.try_into().unwrap();
        Check { interval, timeout, initial, passes, failures: passes, remove_after, ..check }
    });
    prop::collection::vec(check, 0..4).prop_map(|checks| {
        let numbered = checks.into_iter().enumerate();
        let named = numbered.map(|(n, check)| Check { name: format!("c{n}").parse().unwrap(), ..check });
        named.collect::<Vec<_>>().try_into().unwrap()
    })
}

pub(crate) fn instances() -> impl Strategy<Value = Instance> {
    let place = (instance_ids(), service_names(), addresses(), 1..=65_535_u32);
    let facts = (1..=65_535_u32, tag_sets(), metadata(), healths(), lifecycles(), "[a-z0-9-]{0,63}");
    let care = (checks(), prop::option::of(spans()), prop::option::of("[^\\p{Cc}]{1,40}"));
    (place, facts, care).prop_map(
        |((id, service, address, port), (weight, tags, metadata, health, lifecycle, zone), care)| Instance {
            weight: Weight::try_from(weight).unwrap(),
            tags: Tags::try_from(tags).unwrap(),
            metadata,
            health,
            lifecycle,
            locality: Locality::new("", &zone, "").unwrap(),
            checks: care.0,
            drain_window: care.1,
            maintenance: care.2.map(|reason| reason.parse().unwrap()),
            ..Instance::new(id, service, address, Port::try_from(port).unwrap())
        },
    )
}
