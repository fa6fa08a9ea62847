//! Bytes that are written to a socket together.
//!
//! HTTP/2 has an answer end with trailers. h2 copies small frames together, but a frame of data of more than 256 bytes it
//! hands over as it is, and asks for a flush before it goes on: the ten bytes of the trailers would cost another system
//! call, another packet and another wake-up of the client, which is a quarter of the processor time of a lookup.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

/// Bytes above which no more are taken before some are sent.
const LEN_MAX: usize = 64 * 1_024;
/// Bytes of memory that a connection at rest keeps.
const KEPT_MAX: usize = 1_024;

/// Where a frame says its type (RFC 9113, section 4.1). What is written to an empty buffer begins with a frame.
const FRAME_TYPE: usize = 3;
/// The type of headers, with which an answer begins. A watch that is told something more has none.
const HEADERS: u8 = 1;

/// What was written and is not sent yet.
#[derive(Debug, Default)]
pub(crate) struct Unsent {
    bytes: Vec<u8>,
    /// How many of them are sent.
    sent: usize,
    /// More is to be expected at once.
    waits: bool,
}

impl Unsent {
    /// Takes in what is written, as far as there is room for it.
    pub(crate) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.bytes.len() >= LEN_MAX {
            ready!(self.poll_send(socket, cx))?;
        }
        let before = self.bytes.len();
        for slice in slices {
            self.bytes.extend_from_slice(slice);
        }
        // Only what was not copied together comes in several slices.
        self.waits = slices.len() > 1 && self.bytes.get(FRAME_TYPE) == Some(&HEADERS);
        Poll::Ready(Ok(self.bytes.len() - before))
    }

    /// Sends everything; but when more is to be expected, its writer has a turn first.
    pub(crate) fn poll_flush<S: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.waits) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(self.poll_send(socket, cx))?;
        Pin::new(socket).poll_flush(cx)
    }

    fn poll_send<S: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while let Some(rest) = self.bytes.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let len = ready!(Pin::new(&mut *socket).poll_write(cx, rest))?;
            if len == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += len;
        }
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_MAX);
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncReadExt as _, duplex};

    use super::*;

    fn written(
        unsent: &mut Unsent,
        socket: &mut (impl AsyncWrite + Unpin),
        slices: &[&[u8]],
    ) -> Option<usize> {
        let slices: Vec<_> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
        match unsent.poll_write(socket, &mut Context::from_waker(Waker::noop()), &slices) {
            Poll::Ready(len) => Some(len.unwrap()),
            Poll::Pending => None,
        }
    }

    fn is_flushed(unsent: &mut Unsent, socket: &mut (impl AsyncWrite + Unpin)) -> bool {
        unsent.poll_flush(socket, &mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[tokio::test]
    async fn an_answer_in_pieces_is_sent_with_its_end() {
        let (mut ours, mut theirs) = duplex(1_024);
        let mut unsent = Unsent::default();
        assert_eq!(written(&mut unsent, &mut ours, &[b"\0\0\x03\x01headers", b"data"]), Some(15));
        assert!(!is_flushed(&mut unsent, &mut ours), "it is to be asked again");
        assert_eq!(written(&mut unsent, &mut ours, &[b"trailers"]), Some(8));
        assert!(is_flushed(&mut unsent, &mut ours));
        let mut all = [0; 64];
        let len = theirs.read(&mut all).await.unwrap();
        assert_eq!(&all[..len], b"\0\0\x03\x01headersdatatrailers");
    }

    #[tokio::test]
    async fn what_nothing_follows_is_sent_when_asked_again() {
        let (mut ours, mut theirs) = duplex(1_024);
        let mut unsent = Unsent::default();
        written(&mut unsent, &mut ours, &[b"\0\0\x03\x01", b"data"]);
        assert!(!is_flushed(&mut unsent, &mut ours) && is_flushed(&mut unsent, &mut ours));
        theirs.read_exact(&mut [0; 8]).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_no_beginning_of_an_answer_is_sent_at_once() {
        let (mut ours, _theirs) = duplex(1_024);
        let mut unsent = Unsent::default();
        written(&mut unsent, &mut ours, &[b"\0\0\x03\x00", b"data"]);
        assert!(is_flushed(&mut unsent, &mut ours));
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_holds_the_writer_up() {
        let (mut ours, mut theirs) = duplex(16);
        let mut unsent = Unsent::default();
        let piece = [7; 1_000];
        let mut taken = 0;
        while let Some(len) = written(&mut unsent, &mut ours, &[&piece]) {
            taken += len;
            assert!(taken < 2 * LEN_MAX, "there is no bound");
        }
        assert!(!is_flushed(&mut unsent, &mut ours));
        let mut all = vec![0; taken];
        let flush = std::future::poll_fn(|cx| unsent.poll_flush(&mut ours, cx));
        let (flushed, read) = tokio::join!(flush, theirs.read_exact(&mut all));
        flushed.unwrap();
        assert_eq!(read.unwrap(), taken);
        assert!(unsent.bytes.capacity() <= KEPT_MAX);
    }
}
