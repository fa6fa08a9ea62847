//! Connections are there before calls need them, are let go of when nobody does, and lead to who was meant.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use netloft_client::{ChannelOptions, ConnectAheadOptions};
use support::backend::*;
use support::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;

fn answering() -> Arc<Script> {
    Script::new([], Do::Answer)
}

impl Fleet {
    async fn has_connections(&self, count: u64) {
        until(|| self.stats().connections_open == count).await;
    }

    fn accepted(&self) -> Vec<usize> {
        self.servers.iter().map(Server::accepted).collect()
    }
}

#[tokio::test]
async fn the_first_call_finds_a_connection() {
    let fleet = Fleet::start(3, answering(), ChannelOptions::default()).await;
    fleet.has_connections(3).await;
    assert_eq!(fleet.stats().attempts_begun, 0);
    for _ in 0..9 {
        fleet.call().await.unwrap();
    }
    assert_eq!((fleet.accepted(), fleet.stats().connections_made), (vec![1, 1, 1], 3));
}

#[tokio::test]
async fn who_comes_is_connected_to_and_who_goes_is_let_go_of() {
    let mut fleet = Fleet::start(1, answering(), ChannelOptions::default()).await;
    fleet.has_connections(1).await;
    let second = Server::start(1, &fleet.script);
    fleet.held.push(fleet.registry.client().register(at(1, second.address), long()).await.unwrap());
    fleet.has_connections(2).await;
    fleet.held.pop().unwrap().close().await.unwrap();
    fleet.has_connections(1).await;
    assert_eq!((second.accepted(), fleet.path().len()), (1, 0));
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_again_before_a_call_needs_it() {
    let mut fleet = Fleet::start(1, answering(), ChannelOptions::default()).await;
    fleet.has_connections(1).await;
    let address = fleet.servers[0].address;
    fleet.servers[0].kill();
    until(|| fleet.stats().connections_failed > 0).await;
    let again = Server::start_at(address, 0, &fleet.script);
    fleet.has_connections(1).await;
    fleet.call().await.unwrap();
    assert_eq!((again.accepted(), fleet.stats().attempts_begun), (1, 1));
}

#[tokio::test]
async fn connections_ahead_are_bounded_and_others_go_when_they_idle() {
    let ahead = ConnectAheadOptions { connections_max: 2, ..ConnectAheadOptions::default() };
    let options = ChannelOptions {
        connect_ahead: Some(ahead),
        idle_timeout: Duration::ZERO,
        ..ChannelOptions::default()
    };
    let fleet = Fleet::start(5, answering(), options).await;
    fleet.has_connections(2).await;
    for _ in 0..20 {
        fleet.call().await.unwrap();
    }
    assert!(fleet.stats().connections_made >= 5, "calls connect to the others");
    fleet.has_connections(2).await;
}

#[tokio::test]
async fn without_connections_ahead_the_first_call_connects() {
    let options = ChannelOptions { connect_ahead: None, ..ChannelOptions::default() };
    let fleet = Fleet::start(2, answering(), options).await;
    fleet.call().await.unwrap();
    assert_eq!((fleet.stats().connections_made, fleet.stats().connections_open), (1, 1));
}

#[tokio::test]
async fn with_the_channel_its_connections_go() {
    let door = Door::open().await;
    let registry = Registry::start().await;
    let _held = registry.client().register(at(0, door.address), long()).await.unwrap();
    let channel = channel(&registry, ChannelOptions::default()).await;
    let serving = door.serve(|_, _| None);
    until(|| channel.stats().connections_open == 1).await;
    drop(channel);
    // The server sees the end of it.
    tokio::time::timeout(PATIENCE, serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_a_server_refuses_or_leaves_behind_goes_elsewhere_for_free() {
    // RST_STREAM with REFUSED_STREAM, and GOAWAY that names no stream as the last.
    let refuse: fn(u32, u8) -> Option<Vec<u8>> =
        |stream, kind| (kind == HEADERS).then(|| frame(3, stream, &7_u32.to_be_bytes()));
    let go_away: fn(u32, u8) -> Option<Vec<u8>> = |_, kind| (kind == HEADERS).then(|| frame(7, 0, &[0; 8]));
    for (name, answer) in [("refuse", refuse), ("go away", go_away)] {
        let door = Door::open().await;
        let address = door.address;
        let fleet = Fleet::start(1, answering(), ChannelOptions::default()).await;
        let _held = fleet.registry.client().register(at(1, address), long()).await.unwrap();
        let serving = door.serve(answer);
        fleet.has_connections(2).await;
        // Whose turn comes first is drawn.
        for _ in 0..4 {
            fleet.call().await.unwrap();
        }
        let stats = fleet.stats();
        assert!(stats.transparent_retries > 0, "{name}: {stats:?}");
        assert_eq!((stats.retries, stats.calls.succeeded), (0, 4), "{name}");
        serving.abort();
    }
}

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;

/// A frame of HTTP/2 without flags (RFC 9113, section 4.1).
fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, 0], &stream.to_be_bytes(), payload].concat()
}

/// A server of HTTP/2 that answers frames by hand.
struct Door {
    listener: TcpListener,
    address: SocketAddr,
}

impl Door {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    /// Serves one connection to its end; `answer` is given the stream and the type of each frame.
    fn serve(self, answer: fn(u32, u8) -> Option<Vec<u8>>) -> JoinHandle<()> {
        tokio::spawn(async move {
            let (mut stream, _) = self.listener.accept().await.unwrap();
            stream.write_all(&frame(SETTINGS, 0, &[])).await.unwrap();
            let mut preface = [0; 24];
            stream.read_exact(&mut preface).await.unwrap();
            while let Some((number, kind)) = next_frame(&mut stream).await {
                if let Some(answer) = answer(number, kind) {
                    stream.write_all(&answer).await.unwrap();
                }
            }
        })
    }
}

async fn next_frame(stream: &mut TcpStream) -> Option<(u32, u8)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; len as usize];
    stream.read_exact(&mut payload).await.ok()?;
    Some((u32::from_be_bytes([head[5], head[6], head[7], head[8]]), head[3]))
}

#[tokio::test]
async fn a_deadline_covers_an_instance_that_accepts_and_says_nothing() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let registry = Registry::start().await;
    let _held = registry.client().register(at(0, silent.local_addr().unwrap()), long()).await.unwrap();
    let channel = channel(&registry, ChannelOptions::default()).await;
    let mut client = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let mut request = Request::new(HealthCheckRequest::default());
    request.set_timeout(Duration::from_millis(50));
    assert_eq!(client.check(request).await.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!((channel.stats().attempts.failed, channel.stats().calls.failed), (1, 1));
}
