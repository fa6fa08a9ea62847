//! What the audit log tells, and what it does not.

use netloft_proto::registry::v1 as wire;
use serde_json::Value;

use super::ground::{Ground, instance, lines_of, open_session, raw, register};

#[tokio::test]
async fn changes_and_refusals_are_told_and_no_secret_is() {
    let ground = Ground::new();
    let token = ground.token("tenant", "api:read,register", &["--address", "10.0.0.0/8"]);
    let log = ground.text("audit.log");
    let server = ground.start_guarded(&["--audit-log", &log]);
    let mut tenant = raw(&server, &token);
    let session = open_session(&mut tenant).await;
    register(&mut tenant, &session, instance("a", "api", "10.0.0.1")).await.unwrap();
    register(&mut tenant, &session, instance("b", "web", "10.0.0.1")).await.unwrap_err();
    let elsewhere = "0123456789abcdef0123456789abcdef";
    register(&mut tenant, elsewhere, instance("c", "api", "10.0.0.1")).await.unwrap_err();
    tenant.get(wire::GetRequest { instance_id: "a".to_owned(), ..Default::default() }).await.unwrap();
    let forged = format!("nl_{}", "7".repeat(64));
    raw(&server, &forged).list_services(wire::ListServicesRequest::default()).await.unwrap_err();
    server.stop();

    let text = std::fs::read_to_string(ground.path("audit.log")).unwrap();
    for secret in [&token[3..], &session, elsewhere, &forged[3..]] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
    let lines = lines_of(&ground.path("audit.log"));
    let brief = |line: &Value| {
        let text = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
        [text("identity"), text("operation"), text("object"), text("outcome")].join(" ")
    };
    let told: Vec<_> = lines.iter().map(brief).collect();
    let expected = [
        "token:tenant open session - done",
        "token:tenant register a done",
        "token:tenant register b refused",
        "token:tenant register c refused",
        "- admit - refused",
    ];
    assert_eq!(told, expected);
    assert_eq!(lines[0]["session"], lines[1]["session"]);
    assert_eq!(lines[3]["why"], "the session is not theirs, or never was");
    assert_eq!(lines[4]["why"], "the token is not known");
    assert!(lines.iter().all(|line| line["peer"].as_str().unwrap().starts_with("127.0.0.1:")));
}

#[tokio::test]
async fn reads_are_told_if_that_is_asked_for() {
    let ground = Ground::new();
    let token = ground.token("reader", "api:read", &[]);
    let log = ground.text("audit.log");
    let server = ground.start_guarded(&["--audit-log", &log, "--audit-reads"]);
    let mut reader = raw(&server, &token);
    for service in ["api", "web"] {
        let query = Some(wire::Query { service: service.to_owned(), ..wire::Query::default() });
        reader.resolve(wire::ResolveRequest { query, ..Default::default() }).await.unwrap();
    }
    server.stop();
    let lines = lines_of(&ground.path("audit.log"));
    let told: Vec<_> = lines.iter().map(|line| (line["object"].as_str(), line["outcome"].as_str())).collect();
    let refused_and_done =
        [(Some("api"), Some("done")), (Some("web"), Some("refused")), (Some("web"), Some("done"))];
    assert_eq!(told, refused_and_done);
}
