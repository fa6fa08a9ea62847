//! A call: its attempts, one after another or beside each other, until one of them decides it.
//!
//! What decides and when is gRPC proposal A6: an answer whose headers have come is the caller's, whatever follows. What no
//! instance has begun is repeated without being counted; what has failed is repeated as the caller allows and as the budget
//! lasts.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rand::RngExt as _;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::{Code, Status};
use tracing::{Instrument as _, Level, debug, debug_span};

use super::Shared;
use super::attempt::{Came, Sending};
use super::budget::Budget;
use super::deadline::Deadline;
use super::judged::{Judged, JudgedBody, class};
use super::options::{HedgeOptions, Methods, Repeat, RetryOptions};
use super::request::Kept;
use super::route::Route;
use crate::metrics::{Calling, count};

/// How long a call waits for the registry's first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// The header by which a server says when to try again, or, negative, that it is of no use (gRPC proposal A6).
const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// The header that says which trace a call belongs to (W3C Trace Context, section 3.2). It is the caller's, and goes to the
/// instance as it is.
const TRACEPARENT: &str = "traceparent";

/// Carries a call out.
///
/// # Cancel safety
///
/// If the future is dropped, all attempts are cancelled.
pub(super) async fn carry_out(
    shared: Arc<Shared>,
    request: Request<Body>,
) -> Result<Response<JudgedBody>, Status> {
    if !tracing::enabled!(Level::DEBUG) {
        return call(shared, request).await;
    }
    let method = request.uri().path().trim_start_matches('/');
    let trace = request.headers().get(TRACEPARENT).and_then(|trace| trace.to_str().ok());
    let span = debug_span!("call", method, trace);
    call(shared, request).instrument(span).await
}

async fn call(shared: Arc<Shared>, request: Request<Body>) -> Result<Response<JudgedBody>, Status> {
    let calling = Calling::begin(&shared.counters);
    let deadline = Deadline::of(request.headers());
    let (parts, body) = request.into_parts();
    let kept = Kept::new(body, shared.options.request_kept_max);
    let sending = Sending { shared, parts, kept, deadline };
    let answer = match sending.instances_known().await {
        Ok(()) => Attempts::new(&sending).run().await,
        Err(status) => Err(status),
    };
    calling.answered();
    debug!(code = ?code_of(&answer), took = ?calling.elapsed(), "the call is decided");
    match answer {
        Ok(judged) => Ok(judged.hand_over(calling, deadline)),
        Err(status) => {
            calling.end(class(status.code()));
            Err(status)
        }
    }
}

/// The code of what the caller gets; `None` if the answer has only begun.
fn code_of(answer: &Result<Judged, Status>) -> Option<Code> {
    answer.as_ref().map_or_else(|status| Some(status.code()), |judged| judged.code)
}

impl Sending {
    async fn instances_known(&self) -> Result<(), Status> {
        let balanced = &self.shared.balanced;
        if balanced.discovery().age().is_some() {
            return Ok(());
        }
        let ready = balanced.ready(FIRST_ANSWER);
        let left = self.deadline.map_or(FIRST_ANSWER, |one| one.at.saturating_duration_since(Instant::now()));
        match timeout(left, ready).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Status::unavailable(format!("the registry has not answered yet: {error}"))),
            Err(_) => Err(Status::deadline_exceeded("the registry has not answered yet")),
        }
    }
}

/// Why an attempt begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    First,
    /// No instance has begun with the one before.
    Unbegun,
    Retry,
    Hedge,
}

/// How a call may be repeated.
#[derive(Debug, Clone, Copy)]
enum Policy<'a> {
    Never,
    Retry(&'a RetryOptions),
    Hedge(&'a HedgeOptions),
}

impl<'a> Policy<'a> {
    fn of(sending: &'a Sending) -> Self {
        let options = &sending.shared.options;
        let path = sending.parts.uri.path();
        let said: Option<Repeat> = sending.parts.extensions.get().copied();
        let may = |methods: &Methods| match said {
            Some(repeat) => repeat == Repeat::Allowed,
            None => methods.contain(path),
        };
        if let Some(hedge) = options.hedge.as_ref().filter(|hedge| may(&hedge.methods)) {
            return Self::Hedge(hedge);
        }
        options.retry.as_ref().filter(|retry| may(&retry.methods)).map_or(Self::Never, Self::Retry)
    }

    fn repeats(self, code: Code) -> bool {
        match self {
            Self::Never => false,
            Self::Retry(retry) => retry.codes.contain(code),
            Self::Hedge(hedge) => hedge.codes.contain(code),
        }
    }

    fn attempts_max(self) -> u32 {
        match self {
            Self::Never => 1,
            Self::Retry(retry) => retry.attempts_max,
            Self::Hedge(hedge) => hedge.attempts_max,
        }
    }
}

/// The attempts of one call.
struct Attempts<'a> {
    sending: &'a Sending,
    policy: Policy<'a>,
    route: Route<'a>,
    running: Vec<Running<'a>>,
    /// Those that count, which those do not that no instance has begun.
    counted: u32,
    /// No more begin when so many have; none at all after a server has said so.
    counted_max: u32,
    /// Those in a row that no instance has begun.
    unbegun: u32,
    /// Since the server last said how long to wait.
    backoffs: u32,
    /// When the next one begins, and why, if no attempt that runs decides the call before.
    next: Option<(Instant, Why)>,
    /// What the caller is told if nothing better comes.
    failed: Option<Result<Judged, Status>>,
}

struct Running<'a> {
    why: Why,
    coming: Pin<Box<dyn Future<Output = Came> + Send + 'a>>,
}

impl<'a> Attempts<'a> {
    fn new(sending: &'a Sending) -> Self {
        let policy = Policy::of(sending);
        Self {
            sending,
            policy,
            counted_max: policy.attempts_max(),
            route: Route::new(&sending.shared, sending.parts.extensions.get().copied()),
            running: Vec::new(),
            counted: 0,
            unbegun: 0,
            backoffs: 0,
            next: None,
            failed: None,
        }
    }

    async fn run(mut self) -> Result<Judged, Status> {
        if !self.begin(Why::First) {
            count(&self.sending.shared.counters.without_instance);
            return Err(Status::unavailable("there is no instance"));
        }
        loop {
            let next = self.next;
            tokio::select! {
                biased;
                (why, came) = first_of(&mut self.running), if !self.running.is_empty() => {
                    if let Some(answer) = self.take(why, came) {
                        return answer;
                    }
                }
                why = due(next), if next.is_some() => {
                    self.next = None;
                    self.begin_due(why);
                }
            }
            if self.running.is_empty() && self.next.is_none() {
                return self.failed.unwrap_or_else(|| Err(Status::unavailable("there is no instance")));
            }
        }
    }

    /// Begins an attempt at the next instance; not if there is none.
    fn begin(&mut self, why: Why) -> bool {
        let Some(pick) = self.route.next(matches!(why, Why::First | Why::Retry)) else { return false };
        let counters = &self.sending.shared.counters;
        match why {
            Why::First => {}
            Why::Unbegun => count(&counters.transparent_retries),
            Why::Retry => count(&counters.retries),
            Why::Hedge => count(&counters.hedges),
        }
        if why != Why::Unbegun {
            (self.counted, self.unbegun) = (self.counted + 1, 0);
        }
        let coming = Box::pin(self.sending.attempt(pick, self.counted - 1));
        self.running.push(Running { why, coming });
        if let Policy::Hedge(hedge) = self.policy
            && self.counted < self.counted_max
        {
            self.next = Some((Instant::now() + hedge.delay, Why::Hedge));
        }
        true
    }

    fn begin_due(&mut self, why: Why) {
        let Sending { shared, kept, .. } = self.sending;
        if !kept.is_repeatable() {
            return;
        }
        if why == Why::Hedge && shared.budget.as_ref().is_some_and(|budget| !budget.allows()) {
            return count(&shared.counters.repeats_refused);
        }
        self.begin(why);
    }

    /// Takes what came of an attempt; answers the caller if that decides the call.
    fn take(&mut self, why: Why, came: Came) -> Option<Result<Judged, Status>> {
        let Came { answer, is_begun, is_ours } = came;
        if is_ours && !self.running.is_empty() {
            return None;
        }
        if !is_begun && self.begin_anew(why) {
            return None;
        }
        let (code, pushback) = match &answer {
            Ok(judged) => (judged.code, pushback(judged.headers())),
            Err(status) => (Some(status.code()), None),
        };
        let repeated = code.is_some_and(|code| self.policy.repeats(code));
        if !repeated {
            self.decide(why, code);
            return Some(answer);
        }
        self.failed = Some(answer);
        self.plan_next(pushback);
        None
    }

    /// Tries the next instance with what the one before has not begun.
    fn begin_anew(&mut self, why: Why) -> bool {
        self.unbegun += 1;
        let Sending { shared, kept, deadline, .. } = self.sending;
        let is_late = deadline.is_some_and(|deadline| deadline.at <= Instant::now());
        let may = self.unbegun < shared.options.tries_max && kept.is_repeatable() && !is_late;
        if !may || !self.begin(Why::Unbegun) {
            return false;
        }
        if let Some(running) = self.running.last_mut().filter(|_| why == Why::Hedge) {
            running.why = Why::Hedge;
        }
        true
    }

    fn decide(&self, why: Why, code: Option<Code>) {
        let Sending { shared, kept, .. } = self.sending;
        kept.settle();
        if code.unwrap_or(Code::Ok) == Code::Ok {
            if let Some(budget) = &shared.budget {
                budget.succeed();
            }
            if why == Why::Hedge {
                count(&shared.counters.hedges_won);
            }
        }
    }

    /// Plans the next attempt after one has failed, if there may be one.
    fn plan_next(&mut self, pushback: Option<Pushback>) {
        let Sending { shared, kept, deadline, .. } = self.sending;
        let is_afforded = shared.budget.as_ref().is_none_or(Budget::fail);
        self.next = None;
        if pushback == Some(Pushback::Stop) {
            self.counted_max = 0;
        }
        if self.counted >= self.counted_max || !kept.is_repeatable() {
            return;
        }
        if !is_afforded {
            return count(&shared.counters.repeats_refused);
        }
        let (wait, why) = match (pushback, self.policy) {
            (Some(Pushback::After(wait)), Policy::Hedge(_)) => (wait, Why::Hedge),
            (_, Policy::Hedge(_)) => (Duration::ZERO, Why::Hedge),
            (Some(Pushback::After(wait)), _) => {
                self.backoffs = 0;
                (wait, Why::Retry)
            }
            (_, Policy::Retry(retry)) => (self.backoff(retry), Why::Retry),
            (_, Policy::Never) => return,
        };
        // What cannot begin in time is better told now.
        let at = Instant::now().checked_add(wait);
        let at = at.filter(|at| deadline.is_none_or(|deadline| *at < deadline.at));
        self.next = at.map(|at| (at, why));
    }

    fn backoff(&mut self, retry: &RetryOptions) -> Duration {
        let power = i32::try_from(self.backoffs).unwrap_or(i32::MAX);
        self.backoffs += 1;
        let wait = retry.initial_backoff.as_secs_f64() * retry.backoff_multiplier.powi(power);
        let wait = wait.min(retry.max_backoff.as_secs_f64()) * rand::rng().random_range(0.8..=1.2);
        Duration::try_from_secs_f64(wait).unwrap_or(retry.max_backoff)
    }
}

/// Waits for the first attempt that is over.
///
/// # Cancel safety
///
/// Nothing is lost if the future is dropped.
async fn first_of(running: &mut Vec<Running<'_>>) -> (Why, Came) {
    std::future::poll_fn(|cx| {
        for index in 0..running.len() {
            if let Poll::Ready(came) = running[index].coming.as_mut().poll(cx) {
                return Poll::Ready((running.swap_remove(index).why, came));
            }
        }
        Poll::Pending
    })
    .await
}

async fn due(next: Option<(Instant, Why)>) -> Why {
    let Some((at, why)) = next else { return std::future::pending().await };
    sleep_until(at).await;
    why
}

/// What a server says of trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pushback {
    After(Duration),
    Stop,
}

fn pushback(headers: &HeaderMap) -> Option<Pushback> {
    let said = headers.get(PUSHBACK)?;
    // What is no number means that it should not be tried again.
    let wait = said.to_str().ok().and_then(|said| said.parse::<u32>().ok());
    Some(wait.map_or(Pushback::Stop, |ms| Pushback::After(Duration::from_millis(ms.into()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_how_long_to_wait_or_not_to_try_again() {
        let said = |text: &str| {
            pushback(&HeaderMap::from_iter([(PUSHBACK.parse().unwrap(), text.parse().unwrap())]))
        };
        assert_eq!(pushback(&HeaderMap::new()), None);
        assert_eq!(said("0"), Some(Pushback::After(Duration::ZERO)));
        assert_eq!(said("250"), Some(Pushback::After(Duration::from_millis(250))));
        for stop in ["-1", "", "soon", "1.5"] {
            assert_eq!(said(stop), Some(Pushback::Stop), "{stop:?}");
        }
    }
}
