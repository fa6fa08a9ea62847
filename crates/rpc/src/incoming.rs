//! Accepted connections: counted, given a time to begin, and cut when the server has stopped.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tokio_stream::Stream;
use tonic::transport::server::Connected;
use tracing::warn;

use crate::Listener;
use crate::limits::PREFACE_TIMEOUT;
use crate::phase::Phases;
use crate::stream::unfold;
use crate::unsent::Unsent;

/// Pause after the kernel refused to accept, most often for want of file descriptors: it would refuse at once
/// again, and trying without a pause would burn a processor on it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes with which an HTTP/2 client begins (RFC 9113, section 3.4).
const PREFACE_LEN: usize = 24;

pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub(crate) type Socket = Box<dyn Io>;

/// Who is at the other end of a connection; in the extensions of every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// A TCP client.
    Tcp(SocketAddr),
    /// A process of this host, as it was when it connected.
    Unix {
        /// Its process id in our process-id namespace, if it has one there.
        pid: Option<u32>,
        /// Its user id.
        uid: u32,
        /// Its group id.
        gid: u32,
    },
}

/// Accepts from all listeners, as long as there are fewer connections than `slots`.
///
/// It never yields an error: one that concerns a single connection is skipped, any other waited out.
pub(crate) fn incoming(
    listeners: Vec<Listener>,
    slots: Arc<Semaphore>,
    phases: Phases,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    unfold(listeners, move |listeners| {
        let (slots, phases) = (Arc::clone(&slots), phases.clone());
        async move {
            let slot = slots.acquire_owned().await.ok()?;
            let (socket, peer) = accept(&listeners).await;
            let connection = Connection {
                socket,
                unsent: Unsent::default(),
                peer,
                cut: Some(Box::pin(async move { phases.stopped().await })),
                preface: Some(Preface::expected()),
                _slot: slot,
            };
            Some((Ok(connection), listeners))
        }
    })
}

async fn accept(listeners: &[Listener]) -> (Socket, Peer) {
    loop {
        let accepted = std::future::poll_fn(|cx| {
            let mut polls = listeners.iter().map(|listener| listener.poll_accept(cx));
            polls.find(Poll::is_ready).unwrap_or(Poll::Pending)
        });
        match accepted.await {
            Ok(accepted) => return accepted,
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                warn!(%error, "cannot accept connections; trying again");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::NotConnected
            | io::ErrorKind::Interrupted
    )
}

/// A connection that gives its slot back when it is dropped.
pub(crate) struct Connection {
    socket: Socket,
    unsent: Unsent,
    peer: Peer,
    /// Resolves when the server has stopped waiting; `None` once it has. The task that drives the connection
    /// belongs to tonic, which would let it run for as long as the peer likes.
    cut: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    preface: Option<Preface>,
    _slot: OwnedSemaphorePermit,
}

/// What is missing of the preface, and until when it may come.
struct Preface {
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

impl Preface {
    fn expected() -> Self {
        Self { missing: PREFACE_LEN, deadline: Box::pin(sleep(PREFACE_TIMEOUT)) }
    }
}

impl Connection {
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.cut.as_mut().is_some_and(|cut| cut.as_mut().poll(cx).is_ready()) {
            self.cut = None;
        }
        match self.cut {
            Some(_) => Ok(()),
            None => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    fn poll_preface(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let overdue = |preface: &mut Preface| preface.deadline.as_mut().poll(cx).is_ready();
        if self.preface.as_mut().is_some_and(overdue) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    fn count_preface(&mut self, len: usize) {
        if let Some(preface) = &mut self.preface {
            preface.missing = preface.missing.saturating_sub(len);
            if preface.missing == 0 {
                self.preface = None;
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // The one place that is always being polled while a connection lives, so its wakers suffice.
        self.poll_cut(cx)?;
        let before = buf.filled().len();
        match Pin::new(&mut self.socket).poll_read(cx, buf)? {
            Poll::Ready(()) => {
                self.count_preface(buf.filled().len() - before);
                Poll::Ready(Ok(()))
            }
            Poll::Pending => {
                self.poll_preface(cx)?;
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_cut(cx)?;
        let Self { unsent, socket, .. } = &mut *self;
        unsent.poll_flush(socket, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_cut(cx)?;
        let Self { unsent, socket, .. } = &mut *self;
        unsent.poll_write(socket, cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}
