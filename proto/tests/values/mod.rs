//! Values for the tests, every legal one among them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netloft_types::{
    Health, Instance, InstanceId, Lifecycle, Locality, Metadata, Port, ServiceName, Tag, Tags, Weight,
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

pub(crate) fn instances() -> impl Strategy<Value = Instance> {
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
