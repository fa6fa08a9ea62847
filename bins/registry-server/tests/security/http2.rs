//! R5: what HTTP/2 lets a peer do to a server that does not count: resets without end (CVE-2023-44487), headers without
//! end (CVE-2024-27316 and its kin), and headers that are too large.

use std::time::{Duration, Instant};

use netloft_proto::registry::v1 as wire;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::ground::{Ground, PATIENCE, Server, raw};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header in HPACK, spelled out and not to be remembered (RFC 7541, section 6.2.2).
fn header(name: &str, value: &str) -> Vec<u8> {
    let length = |len: usize| match u8::try_from(len) {
        Ok(len) if len < 127 => vec![len],
        _ => {
            let (mut bytes, mut rest) = (vec![127], len - 127);
            while rest >= 128 {
                bytes.push(u8::try_from(rest % 128 + 128).unwrap());
                rest /= 128;
            }
            bytes.push(u8::try_from(rest).unwrap());
            bytes
        }
    };
    [&[0][..], &length(name.len()), name.as_bytes(), &length(value.len()), value.as_bytes()].concat()
}

fn call_headers() -> Vec<u8> {
    [
        header(":method", "POST"),
        header(":scheme", "http"),
        header(":path", "/netloft.registry.v1.Registry/ListServices"),
        header(":authority", "localhost"),
        header("te", "trailers"),
        header("content-type", "application/grpc"),
    ]
    .concat()
}

async fn greet(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    stream
}

/// Sends `flood` again and again until the server cuts the connection; answers how many bytes that took.
async fn flood_until_cut(server: &Server, opening: &[u8], flood: &[u8]) -> usize {
    let (mut reader, mut writer) = greet(server).await.into_split();
    let reading = tokio::spawn(async move {
        let mut sink = vec![0; 64 * 1024];
        while reader.read(&mut sink).await.is_ok_and(|len| len > 0) {}
    });
    let begun = Instant::now();
    let mut sent = 0;
    let _ = writer.write_all(opening).await;
    while writer.write_all(flood).await.is_ok() && !reading.is_finished() {
        sent += flood.len();
        assert!(begun.elapsed() < PATIENCE, "not cut after {sent} bytes");
    }
    timeout(PATIENCE, reading).await.expect("the server closes the connection").unwrap();
    sent
}

/// Somebody who goes on calling; in the end, the longest that an answer took.
fn others(server: &Server) -> (tokio::sync::watch::Sender<bool>, JoinHandle<(u32, Duration)>) {
    let mut client = raw(server, "");
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let calling = tokio::spawn(async move {
        let (mut calls, mut longest) = (0, Duration::ZERO);
        while !*stopped.borrow() {
            let begun = Instant::now();
            client.list_services(wire::ListServicesRequest::default()).await.unwrap();
            (calls, longest) = (calls + 1, longest.max(begun.elapsed()));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        (calls, longest)
    });
    (stop, calling)
}

/// Attacks while others call, and checks what it cost: memory, and the patience of the others.
async fn costs_little(attack: impl AsyncFn(&Server)) {
    let server = Ground::start_open(&[]);
    let (stop, calling) = others(&server);
    // Once to warm up: what is allocated the first time is not a leak.
    attack(&server).await;
    let (memory, processor) = (server.memory(), server.processor_time());
    let begun = Instant::now();
    for _ in 0..10 {
        attack(&server).await;
    }
    let grown = server.memory().saturating_sub(memory);
    let used = server.processor_time() - processor;
    assert!(grown < 32 << 20, "grew by {} MiB", grown >> 20);
    // One connection keeps at most one processor busy, and not after it is cut.
    assert!(
        used < begun.elapsed().as_secs_f64() * 1.5 + 0.5,
        "{used} s of processor time in {:?}",
        begun.elapsed()
    );
    stop.send_replace(true);
    let (calls, longest) = calling.await.unwrap();
    assert!(calls > 0 && longest < Duration::from_secs(5), "{calls} calls, the longest took {longest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r5_resets_without_end_cut_the_connection() {
    costs_little(async |server| {
        let stream = TcpStream::connect(&server.address).await.unwrap();
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let begun = Instant::now();
        let mut opened = 0_u32;
        loop {
            sender = match sender.ready().await {
                Ok(sender) => sender,
                Err(_) => break,
            };
            let uri = "http://localhost/netloft.registry.v1.Registry/ListServices";
            let request =
                http::Request::post(uri).header("content-type", "application/grpc").body(()).unwrap();
            let Ok((_, mut body)) = sender.send_request(request, false) else { break };
            body.send_reset(h2::Reason::CANCEL);
            opened += 1;
            assert!(begun.elapsed() < PATIENCE, "not cut after {opened} resets");
        }
        let ended = timeout(PATIENCE, connection).await.expect("the connection ends").unwrap();
        // The server says why, unless it has closed the socket over what is still under way.
        let error = ended.unwrap_err();
        assert!(error.is_io() || error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM), "{error:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r5_headers_without_end_cut_the_connection() {
    costs_little(async |server| {
        let begin = frame(HEADERS, 0, 1, &call_headers());
        let more = frame(CONTINUATION, 0, 1, &header("x-padding", &"x".repeat(8_000)));
        let sent = flood_until_cut(server, &begin, &more).await;
        // What fits into the buffers of the sockets is sent before anybody can say stop.
        assert!(sent < 64 << 20, "{sent} bytes");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r5_empty_continuations_without_end_cut_the_connection() {
    costs_little(async |server| {
        let begin = frame(HEADERS, 0, 1, &call_headers());
        let sent = flood_until_cut(server, &begin, &frame(CONTINUATION, 0, 1, &[]).repeat(100)).await;
        assert!(sent < 64 << 20, "{sent} bytes");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r5_headers_of_64_kilobytes_are_refused() {
    costs_little(async |server| {
        let mut stream = greet(server).await;
        let large = header("x-padding", &"x".repeat(64 * 1024));
        let mut parts = large.chunks(16_000).peekable();
        stream.write_all(&frame(HEADERS, 0, 1, &call_headers())).await.unwrap();
        while let Some(part) = parts.next() {
            let flags = if parts.peek().is_none() { END_HEADERS } else { 0 };
            // The server may cut it before the end.
            let _ = stream.write_all(&frame(CONTINUATION, flags, 1, part)).await;
        }
        let mut answer = Vec::new();
        timeout(PATIENCE, read_until_refused(&mut stream, &mut answer)).await.expect("an answer");
        let kinds = kinds(&answer);
        let is_refused =
            kinds.iter().any(|(kind, stream)| matches!((*kind, *stream), (3 | 7, _) | (HEADERS, 1)));
        assert!(is_refused || answer.is_empty(), "{kinds:?}");
        // Answered as refused (431) or cut, but never as a call that was carried out.
        assert!(!answer.windows(4).any(|bytes| bytes == b"grpc"), "the call was carried out");
    })
    .await;
}

/// Reads until there is a frame for the stream, or of an error, or the end.
async fn read_until_refused(stream: &mut TcpStream, answer: &mut Vec<u8>) {
    let mut bytes = [0; 4_096];
    while let Ok(len @ 1..) = stream.read(&mut bytes).await {
        answer.extend_from_slice(&bytes[..len]);
        if kinds(answer)
            .iter()
            .any(|(kind, stream)| matches!(kind, 3 | 7) || (*kind == HEADERS && *stream == 1))
        {
            return;
        }
    }
}

/// The kinds of the whole frames in `bytes`, with their streams.
fn kinds(mut bytes: &[u8]) -> Vec<(u8, u32)> {
    let mut found = Vec::new();
    while bytes.len() >= 9 {
        let len = usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
        if bytes.len() < 9 + len {
            break;
        }
        found.push((bytes[3], u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]])));
        bytes = &bytes[9 + len..];
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn r5_streams_beyond_those_that_may_be_open_are_refused() {
    let server = Ground::start_open(&[]);
    let (stop, calling) = others(&server);
    let mut stream = greet(&server).await;
    // Calls whose requests never end: 1,024 may be open.
    let calls =
        (0..1_024 + 50_u32).map(|number| frame(HEADERS, END_HEADERS, 2 * number + 1, &call_headers()));
    stream.write_all(&calls.collect::<Vec<_>>().concat()).await.unwrap();
    let (mut answer, mut bytes) = (Vec::new(), [0; 4_096]);
    let refused = |answer: &[u8]| {
        let resets = kinds(answer).into_iter().filter(|(kind, _)| *kind == RST_STREAM);
        resets.map(|(_, stream)| stream).collect::<Vec<_>>()
    };
    while refused(&answer).len() < 50 {
        let len = timeout(PATIENCE, stream.read(&mut bytes)).await.expect("in time").unwrap();
        assert!(len > 0, "cut after {:?}", kinds(&answer));
        answer.extend_from_slice(&bytes[..len]);
    }
    assert_eq!(refused(&answer), (1_024..1_024 + 50).map(|number| 2 * number + 1).collect::<Vec<_>>());
    stop.send_replace(true);
    let (calls, longest) = calling.await.unwrap();
    assert!(calls > 0 && longest < Duration::from_secs(5), "{calls} calls, the longest took {longest:?}");
}
