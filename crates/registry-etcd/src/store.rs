//! The handle of a store in etcd, and the thread behind it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use netloft_registry::embedded::Condition;
use netloft_registry::{
    Applied, BoxFuture, Charge, Command, Error, Feed, Found, Services, Snapshot, Store, Usage, Watch,
};
use netloft_types::{InstanceId, Query, ReadMode, Revision};
use rand::RngExt as _;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Endpoint;
use tracing::info;

use crate::cluster::{Cluster, Failure};
use crate::door::Door;
use crate::history::{Reader, Stop, follow};
use crate::keeper::{end_sessions, keep_lease, sweep};
use crate::keys::{Keys, ServerId};
use crate::pulse::{SYNCS_MAX, answer_syncs, feel_pulse};
use crate::shared::Shared;
use crate::{ContentsError, EtcdOptions, OpenError};

/// How long opening may take.
const OPEN_PATIENCE: Duration = Duration::from_secs(15);
/// How long the end of a store may take. What is not done by then, the end of its lease does.
const LEAVE_PATIENCE: Duration = Duration::from_secs(2);
/// The pause of a watch that waits for etcd.
const PAUSE: Duration = Duration::from_millis(200);

/// A store whose registrations are in an etcd cluster, where any number of servers share them.
///
/// Each knows everything by a watch. A linearizable read asks etcd for the last revision, together with all others that
/// come meanwhile, and waits until that is here. A stale one answers at once, with its age: some second while etcd
/// answers, more while it does not. Revisions are the same in all servers, so a watch can go on at another one.
///
/// While etcd does not answer, or has no majority, what was known is served, watches are quiet, renewals are confirmed
/// for as long as the lease of the server surely holds, and all else is refused with [`Error::Away`]. It goes on by
/// itself.
///
/// A session is counted by the server that took its last renewal, in memory. When that server is gone, the others count
/// it anew once its lease has run out, with [a grace](EtcdOptions::grace). So a session whose server died with it ends
/// at the latest a lease, its time to live, the grace and [`EXPIRY_DELAY_MAX`](netloft_registry::EXPIRY_DELAY_MAX)
/// after that; an election of a leader can prolong the lease once more. One without a time to live ends with its server.
///
/// Its [charge](Store::charge) is the instances of the sessions that it counts, for as long as its lease surely holds. Those
/// whose server is gone are in nobody's, until a renewal takes their session over or it ends.
///
/// Dropping the store waits until the others know that it is gone, for two seconds at most.
pub struct EtcdStore {
    shared: Arc<Shared>,
    charge: Charge,
    runtime: Handle,
    /// Dropped to end the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread tells when the store is open.
type Opened = (Arc<Shared>, Handle);

impl EtcdStore {
    /// Opens the registry below a prefix of an etcd cluster, or begins one where none is. It answers nothing before it
    /// knows everything.
    ///
    /// # Errors
    ///
    /// If no endpoint answers for 15 seconds; if what is there is of another release; at once, if etcd refuses this server or
    /// the options do not go together.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the store is opened and closed again.
    ///
    /// # Panics
    ///
    /// If the opening thread does, which would be a bug.
    pub async fn open(endpoints: &[String], options: EtcdOptions) -> Result<Self, OpenError> {
        let endpoints = parse(endpoints, &options)?;
        let (opened, answer) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let run = move || match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(serve(endpoints, options, opened, stopped)),
            Err(source) => drop(opened.send(Err(OpenError::Thread { source }))),
        };
        let thread = thread::Builder::new().name("registry-etcd".into()).spawn(run);
        let thread = thread.map_err(|source| OpenError::Thread { source })?;
        let (shared, runtime) = answer.await.expect("opening does not panic")?;
        let (deciding, handovers) = (Arc::clone(&shared), shared.handovers.clone());
        let charge = Charge::part(move |id| deciding.looks_after(id), handovers);
        Ok(Self { shared, charge, runtime, stop: Some(stop), thread: Some(thread) })
    }

    /// What the store can do, now and from now on.
    pub fn condition(&self) -> watch::Receiver<Condition> {
        self.shared.condition.subscribe()
    }

    /// Answers how old what is known here may be, once it is known as well as `mode` asks.
    async fn known(&self, mode: ReadMode) -> Result<Duration, Error> {
        match mode {
            ReadMode::Linearizable => self.shared.sync(self.shared.deadline()).await.map(|()| Duration::ZERO),
            ReadMode::Stale => Ok(self.shared.age()),
        }
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Fails only if the thread has panicked, which was told then.
            let _ = thread.join();
        }
        self.shared.feed.close();
    }
}

impl fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdStore").finish_non_exhaustive()
    }
}

impl Store for EtcdStore {
    fn apply(&self, command: Command) -> BoxFuture<'_, Result<Applied, Error>> {
        Box::pin(self.shared.apply(command))
    }

    fn get<'a>(&'a self, id: &'a InstanceId, mode: ReadMode) -> BoxFuture<'a, Result<Found, Error>> {
        Box::pin(async move {
            let age = self.known(mode).await?;
            Ok(Found { age, ..self.shared.feed.get(id) })
        })
    }

    fn list<'a>(&'a self, query: &'a Query, mode: ReadMode) -> BoxFuture<'a, Result<Snapshot, Error>> {
        Box::pin(async move {
            let age = self.known(mode).await?;
            Ok(Snapshot { age, ..self.shared.feed.list(query) })
        })
    }

    fn services(&self, mode: ReadMode) -> BoxFuture<'_, Result<Services, Error>> {
        Box::pin(async move {
            let age = self.known(mode).await?;
            Ok(Services { age, ..self.shared.feed.services() })
        })
    }

    fn usage(&self) -> Usage {
        self.shared.feed.usage(self.shared.cache().state())
    }

    fn watch(&self, query: Query, from: Option<Revision>) -> Result<Watch, Error> {
        if from.is_none_or(|from| from <= self.shared.feed.revision()) {
            return self.shared.feed.watch(query, from);
        }
        // Of another history; or of another server, which knew more than this one: it must not hear anything older.
        let (known, gate) = oneshot::channel();
        self.runtime.spawn(catch_up(Arc::clone(&self.shared), known));
        self.shared.feed.watch_behind(query, async move {
            // Fails if the store is closing, and then the watch ends.
            let _ = gate.await;
        })
    }

    fn charge(&self) -> Charge {
        self.charge.clone()
    }
}

/// Tells when everything is known that there was when this was called.
async fn catch_up(shared: Arc<Shared>, mut known: oneshot::Sender<()>) {
    let caught_up = async {
        while shared.sync(shared.deadline()).await.is_err() {
            sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = caught_up => {}
        () = known.closed() => return,
    }
    // Fails if nobody watches any more.
    let _ = known.send(());
}

fn parse(endpoints: &[String], options: &EtcdOptions) -> Result<Vec<Endpoint>, OpenError> {
    if endpoints.is_empty() {
        return Err(OpenError::NoEndpoint);
    }
    let prefix = &options.prefix;
    if prefix.len() < 2 || !prefix.starts_with('/') || !prefix.ends_with('/') {
        return Err(OpenError::Prefix { prefix: prefix.clone() });
    }
    Door::new(options).check().map_err(|source| OpenError::Credentials { source })?;
    endpoints.iter().map(|endpoint| parse_endpoint(endpoint, options)).collect()
}

fn parse_endpoint(text: &str, options: &EtcdOptions) -> Result<Endpoint, OpenError> {
    let endpoint = text.to_owned();
    let parsed = match Endpoint::from_shared(text.to_owned()) {
        Ok(parsed) => parsed,
        Err(source) => return Err(OpenError::Endpoint { endpoint, source }),
    };
    let is_tls = parsed.uri().scheme_str() == Some("https");
    match &options.tls {
        None if is_tls => Err(OpenError::NoAuthority { endpoint }),
        Some(_) if !is_tls => Err(OpenError::NotTls { endpoint }),
        None if options.user.is_some() && !is_of_this_host(&parsed) => {
            Err(OpenError::OpenPassword { endpoint })
        }
        _ => Ok(parsed),
    }
}

fn is_of_this_host(endpoint: &Endpoint) -> bool {
    let host = endpoint.uri().host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// The life of the thread.
async fn serve(
    endpoints: Vec<Endpoint>,
    options: EtcdOptions,
    opened: oneshot::Sender<Result<Opened, OpenError>>,
    stopped: oneshot::Receiver<()>,
) {
    let mut tasks = JoinSet::new();
    let shared = match start(endpoints, options, &mut tasks).await {
        Ok(shared) => shared,
        Err(error) => return drop(opened.send(Err(error))),
    };
    if opened.send(Ok((Arc::clone(&shared), Handle::current()))).is_ok() {
        // Ends with an error: nothing is ever sent.
        let _ = stopped.await;
    }
    tasks.shutdown().await;
    shared.feed.close();
    let _ = timeout(LEAVE_PATIENCE, shared.take_leave()).await;
}

/// Reads everything, and starts what keeps it up to date. When it returns, the others know this server.
async fn start(
    endpoints: Vec<Endpoint>,
    options: EtcdOptions,
    tasks: &mut JoinSet<()>,
) -> Result<Arc<Shared>, OpenError> {
    let begun = Instant::now();
    let (me, keys) = (ServerId(rand::rng().random()), Keys::new(&options.prefix));
    let cluster = Cluster::new(endpoints, Door::new(&options));
    let reader = Reader { cluster: &cluster, keys: &keys, me };
    let prefix = options.prefix.clone();
    let (cache, target) = loop {
        match read_with_history(&reader, &options).await {
            Ok(read) => break read,
            Err(Stop::Broken(broken)) => {
                return Err(OpenError::Contents { prefix, source: ContentsError::from(broken) });
            }
            Err(Stop::Refused(fault)) => return Err(OpenError::Refused { fault }),
            Err(Stop::Lost(fault)) if begun.elapsed() > OPEN_PATIENCE => {
                return Err(OpenError::Away { fault });
            }
            Err(_) => sleep(PAUSE).await,
        }
    };
    let feed_options = &options.store.feed;
    let at = cache.state().revision();
    let feed = Feed::resume(at, &cache.everything(), Vec::new(), at, feed_options);
    let (syncs, requests) = mpsc::channel(SYNCS_MAX);
    let condition = watch::Sender::new(Condition::Writing);
    let shared = Shared::new(options, keys.clone(), me, cluster.clone(), feed, cache, condition, syncs);
    let shared = Arc::new(shared);
    tasks.spawn(answer_syncs(Arc::clone(&shared), requests));
    tasks.spawn(follow(Arc::clone(&shared)));
    let deadline = begun + OPEN_PATIENCE;
    let is_there = shared.wait_applied(target, deadline).await && shared.sync(deadline).await.is_ok();
    tasks.spawn(keep_lease(Arc::clone(&shared)));
    let is_known = is_there && until_in_touch(&shared, deadline).await;
    if !is_known {
        let fault =
            netloft_registry::ClusterFault::new("introduce this server", "etcd does not answer in time");
        return Err(OpenError::Away { fault });
    }
    tasks.spawn(feel_pulse(Arc::clone(&shared)));
    tasks.spawn(end_sessions(Arc::clone(&shared)));
    tasks.spawn(sweep(Arc::clone(&shared)));
    info!(prefix, revision = %shared.feed.revision(), took = ?begun.elapsed(), "store opened");
    Ok(shared)
}

async fn until_in_touch(shared: &Shared, deadline: Instant) -> bool {
    while !shared.is_in_touch() {
        if Instant::now() > deadline {
            return false;
        }
        sleep(PAUSE / 20).await;
    }
    true
}

/// Reads everything as of so far back as the history is to be remembered, if etcd still knows that; and the revision of
/// etcd up to which that is to be followed.
async fn read_with_history(
    reader: &Reader<'_>,
    options: &EtcdOptions,
) -> Result<(crate::cache::Cache, i64), Stop> {
    reader.ensure_head().await?;
    let (now, target, begun) = reader.revisions().await?;
    let history = i64::try_from(options.store.feed.history_len_max).unwrap_or(i64::MAX);
    let then = now.saturating_sub(history).max(begun);
    // Revisions from before they were counted anew are of no use.
    if let Ok(cache) = reader.read(options, Duration::ZERO, Some(then)).await
        && cache.base() == reader.base().await?
    {
        return Ok((cache, target));
    }
    let cache = reader.read(options, Duration::ZERO, None).await?;
    Ok((cache, target))
}

impl From<Failure> for OpenError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(fault) => Self::Refused { fault },
            failure => Self::Away { fault: failure.fault("open the registry") },
        }
    }
}
