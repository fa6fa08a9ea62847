//! A connection to a server: lazy, probed while silent, and with a bound on every wait.

use std::time::Duration;

use netloft_types::Invalid;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};
use tracing::info;

use crate::credentials::Authorize;
use crate::turn::{Place, Turn};
use crate::{ClientOptions, Error, Operation, Target};

/// Bytes that a server may send ahead on one stream: at 20 ms of distance it lets a large snapshot come at
/// 50 MB/s, where HTTP/2's default of 64 KiB would let it come at 3.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// The same for all streams of the connection together.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Silence after which the server is asked whether it is there; a watch may rightly be silent for days.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// Time to answer that.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// A channel that says who calls.
pub(crate) type Transport = InterceptedService<Channel, Authorize>;

/// A connection that is made when it is first used, and again whenever it broke. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    channel: Transport,
    target: Target,
    timeout: Duration,
    /// Given up by every failure that says that this server is not available.
    place: Place,
}

impl Connection {
    pub(crate) fn lazy(target: Target, options: &ClientOptions) -> Self {
        Self::lazy_in(Turn::new(1).place(0), target, options)
    }

    /// A connection to one of several servers of the same registry.
    pub(crate) fn lazy_in(place: Place, target: Target, options: &ClientOptions) -> Self {
        let channel = target.channel(&options.credentials, |endpoint| {
            endpoint
                .connect_timeout(options.connect_timeout)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .http2_keep_alive_interval(PING_INTERVAL)
                .keep_alive_timeout(PING_TIMEOUT)
                .keep_alive_while_idle(true)
        });
        let authorize = Authorize::new(options.credentials.token.clone(), target.is_private());
        let channel = InterceptedService::new(channel, authorize);
        Self { channel, target, timeout: options.call_timeout, place }
    }

    pub(crate) fn channel(&self) -> Transport {
        self.channel.clone()
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// The longest wait for an answer.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Waits for the answer of `operation`, but not for ever.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the server is told; what was asked may have happened.
    pub(crate) async fn call<T>(
        &self,
        operation: &Operation,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.failed(operation, &status)),
            Err(_) => Err(self.timed_out(operation, self.timeout)),
        }
    }

    pub(crate) fn failed(&self, operation: &Operation, status: &Status) -> Error {
        let error = Error::from_status(operation.clone(), &self.target, status);
        if error.is_unavailable() {
            self.give_up();
        }
        error
    }

    pub(crate) fn timed_out(&self, operation: &Operation, timeout: Duration) -> Error {
        self.give_up();
        Error::TimedOut { operation: operation.clone(), target: self.target.clone(), timeout }
    }

    fn give_up(&self) {
        if self.place.give_up() {
            info!(registry = %self.target, "not available: another server of the registry is asked");
        }
    }

    /// Waits for the next message of a stream, but not longer than calls go to this server: what is not available to calls
    /// may be quiet to streams.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub(crate) async fn next<T>(&self, messages: &mut Streaming<T>) -> Result<Option<T>, Status> {
        tokio::select! {
            biased;
            message = messages.message() => message,
            () = self.place.is_over() => Err(Status::unavailable("another server of the registry is asked")),
        }
    }

    pub(crate) fn malformed(&self, operation: &Operation, source: Invalid) -> Error {
        Error::Malformed { operation: operation.clone(), target: self.target.clone(), source }
    }

    /// The error of a stream that ended where it should not have.
    pub(crate) fn ended(&self, operation: &Operation) -> Error {
        self.failed(operation, &Status::unavailable("the stream ended"))
    }
}
