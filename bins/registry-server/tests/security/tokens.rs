//! Tokens: what they cost nobody who has none, and how they end.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

use netloft_proto::registry::v1 as wire;
use tokio::time::timeout;
use tonic::Code;

use super::ground::{Ground, NOTICE, PATIENCE, Raw, eventually, instance, open_session, raw, register};

async fn code(client: &mut Raw) -> Code {
    client
        .list_services(wire::ListServicesRequest::default())
        .await
        .map_or_else(|status| status.code(), |_| Code::Ok)
}

#[tokio::test]
async fn nobody_does_anything_without_being_known() {
    let ground = Ground::new();
    let good = ground.token("good", "*:read", &[]);
    let server = ground.start_guarded(&[]);
    let forged = format!("nl_{}", "0".repeat(64));
    for token in ["", "nl_", "nonsense", &forged, &good.to_uppercase(), &good[..66]] {
        assert_eq!(code(&mut raw(&server, token)).await, Code::Unauthenticated, "{token}");
    }
    assert_eq!(code(&mut raw(&server, &good)).await, Code::Ok);
    // Known, and allowed nothing but to read.
    let mut reader = raw(&server, &good);
    let refused = reader.open_session(wire::OpenSessionRequest { ttl_ms: 5_000 }).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

/// Calls a method with an empty message and no token; answers the status, if it is told before everything else.
async fn status_of(server: &super::ground::Server, path: &str) -> Option<String> {
    let stream = tokio::net::TcpStream::connect(&server.address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let uri = format!("http://localhost/{path}");
    let request = http::Request::post(uri).header("content-type", "application/grpc").body(()).unwrap();
    let (answer, mut body) = sender.ready().await.unwrap().send_request(request, false).unwrap();
    body.send_data(vec![0; 5].into(), true).unwrap();
    let answer = timeout(PATIENCE, answer).await.expect("in time").unwrap();
    answer.headers().get("grpc-status").map(|status| status.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn whoever_can_connect_learns_whether_it_serves_and_nothing_else() {
    let ground = Ground::new();
    ground.token("good", "*:read", &[]);
    let server = ground.start_guarded(&[]);
    assert_eq!(status_of(&server, "grpc.health.v1.Health/Check").await, None);
    let unauthenticated = Some("16".to_owned());
    for method in [
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "netloft.registry.v1.Registry/Watch",
        "netloft.registry.v1.Registry/NoSuchMethod",
    ] {
        assert_eq!(status_of(&server, method).await, unauthenticated, "{method}");
    }
}

#[tokio::test]
async fn the_owner_of_the_server_may_do_everything_over_its_socket() {
    let ground = Ground::new();
    let token = ground.token("reader", "api:read", &[]);
    let socket = ground.text("registry.sock");
    let (tokens, unix) = (ground.text("tokens"), format!("unix://{socket}"));
    let _server = super::ground::Server::start(&[
        "--listen", "none", "--unix", &socket, "--store", "memory", "--tokens", &tokens,
    ]);
    let owner = super::ground::client(&unix, netloft_client::Credentials::default());
    let here = netloft_types::Instance::new(
        "a".parse().unwrap(),
        "web".parse().unwrap(),
        "127.0.0.1".parse().unwrap(),
        "80".parse().unwrap(),
    );
    let registration = owner.register(here, netloft_client::RegisterOptions::default()).await.unwrap();
    owner.set_maintenance(registration.id(), Some("new disk".parse().unwrap())).await.unwrap();
    // With a token they are who the token says.
    let token = Some(netloft_client::TokenSource::Text(token));
    let reader = super::ground::client(&unix, netloft_client::Credentials { token, ..Default::default() });
    assert!(reader.get(registration.id()).await.unwrap_err().is_not_found());
    owner.get(registration.id()).await.unwrap();
}

#[tokio::test]
async fn a_revoked_token_ends_what_its_bearer_is_in_the_middle_of() {
    let ground = Ground::new();
    let token = ground.token("tenant", "*:read,register", &["--address", "10.0.0.0/8"]);
    let other = ground.token("other", "*:read", &[]);
    let server = ground.start_guarded(&[]);
    let (mut tenant, mut other) = (raw(&server, &token), raw(&server, &other));
    let session_id = open_session(&mut tenant).await;
    let mut watches = [
        tenant.watch(wire::WatchRequest::default()).await.unwrap().into_inner(),
        other.watch(wire::WatchRequest::default()).await.unwrap().into_inner(),
    ];
    for watch in &mut watches {
        watch.message().await.unwrap().unwrap();
    }
    let (renew, renewals) = tokio::sync::mpsc::channel(1);
    let mut renewed =
        tenant.keep_alive(tokio_stream::wrappers::ReceiverStream::new(renewals)).await.unwrap().into_inner();
    renew.send(wire::KeepAliveRequest { session_id: session_id.clone() }).await.unwrap();
    renewed.message().await.unwrap().unwrap();

    ground.run_token(&["token", "revoke", "tenant"]);
    let revoked = Instant::now();
    let [tenants, others] = &mut watches;
    let ended = timeout(PATIENCE, tenants.message()).await.expect("in time").unwrap_err();
    assert!(revoked.elapsed() < NOTICE, "{:?}", revoked.elapsed());
    assert_eq!(ended.code(), Code::Unauthenticated);
    let ended = timeout(PATIENCE, renewed.message()).await.expect("in time").unwrap_err();
    assert_eq!(ended.code(), Code::Unauthenticated);
    let refused = register(&mut tenant, &session_id, instance("a", "api", "10.0.0.1")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    // Nobody else notices.
    assert!(timeout(std::time::Duration::from_millis(100), others.message()).await.is_err());
}

#[tokio::test]
async fn what_was_registered_goes_with_the_right_to_it() {
    let ground = Ground::new();
    let [tenant, narrowed, other] = ["tenant", "narrowed", "other"]
        .map(|name| ground.token(name, "*:read,register", &["--address", "10.0.0.0/8"]));
    let server = ground.start_guarded(&[]);
    let [mut tenant, mut narrowed, mut other] = [&tenant, &narrowed, &other].map(|token| raw(&server, token));
    for (client, name) in [(&mut tenant, "t"), (&mut narrowed, "n"), (&mut other, "o")] {
        // For a day, if nobody did anything.
        let session = super::ground::open_session_for(client, 86_400_000).await;
        register(client, &session, instance(&format!("{name}-a"), "a", "10.0.0.1")).await.unwrap();
        register(client, &session, instance(&format!("{name}-b"), "b", "10.0.0.1")).await.unwrap();
    }
    ground.run_token(&["token", "revoke", "tenant"]);
    let text = std::fs::read_to_string(ground.path("tokens")).unwrap();
    let (before, after) = text.split_once("name = \"narrowed\"").unwrap();
    let after = after.replacen("*:read,register", "a:read,register", 1);
    ground.write("tokens", &format!("{before}name = \"narrowed\"{after}"));
    let left = async || {
        let query = Some(wire::Query { health: wire::HealthFilter::Any.into(), ..wire::Query::default() });
        let found = raw_resolve(&mut other.clone(), query).await;
        found.join(" ")
    };
    eventually("what is no longer allowed is gone", async || left().await == "n-a o-a o-b").await;
}

async fn raw_resolve(client: &mut Raw, query: Option<wire::Query>) -> Vec<String> {
    let found =
        client.resolve(wire::ResolveRequest { query, ..Default::default() }).await.unwrap().into_inner();
    found.instances.into_iter().map(|instance| instance.id).collect()
}

#[tokio::test]
async fn a_token_ends_when_its_time_is_over() {
    let ground = Ground::new();
    let token = ground.token("short", "*:read", &["--expires", "4s"]);
    let server = ground.start_guarded(&[]);
    let mut short = raw(&server, &token);
    let mut watch = short.watch(wire::WatchRequest::default()).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    let ended = timeout(PATIENCE, watch.message()).await.expect("in time").unwrap_err();
    assert_eq!(ended.code(), Code::Unauthenticated);
    assert_eq!(code(&mut short).await, Code::Unauthenticated);
}

#[tokio::test]
async fn a_rotated_token_is_the_same_identity_while_the_old_one_goes_on_for_a_while() {
    let ground = Ground::new();
    let old = ground.token("tenant", "*:read,register", &["--address", "10.0.0.0/8"]);
    let server = ground.start_guarded(&[]);
    let mut before = raw(&server, &old);
    let session = open_session(&mut before).await;
    let new = ground.run_token(&["token", "rotate", "tenant", "--keep", "1h"]);
    let mut after = raw(&server, &new);
    eventually("the new token is known", async || code(&mut after).await == Code::Ok).await;
    register(&mut after, &session, instance("a", "api", "10.0.0.1")).await.unwrap();
    register(&mut before, &session, instance("a", "api", "10.0.0.2")).await.unwrap();
}

#[test]
fn the_file_holds_no_token_is_for_its_owner_only_and_lists_without_secrets() {
    let ground = Ground::new();
    let token = ground.token("ci", "api-*:read,register", &["--expires", "30d"]);
    assert!(token.starts_with("nl_") && token.len() == 67, "{token}");
    let text = std::fs::read_to_string(ground.path("tokens")).unwrap();
    assert!(!text.contains(&token[3..]), "{text}");
    let mode = std::fs::metadata(ground.path("tokens")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let list = ground.run_token(&["token", "list"]);
    assert!(list.contains("ci\tapi-*:read,register\town\t") && !list.contains(&token[3..]), "{list}");
}
