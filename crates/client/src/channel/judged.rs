//! An answer that tells how its call went.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::Incoming;
use netloft_balance::Outcome;
use tonic::Code;
use tonic::codegen::http::{HeaderMap, Response};
use tonic::codegen::{Body as HttpBody, Bytes};

use crate::{Pick, orca};

/// The body of an answer through a [`BalancedChannel`](crate::BalancedChannel). When its end says how the call went, the
/// balancer is told; dropped before that, it was given up.
#[derive(Debug)]
pub struct JudgedBody {
    body: Incoming,
    /// Until its call is judged.
    pick: Option<Pick>,
}

/// Takes note that an answer has begun, and judges it if it has already ended.
pub(super) fn judge(answer: Response<Incoming>, mut pick: Pick) -> Response<JudgedBody> {
    pick.answered();
    orca::observe(Some(&pick), answer.headers());
    let (parts, body) = answer.into_parts();
    let mut body = JudgedBody { body, pick: Some(pick) };
    if !parts.status.is_success() {
        // Not gRPC: a proxy that cannot reach it, or something else altogether.
        body.end(Outcome::Failure);
    } else if let Some(outcome) = outcome(&parts.headers) {
        body.end(outcome);
    }
    Response::from_parts(parts, body)
}

/// What a status says of the instance, if there is one.
fn outcome(headers: &HeaderMap) -> Option<Outcome> {
    let code = Code::from_bytes(headers.get("grpc-status")?.as_bytes());
    Some(match code {
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Outcome::Failure,
        _ => Outcome::Success,
    })
}

impl JudgedBody {
    fn end(&mut self, outcome: Outcome) {
        if let Some(pick) = self.pick.take() {
            pick.end(outcome);
        }
    }
}

impl HttpBody for JudgedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    orca::observe(self.pick.as_ref(), trailers);
                    if let Some(outcome) = outcome(trailers) {
                        self.end(outcome);
                    }
                }
            }
            // Broken, or over without a status.
            Some(Err(_)) | None => self.end(Outcome::Failure),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}
