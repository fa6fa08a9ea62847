//! A channel of gRPC that balances: any client that tonic generates takes it.

mod judged;
mod pool;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use netloft_balance::Outcome;
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::uri::{Authority, PathAndQuery, Scheme};
use tonic::codegen::http::{HeaderMap, Request, Response, Uri};
use tower::Service;

pub use self::judged::JudgedBody;
use self::pool::Pool;
use crate::{Balanced, Pick};

/// Instances that are tried for one call. A call goes on to the next only if the one before got nothing of it.
const ATTEMPTS_MAX: usize = 3;
/// How long a call waits for the registry's first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// The header that says how long a call may take (gRPC over HTTP/2, "Requests").
const GRPC_TIMEOUT: &str = "grpc-timeout";

/// Sends each call to an instance that a [`Balanced`] picks, and tells it how the call went. A cheap handle, to be cloned.
///
/// ```no_run
/// # use netloft_balance::Builtin;
/// # use netloft_client::{BalancedChannel, Client};
/// # use netloft_types::Query;
/// # mod greeter { pub struct GreeterClient<T>(pub T); impl<T> GreeterClient<T> { pub fn new(t: T) -> Self { Self(t) } } }
/// # use greeter::GreeterClient;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::connect("http://127.0.0.1:7400".parse()?);
/// let api = client.balance(Query::service("api".parse()?), Builtin::default());
/// let greeter = GreeterClient::new(BalancedChannel::new(api)); // as with any other channel
/// # Ok(())
/// # }
/// ```
///
/// It keeps one connection of HTTP/2 to each instance it has called, without TLS, and asks it every 10 s whether it is
/// there. An instance that cannot be reached is ended as a failure, and the call goes to the next one, to three in all, as
/// long as nothing of it was sent: that is safe for every call. What was sent is never repeated.
///
/// What counts as a failure of the instance are the codes UNKNOWN, `DEADLINE_EXCEEDED`, `RESOURCE_EXHAUSTED`, INTERNAL,
/// UNAVAILABLE and `DATA_LOSS`, and a connection that breaks; others say that the caller erred. The latency is that until the
/// answer begins; the call is in flight until it ends. A timeout that the caller set (`grpc-timeout`) covers connecting, too.
///
/// # Errors
///
/// UNAVAILABLE if there is no instance, or none of those tried could be reached; `DEADLINE_EXCEEDED` after the caller's
/// timeout.
///
/// # Cancel safety
///
/// If the future of a call is dropped, the call is cancelled at the instance; nothing is learned of that.
#[derive(Debug, Clone)]
pub struct BalancedChannel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    balanced: Balanced,
    pool: Pool,
}

impl BalancedChannel {
    /// Makes the channel.
    pub fn new(balanced: Balanced) -> Self {
        Self(Arc::new(Inner { balanced, pool: Pool::default() }))
    }

    /// Who picks.
    pub fn balanced(&self) -> &Balanced {
        &self.0.balanced
    }
}

impl Service<Request<Body>> for BalancedChannel {
    type Response = Response<JudgedBody>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    /// Always ready: which instance could say that it is not is decided by the call.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let Some(patience) = timeout_of(request.headers()) else { return inner.send(request).await };
            let overdue = |_| Status::deadline_exceeded(format!("no answer within {patience:?}"));
            timeout(patience, inner.send(request)).await.map_err(overdue)?
        })
    }
}

impl Inner {
    async fn send(&self, mut request: Request<Body>) -> Result<Response<JudgedBody>, Status> {
        if self.balanced.discovery().age().is_none() {
            let failed = |error| Status::unavailable(format!("the registry has not answered yet: {error}"));
            self.balanced.ready(FIRST_ANSWER).await.map_err(failed)?;
        }
        let mut failure = "there is no instance".to_owned();
        for pick in self.balanced.candidates().take(ATTEMPTS_MAX) {
            match self.try_at(pick, request).await {
                Ok(answer) => return Ok(answer),
                Err(Failed { why, unsent: Some(unsent) }) => (failure, request) = (why, *unsent),
                Err(Failed { why, unsent: None }) => return Err(Status::unavailable(why)),
            }
        }
        Err(Status::unavailable(failure))
    }

    async fn try_at(&self, pick: Pick, mut request: Request<Body>) -> Result<Response<JudgedBody>, Failed> {
        let address = SocketAddr::new(pick.address, pick.port.number());
        let is_known = |address: &SocketAddr| {
            let set = self.balanced.discovery().snapshot();
            set.instances()
                .iter()
                .any(|one| (one.address, one.port.number()) == (address.ip(), address.port()))
        };
        let mut sender = match self.pool.sender(address, is_known).await {
            Ok(sender) => sender,
            Err(error) => {
                let why = format!("cannot connect to {} at {address}: {error}", pick.id);
                pick.end(Outcome::Failure);
                return Err(Failed { why, unsent: Some(Box::new(request)) });
            }
        };
        *request.uri_mut() = directed(request.uri(), address);
        match sender.try_send_request(request).await {
            Ok(answer) => Ok(judged::judge(answer, pick)),
            Err(mut error) => {
                let why = format!("{} at {address} did not answer: {}", pick.id, error.error());
                pick.end(Outcome::Failure);
                Err(Failed { why, unsent: error.take_message().map(Box::new) })
            }
        }
    }
}

/// Why an attempt failed, and the request if nothing of it was sent.
struct Failed {
    why: String,
    unsent: Option<Box<Request<Body>>>,
}

/// The path of a call at an address.
fn directed(uri: &Uri, address: SocketAddr) -> Uri {
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Authority::try_from(address.to_string()).ok();
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

/// How long a call may take: at most eight digits and a unit.
fn timeout_of(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        let said = |text: &str| {
            let headers = HeaderMap::from_iter([(GRPC_TIMEOUT.parse().unwrap(), text.parse().unwrap())]);
            timeout_of(&headers)
        };
        assert_eq!(said("2H"), Some(Duration::from_hours(2)));
        assert_eq!(said("99999999n"), Some(Duration::from_nanos(99_999_999)));
        assert_eq!(said("250m"), Some(Duration::from_millis(250)));
        for bad in ["", "m", "5", "123456789m", "1.5S", "-1S", "5s", "5é"] {
            let headers = HeaderMap::from_iter([(
                GRPC_TIMEOUT.parse().unwrap(),
                tonic::codegen::http::HeaderValue::from_bytes(bad.as_bytes()).unwrap(),
            )]);
            assert_eq!(timeout_of(&headers), None, "{bad}");
        }
    }

    #[test]
    fn a_call_goes_to_the_address_of_its_instance() {
        let uri = directed(&"/api.Greeter/Hello".parse().unwrap(), "[fd00::1]:80".parse().unwrap());
        assert_eq!(uri.to_string(), "http://[fd00::1]:80/api.Greeter/Hello");
    }
}
