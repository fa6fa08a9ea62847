//! Follows the history of the registry in etcd, and tells the rest of the store what happened.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use netloft_registry::{ClusterFault, StoreOptions};
use netloft_types::{Query, Revision};
use tokio::time::{Instant, sleep};
use tokio_stream::StreamExt as _;
use tonic::Streaming;
use tracing::{debug, error, warn};

use crate::EtcdOptions;
use crate::assembly::{Assembly, at};
use crate::cache::{Broken, Cache};
use crate::cluster::{ANSWER_LEN_MAX, Cluster, Failure, of_status};
use crate::keys::{Key, Keys, ServerId};
use crate::liveness::Liveness;
use crate::pb::watch_client::WatchClient;
use crate::pb::watch_request::RequestUnion;
use crate::pb::{KeyValue, RangeRequest, WatchCreateRequest, WatchRequest, WatchResponse};
use crate::records::{Mark, read_base};
use crate::shared::Shared;
use crate::transaction::Transaction;

/// Keys of one page of everything there is: with instances of the largest size, half of the largest answer.
const PAGE_LEN: i64 = 500;
/// How long a page may take.
const PAGE_PATIENCE: Duration = Duration::from_secs(5);
/// Pauses between attempts to follow, from the first failure on. One that succeeded is no failure, however soon it ended.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Why the history cannot be followed any further.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The connection ended, or is to be another one.
    Lost(ClusterFault),
    /// Etcd does not let this server read it.
    Refused(ClusterFault),
    /// What comes next was compacted.
    Compacted,
    /// It is not the history that was followed until now.
    Other,
    /// What is there was not written by servers like this one.
    Broken(Broken),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Compacted => Self::Compacted,
            Failure::Refused(fault) => Self::Refused(fault),
            failure => Self::Lost(failure.fault("follow the history")),
        }
    }
}

impl From<Broken> for Stop {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

/// Follows the history for as long as the store lives.
pub(crate) async fn follow(shared: Arc<Shared>) {
    let mut pause = PAUSE_MIN;
    loop {
        let stop = match shared.open_watch().await {
            Ok(answers) => {
                pause = PAUSE_MIN;
                shared.read_watch(answers).await
            }
            Err(stop) => stop,
        };
        debug!(?stop, "the watch of etcd ended");
        let outcome = match stop {
            Stop::Lost(_) | Stop::Refused(_) => Ok(()),
            Stop::Compacted => {
                warn!("etcd compacted what is not known here yet: reading everything again");
                shared.begin_again(false).await
            }
            Stop::Other => {
                warn!("etcd has another history than it had: reading everything again");
                shared.begin_again(true).await
            }
            Stop::Broken(broken) => {
                error!(error = %broken, "somebody else changed what is in etcd: reading everything again");
                shared.begin_again(false).await
            }
        };
        if let Err(error) = outcome {
            warn!(?error, "what is in etcd cannot be read");
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

impl Shared {
    async fn read_watch(&self, mut answers: Streaming<WatchResponse>) -> Stop {
        let mut assembly = Assembly::default();
        loop {
            let answer = tokio::select! {
                answer = answers.message() => answer,
                () = self.nudge.notified() => return lost("it is begun anew"),
                () = self.cluster.moved() => return lost("another endpoint is asked"),
            };
            let taken = match answer {
                Ok(Some(answer)) => self.take_in(answer, &mut assembly),
                Ok(None) => Err(lost("etcd ended it")),
                Err(status) => Err(of_status("follow the history", &status).into()),
            };
            if let Err(stop) = taken {
                return stop;
            }
        }
    }

    async fn open_watch(&self) -> Result<Streaming<WatchResponse>, Stop> {
        let operation = "follow the history";
        self.check_history().await?;
        let link = self.cluster.link(operation).await?;
        let (key, range_end) = self.keys.everything();
        let start_revision = self.cache().applied() + 1;
        let create = WatchCreateRequest { key, range_end, start_revision, fragment: true };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        // The stream of requests has to stay open.
        let requests = tokio_stream::once(request).chain(tokio_stream::pending());
        let mut client = WatchClient::new(link.channel.clone()).max_decoding_message_size(ANSWER_LEN_MAX);
        let opened = tokio::time::timeout(PAGE_PATIENCE, client.watch(link.request(requests))).await;
        match opened {
            Ok(Ok(answers)) => Ok(answers.into_inner()),
            Ok(Err(status)) => {
                self.cluster.give_up(&link);
                Err(of_status(operation, &status).into())
            }
            Err(_) => {
                self.cluster.give_up(&link);
                Err(lost("etcd does not answer in time"))
            }
        }
    }

    /// Sees to it that what is in etcd is the history that was followed until now: its last transaction is where it was.
    async fn check_history(&self) -> Result<(), Stop> {
        let (revision, (modified, value)) = {
            let cache = self.cache();
            (cache.applied(), cache.last().clone())
        };
        let request = RangeRequest { key: self.keys.bytes(&Key::Last), ..RangeRequest::default() };
        let deadline = Instant::now() + PAGE_PATIENCE;
        let now = self.cluster.range("check the history", request.clone(), deadline).await?;
        if now.header.map_or(0, |header| header.revision) < revision {
            return Err(Stop::Other);
        }
        let then = RangeRequest { revision, ..request };
        let then = self.cluster.range("check the history", then, deadline).await?;
        match then.kvs.first() {
            Some(last) if last.mod_revision == modified && last.value == value => Ok(()),
            _ => Err(Stop::Other),
        }
    }

    fn take_in(&self, answer: WatchResponse, assembly: &mut Assembly) -> Result<(), Stop> {
        if answer.compact_revision > 0 {
            return Err(Stop::Compacted);
        }
        if answer.canceled {
            return Err(lost(&answer.cancel_reason));
        }
        for events in assembly.take_in(answer.events, answer.fragment) {
            let now = self.now();
            let mut cache = self.cache();
            if events.first().is_some_and(|event| at(event) <= cache.applied()) {
                continue;
            }
            let was_alive = cache.liveness.is_alive(self.me);
            let step = cache.apply(now, &events)?;
            let (applied, revision) = (cache.applied(), cache.state().revision());
            let is_alive = cache.liveness.is_alive(self.me);
            drop(cache);
            if was_alive && !is_alive {
                self.lease().lose();
            }
            if was_alive != is_alive {
                self.lease_changed.notify_waiters();
            }
            self.publish(step, applied, revision);
        }
        Ok(())
    }

    /// Reads everything again. Watches get a `Reset`, unless nothing changed meanwhile.
    async fn begin_again(&self, is_other: bool) -> Result<(), Stop> {
        let reader = Reader { cluster: &self.cluster, keys: &self.keys, me: self.me };
        reader.ensure_head().await?;
        let base = self.cache().base();
        let mut cache = reader.read(&self.options, self.now(), None).await?;
        let is_known = cache.base() == base;
        let (at, published) = (cache.state().revision(), self.feed.list(&Query::everything()));
        if is_to_be_rebased(is_known, is_other, at, published.at) {
            reader.rebase(published.at).await?;
            cache = reader.read(&self.options, self.now(), None).await?;
        } else if at == published.at && cache.everything()[..] != published.instances[..] {
            // Changed by somebody who made no revision.
            reader.bump(cache.base()).await?;
            cache = reader.read(&self.options, self.now(), None).await?;
        }
        cache.liveness.inherit(&self.cache().liveness);
        self.replace(cache);
        Ok(())
    }
}

/// Whether the revisions of what was read, the last of them `at`, would be taken for those of the history that was followed
/// until now, up to `published`.
///
/// That its base is not `known` is not enough: of several servers that find another history each draws a new base, and the
/// last to write it need not have been the last to look at its clock.
fn is_to_be_rebased(is_known: bool, is_other: bool, at: Revision, published: Revision) -> bool {
    if is_known { is_other || at < published } else { at <= published }
}

fn lost(said: &str) -> Stop {
    Stop::Lost(ClusterFault::new("follow the history", said))
}

/// Reads what is in etcd, and begins it where nothing is.
pub(crate) struct Reader<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) keys: &'a Keys,
    pub(crate) me: ServerId,
}

impl Reader<'_> {
    /// Begins a registry where none is.
    pub(crate) async fn ensure_head(&self) -> Result<(), Failure> {
        let mut transaction = Transaction::new(self.keys);
        transaction.must_be_absent(&Key::Head);
        self.put_head(transaction, new_base()).await
    }

    /// Has revisions counted anew, from the present time, and after one that was told already.
    async fn rebase(&self, after: Revision) -> Result<(), Failure> {
        self.put_head(Transaction::new(self.keys), new_base().max(after.number())).await
    }

    /// Makes a revision at which nothing changes.
    async fn bump(&self, base: u64) -> Result<(), Failure> {
        self.put_head(Transaction::new(self.keys), base).await
    }

    async fn put_head(&self, mut transaction: Transaction<'_>, base: u64) -> Result<(), Failure> {
        transaction.make_a_revision();
        let request = transaction.request(base, Mark { server: self.me, sequence: u64::MAX });
        let deadline = Instant::now() + PAGE_PATIENCE;
        self.cluster.transact_until("begin the registry", request, deadline).await.map(drop)
    }

    /// Everything as of now, or as of a revision of etcd.
    pub(crate) async fn read(
        &self,
        options: &EtcdOptions,
        now: Duration,
        at: Option<i64>,
    ) -> Result<Cache, Stop> {
        let (revision, contents) = self.pages(at).await?;
        let StoreOptions { limits, .. } = options.store.clone();
        let liveness = Liveness::new(self.me, options.grace);
        Ok(Cache::of(self.keys.clone(), liveness, limits, now, revision, &contents)?)
    }

    /// The revision of etcd now, that of the last transaction of ours, and that of the first.
    pub(crate) async fn revisions(&self) -> Result<(i64, i64, i64), Failure> {
        let request = RangeRequest { key: self.keys.bytes(&Key::Last), ..RangeRequest::default() };
        let deadline = Instant::now() + PAGE_PATIENCE;
        let answer = self.cluster.range("read the registry", request, deadline).await?;
        let now = answer.header.map_or(0, |header| header.revision);
        let last = answer.kvs.first();
        Ok((now, last.map_or(0, |last| last.mod_revision), last.map_or(0, |last| last.create_revision)))
    }

    /// From where revisions are counted.
    pub(crate) async fn base(&self) -> Result<u64, Stop> {
        let request = RangeRequest { key: self.keys.bytes(&Key::Head), ..RangeRequest::default() };
        let deadline = Instant::now() + PAGE_PATIENCE;
        let answer = self.cluster.range("read the registry", request, deadline).await?;
        let head = answer.kvs.first().ok_or(Broken::Unfit("there is no head"))?;
        Ok(read_base(&head.value).map_err(Broken::from)?)
    }

    async fn pages(&self, at: Option<i64>) -> Result<(i64, Vec<KeyValue>), Failure> {
        let (mut key, range_end) = self.keys.everything();
        let mut revision = at.unwrap_or_default();
        let mut contents: Vec<KeyValue> = Vec::new();
        loop {
            let (key_now, range_end) = (key.clone(), range_end.clone());
            let request = RangeRequest { key: key_now, range_end, limit: PAGE_LEN, revision };
            let deadline = Instant::now() + PAGE_PATIENCE;
            let page = self.cluster.range("read the registry", request, deadline).await?;
            if revision == 0 {
                revision = page.header.map_or(0, |header| header.revision);
            }
            contents.extend(page.kvs);
            match contents.last() {
                Some(last) if page.more => key = [last.key.as_slice(), &[0]].concat(),
                _ => return Ok((revision, contents)),
            }
        }
    }
}

/// Above every revision counted from an earlier base, as long as none made more than a million changes a second and no
/// clock went back by more than the registry was old. JSON readers keep it exact until the year 2255.
fn new_base() -> u64 {
    let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(age.as_micros()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_history_goes_on_before_the_end_of_what_was_told() {
        let [before, end, after] = [1, 2, 3].map(Revision::new);
        for is_other in [false, true] {
            assert!(is_to_be_rebased(true, is_other, before, end));
            assert!(
                is_to_be_rebased(false, is_other, before, end),
                "another server drew a base, a little earlier"
            );
            assert!(is_to_be_rebased(false, is_other, end, end));
            assert!(!is_to_be_rebased(false, is_other, after, end));
        }
        assert!(!is_to_be_rebased(true, false, end, end) && !is_to_be_rebased(true, false, after, end));
        assert!(is_to_be_rebased(true, true, after, end));
    }
}
