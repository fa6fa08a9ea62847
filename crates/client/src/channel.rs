//! A channel of gRPC that balances: any client that tonic generates takes it.

mod ahead;
mod attempt;
mod budget;
mod call;
mod deadline;
mod judged;
mod options;
mod pool;
mod request;
mod route;
mod tls;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use netloft_balance::Key;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::Service;

use self::ahead::Keeper;
use self::budget::Budget;
pub use self::judged::JudgedBody;
pub use self::options::{
    BudgetOptions, ChannelOptions, Codes, ConnectAheadOptions, HedgeOptions, Methods, Repeat, RetryOptions,
};
use self::pool::Pool;
pub use self::tls::{TlsName, TlsOptions};
use crate::metrics::{CallStats, Counters};
use crate::{Balanced, Candidates};

/// Sends each call to an instance that a [`Balanced`] picks, and tells it how the call went. A cheap handle, to be cloned.
///
/// ```no_run
/// # use netloft_balance::Builtin;
/// # use netloft_client::{BalancedChannel, ChannelOptions, Client, Methods, RetryOptions};
/// # use netloft_types::Query;
/// # mod greeter { pub struct GreeterClient<T>(pub T); impl<T> GreeterClient<T> { pub fn new(t: T) -> Self { Self(t) } } }
/// # use greeter::GreeterClient;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::connect("http://127.0.0.1:7400".parse()?);
/// let api = client.balance(Query::service("api".parse()?), Builtin::default());
/// let retry = RetryOptions { methods: Methods::of(["api.Greeter/*"]), ..RetryOptions::default() };
/// let channel = BalancedChannel::with(api, ChannelOptions { retry: Some(retry), ..ChannelOptions::default() });
/// let greeter = GreeterClient::new(channel); // as with any other channel
/// # Ok(())
/// # }
/// ```
///
/// It keeps one connection of HTTP/2 to each instance that gets calls, made before they come, and asks it every 10 s whether it
/// is there. An instance that cannot be reached is ended as a failure, and the call goes to the next one, to
/// [`tries_max`](ChannelOptions::tries_max) in all, as long as none of them has begun with it: that is safe for every call.
/// What an instance may have carried out is repeated, or sent to two, only where [`ChannelOptions`] or a [`Repeat`] says so.
///
/// A [`Key`] among the extensions of a request is that of its call: `request.extensions_mut().insert(Key::of("user-42"))`.
///
/// What counts as a failure of the instance are the codes UNKNOWN, `DEADLINE_EXCEEDED`, `RESOURCE_EXHAUSTED`, INTERNAL,
/// UNAVAILABLE and `DATA_LOSS`, and a connection that breaks; others say that the caller erred. The latency is that until the
/// answer begins; the call is in flight until it ends. A timeout that the caller set (`grpc-timeout`) covers connecting, all
/// attempts and the whole answer; each attempt is told what is left of it.
///
/// [`stats`](Self::stats) counts. At debug each attempt is logged with its instance, and each call with its method and the
/// `traceparent` of its request; that header goes to the instance as it is, and is not made up where there is none.
///
/// # Errors
///
/// UNAVAILABLE if there is no instance, or none of those tried could be reached; `DEADLINE_EXCEEDED` after the caller's
/// timeout.
///
/// # Cancel safety
///
/// If the future of a call is dropped, all its attempts are cancelled at their instances; nothing is learned of that. With
/// the last handle of the channel no more connections are made, and they are closed when the calls on them have ended.
#[derive(Debug, Clone)]
pub struct BalancedChannel(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    keeper: JoinHandle<()>,
}

/// What the calls of a channel share.
#[derive(Debug)]
struct Shared {
    balanced: Balanced,
    options: ChannelOptions,
    pool: Pool,
    budget: Option<Budget>,
    counters: Arc<Counters>,
}

impl BalancedChannel {
    /// Makes the channel.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O and time enabled.
    pub fn new(balanced: Balanced) -> Self {
        Self::with(balanced, ChannelOptions::default())
    }

    /// Makes the channel with options.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O and time enabled.
    pub fn with(balanced: Balanced, options: ChannelOptions) -> Self {
        let counters = Arc::<Counters>::default();
        let shared = Arc::new(Shared {
            pool: Pool::new(&options, Arc::clone(&counters)),
            budget: options.budget.map(Budget::new),
            balanced,
            options,
            counters,
        });
        let keeper = Keeper::new(Arc::clone(&shared), shared.options.connect_ahead.clone());
        Self(Arc::new(Handle { keeper: tokio::spawn(keeper.run()), shared }))
    }

    /// Who picks.
    pub fn balanced(&self) -> &Balanced {
        &self.0.shared.balanced
    }

    /// What was counted since the channel was made. [`prometheus_text`](crate::prometheus_text) writes it for Prometheus.
    pub fn stats(&self) -> CallStats {
        self.0.shared.counters.read()
    }
}

impl Shared {
    fn candidates(&self, key: Option<Key>) -> Candidates<'_> {
        key.map_or_else(|| self.balanced.candidates(), |key| self.balanced.candidates_for(key))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Service<Request<Body>> for BalancedChannel {
    type Response = Response<JudgedBody>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    /// Always ready: which instance could say that it is not is decided by the call.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(call::carry_out(Arc::clone(&self.0.shared), request))
    }
}
