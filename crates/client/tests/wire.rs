//! What a client in any language meets: codes, keep-alive, health, reflection.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use netloft_proto::registry::v1 as wire;
use netloft_proto::registry::v1::registry_client::RegistryClient;
use netloft_proto::to_wire;
use netloft_registry::{Limits, StoreOptions};
use netloft_rpc::limits::{HEADERS_LEN_MAX, REQUEST_LEN_MAX};
use support::*;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::{v1, v1alpha};

const REGISTRY: &str = "netloft.registry.v1.Registry";

#[tokio::test]
async fn what_breaks_a_rule_is_refused_by_code_and_field() {
    type Break = fn(&mut wire::RegisterRequest, &mut wire::Instance);
    let breaks: [(&str, Break); 7] = [
        ("service name \"aaa", |_, instance| instance.service = "a".repeat(300)),
        ("port \"0\"", |_, instance| instance.port = 0),
        ("port \"65536\"", |_, instance| instance.port = 65_536),
        ("weight \"0\"", |_, instance| instance.weight = Some(0)),
        ("address \"localhost\"", |_, instance| instance.address = "localhost".into()),
        ("instance id \"\"", |_, instance| instance.id.clear()),
        ("session id \"x\"", |request, _| request.session_id = "x".into()),
    ];
    let registry = Registry::start().await;
    let mut raw = registry.raw();
    let session = open(&mut raw).await;
    for (field, break_it) in breaks {
        let mut request = wire::RegisterRequest { session_id: session.clone(), instance: None };
        let mut instance = to_wire::instance(&instance("a"));
        break_it(&mut request, &mut instance);
        request.instance = Some(instance);
        let status = raw.register(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status}");
        assert!(status.message().starts_with(field), "{status}");
    }
    register(&mut raw, &session, "a").await.unwrap();
}

#[tokio::test]
async fn refusals_have_the_codes_of_the_schema() {
    let limits = Limits { instances_max: 1, ..Limits::default() };
    let registry = Registry::start_with(StoreOptions { limits, ..StoreOptions::default() }).await;
    let mut raw = registry.raw();
    let (holder, other) = (open(&mut raw).await, open(&mut raw).await);
    let unknown = "0".repeat(32);
    register(&mut raw, &holder, "a").await.unwrap();

    let drain = |session: &str, id: &str| wire::DrainRequest {
        session_id: session.into(),
        instance_id: id.into(),
        window_ms: 0,
    };
    let missing = wire::RegisterRequest { session_id: holder.clone(), instance: None };
    let answers = [
        (Code::AlreadyExists, register(&mut raw, &other, "a").await.unwrap_err()),
        (Code::AlreadyExists, raw.drain(drain(&other, "a")).await.unwrap_err()),
        (Code::NotFound, register(&mut raw, &unknown, "b").await.unwrap_err()),
        (Code::NotFound, raw.drain(drain(&holder, "b")).await.unwrap_err()),
        (
            Code::NotFound,
            raw.get(wire::GetRequest { instance_id: "b".into(), ..wire::GetRequest::default() })
                .await
                .unwrap_err(),
        ),
        (Code::ResourceExhausted, register(&mut raw, &holder, "b").await.unwrap_err()),
        (Code::InvalidArgument, raw.register(missing).await.unwrap_err()),
        (Code::InvalidArgument, raw.open_session(wire::OpenSessionRequest { ttl_ms: 0 }).await.unwrap_err()),
        (
            Code::InvalidArgument,
            raw.open_session(wire::OpenSessionRequest { ttl_ms: u64::MAX }).await.unwrap_err(),
        ),
    ];
    for (code, status) in answers {
        assert_eq!(status.code(), code, "{status}");
        assert!(!status.message().contains(&holder), "a session is secret: {status}");
    }
    let (mine, theirs) =
        (registry.client(), wire::GetRequest { instance_id: "a".into(), ..wire::GetRequest::default() });
    let found = raw.get(theirs).await.unwrap().into_inner();
    assert_eq!(found.instance, Some(to_wire::instance(&mine.get(&id("a")).await.unwrap())));
    assert!(found.revision > 0);
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_the_server_goes_on() {
    let registry = Registry::start().await;
    let mut raw = registry.raw();
    let session_id = open(&mut raw).await;
    let mut large = to_wire::instance(&instance("a"));
    large.tags = vec!["x".repeat(REQUEST_LEN_MAX)];
    let request = wire::RegisterRequest { session_id: session_id.clone(), instance: Some(large) };
    assert_eq!(raw.register(request).await.unwrap_err().code(), Code::OutOfRange);

    let mut headed = tonic::Request::new(wire::ListServicesRequest::default());
    let value = "x".repeat(2 * HEADERS_LEN_MAX as usize).parse().unwrap();
    headed.metadata_mut().insert("x-large", value);
    assert!(raw.list_services(headed).await.is_err());

    // The same session, perhaps over another connection.
    register(&mut raw, &session_id, "a").await.unwrap();
}

#[tokio::test]
async fn keep_alive_confirms_what_lives_and_answers_zero_to_what_does_not() {
    let registry = Registry::start().await;
    let mut raw = registry.raw();
    let session = open(&mut raw).await;
    let asked = [session.clone(), "0".repeat(32), session.clone(), "nonsense".to_owned()];
    let requests = asked.clone().map(|session_id| wire::KeepAliveRequest { session_id });
    let mut answers = raw.keep_alive(tokio_stream::iter(requests)).await.unwrap().into_inner();
    for (session, ttl_ms) in asked.iter().zip([60_000, 0, 60_000]) {
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!((&answer.session_id, answer.ttl_ms), (session, ttl_ms));
    }
    assert_eq!(answers.message().await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn sessions_are_drawn_at_random_and_closing_one_takes_its_instances() {
    let registry = Registry::start().await;
    let mut raw = registry.raw();
    let (first, second) = (open(&mut raw).await, open(&mut raw).await);
    assert_eq!((first.len(), second.len()), (32, 32));
    // Of 128 random bits each, two agree in half a prefix once in 2^64 runs.
    assert_ne!(first[..16], second[..16]);

    register(&mut raw, &first, "a").await.unwrap();
    register(&mut raw, &second, "b").await.unwrap();
    raw.close_session(wire::CloseSessionRequest { session_id: first }).await.unwrap();
    assert_eq!(resolved(&registry.client()).await, ["b"]);
}

#[tokio::test]
async fn shutting_down_ends_every_stream_and_says_why() {
    let registry = Registry::start().await;
    let mut raw = registry.raw();
    let mut batches = raw.watch(wire::WatchRequest::default()).await.unwrap().into_inner();
    batches.message().await.unwrap().unwrap();
    let mut renewals = raw.keep_alive(tokio_stream::pending()).await.unwrap().into_inner();
    let mut health = HealthClient::new(registry.channel());
    let mut health =
        health.watch(HealthCheckRequest { service: REGISTRY.into() }).await.unwrap().into_inner();
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::Serving);

    let stopping = tokio::spawn(registry.stop());
    let told = async {
        for status in [batches.message().await.unwrap_err(), renewals.message().await.unwrap_err()] {
            assert_eq!((status.code(), status.message()), (Code::Unavailable, "server is shutting down"));
        }
        assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
        stopping.await.unwrap();
    };
    // Well within the time after which connections are cut.
    timeout(netloft_rpc::ServerOptions::default().drain / 2, told).await.unwrap();
}

#[tokio::test]
async fn health_is_told_for_the_server_and_for_the_service() {
    let registry = Registry::start().await;
    let mut health = HealthClient::new(registry.channel());
    for service in ["", REGISTRY] {
        let answer = health.check(HealthCheckRequest { service: service.into() }).await.unwrap();
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving, "{service:?}");
    }
    let unknown = health.check(HealthCheckRequest { service: "nobody".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test]
async fn reflection_lists_what_is_served_in_both_versions() {
    use v1::server_reflection_request::MessageRequest;
    use v1::server_reflection_response::MessageResponse;
    let registry = Registry::start().await;

    let mut reflection = v1::server_reflection_client::ServerReflectionClient::new(registry.channel());
    let asked = [
        MessageRequest::ListServices(String::new()),
        MessageRequest::FileContainingSymbol(REGISTRY.to_owned()),
    ];
    let asked = asked
        .map(|request| v1::ServerReflectionRequest { host: String::new(), message_request: Some(request) });
    let mut answers =
        reflection.server_reflection_info(tokio_stream::iter(asked)).await.unwrap().into_inner();
    let listed = answers.next().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(listed)) = listed else { panic!("{listed:?}") };
    let mut names: Vec<_> = listed.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(names, ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", REGISTRY]);
    let file = answers.next().await.unwrap().unwrap().message_response;
    assert!(matches!(file, Some(MessageResponse::FileDescriptorResponse(_))), "{file:?}");

    let mut reflection = v1alpha::server_reflection_client::ServerReflectionClient::new(registry.channel());
    let asked = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
            REGISTRY.to_owned(),
        )),
    };
    let mut answers =
        reflection.server_reflection_info(tokio_stream::once(asked)).await.unwrap().into_inner();
    let file = answers.next().await.unwrap().unwrap().message_response;
    assert!(
        matches!(file, Some(v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_))),
        "{file:?}"
    );
}

#[tokio::test]
async fn load_reports_that_break_a_rule_are_refused_by_the_name_of_the_field() {
    type Break = fn(&mut wire::ReportLoadRequest);
    let breaks: [(&str, Break); 10] = [
        ("reporter", |report| report.reporter = 0),
        ("service name", |report| report.service.clear()),
        ("instance id", |report| report.seen[0].instance_id.clear()),
        ("instance id \"a\"", |report| report.seen.push(report.seen[0].clone())),
        ("successes", |report| report.seen[0].successes = u64::MAX),
        ("failures", |report| report.seen[0].failures = u64::MAX),
        ("latency", |report| report.seen[0].latency_us = u64::MAX),
        ("utilization", |report| report.seen[0].utilization = Some(f64::NAN)),
        ("utilization", |report| report.seen[0].utilization = Some(-1.0)),
        ("seen \"1025\"", |report| report.seen = vec![report.seen[0].clone(); 1_025]),
    ];
    let registry = Registry::start().await;
    let mut raw = registry.raw();
    for (field, break_it) in breaks {
        let mut report = report("api", &["a"]);
        break_it(&mut report);
        let status = raw.report_load(report).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status}");
        assert!(status.message().starts_with(field), "{status}");
    }
    let many = wire::ReportLoadRequest {
        seen: vec![wire::Seen { instance_id: "a".into(), ..wire::Seen::default() }; 1_000_000],
        ..report("api", &[])
    };
    assert_eq!(raw.report_load(many).await.unwrap_err().code(), Code::OutOfRange);
}

#[tokio::test]
async fn load_of_what_is_not_there_is_taken_and_forgotten() {
    let registry = Registry::start().await;
    let mut raw = registry.raw();
    let session = open(&mut raw).await;
    register(&mut raw, &session, "a").await.unwrap();
    for (service, ids) in [("api", ["ghost"].as_slice()), ("nothing", &["a"]), ("api", &[])] {
        let answer = raw.report_load(report(service, ids)).await.unwrap().into_inner();
        assert_eq!((answer.next_report_ms, answer.advised.len()), (10_000, 0));
    }
    let list = async |raw: &mut RegistryClient<Channel>, service: &str| {
        let request = wire::ListLoadRequest { service: service.to_owned() };
        raw.list_load(request).await.unwrap().into_inner().instances
    };
    assert_eq!(list(&mut raw, "nothing").await, []);
    let unknown = wire::InstanceLoad { instance_id: "a".into(), ..wire::InstanceLoad::default() };
    assert_eq!(list(&mut raw, "api").await, [unknown]);
    let bad = raw.list_load(wire::ListLoadRequest::default()).await.unwrap_err();
    assert!(bad.code() == Code::InvalidArgument && bad.message().starts_with("service name"), "{bad}");
}

fn report(service: &str, ids: &[&str]) -> wire::ReportLoadRequest {
    let seen = ids.iter().map(|id| wire::Seen {
        instance_id: (*id).to_owned(),
        successes: 100,
        latency_us: 100_000,
        ..wire::Seen::default()
    });
    wire::ReportLoadRequest { reporter: 7, service: service.to_owned(), seen: seen.collect() }
}

async fn open(raw: &mut RegistryClient<Channel>) -> String {
    let opened = raw.open_session(wire::OpenSessionRequest { ttl_ms: 60_000 }).await;
    opened.unwrap().into_inner().session_id
}

async fn register(raw: &mut RegistryClient<Channel>, session: &str, id: &str) -> Result<(), Status> {
    let instance = Some(to_wire::instance(&instance(id)));
    let request = wire::RegisterRequest { session_id: session.to_owned(), instance };
    raw.register(request).await.map(drop)
}
