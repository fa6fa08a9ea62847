//! R9: come without a name, or with one that is not one's own, or that is over.

use std::time::{Duration, Instant};

use netloft_client::{Client, Credentials, Error, RegisterOptions, TokenSource};
use netloft_types::{Instance, Query};
use tokio::time::{sleep, timeout};

use super::ground::{Authority, Ground, NOTICE, NOW, PATIENCE, Server, client, command, eventually};

const BILLING: &str = "spiffe://prod.example/billing";
const POLICY: &str = r#"
[[identity]]
id = "spiffe://prod.example/billing"
scopes = ["*:read", "billing-*:register"]
addresses = ["10.1.0.0/16"]
"#;

async fn is_known(client: &Client) -> Result<(), Error> {
    client.services().await.map(drop)
}

/// A server over TLS with a policy, and a client that is known to it.
fn known() -> (Ground, Authority, Server, Client) {
    let (ground, authority) = (Ground::new(), Authority::new());
    ground.write("policy.toml", POLICY);
    let server = ground.start_tls(&authority, &["--policy", &ground.text("policy.toml")]);
    ground.write_certified("billing", &authority.client(&[BILLING], NOW));
    let client = ground.tls_client(&server, Some("billing"));
    (ground, authority, server, client)
}

fn instance(id: &str, service: &str, address: &str) -> Instance {
    Instance::new(
        id.parse().unwrap(),
        service.parse().unwrap(),
        address.parse().unwrap(),
        "80".parse().unwrap(),
    )
}

#[test]
fn r9_no_server_listens_beyond_loopback_without_identities_and_tls() {
    for arguments in [
        &["--listen", "0.0.0.0:0"][..],
        &["--listen", "0.0.0.0:0", "--auth"],
        &["--listen", "[::]:0", "--auth", "--tokens", "/nowhere/tokens"],
    ] {
        let output =
            command(&[arguments, &["--unix", "none", "--store", "memory"]].concat()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("refusing to listen") && text.contains("--tls-cert"), "{text}");
    }
}

#[tokio::test]
async fn r9_the_identity_of_a_certificate_may_do_what_the_policy_says() {
    let (_ground, _authority, _server, client) = known();
    let registered =
        client.register(instance("1", "billing-1", "10.1.0.1"), RegisterOptions::default()).await;
    let registration = registered.unwrap();
    for (service, address) in [("web", "10.1.0.1"), ("billing-1", "10.2.0.1")] {
        let refused =
            client.register(instance("2", service, address), RegisterOptions::default()).await.unwrap_err();
        assert!(refused.is_denied(), "{refused:?}");
    }
    assert_eq!(client.resolve(&Query::everything()).await.unwrap().instances.len(), 1);
    registration.close().await.unwrap();
}

#[tokio::test]
async fn r9_who_shows_no_good_certificate_is_not_served() {
    let (ground, authority, server, client) = known();
    is_known(&client).await.unwrap();
    let impostor = Authority::new();
    let over_before = authority.client(&[BILLING], (-7_200, -60));
    let not_yet = authority.client(&[BILLING], (3_600, 7_200));
    let refused_by_tls =
        [("impostor", impostor.client(&[BILLING], NOW)), ("expired", over_before), ("not-yet", not_yet)];
    for (name, certified) in refused_by_tls {
        ground.write_certified(name, &certified);
        let refused = is_known(&ground.tls_client(&server, Some(name))).await.unwrap_err();
        assert!(refused.is_unavailable(), "{name}: {refused:?}");
    }
    // A server's certificate is none of a client, whatever it says.
    ground.write_certified("server-as-client", &authority.server(NOW));
    assert!(is_known(&ground.tls_client(&server, Some("server-as-client"))).await.is_err());
    let nameless = [
        ("no-uri", authority.client(&[], NOW)),
        ("two-uris", authority.client(&[BILLING, "spiffe://prod.example/web"], NOW)),
        ("not-spiffe", authority.client(&["https://prod.example/billing"], NOW)),
        ("stranger", authority.client(&["spiffe://prod.example/web"], NOW)),
        ("longer", authority.client(&["spiffe://prod.example/billing/x"], NOW)),
    ];
    for (name, certified) in nameless {
        ground.write_certified(name, &certified);
        let refused = is_known(&ground.tls_client(&server, Some(name))).await.unwrap_err();
        assert!(refused.is_denied(), "{name}: {refused:?}");
    }
    assert!(is_known(&ground.tls_client(&server, None)).await.unwrap_err().is_denied());
    // In clear text there is nothing to talk to, not even for whoever has a token.
    let token = Some(TokenSource::Text(ground.token("ci", "*:read", &[])));
    let credentials = Credentials { token: token.clone(), ..Credentials::default() };
    let clear = super::ground::client(&format!("http://{}", server.address), credentials);
    assert!(is_known(&clear).await.unwrap_err().is_unavailable());
    // Over TLS the token does without a certificate.
    let credentials = Credentials { token, tls_ca: Some(ground.path("ca.pem")), tls_identity: None };
    let bearer = super::ground::client(&format!("https://{}", server.address), credentials);
    eventually("the token is known", async || is_known(&bearer).await.is_ok()).await;
    is_known(&client).await.unwrap();
}

#[tokio::test]
async fn r9_a_client_believes_only_its_authority_and_the_name() {
    let (ground, authority, server, _client) = known();
    ground.write("ca.pem.other", &Authority::new().pem);
    let believes = |ca: &str, target: String| {
        let tls_ca = Some(ground.path(ca));
        client(&target, Credentials { tls_ca, ..Credentials::default() })
    };
    let port = server.address.rsplit_once(':').unwrap().1;
    let wrong_ca =
        is_known(&believes("ca.pem.other", format!("https://{}", server.address))).await.unwrap_err();
    assert!(wrong_ca.is_unavailable(), "{wrong_ca:?}");
    let wrong_name = is_known(&believes("ca.pem", format!("https://127.0.0.2:{port}"))).await.unwrap_err();
    assert!(wrong_name.is_unavailable(), "{wrong_name:?}");
    drop(authority);
}

#[tokio::test]
async fn r9_certificates_may_be_demanded_of_everybody() {
    let (ground, authority) = (Ground::new(), Authority::new());
    ground.write("policy.toml", POLICY);
    let token = ground.token("ci", "*:read", &[]);
    let more = ["--policy", &ground.text("policy.toml"), "--tls-require-client-cert"];
    let server = ground.start_tls(&authority, &more);
    let credentials = Credentials {
        token: Some(TokenSource::Text(token)),
        tls_ca: Some(ground.path("ca.pem")),
        tls_identity: None,
    };
    let bearer = client(&format!("https://{}", server.address), credentials);
    assert!(is_known(&bearer).await.unwrap_err().is_unavailable());
    ground.write_certified("billing", &authority.client(&[BILLING], NOW));
    is_known(&ground.tls_client(&server, Some("billing"))).await.unwrap();
}

#[tokio::test]
async fn r9_a_watch_ends_with_the_certificate_that_opened_it_and_goes_on_with_the_next() {
    let (ground, authority, server, _client) = known();
    ground.write_certified("short", &authority.client(&[BILLING], (-60, 4)));
    let client = ground.tls_client(&server, Some("short"));
    let mut watch = client.watch(&Query::everything(), None).await.unwrap();
    watch.next().await.unwrap();
    let ended = timeout(PATIENCE, watch.next()).await.expect("in time").unwrap_err();
    assert!(ended.is_unavailable(), "{ended:?}");
    assert!(is_known(&client).await.is_err());
    // Renewed on disk, and the same client goes on.
    ground.write_certified("short", &authority.client(&[BILLING], NOW));
    eventually("the new certificate is shown", async || is_known(&client).await.is_ok()).await;
}

#[tokio::test]
async fn r9_the_servers_certificate_is_renewed_without_a_restart_and_a_bad_one_is_not_taken() {
    let (ground, authority, server, client) = known();
    let mut watch = client.watch(&Query::everything(), None).await.unwrap();
    watch.next().await.unwrap();
    // Half of a pair, and rubbish: the server goes on with what it has.
    ground.write("server.key", &authority.server(NOW).key);
    ground.write("server.pem", "rubbish");
    sleep(NOTICE).await;
    is_known(&ground.tls_client(&server, Some("billing"))).await.unwrap();

    // Certified by another authority, so that whoever still believes only the old one notices.
    let next = Authority::new();
    ground.write("old-ca.pem", &authority.pem);
    ground.write("both-ca.pem", &format!("{}{}", authority.pem, next.pem));
    ground.write_certified("server", &next.server(NOW));
    let sees = |ca: &str| {
        let (tls_ca, tls_identity) = (Some(ground.path(ca)), None);
        super::ground::client(
            &format!("https://{}", server.address),
            Credentials { token: None, tls_ca, tls_identity },
        )
    };
    let (old, both) = ("old-ca.pem", "both-ca.pem");
    eventually("the new one is shown", async || is_known(&sees(old)).await.unwrap_err().is_unavailable())
        .await;
    assert!(is_known(&sees(both)).await.unwrap_err().is_denied());
    // Connections from before go on.
    assert!(timeout(Duration::from_millis(200), watch.next()).await.is_err());
}

#[tokio::test]
async fn r9_an_authority_that_is_no_longer_believed_loses_its_connections() {
    let (ground, authority, server, client) = known();
    let mut watch = client.watch(&Query::everything(), None).await.unwrap();
    watch.next().await.unwrap();
    let next = Authority::new();
    ground.write("next.pem", &next.pem);
    ground.write("believed.pem", &authority.pem);
    let changed = Instant::now();
    std::fs::copy(ground.path("ca.pem"), ground.path("servers-ca.pem")).unwrap();
    ground.write("ca.pem", &next.pem);
    let ended = timeout(PATIENCE, watch.next()).await.expect("in time").unwrap_err();
    assert!(changed.elapsed() < NOTICE && ended.is_unavailable(), "{:?} {ended:?}", changed.elapsed());
    // The server's own certificate is still of the old authority, which clients go on believing.
    let identity = |name: &str| {
        let credentials = Credentials {
            token: None,
            tls_ca: Some(ground.path("servers-ca.pem")),
            tls_identity: Some(netloft_client::TlsIdentity {
                certificate: ground.path(&format!("{name}.pem")),
                key: ground.path(&format!("{name}.key")),
            }),
        };
        super::ground::client(&format!("https://{}", server.address), credentials)
    };
    assert!(is_known(&identity("billing")).await.unwrap_err().is_unavailable());
    ground.write_certified("renewed", &next.client(&[BILLING], NOW));
    is_known(&identity("renewed")).await.unwrap();
}

#[tokio::test]
async fn r9_an_identity_taken_out_of_the_policy_is_nobody_within_a_second() {
    let (ground, _authority, _server, client) = known();
    let mut watch = client.watch(&Query::everything(), None).await.unwrap();
    watch.next().await.unwrap();
    // A policy that cannot be read changes nothing.
    ground.write("policy.toml", "[[identity]]\nid = \"nobody\"");
    sleep(NOTICE).await;
    is_known(&client).await.unwrap();
    let changed = Instant::now();
    ground.write("policy.toml", "");
    let ended = timeout(PATIENCE, watch.next()).await.expect("in time").unwrap_err();
    assert!(changed.elapsed() < NOTICE && ended.is_denied(), "{:?} {ended:?}", changed.elapsed());
    assert!(is_known(&client).await.unwrap_err().is_denied());
}
