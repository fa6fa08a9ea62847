//! Calls over gRPC: how many, how they ended, how long until they were answered.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::http::{HeaderMap, Request, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tower::{Layer, Service};

/// The codes of gRPC by their numbers (github.com/grpc/grpc, doc/statuscodes.md).
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
const UNKNOWN: usize = 2;
const UNIMPLEMENTED: usize = 12;

/// From 20 µs to 5 s.
pub(crate) fn durations() -> Histogram {
    Histogram::new(exponential_buckets(20e-6, 4.0, 10))
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Method {
    method: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    method: String,
    code: &'static str,
}

/// What is counted.
#[derive(Debug)]
pub(crate) struct Calls {
    handled: Family<Outcome, Counter>,
    seconds: Family<Method, Histogram, fn() -> Histogram>,
    under_way: Gauge,
    /// By paths, so that a call is counted without words being copied.
    known: RwLock<HashMap<String, Arc<Known>>>,
}

/// A method that was called.
#[derive(Debug)]
struct Known {
    method: String,
    seconds: Histogram,
    handled: [OnceLock<Counter>; CODES.len()],
}

impl Calls {
    pub(crate) fn register(registry: &mut Registry) -> Arc<Self> {
        let calls = Self {
            handled: Family::default(),
            seconds: Family::new_with_constructor(durations),
            under_way: Gauge::default(),
            known: RwLock::default(),
        };
        let handled = "Calls by method and code; of a stream, how it began";
        registry.register("grpc_calls", handled, calls.handled.clone());
        let seconds = "Time until a call was answered, or its stream began";
        registry.register("grpc_call_seconds", seconds, calls.seconds.clone());
        registry.register("grpc_calls_under_way", "Calls not answered yet", calls.under_way.clone());
        Arc::new(calls)
    }

    fn find(&self, path: &str) -> Option<Arc<Known>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }

    fn get_to_know(&self, path: &str, code: usize) -> Arc<Known> {
        // A method that does not exist is the caller's invention, of which there is no end.
        let is_real = code != UNIMPLEMENTED;
        let method = if is_real { path.trim_start_matches('/') } else { "unknown" }.to_owned();
        let seconds = self.seconds.get_or_create_owned(&Method { method: method.clone() });
        let known = Arc::new(Known { method, seconds, handled: Default::default() });
        if is_real {
            let mut all = self.known.write().unwrap_or_else(PoisonError::into_inner);
            all.insert(path.to_owned(), Arc::clone(&known));
        }
        known
    }

    fn count(&self, known: &Known, code: usize, began: Instant) {
        known.seconds.observe(began.elapsed().as_secs_f64());
        let outcome = || Outcome { method: known.method.clone(), code: CODES[code] };
        known.handled[code].get_or_init(|| self.handled.get_or_create_owned(&outcome())).inc();
    }
}

/// The code of an answer. One that has its code after its body was begun in good order.
fn code(headers: &HeaderMap) -> usize {
    let Some(said) = headers.get("grpc-status") else { return 0 };
    let number = said.to_str().ok().and_then(|said| said.parse().ok());
    number.filter(|number| *number < CODES.len()).unwrap_or(UNKNOWN)
}

/// Counts the calls of a service of gRPC; see [`Metrics::calls`](crate::Metrics::calls).
#[derive(Debug, Clone)]
pub struct CallLayer(pub(crate) Arc<Calls>);

impl<S> Layer<S> for CallLayer {
    type Service = ObservedCalls<S>;

    fn layer(&self, inner: S) -> ObservedCalls<S> {
        ObservedCalls { inner, calls: Arc::clone(&self.0) }
    }
}

/// A service whose calls are counted.
#[derive(Debug, Clone)]
pub struct ObservedCalls<S> {
    inner: S,
    calls: Arc<Calls>,
}

/// A call that is under way until this is dropped.
struct UnderWay(Arc<Calls>);

impl UnderWay {
    fn begin(calls: &Arc<Calls>) -> Self {
        calls.under_way.inc();
        Self(Arc::clone(calls))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.dec();
    }
}

impl<S, B, R> Service<Request<B>> for ObservedCalls<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let began = Instant::now();
        let path = request.uri().path();
        let known = self.calls.find(path).ok_or_else(|| path.to_owned());
        let under_way = UnderWay::begin(&self.calls);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            let (calls, code) = (&under_way.0, code(answer.headers()));
            let known = known.unwrap_or_else(|path| calls.get_to_know(&path, code));
            calls.count(&known, code, began);
            Ok(answer)
        })
    }
}
