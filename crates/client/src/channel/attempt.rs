//! One attempt of a call at one instance.

use std::sync::Arc;

use hyper::body::Incoming;
use netloft_types::Instance;
use tokio::time::{Instant, timeout_at};
use tonic::Status;
use tonic::codegen::http::request::Parts;
use tonic::codegen::http::uri::{Authority, PathAndQuery, Scheme};
use tonic::codegen::http::{HeaderValue, Request, Response, Uri};
use tracing::debug;

use super::Shared;
use super::deadline::Deadline;
use super::judged::{Judged, broken, h2_error, judge};
use super::pool::Place;
use super::request::{Kept, RequestBody};
use crate::Pick;
use crate::metrics::{Attempt, Class};

/// The header that says how many attempts there were before (gRPC proposal A6).
const PREVIOUS_ATTEMPTS: &str = "grpc-previous-rpc-attempts";

/// What all attempts of a call send.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) shared: Arc<Shared>,
    pub(super) parts: Parts,
    pub(super) kept: Kept,
    pub(super) deadline: Option<Deadline>,
}

/// What came of an attempt.
#[derive(Debug)]
pub(super) struct Came {
    pub(super) answer: Result<Judged, Status>,
    /// The instance may have carried it out.
    pub(super) is_begun: bool,
    /// It says something of the request alone, which broke off.
    pub(super) is_ours: bool,
}

/// Why there is no answer.
struct Failure {
    status: Status,
    is_begun: bool,
    blame: Blame,
}

/// Whom it says something of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blame {
    Instance,
    Request,
    Nobody,
}

impl Failure {
    /// Nothing of the call got through.
    fn unsent(status: Status) -> Self {
        Self { status, is_begun: false, blame: Blame::Instance }
    }
}

impl Sending {
    /// Sends the call to an instance, after as many attempts as `previous`.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the attempt is cancelled at the instance; nothing is learned of that.
    pub(super) async fn attempt(&self, pick: Pick, previous: u32) -> Came {
        let (instance, begun) = (Arc::clone(pick.instance()), Instant::now());
        let attempt = Attempt::begin(&self.shared.counters, pick);
        match self.send(&instance, previous).await {
            Ok(answer) => {
                let judged = judge(answer, attempt);
                debug!(instance = %instance.id, previous, code = ?judged.code, took = ?begun.elapsed(), "answered");
                Came { answer: Ok(judged), is_begun: true, is_ours: false }
            }
            Err(Failure { status, is_begun, blame }) => {
                let (code, why) = (status.code(), status.message());
                debug!(instance = %instance.id, previous, ?code, why, is_begun, took = ?begun.elapsed(), "not answered");
                if blame == Blame::Instance {
                    attempt.end(Class::Failed);
                }
                Came { answer: Err(status), is_begun, is_ours: blame == Blame::Request }
            }
        }
    }

    async fn send(&self, instance: &Instance, previous: u32) -> Result<Response<Incoming>, Failure> {
        let pool = &self.shared.pool;
        let unreachable = |error| {
            Failure::unsent(Status::unavailable(format!("cannot connect to {}: {error}", said(instance))))
        };
        let place = pool.place(instance).map_err(unreachable)?;
        let slot = pool.slot(&place);
        // A connection that the instance had closed in good order says nothing of it: it gets another one.
        let mut is_last = false;
        loop {
            let connected = self.in_time(pool.sender(&slot)).await;
            let mut sender = connected.map_err(Failure::unsent)?.map_err(unreachable)?;
            let sent = sender.send.try_send_request(self.request(&place, previous));
            let failed = |status| Failure { status, is_begun: true, blame: Blame::Instance };
            let mut error = match self.in_time(sent).await.map_err(failed)? {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if error.take_message().is_none() {
                return Err(failure(error.error(), instance));
            }
            slot.forget(&sender);
            if std::mem::replace(&mut is_last, true) {
                return Err(unreachable(std::io::Error::other(error.into_error())));
            }
        }
    }

    /// Waits for something until the deadline of the call.
    async fn in_time<T>(&self, what: impl Future<Output = T>) -> Result<T, Status> {
        let Some(Deadline { at, given }) = self.deadline else { return Ok(what.await) };
        let overdue = |_| Status::deadline_exceeded(format!("no answer within {given:?}"));
        timeout_at(at, what).await.map_err(overdue)
    }

    fn request(&self, place: &Place, previous: u32) -> Request<RequestBody> {
        let mut parts = self.parts.clone();
        parts.uri = directed(&parts.uri, place);
        if let Some(deadline) = self.deadline {
            deadline.write(&mut parts.headers);
        }
        if previous > 0 {
            parts.headers.insert(PREVIOUS_ATTEMPTS, HeaderValue::from(previous));
        }
        Request::from_parts(parts, self.kept.body())
    }
}

fn said(instance: &Instance) -> String {
    format!("{} at {}", instance.id, instance.socket_address())
}

/// What it means that a call that was sent has no answer.
fn failure(error: &hyper::Error, instance: &Instance) -> Failure {
    let status = broken(error);
    let status =
        Status::new(status.code(), format!("{} did not answer: {}", said(instance), status.message()));
    let Some(h2) = h2_error(error) else { return Failure { status, is_begun: true, blame: Blame::Instance } };
    // The streams above the last one that a server names when it goes away were not looked at (RFC 9113, section 6.8), and
    // those that it refuses neither (section 8.7).
    let is_going = h2.is_go_away() && h2.is_remote();
    let is_refused = h2.is_reset() && h2.is_remote() && h2.reason() == Some(h2::Reason::REFUSED_STREAM);
    let blame = match h2 {
        // A reset of ours is that of a request that broke off.
        h2 if h2.is_reset() && !h2.is_remote() => Blame::Request,
        _ if is_going => Blame::Nobody,
        _ => Blame::Instance,
    };
    Failure { status, is_begun: !is_going && !is_refused, blame }
}

/// The path of a call at a place.
fn directed(uri: &Uri, place: &Place) -> Uri {
    let authority = match &place.name {
        Some(rustls::pki_types::ServerName::DnsName(name)) => {
            format!("{}:{}", name.as_ref(), place.address.port())
        }
        _ => place.address.to_string(),
    };
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(if place.name.is_some() { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Authority::try_from(authority).ok();
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_goes_to_the_address_of_its_instance_or_to_its_name() {
        let address = "[fd00::1]:80".parse().unwrap();
        let at =
            |name| directed(&"/api.Greeter/Hello".parse().unwrap(), &Place { address, name }).to_string();
        assert_eq!(at(None), "http://[fd00::1]:80/api.Greeter/Hello");
        assert_eq!(at(Some("a.example".try_into().unwrap())), "https://a.example:80/api.Greeter/Hello");
        assert_eq!(at(Some(address.ip().into())), "https://[fd00::1]:80/api.Greeter/Hello");
    }
}
