//! The way to etcd: several endpoints, one connection at a time, and the next one when that fails.
//!
//! Connections are made by the tasks of one runtime, the store's own, so that none ends with the runtime of a caller.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use netloft_registry::ClusterFault;
use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use crate::door::{Door, Token};
use crate::pb;
use crate::pb::kv_client::KvClient;
use crate::pb::lease_client::LeaseClient;

/// How long one endpoint may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long one endpoint may take to answer. An election takes it one to two seconds, after which the next one is asked.
pub(crate) const RPC_TIMEOUT: Duration = Duration::from_millis(1_500);
/// The pause before the endpoints are tried again when none of them answered.
const PAUSE: Duration = Duration::from_millis(100);
/// Pings find a dead peer that nothing is asked of; etcd cuts off who pings more often than every 5 seconds
/// (`--grpc-keepalive-min-time`).
const PING_INTERVAL: Duration = Duration::from_secs(6);
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of an answer that are accepted: etcd splits what a watch says, but not a page of a range.
pub(crate) const ANSWER_LEN_MAX: usize = 64 * 1_024 * 1_024;

/// The endpoints of a cluster. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cluster {
    shared: Arc<Shared>,
}

struct Shared {
    endpoints: Vec<Endpoint>,
    door: Door,
    runtime: Handle,
    current: Mutex<Current>,
    /// Held while somebody connects.
    connecting: AsyncMutex<()>,
    /// Told when another endpoint than before is asked.
    moved: Notify,
}

struct Current {
    index: usize,
    serial: u64,
    link: Option<Link>,
}

/// A connection to one endpoint.
#[derive(Clone)]
pub(crate) struct Link {
    serial: u64,
    pub(crate) channel: Channel,
    /// It lasts as long as the connection: when it does not count any more, both are made anew.
    token: Option<Token>,
}

impl Link {
    /// A request with what each has: who asks, and that a member that has lost its leader says so at once, instead of
    /// waiting for one.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }
}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It was not sent, or refused before anything was done.
    NotDone(ClusterFault),
    /// Nobody who asks like this gets an answer.
    Refused(ClusterFault),
    /// It was sent, and what became of it is not known.
    Unknown(ClusterFault),
    /// What it asked about was compacted.
    Compacted,
    /// There is no room in the database of etcd.
    NoSpace,
    /// The lease does not exist.
    NoLease,
}

impl Failure {
    pub(crate) fn fault(self, operation: &'static str) -> ClusterFault {
        match self {
            Self::NotDone(fault) | Self::Refused(fault) | Self::Unknown(fault) => fault,
            Self::Compacted => ClusterFault::new(operation, "it has been compacted"),
            Self::NoSpace => ClusterFault::new(operation, "the database of etcd is full"),
            Self::NoLease => ClusterFault::new(operation, "there is no such lease"),
        }
    }
}

impl Cluster {
    /// Must be called within the runtime that is to hold the connections.
    pub(crate) fn new(endpoints: Vec<Endpoint>, door: Door) -> Self {
        let endpoints = endpoints.into_iter().map(|endpoint| {
            endpoint
                .connect_timeout(CONNECT_TIMEOUT)
                .http2_keep_alive_interval(PING_INTERVAL)
                .keep_alive_timeout(PING_TIMEOUT)
                .keep_alive_while_idle(true)
        });
        let shared = Shared {
            endpoints: endpoints.collect(),
            door,
            runtime: Handle::current(),
            current: Mutex::new(Current { index: 0, serial: 0, link: None }),
            connecting: AsyncMutex::new(()),
            moved: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Resolves when another endpoint is asked than when it was called first.
    pub(crate) async fn moved(&self) {
        self.shared.moved.notified().await;
    }

    /// The connection, made if there is none.
    pub(crate) async fn link(&self, operation: &'static str) -> Result<Link, Failure> {
        if let Some(link) = self.current().link.clone() {
            return Ok(link);
        }
        let _connecting = self.shared.connecting.lock().await;
        if let Some(link) = self.current().link.clone() {
            return Ok(link);
        }
        let count = self.shared.endpoints.len();
        let first = self.current().index;
        let mut said = "there is no endpoint".to_owned();
        for index in (first..first + count).map(|number| number % count) {
            let connect = connect(self.shared.endpoints[index].clone(), self.shared.door.clone());
            match self.shared.runtime.spawn(connect).await {
                Ok(Ok((channel, token))) => return Ok(self.take(index, channel, token)),
                Ok(Err(NoLink::Refused(status))) => return Err(of_status(operation, &status)),
                Ok(Err(NoLink::Failed(why))) => said = why,
                Err(_) => "the store is closing".clone_into(&mut said),
            }
        }
        Err(Failure::NotDone(ClusterFault::new(operation, said)))
    }

    fn take(&self, index: usize, channel: Channel, token: Option<Token>) -> Link {
        let mut current = self.current();
        current.index = index;
        current.serial += 1;
        let link = Link { serial: current.serial, channel, token };
        current.link = Some(link.clone());
        link
    }

    /// Gives a connection up that did not do what it should: the next one is made to the next endpoint.
    pub(crate) fn give_up(&self, link: &Link) {
        let mut current = self.current();
        if current.link.as_ref().is_some_and(|held| held.serial == link.serial) {
            current.link = None;
            current.index = (current.index + 1) % self.shared.endpoints.len().max(1);
            drop(current);
            self.shared.moved.notify_waiters();
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.shared.current.lock().expect("nothing panics while it holds the connection")
    }

    /// Reads, at whichever endpoint answers before the deadline.
    pub(crate) async fn range(
        &self,
        operation: &'static str,
        request: pb::RangeRequest,
        deadline: Instant,
    ) -> Result<pb::RangeResponse, Failure> {
        self.until(deadline, operation, |link| {
            let request = request.clone();
            async move { client(&link).range(link.request(request)).await.map(Response::into_inner) }
        })
        .await
    }

    /// Has a transaction carried out, once.
    pub(crate) async fn transact(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Failure> {
        let operation = "change the registry";
        let link = self.link(operation).await?;
        self.once(operation, &link, async {
            client(&link).txn(link.request(request)).await.map(Response::into_inner)
        })
        .await
    }

    /// Has a transaction carried out that may be carried out several times.
    pub(crate) async fn transact_until(
        &self,
        operation: &'static str,
        request: pb::TxnRequest,
        deadline: Instant,
    ) -> Result<pb::TxnResponse, Failure> {
        self.until(deadline, operation, |link| {
            let request = request.clone();
            async move { client(&link).txn(link.request(request)).await.map(Response::into_inner) }
        })
        .await
    }

    pub(crate) async fn grant(&self, ttl: Duration, deadline: Instant) -> Result<i64, Failure> {
        let request = pb::LeaseGrantRequest { ttl: seconds(ttl), id: 0 };
        let granted = self.until(deadline, "get a lease", |link| async move {
            LeaseClient::new(link.channel.clone()).lease_grant(link.request(request)).await
        });
        Ok(granted.await?.into_inner().id)
    }

    pub(crate) async fn revoke(&self, lease: i64, deadline: Instant) -> Result<(), Failure> {
        let request = pb::LeaseRevokeRequest { id: lease };
        let revoked = self.until(deadline, "end the lease", |link| async move {
            LeaseClient::new(link.channel.clone()).lease_revoke(link.request(request)).await
        });
        revoked.await.map(drop)
    }

    /// Keeps a lease. Answers for how long, counted from before it was asked.
    pub(crate) async fn keep(&self, lease: i64, deadline: Instant) -> Result<Duration, Failure> {
        let request = pb::LeaseKeepAliveRequest { id: lease };
        let kept = self.until(deadline, "keep the lease", |link| async move {
            let mut client = LeaseClient::new(link.channel.clone());
            let answers = client.lease_keep_alive(link.request(tokio_stream::once(request))).await?;
            let answer = answers.into_inner().message().await?;
            answer.ok_or_else(|| Status::unavailable("the stream ended without an answer"))
        });
        match u64::try_from(kept.await?.ttl) {
            Ok(ttl) if ttl > 0 => Ok(Duration::from_secs(ttl)),
            _ => Err(Failure::NoLease),
        }
    }

    async fn until<T, F>(
        &self,
        deadline: Instant,
        operation: &'static str,
        call: impl Fn(Link) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut last = Failure::NotDone(ClusterFault::new(operation, "etcd does not answer in time"));
        loop {
            let attempt = async {
                let link = self.link(operation).await?;
                self.once(operation, &link, call(link.clone())).await
            };
            match timeout_at(deadline, attempt).await {
                Ok(Err(failure @ (Failure::NotDone(_) | Failure::Unknown(_)))) => last = failure,
                Ok(outcome) => return outcome,
                Err(_) => return Err(last),
            }
            if timeout_at(deadline, sleep(PAUSE)).await.is_err() {
                return Err(last);
            }
        }
    }

    async fn once<T>(
        &self,
        operation: &'static str,
        link: &Link,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Failure> {
        let failure = match timeout(RPC_TIMEOUT, call).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(status)) => of_status(operation, &status),
            Err(_) => Failure::Unknown(ClusterFault::new(operation, "etcd does not answer in time")),
        };
        if matches!(failure, Failure::NotDone(_) | Failure::Refused(_) | Failure::Unknown(_)) {
            self.give_up(link);
        }
        Err(failure)
    }
}

fn client(link: &Link) -> KvClient<Channel> {
    KvClient::new(link.channel.clone()).max_decoding_message_size(ANSWER_LEN_MAX)
}

/// Why there is no connection.
enum NoLink {
    Failed(String),
    /// It was there, and who connected is not who they say.
    Refused(Status),
}

async fn connect(endpoint: Endpoint, door: Door) -> Result<(Channel, Option<Token>), NoLink> {
    let place = endpoint.uri().clone();
    let silent = || NoLink::Failed(format!("{place} does not answer"));
    let endpoint = door.fit(endpoint).map_err(|error| NoLink::Failed(chain(&error)))?;
    let connected = timeout(CONNECT_TIMEOUT, endpoint.connect()).await.map_err(|_| silent())?;
    let channel = connected.map_err(|error| NoLink::Failed(chain(&error)))?;
    match timeout(RPC_TIMEOUT, door.authenticate(&channel)).await {
        Ok(Ok(token)) => Ok((channel, token)),
        Ok(Err(status)) if is_refusal(&status) => Err(NoLink::Refused(status)),
        Ok(Err(status)) => Err(NoLink::Failed(status.to_string())),
        Err(_) => Err(silent()),
    }
}

/// Whether it is about who asks, and asking again in the same way is of no use.
fn is_refusal(status: &Status) -> bool {
    let said = status.message();
    let is_unknown = said.contains("authentication failed") || said.contains("user name is empty");
    status.code() == Code::PermissionDenied || (status.code() == Code::InvalidArgument && is_unknown)
}

/// What a status means, as etcd uses them (its api/v3rpc/rpctypes).
pub(crate) fn of_status(operation: &'static str, status: &Status) -> Failure {
    let said = status.message();
    let fault =
        || ClusterFault::new(operation, if said.is_empty() { status.to_string() } else { said.to_owned() });
    match status.code() {
        Code::OutOfRange if said.contains("compacted") => Failure::Compacted,
        Code::ResourceExhausted if said.contains("space exceeded") => Failure::NoSpace,
        Code::NotFound if said.contains("lease") => Failure::NoLease,
        _ if is_refusal(status) => Failure::Refused(fault()),
        Code::Unavailable if said == "etcdserver: no leader" => Failure::NotDone(fault()),
        Code::InvalidArgument
        | Code::Unauthenticated
        | Code::FailedPrecondition
        | Code::ResourceExhausted
        | Code::Unimplemented => Failure::NotDone(fault()),
        _ => Failure::Unknown(fault()),
    }
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn seconds(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_secs().max(1)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_surely_not_done_is_called_so() {
        let unknown = |status: &Status| matches!(of_status("try", status), Failure::Unknown(_));
        assert!(unknown(&Status::unavailable("etcdserver: request timed out")));
        assert!(unknown(&Status::unavailable("etcdserver: leader changed")));
        assert!(unknown(&Status::internal("h2 protocol error")));
        assert!(!unknown(&Status::unavailable("etcdserver: no leader")));
        // A member that is behind the others.
        let future = Status::out_of_range("etcdserver: mvcc: required revision is a future revision");
        assert!(unknown(&future));
        let full = Status::resource_exhausted("etcdserver: mvcc: database space exceeded");
        assert_eq!(of_status("try", &full), Failure::NoSpace);
    }
}
