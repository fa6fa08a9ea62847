//! An answer of HTTP that tells how its call went.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Frame, SizeHint};
use netloft_balance::Outcome;

use crate::metrics::{Attempt, Calling, Class};

/// The body of an answer through a [`BalanceService`](crate::BalanceService). Its end tells the balancer how the call went;
/// dropped before that, the call was given up.
#[derive(Debug)]
pub struct BalanceBody<B> {
    body: Pin<Box<B>>,
    /// Until its end.
    call: Option<(Attempt, Calling)>,
}

impl<B: Body> BalanceBody<B> {
    /// An answer has begun, and its head says this of the instance.
    pub(super) fn new(body: B, mut attempt: Attempt, calling: Calling, outcome: Outcome) -> Self {
        if let Some(pick) = attempt.pick() {
            pick.answered();
        }
        let mut body = Self { body: Box::pin(body), call: Some((attempt, calling)) };
        if outcome == Outcome::Failure {
            body.end(Class::Failed);
        } else if body.body.is_end_stream() {
            body.end(Class::Succeeded);
        }
        body
    }
}

impl<B> BalanceBody<B> {
    fn end(&mut self, class: Class) {
        if let Some((attempt, calling)) = self.call.take() {
            attempt.end(class);
            calling.end(class);
        }
    }
}

impl<B: Body> Body for BalanceBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = ready!(self.body.as_mut().poll_frame(cx));
        match &frame {
            Some(Err(_)) => self.end(Class::Failed),
            // Whoever knows the length does not ask for what follows the last frame.
            Some(Ok(_)) if self.body.is_end_stream() => self.end(Class::Succeeded),
            Some(Ok(_)) => {}
            None => self.end(Class::Succeeded),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
