//! What is written to `netloft.registry.v1` reads back as it was, and nothing that breaks a rule gets in.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod values;

use std::sync::Arc;

use netloft_proto::answer::{EncodedInstances, ResolveAnswer, WatchAnswer};
use netloft_proto::registry::v1 as wire;
use netloft_proto::{from_wire, to_wire};
use netloft_types::{
    Advice, HealthFilter, Instance, Lifecycle, LifecycleFilter, LoadReport, Query, Revision, Update,
};
use proptest::prelude::*;
use prost::Message as _;

use self::values::load::{advice, instance_loads, seen};
use self::values::{instance_ids, instances, service_names, tag_sets};

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
    fn every_load_report_round_trips(
        (number, service) in (1..=u64::MAX, service_names()),
        seen in prop::collection::btree_map(instance_ids(), seen(), 0..6),
    ) {
        let report = LoadReport { reporter: number.try_into().unwrap(), service, seen };
        prop_assert_eq!(from_wire::load_report(to_wire::load_report(&report)).unwrap(), report);
    }

    #[test]
    fn every_advice_round_trips((id, advice) in (instance_ids(), advice())) {
        let read = from_wire::advised(&to_wire::advised(&id, advice)).unwrap();
        prop_assert_eq!(read, (id, advice));
    }

    #[test]
    fn every_load_of_an_instance_round_trips(load in instance_loads()) {
        prop_assert_eq!(from_wire::instance_load(&to_wire::instance_load(&load)).unwrap(), load);
    }

    #[test]
    fn every_update_round_trips(update in updates()) {
        prop_assert_eq!(from_wire::update(to_wire::update(&update)).unwrap(), update);
    }

    #[test]
    fn a_batch_that_a_server_encodes_itself_is_what_the_schema_says(batch in prop::collection::vec(updates(), 0..4)) {
        let answer = WatchAnswer::of(&batch, |all| EncodedInstances::of(all));
        let read = wire::WatchResponse::decode(&*answer.encode_to_vec()).unwrap();
        prop_assert_eq!(read.updates, batch.iter().map(to_wire::update).collect::<Vec<_>>());
    }

    #[test]
    fn so_is_a_list(revision: u64, age_ms: u64, all in prop::collection::vec(instances().prop_map(Arc::new), 0..4)) {
        let answer = ResolveAnswer { revision, instances: EncodedInstances::of(&all), age_ms };
        let read = wire::ResolveResponse::decode(&*answer.encode_to_vec()).unwrap();
        prop_assert_eq!((read.revision, read.age_ms), (revision, age_ms));
        let expected: Vec<_> = all.iter().map(|one| to_wire::instance(one)).collect();
        prop_assert_eq!(read.instances, expected);
    }
}

#[test]
fn a_check_of_which_only_the_kind_is_said_is_that_of_the_vocabulary() {
    let kinds = [
        ("tcp", wire::check::Kind::Tcp(wire::TcpCheck::default())),
        (
            "http:/",
            wire::check::Kind::Http(wire::HttpCheck { path: "/".into(), ..wire::HttpCheck::default() }),
        ),
        ("grpc", wire::check::Kind::Grpc(wire::GrpcCheck::default())),
        ("ttl", wire::check::Kind::Ttl(wire::TtlCheck::default())),
    ];
    for (text, kind) in kinds {
        let check = from_wire::check(wire::Check { kind: Some(kind), ..wire::Check::default() }).unwrap();
        assert_eq!(check, text.parse().unwrap());
        let checked = wire::Instance { checks: vec![to_wire::check(&check)], ..bare() };
        assert_eq!(from_wire::instance(checked).unwrap().lifecycle, Lifecycle::Starting);
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
    let breaks: [(&str, Break); 15] = [
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
        ("check", |wire| wire.checks.push(wire::Check::default())),
        ("length of time", |wire| wire.drain_window_ms = 9),
        ("reason", |wire| wire.maintenance = "\n".into()),
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

fn queries() -> impl Strategy<Value = Query> {
    let health = prop::sample::select(vec![HealthFilter::Passing, HealthFilter::Usable, HealthFilter::Any]);
    let lifecycle = prop::sample::select(vec![LifecycleFilter::Ready, LifecycleFilter::Any]);
    (prop::option::of(service_names()), tag_sets(), health, lifecycle).prop_map(
        |(service, tags, health, lifecycle)| Query { service, tags, health, lifecycle, within: None },
    )
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

#[test]
fn an_advice_that_breaks_a_rule_is_refused_by_the_name_of_its_field() {
    type Break = fn(&mut wire::Advised);
    fn said(wire: &mut wire::Advised) -> &mut wire::Advice {
        wire.advice.as_mut().unwrap()
    }
    let breaks: [(&str, Break); 6] = [
        ("instance id", |wire| wire.instance_id.clear()),
        ("advice", |wire| wire.advice = None),
        ("weight percentage", |wire| said(wire).weight_percent = 0),
        ("weight percentage", |wire| said(wire).weight_percent = 101),
        ("ground", |wire| said(wire).ground = None),
        ("times", |wire| {
            said(wire).ground = Some(wire::advice::Ground::Slow(wire::Slow { times: f64::NAN }));
        }),
    ];
    let advice = Advice::new(50, netloft_types::Ground::Recovering).unwrap();
    for (field, break_it) in breaks {
        let mut wire = to_wire::advised(&"a".parse().unwrap(), advice);
        break_it(&mut wire);
        assert_eq!(from_wire::advised(&wire).unwrap_err().field(), field);
    }
}
