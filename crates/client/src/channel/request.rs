//! The body of a request, kept while its call may have to be repeated.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use hyper::body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, Bytes};

/// What the caller sends, read once and kept up to a limit. Each attempt sends a [`RequestBody`] of it.
#[derive(Debug, Clone)]
pub(super) struct Kept(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    readers: Arc<Readers>,
}

#[derive(Debug)]
struct State {
    /// What was not read yet; `None` after its end.
    rest: Option<Body>,
    /// Frames that were read.
    read: usize,
    /// All of them, unless it is cut.
    frames: Vec<Bytes>,
    room: usize,
    /// More was read than is kept, or the caller's body failed.
    is_cut: bool,
    /// Nothing more has to be kept: the call was answered.
    is_settled: bool,
    hint: SizeHint,
}

impl Kept {
    pub(super) fn new(body: Body, room: usize) -> Self {
        let hint = body.size_hint();
        let rest = (!body.is_end_stream()).then_some(body);
        let (frames, is_cut, is_settled) = (Vec::new(), false, false);
        let state = Mutex::new(State { rest, read: 0, frames, room, is_cut, is_settled, hint });
        Self(Arc::new(Shared { state, readers: Arc::default() }))
    }

    /// The body for another attempt.
    pub(super) fn body(&self) -> RequestBody {
        RequestBody { kept: self.clone(), sent: 0 }
    }

    /// Whether another attempt can send the same.
    pub(super) fn is_repeatable(&self) -> bool {
        !self.lock().is_cut
    }

    /// There will be no further attempt.
    pub(super) fn settle(&self) {
        self.lock().is_settled = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Only a panic of the caller's own body gets here, and then the body is polled no more.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Reads on; whoever waits for that is told.
    fn read_on(&mut self, readers: &Arc<Readers>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        let waker = Waker::from(Arc::clone(readers));
        let polled = ready!(Pin::new(&mut *rest).poll_frame(&mut Context::from_waker(&waker)));
        let is_over = rest.is_end_stream() || !matches!(polled, Some(Ok(_)));
        match &polled {
            Some(Ok(frame)) => self.keep(frame),
            // The others are behind for good.
            Some(Err(_)) => (self.is_cut, self.read, self.frames) = (true, self.read + 1, Vec::new()),
            None => {}
        }
        if is_over {
            self.rest = None;
        }
        readers.tell();
        Poll::Ready(polled)
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        self.read += 1;
        match frame.data_ref() {
            Some(data) if !self.is_cut && !self.is_settled && data.len() <= self.room => {
                self.room -= data.len();
                self.frames.push(data.clone());
            }
            // Too long, or trailers, which requests of gRPC do not have.
            _ => {
                self.is_cut = true;
                self.frames = Vec::new();
            }
        }
    }
}

/// The attempts that wait for the caller to send more. It wakes them all: any of them may be held up by its instance.
#[derive(Debug, Default)]
struct Readers(Mutex<Vec<Waker>>);

impl Readers {
    fn wait(&self, waker: &Waker) {
        let mut waiting = self.lock();
        if !waiting.iter().any(|one| one.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }

    fn tell(&self) {
        let waiting = std::mem::take(&mut *self.lock());
        waiting.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Waker>> {
        // A list of wakers has no state that a panic could leave half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Readers {
    fn wake(self: Arc<Self>) {
        self.tell();
    }
}

/// The body of one attempt. Attempts beside each other send the same, each at its own pace; one that is behind when no more is
/// kept ends with an error.
#[derive(Debug)]
pub(super) struct RequestBody {
    kept: Kept,
    /// Frames that were sent.
    sent: usize,
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let kept = self.kept.clone();
        let mut state = kept.lock();
        if let Some(data) = state.frames.get(self.sent) {
            self.sent += 1;
            return Poll::Ready(Some(Ok(Frame::data(data.clone()))));
        }
        if self.sent < state.read {
            return Poll::Ready(Some(Err(Status::cancelled("the request is too long to be sent twice"))));
        }
        kept.0.readers.wait(cx.waker());
        let polled = ready!(state.read_on(&kept.0.readers));
        self.sent = state.read;
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        let state = self.kept.lock();
        state.rest.is_none() && self.sent >= state.read
    }

    fn size_hint(&self) -> SizeHint {
        if self.sent == 0 { self.kept.lock().hint } else { SizeHint::default() }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, StreamBody};
    use tokio_stream::StreamExt as _;

    use super::*;

    fn streamed(parts: &'static [&'static str]) -> Body {
        let frames = tokio_stream::iter(parts).map(|part| Ok::<_, Status>(Frame::data(Bytes::from(*part))));
        Body::new(StreamBody::new(frames))
    }

    async fn next(body: &mut RequestBody) -> Option<Result<String, Status>> {
        let frame = body.frame().await?;
        Some(frame.map(|frame| String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()))
    }

    async fn all(mut body: RequestBody) -> String {
        let mut text = String::new();
        while let Some(part) = next(&mut body).await {
            text += &part.unwrap();
        }
        text
    }

    #[tokio::test]
    async fn attempts_send_the_same_each_at_its_own_pace() {
        let kept = Kept::new(streamed(&["a", "b", "c"]), 64);
        let mut first = kept.body();
        assert_eq!(next(&mut first).await.unwrap().unwrap(), "a");
        let mut second = kept.body();
        assert_eq!(next(&mut second).await.unwrap().unwrap(), "a");
        assert_eq!(next(&mut second).await.unwrap().unwrap(), "b");
        assert_eq!(all(first).await, "bc");
        assert_eq!(all(second).await, "c");
        assert!(kept.is_repeatable());
        assert_eq!(all(kept.body()).await, "abc");
    }

    #[tokio::test]
    async fn what_comes_is_told_to_all_who_wait_also_when_one_of_them_is_gone() {
        let (send, frames) = tokio::sync::mpsc::channel::<Result<_, Status>>(1);
        let frames = tokio_stream::wrappers::ReceiverStream::new(frames);
        let kept = Kept::new(Body::new(StreamBody::new(frames)), 64);
        let waiting: Vec<_> = (0..3).map(|_| tokio::spawn(all(kept.body()))).collect();
        tokio::task::yield_now().await;
        // The last one that polled is not there any more.
        waiting[2].abort();
        send.send(Ok(Frame::data(Bytes::from("a")))).await.unwrap();
        drop(send);
        for (number, one) in waiting.into_iter().enumerate() {
            assert_eq!(one.await.ok(), (number < 2).then(|| "a".to_owned()));
        }
    }

    #[tokio::test]
    async fn who_is_behind_when_no_more_is_kept_ends_with_an_error() {
        let kept = Kept::new(streamed(&["ab", "cd", "ef"]), 3);
        let (mut first, mut second) = (kept.body(), kept.body());
        for part in ["ab", "cd"] {
            assert_eq!(next(&mut first).await.unwrap().unwrap(), part);
        }
        assert!(next(&mut second).await.unwrap().is_err());
        assert_eq!(all(first).await, "ef");
    }

    #[tokio::test]
    async fn what_is_longer_than_the_room_is_sent_once() {
        let kept = Kept::new(streamed(&["ab", "cd"]), 3);
        let mut body = kept.body();
        assert_eq!(next(&mut body).await.unwrap().unwrap(), "ab");
        assert!(kept.is_repeatable());
        assert_eq!(next(&mut body).await.unwrap().unwrap(), "cd");
        assert!(!kept.is_repeatable());
        assert!(next(&mut body).await.is_none());
    }

    #[tokio::test]
    async fn nothing_is_kept_of_what_follows_the_answer() {
        let kept = Kept::new(streamed(&["a", "b"]), 64);
        let mut body = kept.body();
        assert_eq!(next(&mut body).await.unwrap().unwrap(), "a");
        kept.settle();
        assert_eq!(all(body).await, "b");
        assert!(kept.lock().frames.is_empty());
    }

    #[test]
    fn an_empty_request_is_over_at_once() {
        let kept = Kept::new(Body::empty(), 0);
        assert!(kept.body().is_end_stream());
    }
}
