//! One probe against servers of every manner: what counts is what they say, and none of them can hold it up.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use netloft_checker::probe;
use netloft_health::{Observation, Outcome};
use netloft_types::Check;
use support::{Manner, PATIENCE, Server, status};
use tonic_health::ServingStatus;

const SHORT: Duration = Duration::from_millis(300);

async fn ask(target: SocketAddr, check: &str) -> Observation {
    let check: Check = check.parse().unwrap();
    probe(target, &check, PATIENCE).await
}

/// Asks within a short time, and makes sure that it was short.
async fn ask_shortly(target: SocketAddr, check: &str) -> Observation {
    let (check, began) = (check.parse().unwrap(), Instant::now());
    let observation = probe(target, &check, SHORT).await;
    assert!(began.elapsed() < SHORT + Duration::from_secs(5), "{:?}", began.elapsed());
    observation
}

#[tokio::test]
async fn the_status_decides() {
    for (line, check, outcome) in [
        ("200 OK", "http:/", Outcome::Pass),
        ("204 No Content", "http:/", Outcome::Pass),
        ("429 Too Many Requests", "http:/", Outcome::Warn),
        ("404 Not Found", "http:/", Outcome::Fail),
        ("503 Service Unavailable", "http:/", Outcome::Fail),
        ("404 Not Found", "http:/,status=404", Outcome::Pass),
        ("200 OK", "http:/,status=204", Outcome::Fail),
        ("200 OK", "http:/,method=HEAD", Outcome::Pass),
    ] {
        let server = Server::start(status(line)).await;
        let observation = ask(server.address, check).await;
        assert_eq!(
            (observation.outcome, observation.output.as_str()),
            (outcome, format!("HTTP {line}").as_str())
        );
    }
}

#[tokio::test]
async fn it_asks_for_what_it_was_told_to() {
    let server = Server::start(status("200 OK")).await;
    ask(server.address, "http:/a\\,b?c=d,method=OPTIONS,host=api.example.org,header=x-token:s3cret").await;
    ask(server.address, "http:/").await;
    let requests = server.requests();
    assert!(requests[0].starts_with("OPTIONS /a,b?c=d HTTP/1.1\r\n"), "{requests:?}");
    for line in [
        "host: api.example.org\r\n",
        "x-token: s3cret\r\n",
        "connection: close\r\n",
        "user-agent: netloft-checker\r\n",
    ] {
        assert!(requests[0].contains(line), "{requests:?} lacks {line}");
    }
    assert!(requests[1].contains(&format!("host: {}\r\n", server.address)), "{requests:?}");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_never_followed() {
    let secret = Server::start(status("200 OK")).await;
    for code in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let location = format!(
            "HTTP/1.1 {code}\r\nlocation: http://{}/latest/meta-data/\r\ncontent-length: 0\r\n\r\n",
            secret.address
        );
        let server = Server::start(Manner::Says(location.into_bytes())).await;
        assert_eq!(ask(server.address, "http:/").await.outcome, Outcome::Fail);
        assert_eq!(ask(server.address, "http:/,status=200-399").await.outcome, Outcome::Pass);
    }
    assert_eq!(secret.connections(), 0);
}

#[tokio::test]
async fn whoever_is_slow_or_silent_fails_in_time() {
    for manner in [Manner::Silent, Manner::Dribbles] {
        let server = Server::start(manner).await;
        for check in ["http:/", "grpc"] {
            let observation = ask_shortly(server.address, check).await;
            assert_eq!(observation.outcome, Outcome::Fail);
        }
        assert_eq!(ask_shortly(server.address, "tcp").await.outcome, Outcome::Pass);
    }
}

#[tokio::test]
async fn a_host_that_lets_connections_hang_fails_in_time() {
    // A listener whose backlog is full takes no more connections and does not say so.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let target = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(SHORT, tokio::net::TcpStream::connect(target)).await {
        waiting.push(stream);
    }
    assert!(waiting.len() < 16, "the backlog is small");
    for check in ["tcp", "http:/", "grpc"] {
        let observation = ask_shortly(target, check).await;
        assert_eq!(observation.outcome, Outcome::Fail);
        assert!(observation.output.as_str().contains("within 300ms"), "{observation:?}");
    }
}

#[tokio::test]
async fn an_endless_body_is_not_read_and_endless_headers_are_cut_off() {
    let endless = |head: &str, more: Vec<u8>| Manner::Endless(head.as_bytes().to_vec(), more);
    let body = Server::start(endless("HTTP/1.1 200 OK\r\n\r\n", vec![b'x'; 64 * 1024])).await;
    assert_eq!(ask(body.address, "http:/").await.outcome, Outcome::Pass);

    let headers = Server::start(endless("HTTP/1.1 200 OK\r\n", b"x-more: and more\r\n".repeat(1_000))).await;
    let observation = ask(headers.address, "http:/").await;
    assert_eq!(observation.outcome, Outcome::Fail);
    let one = Server::start(endless("HTTP/1.1 200 OK\r\nx: ", vec![b'x'; 64 * 1024])).await;
    assert_eq!(ask(one.address, "http:/").await.outcome, Outcome::Fail);
}

#[tokio::test]
async fn whoever_refuses_hangs_up_or_speaks_something_else_fails_at_once() {
    let closed = Server::start(Manner::HangsUp).await.address;
    tokio::task::yield_now().await;
    for check in ["tcp", "http:/", "grpc"] {
        let observation = ask(closed, check).await;
        assert_eq!(observation.outcome, Outcome::Fail, "{check}");
        assert!(observation.output.as_str().contains("refused"), "{observation:?}");
    }
    // An alert is what a server with TLS answers to a client without.
    let tls = Manner::Says(vec![0x15, 3, 3, 0, 2, 2, 70]);
    let noise = Manner::Says(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec());
    for manner in [Manner::HangsUp, tls, noise] {
        let server = Server::start(manner.clone()).await;
        for check in ["http:/", "grpc"] {
            assert_eq!(ask(server.address, check).await.outcome, Outcome::Fail, "{check} {manner:?}");
        }
        assert_eq!(ask(server.address, "tcp").await.outcome, Outcome::Pass);
    }
}

#[tokio::test]
async fn output_from_outside_cannot_write_on_a_terminal() {
    let server = Server::start(status("503 \x1b[2Jgone\u{202e}")).await;
    let observation = ask(server.address, "http:/").await;
    assert_eq!(observation.outcome, Outcome::Fail);
    assert!(observation.output.as_str().chars().all(|char| !char.is_control()), "{observation:?}");
}

#[tokio::test]
async fn grpc_health_is_asked_for_the_service_named() {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("pkg.Api", ServingStatus::Serving).await;
    reporter.set_service_status("pkg.Tired", ServingStatus::NotServing).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let serving = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
    let serving = tokio::spawn(serving);

    for (check, outcome, output) in [
        ("grpc", Outcome::Pass, "gRPC health SERVING"),
        ("grpc:/pkg.Api", Outcome::Pass, "gRPC health SERVING"),
        ("grpc:/pkg.Tired", Outcome::Fail, "gRPC health NOT_SERVING"),
        ("grpc:/pkg.Other", Outcome::Fail, "gRPC health knows no service \"pkg.Other\""),
    ] {
        let observation = ask(target, check).await;
        assert_eq!((observation.outcome, observation.output.as_str()), (outcome, output));
    }
    serving.abort();

    let (bare, routes) =
        (tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(), tonic::service::Routes::default());
    let target = bare.local_addr().unwrap();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(bare);
    let serving = tonic::transport::Server::builder().add_routes(routes).serve_with_incoming(incoming);
    let serving = tokio::spawn(serving);
    let observation = ask(target, "grpc").await;
    assert_eq!(observation.output.as_str(), "gRPC health is not implemented");
    serving.abort();
}

#[tokio::test]
async fn ipv6_is_asked_as_well() {
    let server = Server::at("[::1]:0", status("200 OK")).await;
    for check in ["tcp", "http:/"] {
        assert_eq!(ask(server.address, check).await.outcome, Outcome::Pass, "{check}");
    }
    assert!(server.requests().last().unwrap().contains("host: [::1]:"));
}
