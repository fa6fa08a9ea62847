//! What failed is repeated where the caller allows it, as gRPC proposal A6 says.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use netloft_client::{BudgetOptions, ChannelOptions, Codes, Methods, Repeat, RetryOptions};
use support::backend::*;
use tonic::codegen::{Bytes, Service as _, http};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;

const SO_LONG: Duration = Duration::from_hours(1);

fn retrying() -> RetryOptions {
    RetryOptions {
        methods: Methods::all(),
        initial_backoff: Duration::from_millis(1),
        ..RetryOptions::default()
    }
}

fn with(retry: RetryOptions) -> ChannelOptions {
    ChannelOptions { retry: Some(retry), ..ChannelOptions::default() }
}

fn failing(count: usize) -> Arc<Script> {
    Script::new(vec![Do::Fail(unavailable()); count], Do::Answer)
}

#[tokio::test]
async fn a_retry_goes_to_another_instance_and_says_how_many_there_were() {
    let fleet = Fleet::start(3, failing(2), with(retrying())).await;
    fleet.call().await.unwrap();
    let mut path = fleet.path();
    path.sort_unstable();
    assert_eq!(path, [0, 1, 2]);
    let previous: Vec<_> = fleet
        .script
        .seen()
        .iter()
        .map(|seen| seen.header("grpc-previous-rpc-attempts").map(str::to_owned))
        .collect();
    assert_eq!(previous, [None, Some("1".to_owned()), Some("2".to_owned())]);
    let stats = fleet.stats();
    assert_eq!((stats.calls_begun, stats.calls.succeeded, stats.retries), (1, 1, 2));
    assert_eq!((stats.attempts_begun, stats.attempts.failed, stats.attempts.succeeded), (3, 2, 1));
    assert_eq!((stats.latency.count(), fleet.in_flight()), (1, 0));
}

#[tokio::test]
async fn after_the_last_attempt_the_caller_gets_the_answer_of_the_server() {
    let fleet = Fleet::start(2, failing(100), with(RetryOptions { attempts_max: 4, ..retrying() })).await;
    let status = fleet.call().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "as it was told"));
    // When all were tried, they are tried again.
    assert_eq!(fleet.path().len(), 4);
    assert_eq!((fleet.stats().calls.failed, fleet.stats().attempts.failed), (1, 4));
}

#[tokio::test]
async fn only_what_may_be_repeated_is() {
    let only = |name: &str| with(RetryOptions { methods: Methods::of([name]), ..retrying() });
    let said = |repeat: Option<Repeat>| {
        let mut request = Request::new(HealthCheckRequest::default());
        request.extensions_mut().extend(
            repeat
                .map(|repeat| {
                    let mut extensions = http::Extensions::new();
                    extensions.insert(repeat);
                    extensions
                })
                .unwrap_or_default(),
        );
        request
    };
    let (check, watch) = ("grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch");
    for (options, repeat, attempts) in [
        (ChannelOptions::default(), Some(Repeat::Allowed), 1),
        (with(RetryOptions { methods: Methods::default(), ..retrying() }), None, 1),
        (only(watch), None, 1),
        (only(watch), Some(Repeat::Allowed), 2),
        (only(check), None, 2),
        (only("grpc.health.v1.Health/*"), None, 2),
        (only(check), Some(Repeat::Forbidden), 1),
        (with(RetryOptions { codes: Codes::of([Code::Aborted]), ..retrying() }), None, 1),
    ] {
        let told = format!("{options:?} {repeat:?}");
        let fleet = Fleet::start(2, failing(1), options).await;
        let code = code(fleet.send(said(repeat)).await);
        assert_eq!(fleet.path().len(), attempts, "{told}");
        assert_eq!(code == Code::Ok, attempts == 2, "{told}");
    }
}

#[tokio::test]
async fn when_the_budget_is_spent_nothing_is_retried_until_calls_succeed_again() {
    let script = Script::new(vec![Do::Fail(unavailable()); 3], Do::Answer);
    let budget = Some(BudgetOptions { max_tokens: 4, token_ratio: 1.0 });
    let retry = RetryOptions { attempts_max: 5, ..retrying() };
    let fleet = Fleet::start(2, script, ChannelOptions { budget, ..with(retry) }).await;
    assert_eq!(code(fleet.call().await), Code::Unavailable);
    assert_eq!((fleet.path().len(), fleet.stats().repeats_refused), (2, 1), "two of four tokens are left");
    assert_eq!(code(fleet.call().await), Code::Unavailable);
    assert_eq!((fleet.path().len(), fleet.stats().repeats_refused), (3, 2), "and one");
    for _ in 0..3 {
        fleet.call().await.unwrap();
    }
    let script = failing(1);
    let budget = Some(BudgetOptions { max_tokens: 4, token_ratio: 1.0 });
    let fleet = Fleet::start(2, script, ChannelOptions { budget, ..with(retrying()) }).await;
    fleet.call().await.unwrap();
    assert_eq!(fleet.stats().repeats_refused, 0, "a full bucket affords it");
}

#[tokio::test]
async fn a_server_says_when_to_try_again_or_not_to() {
    let patient = RetryOptions { initial_backoff: SO_LONG, max_backoff: SO_LONG, ..retrying() };
    let script = Script::new([Do::Fail(pushed_back("1"))], Do::Answer);
    let fleet = Fleet::start(2, script, with(patient)).await;
    // It does not wait for as long as it would by itself.
    fleet.call().await.unwrap();
    assert_eq!(fleet.path().len(), 2);

    let script = Script::new([Do::Fail(pushed_back("-1"))], Do::Answer);
    let fleet = Fleet::start(2, script, with(retrying())).await;
    assert_eq!(code(fleet.call().await), Code::Unavailable);
    assert_eq!(fleet.path().len(), 1);
}

#[tokio::test]
async fn a_request_that_is_too_long_to_be_kept_is_sent_once() {
    let long = || Request::new(HealthCheckRequest { service: "x".repeat(2_000) });
    for (request_kept_max, attempts) in [(1_000, 1), (4_000, 2)] {
        let options = ChannelOptions { request_kept_max, ..with(retrying()) };
        let fleet = Fleet::start(2, failing(1), options).await;
        assert_eq!(code(fleet.send(long()).await) == Code::Ok, attempts == 2);
        assert_eq!(fleet.path().len(), attempts);
    }
}

#[tokio::test]
async fn a_request_that_is_still_being_sent_goes_on_at_the_next_instance() {
    let script = Script::new([Do::Refuse(unavailable())], Do::Answer);
    let fleet = Fleet::start(2, script, with(retrying())).await;
    // One message of gRPC in two parts: not compressed, four bytes long, a text of two in its first field.
    let parts: [&'static [u8]; 2] = [&[0, 0, 0, 0, 4, 0x0a], &[2, b'h', b'i']];
    let (send, parts_sent) = tokio::sync::mpsc::channel(2);
    let frames = tokio_stream::wrappers::ReceiverStream::new(parts_sent);
    let body = tonic::body::Body::new(http_body_util::StreamBody::new(frames));
    let part = |number: usize| Ok::<_, Status>(hyper::body::Frame::data(Bytes::from_static(parts[number])));
    send.send(part(0)).await.unwrap();
    let request =
        http::Request::post("/grpc.health.v1.Health/Check").header("content-type", "application/grpc");
    let calling = tokio::spawn(fleet.channel.clone().call(request.body(body).unwrap()));
    // The second attempt is there before the second part is.
    fleet.script.has_seen(2).await;
    send.send(part(1)).await.unwrap();
    drop(send);
    let answer = calling.await.unwrap().unwrap();
    assert_eq!(answer.headers().get("grpc-status"), None);
    let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
    assert_eq!((fleet.path().len(), fleet.stats().calls.succeeded), (2, 1));
}

#[tokio::test]
async fn a_deadline_spans_all_attempts_and_each_is_told_what_is_left() {
    let script = Script::new([Do::Fail(unavailable())], Do::Hang);
    let fleet = Fleet::start(2, script, with(retrying())).await;
    let mut request = Request::new(HealthCheckRequest::default());
    request.set_timeout(Duration::from_secs(1));
    assert_eq!(code(fleet.send(request).await), Code::DeadlineExceeded);
    let seen = fleet.script.seen();
    assert_eq!(seen.len(), 2);
    let left = |index: usize| {
        let text = seen[index].header("grpc-timeout").unwrap();
        let (digits, unit) = text.split_at(text.len() - 1);
        let unit = Duration::from_nanos(if unit == "u" { 1_000 } else { 1 });
        unit * digits.parse::<u32>().unwrap()
    };
    assert!(left(0) <= Duration::from_secs(1) && left(1) < left(0), "{:?} {:?}", left(0), left(1));
    // Who has not answered in time has failed.
    let stats = fleet.stats();
    assert_eq!((stats.attempts.failed, stats.calls.failed, fleet.in_flight()), (2, 1, 0));
}

#[tokio::test]
async fn what_cannot_be_retried_in_time_is_told_at_once() {
    let patient = RetryOptions { initial_backoff: SO_LONG, max_backoff: SO_LONG, ..retrying() };
    let fleet = Fleet::start(2, failing(1), with(patient)).await;
    let mut request = Request::new(HealthCheckRequest::default());
    request.set_timeout(support::PATIENCE);
    assert_eq!(code(fleet.send(request).await), Code::Unavailable);
}

#[tokio::test]
async fn an_answer_that_has_begun_is_the_callers_and_ends_at_the_deadline() {
    let fleet = Fleet::start(2, failing(0), with(retrying())).await;
    let mut client = tonic_health::pb::health_client::HealthClient::new(fleet.channel.clone());
    let mut request = Request::new(HealthCheckRequest::default());
    request.set_timeout(Duration::from_secs(1));
    let mut stream = client.watch(request).await.unwrap().into_inner();
    assert_eq!(fleet.in_flight(), 1);
    assert_eq!(stream.message().await.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!((fleet.in_flight(), fleet.stats().attempts.failed), (0, 1));

    let mut stream = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let server = fleet.path()[1];
    let mut fleet = fleet;
    fleet.servers[server].kill();
    assert_eq!(stream.message().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!((fleet.path().len(), fleet.stats().retries), (2, 0));
}

#[tokio::test]
async fn what_an_instance_had_when_it_died_is_repeated() {
    for (options, expected) in [(with(retrying()), Code::Ok), (ChannelOptions::default(), Code::Unavailable)]
    {
        let script = Script::new([Do::Hang], Do::Answer);
        let mut fleet = Fleet::start(2, script, options).await;
        let mut client = tonic_health::pb::health_client::HealthClient::new(fleet.channel.clone());
        let calling = tokio::spawn(async move { client.check(HealthCheckRequest::default()).await });
        let server = fleet.script.has_seen(1).await[0].server;
        fleet.servers[server].kill();
        let answer = calling.await.unwrap().map(drop);
        assert_eq!(code(answer), expected);
        assert_eq!(fleet.stats().retries, u64::from(expected == Code::Ok));
        assert_eq!(fleet.in_flight(), 0);
    }
}

#[tokio::test]
async fn the_trace_of_the_caller_goes_along_with_each_attempt_and_none_is_made_up() {
    let fleet = Fleet::start(2, failing(1), with(retrying())).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut request = Request::new(HealthCheckRequest::default());
    request.metadata_mut().insert("traceparent", trace.parse().unwrap());
    fleet.send(request).await.unwrap();
    fleet.call().await.unwrap();
    let seen = fleet.script.seen();
    let traces: Vec<_> = seen.iter().map(|seen| seen.header("traceparent")).collect();
    assert_eq!(traces, [Some(trace), Some(trace), None]);
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn each_attempt_is_told_at_debug_with_its_instance_and_the_trace_of_its_call() {
    let fleet = Fleet::start(2, failing(1), with(retrying())).await;
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let logging = tracing::subscriber::set_default(subscriber);
    let mut request = Request::new(HealthCheckRequest::default());
    request.metadata_mut().insert("traceparent", "00-some-trace-01".parse().unwrap());
    fleet.send(request).await.unwrap();
    drop(logging);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let said =
        |words: &[&str]| log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count();
    let call = "call{method=\"grpc.health.v1.Health/Check\" trace=\"00-some-trace-01\"}";
    let failed = format!("instance=n{}", fleet.path()[0]);
    let answered = format!("instance=n{}", fleet.path()[1]);
    assert_eq!(said(&["DEBUG", call, &failed, "code=Some(Unavailable)"]), 1, "{log}");
    assert_eq!(said(&["DEBUG", call, &answered, "previous=1", "code=None"]), 1, "{log}");
    assert_eq!(said(&["DEBUG", call, "the call is decided"]), 1, "{log}");
}

#[tokio::test]
async fn a_call_that_is_dropped_is_cancelled() {
    let script = Script::new([], Do::Hang);
    let fleet = Fleet::start(1, script, ChannelOptions::default()).await;
    let mut client = tonic_health::pb::health_client::HealthClient::new(fleet.channel.clone());
    let calling = tokio::spawn(async move { client.check(HealthCheckRequest::default()).await });
    fleet.script.has_seen(1).await;
    calling.abort();
    assert!(calling.await.unwrap_err().is_cancelled());
    until(|| fleet.script.cancelled.load(std::sync::atomic::Ordering::Relaxed) == 1).await;
    let stats = fleet.stats();
    assert_eq!((stats.calls.given_up, stats.attempts.given_up, fleet.in_flight()), (1, 1, 0));
}
