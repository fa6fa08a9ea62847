//! Accepted connections: counted, given a time to begin, and cut when the server has stopped.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_stream::Stream;
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use crate::Listener;
use crate::access::{Access, Event, Outcome};
use crate::limits::{HANDSHAKE_TIMEOUT, PREFACE_TIMEOUT};
use crate::listen::Accepted;
use crate::peer::{Peer, PeerCounts, Place};
use crate::phase::Phases;
use crate::stream::unfold;
use crate::tls::{self, TlsConfig};
use crate::unsent::Unsent;

/// Pause after the kernel refused to accept, most often for want of file descriptors: it would refuse at once
/// again, and trying without a pause would burn a processor on it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often the clock is asked whether a certificate has expired.
const CLOCK_INTERVAL: Duration = Duration::from_mins(1);

/// Bytes with which an HTTP/2 client begins (RFC 9113, section 3.4).
const PREFACE_LEN: usize = 24;

pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub(crate) type Socket = Box<dyn Io>;

/// What the listeners let in: see [`incoming`].
pub(crate) struct Door {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) slots: Arc<Semaphore>,
    /// Connections that one address can have.
    pub(crate) per_peer_max: u32,
    pub(crate) phases: Phases,
    pub(crate) access: Option<Access>,
}

/// Accepts from all listeners, as long as there are fewer connections than slots.
///
/// It never yields an error: one that concerns a single connection is skipped, any other waited out. TLS is negotiated
/// aside, each connection in a task of its own that has a slot and a time, so that nobody waits for a slow one.
pub(crate) fn incoming(door: Door) -> impl Stream<Item = io::Result<Connection>> + Send {
    let state = (Arc::new(door), PeerCounts::default(), JoinSet::new());
    unfold(state, |(door, counts, mut negotiating)| async move {
        loop {
            tokio::select! {
                Some(negotiated) = negotiating.join_next() => {
                    if let Ok(Some(connection)) = negotiated {
                        return Some((Ok(connection), (door, counts, negotiating)));
                    }
                }
                (slot, accepted, peer) = door.next() => {
                    let Some(place) = counts.enter(peer.ip(), door.per_peer_max) else {
                        door.refuse(&peer, "it has too many connections");
                        continue;
                    };
                    let hold = Hold { _slot: slot, _place: place };
                    match accepted {
                        Accepted::Plain(socket) => {
                            let connection = door.connection(socket, peer, hold, std::future::pending());
                            return Some((Ok(connection), (door, counts, negotiating)));
                        }
                        Accepted::Tls(stream, configs) => {
                            let door = Arc::clone(&door);
                            negotiating.spawn(async move { door.negotiate(stream, configs, peer, hold).await });
                        }
                    }
                }
            }
        }
    })
}

impl Door {
    async fn next(&self) -> (OwnedSemaphorePermit, Accepted, Peer) {
        let slot = Arc::clone(&self.slots).acquire_owned().await.expect("nobody closes the semaphore");
        let (accepted, peer) = accept(&self.listeners).await;
        (slot, accepted, peer)
    }

    async fn negotiate(
        &self,
        stream: TcpStream,
        mut configs: watch::Receiver<Arc<TlsConfig>>,
        peer: Peer,
        hold: Hold,
    ) -> Option<Connection> {
        let config = Arc::clone(&configs.borrow_and_update());
        let accepting = TlsAcceptor::from(Arc::clone(&config.server)).accept(stream);
        let stream = match timeout(HANDSHAKE_TIMEOUT, accepting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                self.refuse(&peer, &format!("TLS: {error}"));
                return None;
            }
            Err(_) => {
                self.refuse(&peer, "TLS: it took too long");
                return None;
            }
        };
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        // What rustls verified and x509-parser cannot read does not come in.
        let facts = shown.map(tls::facts);
        if let Some(None) = facts {
            self.refuse(&peer, "TLS: its certificate cannot be understood");
            return None;
        }
        let (identity, expires) = match facts.flatten() {
            Some(facts) => (facts.identity, Some(facts.expires)),
            None => (None, None),
        };
        let peer = match peer {
            Peer::Tcp(address) => Peer::Tls { address, identity },
            other => other,
        };
        let over = believed_until(expires, configs, Arc::clone(&config.client_ca));
        Some(self.connection(Box::new(stream), peer, hold, over))
    }

    /// A connection that is cut when the server has stopped, or when it is `over`.
    fn connection(
        &self,
        socket: Socket,
        peer: Peer,
        hold: Hold,
        over: impl Future<Output = ()> + Send + 'static,
    ) -> Connection {
        let phases = self.phases.clone();
        let cut = async move {
            tokio::select! {
                () = phases.stopped() => {}
                () = over => {}
            }
        };
        let cut: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(cut);
        let (unsent, preface) = (Unsent::default(), Some(Preface::expected()));
        Connection { socket, unsent, peer, cut: Some(cut), preface, _hold: hold }
    }

    fn refuse(&self, peer: &Peer, why: &str) {
        debug!(%peer, why, "connection refused");
        if let Some(access) = &self.access {
            access.tell(|| Event::of_peer(peer, "connect", Outcome::Refused(why.to_owned())));
        }
    }
}

/// Waits until a certificate has expired, or the authority is no longer believed: its connection has to be made anew.
async fn believed_until(
    expires: Option<SystemTime>,
    mut configs: watch::Receiver<Arc<TlsConfig>>,
    client_ca: Arc<[CertificateDer<'static>]>,
) {
    let Some(expires) = expires else {
        // It showed no certificate.
        return std::future::pending().await;
    };
    let over = async {
        while let Ok(left) = expires.duration_since(SystemTime::now()) {
            // The clock may be set meanwhile.
            sleep(left.min(CLOCK_INTERVAL)).await;
        }
    };
    let disbelieved = async {
        if configs.wait_for(|config| config.client_ca != client_ca).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = over => {}
        () = disbelieved => {}
    }
}

async fn accept(listeners: &[Listener]) -> (Accepted, Peer) {
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

/// What a connection has for as long as it lives.
struct Hold {
    _slot: OwnedSemaphorePermit,
    _place: Place,
}

/// A connection that gives its slot and its place back when it is dropped.
pub(crate) struct Connection {
    socket: Socket,
    unsent: Unsent,
    peer: Peer,
    /// Resolves when the server has stopped waiting, or no longer believes the certificate; `None` once it has. The task that drives the connection
    /// belongs to tonic, which would let it run for as long as the peer likes.
    cut: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    preface: Option<Preface>,
    _hold: Hold,
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
