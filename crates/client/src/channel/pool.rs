//! One connection to each instance that is called.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use netloft_types::Instance;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::options::ChannelOptions;
use super::request::RequestBody;
use super::tls::{self, TlsOptions};
use crate::backoff::Backoff;
use crate::metrics::Counters;

/// Silence after which an instance is asked whether it is there, and the time to answer that.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after an instance could not be reached, in which calls go elsewhere.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_LONGEST: Duration = Duration::from_secs(5);

/// A connection that calls can be sent over.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    pub(super) send: SendRequest<RequestBody>,
    /// Which of the connections of its slot it is.
    number: u64,
}

/// The connections.
#[derive(Debug)]
pub(super) struct Pool {
    slots: Mutex<HashMap<Place, Arc<Slot>>>,
    tls: Option<TlsOptions>,
    connect_timeout: Duration,
    idle_timeout: Duration,
    /// The clock of the slots.
    begun: Instant,
    counters: Arc<Counters>,
    /// That a connection has ended.
    pub(super) broken: Arc<Notify>,
}

/// A connection that has to be run.
type Driving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where a connection leads: an address and, with TLS, who has to be there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) address: SocketAddr,
    pub(super) name: Option<ServerName<'static>>,
}

/// The connection to one place.
#[derive(Debug)]
pub(super) struct Slot {
    place: Place,
    state: Mutex<State>,
    /// Held by who connects, while others wait for it.
    turn: tokio::sync::Mutex<()>,
    /// When it was last asked for, in milliseconds on the clock of the pool.
    used: AtomicU64,
}

#[derive(Debug)]
struct State {
    sender: Option<Sender>,
    /// Connections that were made.
    made: u64,
    failure: Option<Failure>,
    backoff: Backoff,
}

impl State {
    /// Has it left alone for a while.
    fn rest(&mut self, why: String) {
        let at = Instant::now();
        let until = at + self.backoff.draw();
        self.sender = None;
        self.failure = Some(Failure { at, until, why });
    }
}

/// That a place could not be reached.
#[derive(Debug)]
struct Failure {
    at: Instant,
    /// When it is tried again before calls need it.
    until: Instant,
    why: String,
}

impl Pool {
    pub(super) fn new(options: &ChannelOptions, counters: Arc<Counters>) -> Self {
        Self {
            slots: Mutex::default(),
            tls: options.tls.clone(),
            connect_timeout: options.connect_timeout,
            idle_timeout: options.idle_timeout,
            begun: Instant::now(),
            counters,
            broken: Arc::default(),
        }
    }

    /// Where an instance is. An error says why it cannot be told.
    pub(super) fn place(&self, instance: &Instance) -> io::Result<Place> {
        let name = self.tls.as_ref().map(|tls| tls.name.of(instance)).transpose();
        Ok(Place { address: instance.socket_address(), name: name.map_err(io::Error::other)? })
    }

    pub(super) fn slot(&self, place: &Place) -> Arc<Slot> {
        let mut slots = self.slots();
        if let Some(slot) = slots.get(place) {
            return Arc::clone(slot);
        }
        let slot = Arc::new(Slot::new(place.clone()));
        slots.insert(place.clone(), Arc::clone(&slot));
        slot
    }

    /// The connection of a slot for a call, that is there or that can be made.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, what was begun of a connection is given up.
    pub(super) async fn sender(&self, slot: &Arc<Slot>) -> io::Result<Sender> {
        slot.used.store(self.now_ms(), Ordering::Relaxed);
        self.connected(slot).await
    }

    /// The same for no call.
    ///
    /// # Cancel safety
    ///
    /// As [`sender`](Self::sender).
    pub(super) async fn connected(&self, slot: &Arc<Slot>) -> io::Result<Sender> {
        if let Some(sender) = slot.sender() {
            return Ok(sender);
        }
        let waited_since = Instant::now();
        let _turn = slot.turn.lock().await;
        if let Some(sender) = slot.sender() {
            return Ok(sender);
        }
        // Who had the turn has just found out.
        if let Some(why) = slot.failed_since(waited_since) {
            return Err(io::Error::other(why));
        }
        let connected = timeout(self.connect_timeout, self.connect(&slot.place)).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        self.counters.connected(connected.is_ok());
        let (send, driving) = connected.map_err(|error| slot.fail(error))?;
        let sender = slot.put(send);
        self.drive(slot, sender.number, driving);
        Ok(sender)
    }

    /// Runs a connection. It ends by itself when nobody has its sender any more.
    fn drive(&self, slot: &Arc<Slot>, number: u64, driving: Driving) {
        let (open, broken) = (Counters::open(&self.counters), Arc::clone(&self.broken));
        // The connection must not keep its own sender.
        let slot = Arc::downgrade(slot);
        tokio::spawn(async move {
            let begun = Instant::now();
            driving.await;
            drop(open);
            if let Some(slot) = slot.upgrade() {
                slot.end(number, begun.elapsed());
            }
            broken.notify_one();
        });
    }

    async fn connect(&self, place: &Place) -> io::Result<(SendRequest<RequestBody>, Driving)> {
        if let (Some(tls), Some(name)) = (&self.tls, &place.name) {
            return shake_hands(tls::connect(place.address, name.clone(), tls).await?).await;
        }
        let stream = TcpStream::connect(place.address).await?;
        stream.set_nodelay(true)?;
        shake_hands(stream).await
    }

    /// Lets go of the connections that are not `kept`; calls that are under way on them end by themselves. Those that are known
    /// but not kept are let go of when no call has used them for long.
    pub(super) fn sweep(&self, kept: impl Fn(&Place) -> bool, known: impl Fn(&Place) -> bool) {
        let idle_since = self.now_ms().saturating_sub(millis(self.idle_timeout));
        let is_used = |slot: &Slot| slot.used.load(Ordering::Relaxed) >= idle_since.max(1);
        self.slots().retain(|place, slot| kept(place) || (known(place) && is_used(slot)));
    }

    fn now_ms(&self) -> u64 {
        // Never zero, which is that of a slot that was never used.
        millis(self.begun.elapsed()) + 1
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Place, Arc<Slot>>> {
        // A map of handles has no state that a panic could leave half changed.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn shake_hands<T>(stream: T) -> io::Result<(SendRequest<RequestBody>, Driving)>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let handshake = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream));
    let (send, connection) = handshake.await.map_err(io::Error::other)?;
    // How it ends is told to whoever asks next.
    Ok((send, Box::pin(async move { drop(connection.await) })))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Slot {
    fn new(place: Place) -> Self {
        let backoff = Backoff::new(PAUSE_FIRST, PAUSE_LONGEST);
        let state = State { sender: None, made: 0, failure: None, backoff };
        Self { place, state: Mutex::new(state), turn: tokio::sync::Mutex::default(), used: AtomicU64::new(0) }
    }

    /// The connection, if there is one.
    pub(super) fn sender(&self) -> Option<Sender> {
        let state = self.state();
        state.sender.as_ref().filter(|sender| !sender.send.is_closed()).cloned()
    }

    /// Why calls should rather go elsewhere: it was not reached a moment ago.
    pub(super) fn resting(&self) -> Option<String> {
        let state = self.state();
        let failure = state.failure.as_ref().filter(|failure| failure.until > Instant::now());
        failure.map(|failure| failure.why.clone())
    }

    /// Has the next one connect anew: this connection takes no calls any more.
    pub(super) fn forget(&self, sender: &Sender) {
        let mut state = self.state();
        if state.sender.as_ref().is_some_and(|one| one.number == sender.number) {
            state.sender = None;
        }
    }

    fn failed_since(&self, then: Instant) -> Option<String> {
        let state = self.state();
        state.failure.as_ref().filter(|failure| failure.at >= then).map(|failure| failure.why.clone())
    }

    fn put(&self, send: SendRequest<RequestBody>) -> Sender {
        let mut state = self.state();
        state.made += 1;
        let sender = Sender { send, number: state.made };
        state.sender = Some(sender.clone());
        state.failure = None;
        sender
    }

    /// It could not be reached.
    fn fail(&self, error: io::Error) -> io::Error {
        self.state().rest(error.to_string());
        error
    }

    /// A connection has ended. One that did not last is as bad as none: a server may accept what it does not speak.
    fn end(&self, number: u64, lasted: Duration) {
        let mut state = self.state();
        if state.sender.as_ref().is_none_or(|sender| sender.number != number) {
            return;
        }
        if lasted < PAUSE_LONGEST {
            state.rest("the connection did not last".to_owned());
        } else {
            state.backoff.reset();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of it is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn who_was_not_reached_rests_until_it_was_reached() {
        let counters = Arc::<Counters>::default();
        let pool = Pool::new(&ChannelOptions::default(), Arc::clone(&counters));
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let slot = pool.slot(&Place { address, name: None });
        assert!(slot.resting().is_none());
        // The pause is drawn, and may be none.
        while slot.resting().is_none() {
            assert!(pool.sender(&slot).await.is_err());
        }
        let _listener = TcpListener::bind(address).await.unwrap();
        pool.sender(&slot).await.unwrap();
        assert!(slot.resting().is_none() && slot.sender().is_some());
        let stats = counters.read();
        assert!(stats.connections_failed > 0 && stats.connections_made == 1);
    }

    #[tokio::test]
    async fn a_connection_that_does_not_last_is_as_bad_as_none() {
        let pool = Pool::new(&ChannelOptions::default(), Arc::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let slot = pool.slot(&Place { address: listener.local_addr().unwrap(), name: None });
        // The pause is drawn, and may be none.
        while slot.resting().is_none() {
            pool.sender(&slot).await.unwrap();
            drop(listener.accept().await.unwrap());
            pool.broken.notified().await;
            assert!(slot.sender().is_none());
        }
        assert_eq!(slot.resting().unwrap(), "the connection did not last");
    }

    #[tokio::test]
    async fn a_connection_that_is_forgotten_is_made_anew_once() {
        let counters = Arc::<Counters>::default();
        let pool = Pool::new(&ChannelOptions::default(), Arc::clone(&counters));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let slot = pool.slot(&Place { address: listener.local_addr().unwrap(), name: None });
        let first = pool.sender(&slot).await.unwrap();
        slot.forget(&first);
        pool.sender(&slot).await.unwrap();
        // Somebody else who had the first one, too.
        slot.forget(&first);
        pool.sender(&slot).await.unwrap();
        assert_eq!(counters.read().connections_made, 2);
    }
}
