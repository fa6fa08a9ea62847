//! One connection to each instance that was called.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::body::Body;

/// How long connecting may take, before another instance is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Silence after which an instance is asked whether it is there, and the time to answer that.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

type Sender = SendRequest<Body>;
/// The connection to one address, made by the first who asks while the others wait.
type Slot = Arc<tokio::sync::Mutex<Option<Sender>>>;

/// The connections.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<HashMap<SocketAddr, Slot>>);

impl Pool {
    /// A connection to an address, that is there or that can be made. Those to addresses that are not known any more are let go
    /// of when one is made; calls that are under way on them end by themselves.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, what was begun of a connection is given up.
    pub(super) async fn sender(
        &self,
        address: SocketAddr,
        is_known: impl Fn(&SocketAddr) -> bool,
    ) -> io::Result<Sender> {
        let slot = Arc::clone(self.slots().entry(address).or_default());
        let mut held = slot.lock().await;
        if let Some(sender) = held.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        *held = None;
        let connected = timeout(CONNECT_TIMEOUT, connect(address)).await;
        let sender = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        *held = Some(sender.clone());
        self.slots().retain(|known, _| *known == address || is_known(known));
        Ok(sender)
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, Slot>> {
        // A map of handles has no state that a panic could leave half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn connect(address: SocketAddr) -> io::Result<Sender> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let handshake = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream));
    let (sender, connection) = handshake.await.map_err(io::Error::other)?;
    // How it ends is told to whoever asks next.
    tokio::spawn(connection);
    Ok(sender)
}
