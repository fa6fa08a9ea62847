//! Streams, which outlive the decision that let them be opened: each has a pass, and ends when the pass does.

use std::pin::Pin;
use std::sync::Arc;

use tokio_stream::{Stream, StreamExt as _};
use tonic::codegen::BoxStream;
use tonic::{Response, Status};

use super::Requester;
use crate::stream::unfold;

/// The right to one more stream, given back when it is dropped.
pub(super) struct Pass(Arc<Requester>);

impl Pass {
    pub(super) fn take(requester: &Arc<Requester>) -> Result<Self, Status> {
        requester.count(|account, quota, _| account.open_stream(quota))?;
        Ok(Self(Arc::clone(requester)))
    }

    /// Ends a stream when the requester is no longer who they were.
    pub(super) fn guard<T: Send + 'static>(self, answers: Response<BoxStream<T>>) -> Response<BoxStream<T>> {
        answers.map(|stream| {
            let requester = Arc::clone(&self.0);
            let ended: Pin<Box<dyn Future<Output = Status> + Send>> =
                Box::pin(async move { requester.ended().await });
            Box::pin(until(stream, ended, self)) as BoxStream<T>
        })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.account(|account, _, _| account.close_stream());
    }
}

/// Passes a stream on until `ended`, which then is its last item.
fn until<T: Send + 'static>(
    stream: BoxStream<T>,
    ended: Pin<Box<dyn Future<Output = Status> + Send>>,
    pass: Pass,
) -> impl Stream<Item = Result<T, Status>> + Send {
    unfold(Some((stream, ended, pass)), |state| async move {
        let (mut stream, mut ended, pass) = state?;
        let item = tokio::select! {
            // First: nothing more is told once they are not who they were.
            biased;
            status = &mut ended => return Some((Err(status), None)),
            item = stream.next() => item?,
        };
        Some((item, Some((stream, ended, pass))))
    })
}
