//! R7: repeat a registration that was heard before, after a restart.

use netloft_proto::registry::v1 as wire;
use tonic::Code;

use super::ground::{Ground, Raw, Server, get, instance, open_session, open_session_for, raw, register};

fn start(ground: &Ground) -> Server {
    let (directory, tokens) = (ground.text("store"), ground.text("tokens"));
    let arguments = [
        "--listen",
        "127.0.0.1:0",
        "--unix",
        "none",
        "--data-dir",
        &directory,
        "--tokens",
        &tokens,
        "--grace-ms",
        "0",
    ];
    Server::start(&arguments)
}

async fn renew(client: &mut Raw, session: &str) -> u64 {
    let renewal = tokio_stream::iter([wire::KeepAliveRequest { session_id: session.to_owned() }]);
    client.keep_alive(renewal).await.unwrap().into_inner().message().await.unwrap().unwrap().ttl_ms
}

#[tokio::test]
async fn r7_what_was_closed_before_a_restart_cannot_come_back() {
    let ground = Ground::new();
    let token = ground.token("tenant", "*:register,read", &["--address", "10.1.0.0/16"]);
    let server = start(&ground);
    let mut tenant = raw(&server, &token);
    let (closed, expired, living) = (
        open_session(&mut tenant).await,
        open_session_for(&mut tenant, 1_000).await,
        open_session(&mut tenant).await,
    );
    for (session, id) in [(&closed, "closed"), (&expired, "expired"), (&living, "living")] {
        register(&mut tenant, session, instance(id, "api", "10.1.0.1")).await.unwrap();
    }
    tenant.close_session(wire::CloseSessionRequest { session_id: closed.clone() }).await.unwrap();
    super::ground::eventually("expired", async || get(&mut raw(&server, &token), "expired").await.is_err())
        .await;
    server.stop();

    let server = start(&ground);
    let mut tenant = raw(&server, &token);
    for (session, id) in [(&closed, "closed"), (&expired, "expired")] {
        // Even who has the token, and every byte that was sent.
        let replayed = register(&mut tenant, session, instance(id, "api", "10.1.0.1")).await.unwrap_err();
        assert_eq!(replayed.code(), Code::NotFound);
        assert_eq!(renew(&mut tenant, session).await, 0);
        assert_eq!(get(&mut tenant, id).await.unwrap_err().code(), Code::NotFound);
    }
    // What lives is still known to be theirs.
    assert!(renew(&mut tenant, &living).await > 0);
    register(&mut tenant, &living, instance("living", "api", "10.1.0.2")).await.unwrap();
    assert_eq!(get(&mut tenant, "living").await.unwrap().address, "10.1.0.2");
}

#[tokio::test]
async fn r7_a_session_from_before_access_was_controlled_is_nobodys() {
    let ground = Ground::new();
    let directory = ground.text("store");
    let arguments = ["--listen", "127.0.0.1:0", "--unix", "none", "--data-dir", &directory];
    let open = Server::start(&arguments);
    let session = open_session(&mut raw(&open, "")).await;
    open.stop();
    let token = ground.token("tenant", "*:register,read", &["--address", "10.1.0.0/16"]);
    let server = start(&ground);
    let mut tenant = raw(&server, &token);
    let refused = register(&mut tenant, &session, instance("a", "api", "10.1.0.1")).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
}

#[tokio::test]
async fn r7_a_key_that_others_can_read_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let ground = Ground::new();
    ground.token("tenant", "*:register", &[]);
    start(&ground).stop();
    let key = ground.path("store").join("session-key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (directory, tokens) = (ground.text("store"), ground.text("tokens"));
    let arguments =
        ["--listen", "127.0.0.1:0", "--unix", "none", "--data-dir", &directory, "--tokens", &tokens];
    let output = super::ground::command(&arguments).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("can be read by others"), "{text}");
}
