//! A call that is slow is sent to another instance, too, where the caller allows it, as gRPC proposal A6 says.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use netloft_client::{BudgetOptions, ChannelOptions, HedgeOptions, Methods};
use support::backend::*;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;

fn hedging(delay: Duration, attempts_max: u32) -> ChannelOptions {
    let hedge = HedgeOptions { methods: Methods::all(), delay, attempts_max, ..HedgeOptions::default() };
    ChannelOptions { hedge: Some(hedge), ..ChannelOptions::default() }
}

const SOON: Duration = Duration::from_millis(10);
const SO_LONG: Duration = Duration::from_hours(1);

fn timed(timeout: Duration) -> Request<HealthCheckRequest> {
    let mut request = Request::new(HealthCheckRequest::default());
    request.set_timeout(timeout);
    request
}

#[tokio::test]
async fn the_first_answer_wins_and_the_other_attempt_is_cancelled() {
    let fleet = Fleet::start(2, Script::new([Do::Hang], Do::Answer), hedging(SOON, 2)).await;
    fleet.call().await.unwrap();
    let path = fleet.path();
    assert!(path.len() == 2 && path[0] != path[1], "{path:?}");
    until(|| fleet.script.cancelled.load(Ordering::Relaxed) == 1).await;
    let stats = fleet.stats();
    assert_eq!((stats.hedges, stats.hedges_won, stats.calls.succeeded), (1, 1, 1));
    assert_eq!((stats.attempts.succeeded, stats.attempts.given_up, stats.attempts.failed), (1, 1, 0));
    assert_eq!(fleet.in_flight(), 0);
}

#[tokio::test]
async fn nothing_is_hedged_unless_it_is_asked_for() {
    let fleet = Fleet::start(2, Script::new([Do::Hang], Do::Answer), ChannelOptions::default()).await;
    assert_eq!(code(fleet.send(timed(SOON * 60)).await), Code::DeadlineExceeded);
    assert_eq!((fleet.path().len(), fleet.stats().hedges), (1, 0));
}

#[tokio::test]
async fn an_attempt_that_fails_has_the_next_one_sent_at_once() {
    let fleet =
        Fleet::start(2, Script::new([Do::Fail(unavailable())], Do::Answer), hedging(SO_LONG, 2)).await;
    fleet.call().await.unwrap();
    assert_eq!((fleet.path().len(), fleet.stats().hedges_won), (2, 1));
}

#[tokio::test]
async fn an_answer_that_no_other_would_change_ends_the_call() {
    let missing = Do::Fail(Status::not_found("there is none"));
    let fleet = Fleet::start(2, Script::new([Do::Hang, missing], Do::Answer), hedging(SOON, 2)).await;
    assert_eq!(code(fleet.call().await), Code::NotFound);
    assert_eq!(fleet.path().len(), 2);
    assert_eq!((fleet.stats().calls.refused, fleet.stats().hedges_won), (1, 0));
}

#[tokio::test]
async fn an_attempt_that_fails_leaves_the_others_their_time() {
    // The second fails, and the first one answers when the third was sent; two of three fail in the end.
    let script = Script::new([Do::Hang, Do::Fail(unavailable())], Do::Answer);
    let fleet = Fleet::start(3, script, hedging(SOON, 3)).await;
    fleet.call().await.unwrap();
    let mut path = fleet.path();
    path.sort_unstable();
    assert_eq!(path, [0, 1, 2]);
}

#[tokio::test]
async fn an_instance_never_has_two_attempts_of_a_call() {
    let fleet = Fleet::start(1, Script::new([], Do::Hang), hedging(SOON, 3)).await;
    assert_eq!(code(fleet.send(timed(SOON * 60)).await), Code::DeadlineExceeded);
    assert_eq!((fleet.path().len(), fleet.stats().hedges), (1, 0));
}

#[tokio::test]
async fn a_server_can_ask_for_no_more_attempts() {
    let fleet =
        Fleet::start(2, Script::new([Do::Fail(pushed_back("-1"))], Do::Answer), hedging(SO_LONG, 2)).await;
    assert_eq!(code(fleet.call().await), Code::Unavailable);
    assert_eq!(fleet.path().len(), 1);
}

#[tokio::test]
async fn hedges_draw_on_the_budget_of_retries() {
    let budget = Some(BudgetOptions { max_tokens: 2, token_ratio: 0.0 });
    let script = Script::new([Do::Fail(unavailable())], Do::Hang);
    let fleet = Fleet::start(2, script, ChannelOptions { budget, ..hedging(SOON * 20, 2) }).await;
    assert_eq!(code(fleet.call().await), Code::Unavailable, "of two tokens one is left, which is not enough");
    assert_eq!(code(fleet.send(timed(SOON * 60)).await), Code::DeadlineExceeded);
    assert_eq!((fleet.path().len(), fleet.stats().hedges, fleet.stats().repeats_refused), (2, 0, 2));
}
