//! A stream that is pulled: nothing is made before it is asked for, so nothing is queued.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio_stream::Stream;

/// Makes a stream of an asynchronous step from one state to the next item and state. It ends with `None`.
pub(crate) fn unfold<S, F, Fut, T>(state: S, step: F) -> impl Stream<Item = T> + Send
where
    S: Send + Unpin,
    F: FnMut(S) -> Fut + Send + Unpin,
    Fut: Future<Output = Option<(T, S)>> + Send,
{
    Unfold { state: Some(state), step, pending: None }
}

struct Unfold<S, F, Fut> {
    state: Option<S>,
    step: F,
    pending: Option<Pin<Box<Fut>>>,
}

impl<S, F, Fut, T> Stream for Unfold<S, F, Fut>
where
    S: Unpin,
    F: FnMut(S) -> Fut + Unpin,
    Fut: Future<Output = Option<(T, S)>>,
{
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let this = self.get_mut();
        if let Some(state) = this.state.take() {
            this.pending = Some(Box::pin((this.step)(state)));
        }
        let Some(pending) = &mut this.pending else {
            return Poll::Ready(None);
        };
        let made = ready!(pending.as_mut().poll(cx));
        this.pending = None;
        Poll::Ready(made.map(|(item, state)| {
            this.state = Some(state);
            item
        }))
    }
}
