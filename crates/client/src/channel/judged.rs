//! An answer that tells how its call went.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep_until};
use tonic::codegen::http::{HeaderMap, Response, StatusCode};
use tonic::codegen::{Body as HttpBody, Bytes};
use tonic::{Code, Status};

use super::deadline::Deadline;
use crate::metrics::{Attempt, Calling, Class};
use crate::orca;

/// The body of an answer through a [`BalancedChannel`](crate::BalancedChannel). When its end says how the call went, the
/// balancer is told; dropped before that, it was given up. It ends with `DEADLINE_EXCEEDED` when the caller's timeout is over.
#[derive(Debug)]
pub struct JudgedBody {
    body: Incoming,
    /// These two until the call is judged.
    attempt: Option<Attempt>,
    calling: Option<Calling>,
    overdue: Option<Pin<Box<Sleep>>>,
}

/// An answer that has begun.
#[derive(Debug)]
pub(super) struct Judged {
    answer: Response<JudgedBody>,
    /// Its code, if it is over already: it has no message ("Trailers-Only" in gRPC over HTTP/2).
    pub(super) code: Option<Code>,
}

/// Takes note that an answer has begun, and judges it if it has already ended.
pub(super) fn judge(answer: Response<Incoming>, mut attempt: Attempt) -> Judged {
    if let Some(pick) = attempt.pick() {
        pick.answered();
        orca::observe(pick, answer.headers());
    }
    let (parts, body) = answer.into_parts();
    let mut body = JudgedBody { body, attempt: Some(attempt), calling: None, overdue: None };
    let code = if parts.status.is_success() { code(&parts.headers) } else { Some(code_of(parts.status)) };
    if !parts.status.is_success() {
        // Not gRPC: a proxy that cannot reach it, or something else altogether.
        body.end(Class::Failed);
    } else if let Some(code) = code {
        body.end(class(code));
    }
    Judged { answer: Response::from_parts(parts, body), code }
}

impl Judged {
    pub(super) fn headers(&self) -> &HeaderMap {
        self.answer.headers()
    }

    /// Hands the answer to the caller, whose call ends with it.
    pub(super) fn hand_over(self, calling: Calling, deadline: Option<Deadline>) -> Response<JudgedBody> {
        let mut answer = self.answer;
        if let Some(code) = self.code {
            calling.end(class(code));
        } else {
            let body = answer.body_mut();
            body.calling = Some(calling);
            body.overdue = deadline.map(|deadline| Box::pin(sleep_until(deadline.at)));
        }
        answer
    }
}

/// The status that headers or trailers say, if they do.
fn code(headers: &HeaderMap) -> Option<Code> {
    Some(Code::from_bytes(headers.get("grpc-status")?.as_bytes()))
}

/// The code of an answer that is not gRPC (doc/http-grpc-status-mapping.md of gRPC).
fn code_of(status: StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// What a code says of the instance.
pub(super) fn class(code: Code) -> Class {
    match code {
        Code::Ok => Class::Succeeded,
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Class::Failed,
        _ => Class::Refused,
    }
}

impl JudgedBody {
    fn end(&mut self, class: Class) {
        if let Some(attempt) = self.attempt.take() {
            attempt.end(class);
        }
        if let Some(calling) = self.calling.take() {
            calling.end(class);
        }
        self.overdue = None;
    }

    /// Whether the caller's timeout is over before the end is there.
    fn is_overdue(&mut self, cx: &mut Context<'_>) -> bool {
        self.overdue.as_mut().is_some_and(|overdue| overdue.as_mut().poll(cx).is_ready())
    }
}

impl HttpBody for JudgedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_pending() && self.is_overdue(cx) {
            self.end(Class::Failed);
            let status = Status::deadline_exceeded("the answer did not end in time");
            return Poll::Ready(Some(Err(status)));
        }
        let frame = ready!(polled);
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    if let Some(pick) = self.attempt.as_mut().and_then(Attempt::pick) {
                        orca::observe(pick, trailers);
                    }
                    if let Some(code) = code(trailers) {
                        self.end(class(code));
                    }
                }
            }
            // Broken, or over without a status.
            Some(Err(_)) | None => self.end(Class::Failed),
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|error| broken(&error))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What a stream or a connection that broke means in gRPC ("Errors" in gRPC over HTTP/2): a reset says it, and anything else
/// is UNAVAILABLE.
pub(super) fn broken(error: &hyper::Error) -> Status {
    let reset = h2_error(error).filter(|error| error.is_reset()).and_then(h2::Error::reason);
    let Some(reason) = reset else {
        return Status::unavailable(format!("the connection broke: {}", root_cause(error)));
    };
    let code = match reason {
        h2::Reason::REFUSED_STREAM => Code::Unavailable,
        h2::Reason::CANCEL => Code::Cancelled,
        h2::Reason::ENHANCE_YOUR_CALM => Code::ResourceExhausted,
        h2::Reason::INADEQUATE_SECURITY => Code::PermissionDenied,
        _ => Code::Internal,
    };
    Status::new(code, format!("the stream was reset: {reason}"))
}

pub(super) fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

fn root_cause(error: &dyn std::error::Error) -> &dyn std::error::Error {
    error.source().map_or(error, root_cause)
}
