//! A layer of tower that balances: for clients of HTTP.

mod body;

use std::error::Error as StdError;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::Body;
use netloft_balance::{Key, Outcome};
use netloft_types::InstanceId;
use tonic::codegen::http::header::HOST;
use tonic::codegen::http::response::Parts;
use tonic::codegen::http::uri::{Authority, PathAndQuery, Scheme};
use tonic::codegen::http::{HeaderValue, Request, Response, Uri, Version};
use tower::{Layer, Service};
use tracing::debug;

pub use self::body::BalanceBody;
use crate::Balanced;
use crate::metrics::{Attempt, CallStats, Calling, Class, Counters, count};

/// How long a service is not ready while the registry has not answered yet.
const FIRST_ANSWER: Duration = Duration::from_secs(5);

/// Sends each request to an instance that a [`Balanced`] picks, over any client of HTTP that is a [`Service`], such as the legacy
/// client of hyper-util. Cheap to clone.
///
/// The scheme of a request stays, http if there is none. Its authority becomes that of the instance. What the authority was
/// before, as in `http://api/users`, goes into the header Host of an HTTP/1 request, unless the caller has set that header.
///
/// An answer with a status of 5xx is a failure of the instance, and so is one that breaks off, or an error of the client
/// beneath; [`judging_by`](Self::judging_by) changes what a status says. The latency is that until the answer begins; the call is
/// in flight until its body ends. A body that is dropped before its end was given up, and says nothing.
///
/// A [`Key`] among the extensions of a request is that of its call, for the strategies that hash.
///
/// Nothing is repeated: a retry layer above this one gets another pick each time. A timeout layer belongs beneath this one,
/// where its errors count against the instance; above, they are calls that were given up.
#[derive(Clone)]
pub struct BalanceLayer {
    balanced: Arc<Balanced>,
    judge: Judge,
    counters: Arc<Counters>,
}

/// What an answer that begins says of the instance.
type Judge = Arc<dyn Fn(&Parts) -> Outcome + Send + Sync>;

impl fmt::Debug for BalanceLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalanceLayer").field("balanced", &self.balanced).finish_non_exhaustive()
    }
}

impl BalanceLayer {
    /// Makes a layer. Services of its clones share what is counted.
    pub fn new(balanced: Arc<Balanced>) -> Self {
        let by_status = |answer: &Parts| {
            if answer.status.is_server_error() { Outcome::Failure } else { Outcome::Success }
        };
        Self { balanced, judge: Arc::new(by_status), counters: Arc::default() }
    }

    /// Judges answers by another rule. It is given the head of each, with the types of the crate http, which every client of
    /// HTTP has.
    #[must_use]
    pub fn judging_by(self, judge: impl Fn(&Parts) -> Outcome + Send + Sync + 'static) -> Self {
        Self { judge: Arc::new(judge), ..self }
    }

    /// What was counted since the layer was made. An attempt is a call here, and there are no connections.
    pub fn stats(&self) -> CallStats {
        self.counters.read()
    }
}

impl<S> Layer<S> for BalanceLayer {
    type Service = BalanceService<S>;

    fn layer(&self, inner: S) -> BalanceService<S> {
        BalanceService { inner, layer: self.clone(), first: None }
    }
}

/// A service whose requests are balanced; see [`BalanceLayer`].
///
/// # Cancel safety
///
/// If the future of a call is dropped, that of the service beneath is, and nothing is learned of the instance.
pub struct BalanceService<S> {
    inner: S,
    layer: BalanceLayer,
    /// Waits for the registry's first answer, while somebody does.
    first: Option<First>,
}

type First = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<S: Clone> Clone for BalanceService<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone(), first: None }
    }
}

impl<S: fmt::Debug> fmt::Debug for BalanceService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalanceService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BalanceError {
    /// There is no instance, or the registry has not answered yet.
    #[error("there is no instance for {uri}")]
    NoInstance {
        /// What was asked for.
        uri: Uri,
    },
    /// The client beneath takes no requests any more.
    #[error("the client beneath is not ready")]
    NotReady(#[source] BoxError),
    /// The client beneath has no answer.
    #[error("{instance} did not answer")]
    Call {
        /// The instance that was picked.
        instance: InstanceId,
        /// What the client says.
        #[source]
        source: BoxError,
    },
}

/// An error of whatever client there is beneath.
type BoxError = Box<dyn StdError + Send + Sync>;

impl<S, B, R> Service<Request<B>> for BalanceService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    R: Body,
{
    type Response = Response<BalanceBody<R>>;
    type Error = BalanceError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BalanceError>> + Send>>;

    /// Ready as the service beneath is, once the registry has answered; it waits 5 s for that at most.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BalanceError>> {
        ready!(self.poll_known(cx));
        self.inner.poll_ready(cx).map_err(|error| BalanceError::NotReady(error.into()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let BalanceLayer { balanced, judge, counters } = &self.layer;
        let calling = Calling::begin(counters);
        let key: Option<Key> = request.extensions().get().copied();
        let Some(pick) = key.map_or_else(|| balanced.pick(), |key| balanced.pick_for(key)) else {
            count(&counters.without_instance);
            calling.end(Class::Failed);
            let error = BalanceError::NoInstance { uri: request.uri().clone() };
            return Box::pin(async move { Err(error) });
        };
        direct(&mut request, pick.socket_address());
        let (instance, judge) = (pick.id.clone(), Arc::clone(judge));
        let attempt = Attempt::begin(counters, pick);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            calling.answered();
            let took = calling.elapsed();
            match answer {
                Ok(answer) => {
                    debug!(%instance, status = answer.status().as_u16(), ?took, "answered");
                    let (parts, body) = answer.into_parts();
                    let outcome = judge(&parts);
                    Ok(Response::from_parts(parts, BalanceBody::new(body, attempt, calling, outcome)))
                }
                Err(error) => {
                    debug!(%instance, ?took, "not answered");
                    attempt.end(Class::Failed);
                    calling.end(Class::Failed);
                    Err(BalanceError::Call { instance, source: error.into() })
                }
            }
        })
    }
}

impl<S> BalanceService<S> {
    /// Waits for the registry's first answer, but not for ever: then calls say that there is no instance.
    fn poll_known(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.layer.balanced.discovery().age().is_some() {
            self.first = None;
            return Poll::Ready(());
        }
        let balanced = Arc::clone(&self.layer.balanced);
        let waiting = || Box::pin(async move { drop(balanced.ready(FIRST_ANSWER).await) }) as First;
        let first = self.first.get_or_insert_with(waiting);
        ready!(first.as_mut().poll(cx));
        self.first = None;
        Poll::Ready(())
    }
}

/// Sends a request to an address.
fn direct<B>(request: &mut Request<B>, address: SocketAddr) {
    let mut parts = request.uri().clone().into_parts();
    let to = Authority::try_from(address.to_string()).expect("an address is an authority");
    let asked = parts.authority.replace(to);
    parts.scheme.get_or_insert(Scheme::HTTP);
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from_parts(parts).expect("it has all its parts");
    // In HTTP/2 the authority is a part of the request, with which Host has to agree (RFC 9113, section 8.3.1).
    let asked =
        asked.filter(|_| request.version() < Version::HTTP_2 && !request.headers().contains_key(HOST));
    let host = asked.and_then(|asked| HeaderValue::try_from(without_user(asked.as_str())).ok());
    if let Some(host) = host {
        request.headers_mut().insert(HOST, host);
    }
}

/// Host has no room for who asks (RFC 9110, section 7.2).
fn without_user(authority: &str) -> &str {
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_goes_to_the_address_and_says_who_was_asked_for() {
        let directed = |uri: &str, version, host: Option<&str>| {
            let builder = Request::builder().uri(uri).version(version);
            let builder = host.into_iter().fold(builder, |builder, host| builder.header(HOST, host));
            let mut request = builder.body(()).unwrap();
            direct(&mut request, "[fd00::1]:80".parse().unwrap());
            let host = request.headers().get(HOST).map(|host| host.to_str().unwrap().to_owned());
            (request.uri().to_string(), host)
        };
        let at = |rest: &str| format!("http://[fd00::1]:80{rest}");
        let api = || Some("api".to_owned());
        assert_eq!(directed("http://api/users?id=1", Version::HTTP_11, None), (at("/users?id=1"), api()));
        assert_eq!(directed("http://me@api", Version::HTTP_11, None), (at("/"), api()));
        assert_eq!(
            directed("http://api/", Version::HTTP_11, Some("mine")),
            (at("/"), Some("mine".to_owned()))
        );
        assert_eq!(directed("http://api/", Version::HTTP_2, None), (at("/"), None));
        assert_eq!(directed("/users", Version::HTTP_11, None), (at("/users"), None));
        assert_eq!(directed("https://api/", Version::HTTP_11, None).0, "https://[fd00::1]:80/");
    }
}
