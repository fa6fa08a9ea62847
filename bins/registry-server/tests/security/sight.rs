//! R8: find out what others have, by lists, by watches, or by how one is refused.

use std::collections::BTreeMap;
use std::time::Duration;

use netloft_proto::registry::v1 as wire;
use tokio::time::timeout;
use tonic::{Code, Streaming};

use super::ground::{Ground, PATIENCE, Raw, Server, get, instance, open_session, raw, register, told};

struct Tenants {
    /// Reads and registers `a-*`.
    a: Raw,
    /// Reads and registers `b-*`.
    b: Raw,
    /// Moves instances from one to the other.
    both: Raw,
    token_a: String,
    server: Server,
    ground: Ground,
}

fn tenants() -> Tenants {
    let ground = Ground::new();
    let all = ["--address", "10.0.0.0/8"];
    let token_a = ground.token("a", "a-*:read,register", &all);
    let token_b = ground.token("b", "b-*:read,register", &all);
    let both = ground.token("both", "*:read,register,write", &all);
    let server = ground.start_guarded(&["--load-report-interval-ms", "10"]);
    let [a, b, both] = [&token_a, &token_b, &both].map(|token| raw(&server, token));
    Tenants { a, b, both, token_a, server, ground }
}

fn any(service: &str) -> wire::Query {
    let (health, lifecycle) = (wire::HealthFilter::Any.into(), wire::LifecycleFilter::Any.into());
    wire::Query { service: service.to_owned(), tags: Vec::new(), health, lifecycle }
}

async fn resolve(client: &mut Raw, service: &str) -> Vec<String> {
    let answer = client
        .resolve(wire::ResolveRequest { query: Some(any(service)), ..Default::default() })
        .await
        .unwrap()
        .into_inner();
    answer.instances.into_iter().map(|instance| instance.id).collect()
}

async fn watch(client: &mut Raw, service: &str, after: Option<u64>) -> Streaming<wire::WatchResponse> {
    let request = wire::WatchRequest { query: Some(any(service)), after_revision: after };
    client.watch(request).await.unwrap().into_inner()
}

/// Applies batches to `known` until `is_there`; answers the revision reached.
async fn follow(
    watch: &mut Streaming<wire::WatchResponse>,
    known: &mut BTreeMap<String, wire::Instance>,
    is_there: impl Fn(&BTreeMap<String, wire::Instance>) -> bool,
) -> u64 {
    let mut at = 0;
    while !is_there(known) {
        let batch = timeout(PATIENCE, watch.message()).await.expect("in time").unwrap().unwrap();
        for update in batch.updates {
            at = match update.step.unwrap() {
                wire::update::Step::Reset(reset) => {
                    *known = reset.all.into_iter().map(|one| (one.id.clone(), one)).collect();
                    reset.at
                }
                wire::update::Step::Put(put) => {
                    let one = put.instance.unwrap();
                    known.insert(one.id.clone(), one);
                    put.at
                }
                wire::update::Step::Delete(delete) => {
                    assert!(
                        known.remove(&delete.instance_id).is_some(),
                        "{} was never told of",
                        delete.instance_id
                    );
                    delete.at
                }
                wire::update::Step::Progress(progress) => progress.at,
            };
            assert!(known.values().all(|one| one.service.starts_with("a-")), "{known:?}");
        }
    }
    at
}

#[tokio::test]
async fn r8_what_may_not_be_seen_is_answered_as_what_is_not_there() {
    let Tenants { mut a, mut b, server: _server, ground: _ground, .. } = tenants();
    let own = open_session(&mut a).await;
    let session = open_session(&mut b).await;
    register(&mut a, &own, instance("mine", "a-1", "10.0.0.1")).await.unwrap();
    register(&mut b, &session, instance("theirs", "b-1", "10.0.0.2")).await.unwrap();

    let mut answers = Vec::new();
    for id in ["theirs", "absent"] {
        let (session_id, instance_id) = (own.clone(), id.to_owned());
        let with = || (session_id.clone(), instance_id.clone());
        let mut refusals = vec![get(&mut a, id).await.unwrap_err()];
        let (_, instance_id) = with();
        let maintenance = wire::SetMaintenanceRequest { instance_id, reason: "mine now".to_owned() };
        refusals.push(a.set_maintenance(maintenance).await.unwrap_err());
        let (session_id, instance_id) = with();
        let update = wire::UpdateRequest {
            session_id,
            instance_id,
            weight: Some(2),
            ..wire::UpdateRequest::default()
        };
        refusals.push(a.update(update).await.unwrap_err());
        let (session_id, instance_id) = with();
        refusals
            .push(a.drain(wire::DrainRequest { session_id, instance_id, window_ms: 0 }).await.unwrap_err());
        let (session_id, instance_id) = with();
        let heartbeat =
            wire::HeartbeatRequest { session_id, instance_id, ..wire::HeartbeatRequest::default() };
        refusals.push(a.heartbeat(heartbeat).await.unwrap_err());
        let (session_id, instance_id) = with();
        refusals.push(a.deregister(wire::DeregisterRequest { session_id, instance_id }).await.unwrap_err());
        assert!(refusals.iter().all(|refusal| refusal.code() == Code::NotFound), "{refusals:?}");
        answers.push(refusals.iter().map(|refusal| told(refusal, id)).collect::<Vec<_>>());
    }
    assert_eq!(answers[0], answers[1]);

    // A service that may not be registered is refused whether it exists or not.
    let mut refused = async |service: &str| {
        let status = register(&mut a, &own, instance("new", service, "10.0.0.1")).await.unwrap_err();
        told(&status, service)
    };
    assert_eq!(refused("b-1").await, refused("b-9").await);
    for service in ["b-1", "b-9"] {
        assert_eq!(resolve(&mut a, service).await, [""; 0]);
    }
    assert_eq!(get(&mut b, "theirs").await.unwrap().weight, Some(1));
}

#[tokio::test]
async fn r8_lists_hold_what_may_be_seen_and_nothing_else() {
    let Tenants { mut a, mut b, mut both, server: _server, ground: _ground, .. } = tenants();
    let session = open_session(&mut both).await;
    for (id, service) in [("1", "a-1"), ("2", "b-1"), ("3", "c-1"), ("4", "a-2"), ("5", "a")] {
        register(&mut both, &session, instance(id, service, "10.0.0.1")).await.unwrap();
    }
    assert_eq!(resolve(&mut a, "").await, ["1", "4"]);
    assert_eq!(resolve(&mut b, "").await, ["2"]);
    assert_eq!(resolve(&mut both, "").await, ["1", "2", "3", "4", "5"]);
    let services = a.list_services(wire::ListServicesRequest::default()).await.unwrap().into_inner().services;
    assert_eq!(services.into_iter().map(|service| service.name).collect::<Vec<_>>(), ["a-1", "a-2"]);
}

#[tokio::test]
async fn r8_a_watch_of_everything_is_exact_while_instances_come_go_and_move() {
    let Tenants { a, mut both, token_a, server, ground: _ground, .. } = tenants();
    let session = open_session(&mut both).await;
    let mut known = BTreeMap::new();
    let mut watching = watch(&mut a.clone(), "", None).await;
    let services = ["a-1", "b-1", "a-2", "c"];
    let mut truth = BTreeMap::new();
    let mut after = None;
    for step in 0..400_usize {
        let id = format!("i{}", step * 7 % 23);
        let service = services[(step * step + step / 5) % 4];
        if step % 6 == 5 && truth.remove(&id).is_some() {
            let request = wire::DeregisterRequest { session_id: session.clone(), instance_id: id };
            both.deregister(request).await.unwrap();
        } else {
            register(&mut both, &session, instance(&id, service, "10.0.0.1")).await.unwrap();
            truth.insert(id, service);
        }
        if step % 50 == 49 {
            let visible: Vec<_> = truth.iter().filter(|(_, service)| service.starts_with("a-")).collect();
            let is_there = |known: &BTreeMap<String, wire::Instance>| {
                known.len() == visible.len()
                    && visible
                        .iter()
                        .all(|(id, service)| known.get(*id).is_some_and(|one| one.service == **service))
            };
            after = Some(follow(&mut watching, &mut known, is_there).await).filter(|at| *at > 0).or(after);
            if step % 100 == 99 {
                // Resumed by somebody who sees the same, it goes on.
                watching = watch(&mut raw(&server, &token_a), "", after).await;
            }
        }
    }
    assert!(truth.values().any(|service| !service.starts_with("a-")), "nothing was hidden");
}

#[tokio::test]
async fn r8_a_watch_of_what_may_not_be_seen_is_as_silent_as_of_what_is_not_there() {
    let Tenants { mut a, mut b, server: _server, ground: _ground, .. } = tenants();
    let session = open_session(&mut b).await;
    register(&mut b, &session, instance("theirs", "b-1", "10.0.0.2")).await.unwrap();
    let mut watches = [watch(&mut a, "b-1", None).await, watch(&mut a, "b-9", None).await];
    for watch in &mut watches {
        let first = timeout(PATIENCE, watch.message()).await.unwrap().unwrap().unwrap();
        let [wire::Update { step: Some(wire::update::Step::Reset(reset)) }] = &first.updates[..] else {
            panic!("{first:?}");
        };
        assert_eq!(reset.all, []);
    }
    for number in 0..50 {
        let moved = instance("theirs", "b-1", &format!("10.0.0.{number}"));
        register(&mut b, &session, moved).await.unwrap();
    }
    for watch in &mut watches {
        let silence = timeout(Duration::from_millis(300), watch.message()).await;
        assert!(silence.is_err(), "{silence:?}");
    }
}

#[tokio::test]
async fn r8_who_is_shown_more_than_before_begins_anew() {
    let ground = Ground::new();
    let all = ["--address", "10.0.0.0/8"];
    let both = ground.token("both", "*:read,register", &all);
    ground.token("a", "a-*:read", &[]);
    let server = ground.start_guarded(&[]);
    let mut both = raw(&server, &both);
    let session = open_session(&mut both).await;
    register(&mut both, &session, instance("1", "a-1", "10.0.0.1")).await.unwrap();
    register(&mut both, &session, instance("2", "b-1", "10.0.0.1")).await.unwrap();
    let token = ground.run_token(&["token", "rotate", "a"]);
    super::ground::eventually("the token is known", async || {
        raw(&server, &token).list_services(wire::ListServicesRequest::default()).await.is_ok()
    })
    .await;
    let mut watching = watch(&mut raw(&server, &token), "", None).await;
    let mut known = BTreeMap::new();
    let at = follow(&mut watching, &mut known, |known| known.len() == 1).await;

    // The operator shows the same identity more.
    let text = std::fs::read_to_string(ground.path("tokens")).unwrap();
    ground.write("tokens", &text.replace("a-*:read\"", "*:read\""));
    let ended = timeout(PATIENCE, watching.message()).await.expect("in time").unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable);
    let mut resumed = watch(&mut raw(&server, &token), "", Some(at)).await;
    let first = timeout(PATIENCE, resumed.message()).await.unwrap().unwrap().unwrap();
    let Some(wire::update::Step::Reset(reset)) = &first.updates[0].step else { panic!("{first:?}") };
    assert_eq!(reset.all.len(), 2);
}

#[tokio::test]
async fn r8_with_strict_ids_not_even_a_taken_id_is_told() {
    let ground = Ground::new();
    let all = ["--address", "10.0.0.0/8"];
    let [a, b] =
        [("a", "a-*:register"), ("b", "*:register")].map(|(name, scope)| ground.token(name, scope, &all));
    let server = ground.start_guarded(&["--strict-ids"]);
    let (mut a, mut b) = (raw(&server, &a), raw(&server, &b));
    let (own, theirs) = (open_session(&mut a).await, open_session(&mut b).await);
    register(&mut b, &theirs, instance("b-1/x", "b-1", "10.0.0.1")).await.unwrap();
    let mut told_of = async |id: &str| {
        told(&register(&mut a, &own, instance(id, "a-1", "10.0.0.1")).await.unwrap_err(), id)
    };
    assert_eq!(told_of("b-1/x").await, told_of("b-1/y").await);
    assert_eq!(told_of("a-11").await.0, Code::InvalidArgument);
    for good in ["a-1", "a-1/x", "a-1@host"] {
        register(&mut a, &own, instance(good, "a-1", "10.0.0.1")).await.unwrap();
    }
}

#[tokio::test]
async fn r8_load_of_what_may_not_be_seen_is_neither_told_nor_taken() {
    let mut tenants = tenants();
    let session = open_session(&mut tenants.b).await;
    for id in ["b/1", "b/2", "b/3"] {
        register(&mut tenants.b, &session, instance(id, "b-1", "10.0.0.1")).await.unwrap();
    }
    let report = |service: &str| wire::ReportLoadRequest {
        reporter: 7,
        service: service.to_owned(),
        seen: vec![wire::Seen { instance_id: "b/1".to_owned(), failures: 1_000, ..wire::Seen::default() }],
    };
    let list = |service: &str| wire::ListLoadRequest { service: service.to_owned() };
    // As of a service that is not there.
    let hidden = tenants.a.report_load(report("b-1")).await.unwrap().into_inner();
    assert_eq!(hidden, tenants.a.report_load(report("b-none")).await.unwrap().into_inner());
    assert_eq!(tenants.a.list_load(list("b-1")).await.unwrap().into_inner().instances, []);
    let reporters = async |client: &mut Raw| {
        let listed = client.list_load(list("b-1")).await.unwrap().into_inner().instances;
        listed.iter().map(|one| one.reporters).collect::<Vec<_>>()
    };
    // Figures are made once an interval.
    for _ in 0..3 {
        tenants.a.report_load(report("b-1")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(reporters(&mut tenants.b).await, [0, 0, 0]);
    super::ground::eventually("the owner's report counts", async || {
        tenants.b.report_load(report("b-1")).await.unwrap();
        reporters(&mut tenants.b).await == [1, 0, 0]
    })
    .await;
}
