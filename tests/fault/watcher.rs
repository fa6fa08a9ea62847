//! One who watches, at a pace of its own, through whatever happens to the connection, and keeps everything it is told.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use netloft_proto::registry::v1 as wire;
use netloft_proto::registry::v1::registry_client::RegistryClient;
use netloft_proto::{from_wire, to_wire};
use netloft_registry::testing::Recording;
use netloft_types::{Instance, InstanceId, Query, Revision, Update};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tonic::Streaming;

use crate::speaker::endpoint;
use crate::words::{Content, SERVICES, instance_of, now};

/// Nobody answers for so long unless it is gone, or stopped, or cut off.
const DEADLINE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(30);

/// How somebody reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Everything at once, and never hangs up: one whose word is taken for what happened.
    Witness,
    /// At once, and hangs up now and then.
    Restless,
    /// Slowly, from a stream that takes next to nothing ahead.
    Slow,
}

pub(crate) struct Watcher {
    servers: Vec<SocketAddr>,
    /// Which one it watches at, the next time it begins.
    at: usize,
    from: IpAddr,
    pace: Pace,
    dice: StdRng,
    /// What it knows.
    known: BTreeMap<InstanceId, Arc<Instance>>,
    reached: watch::Sender<Option<Revision>>,
    told: Told,
}

/// Everything that somebody was told.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) recording: Recording,
    /// When each batch came.
    pub(crate) times: Vec<u64>,
    /// How often it went on where it had been, and how often that began with a `Reset`.
    pub(crate) resumed: usize,
    pub(crate) resumed_by_reset: usize,
    /// What it knew in the end.
    pub(crate) known: Vec<Arc<Instance>>,
}

impl Watcher {
    pub(crate) fn new(servers: Vec<SocketAddr>, from: IpAddr, query: Query, pace: Pace, seed: u64) -> Self {
        let recording = Recording { query, batches: Vec::new() };
        Self {
            servers,
            at: 0,
            from,
            pace,
            dice: StdRng::seed_from_u64(seed),
            known: BTreeMap::new(),
            reached: watch::Sender::new(None),
            told: Told { recording, times: Vec::new(), resumed: 0, resumed_by_reset: 0, known: Vec::new() },
        }
    }

    /// How far it has got, from now on.
    pub(crate) fn reached(&self) -> watch::Receiver<Option<Revision>> {
        self.reached.subscribe()
    }

    /// Watches until it is told of the end of all that it watches.
    pub(crate) async fn run(mut self) -> Told {
        while !self.is_over() {
            let after = self.told.recording.batches.last().and_then(|batch| Some(batch.last()?.at()));
            let begun = self.begin(after).await;
            // What it knows from one server goes on at the next.
            self.at = (self.at + 1) % self.servers.len();
            let Some(stream) = begun else {
                sleep(PAUSE).await;
                continue;
            };
            self.read(stream, after.is_some()).await;
        }
        self.told.known = self.known.into_values().collect();
        self.told
    }

    async fn begin(&self, after: Option<Revision>) -> Option<Streaming<wire::WatchResponse>> {
        let mut endpoint = endpoint(self.servers[self.at], self.from)
            .http2_keep_alive_interval(DEADLINE / 2)
            .keep_alive_timeout(DEADLINE);
        if self.pace == Pace::Slow {
            endpoint = endpoint.initial_stream_window_size(Some(1_024));
        }
        let channel = timeout(DEADLINE, endpoint.connect()).await.ok()?.ok()?;
        let request = wire::WatchRequest {
            query: Some(to_wire::query(&self.told.recording.query)),
            after_revision: after.map(Revision::number),
        };
        let mut rpc = RegistryClient::new(channel).max_decoding_message_size(64 << 20);
        Some(timeout(DEADLINE, rpc.watch(request)).await.ok()?.ok()?.into_inner())
    }

    /// Reads until the stream ends, or it has enough of it.
    async fn read(&mut self, mut stream: Streaming<wire::WatchResponse>, is_resumed: bool) {
        let mut is_first = true;
        while let Ok(Some(batch)) = stream.message().await {
            let batch: Vec<_> =
                batch.updates.into_iter().map(|update| from_wire::update(update).unwrap()).collect();
            if is_first && is_resumed {
                self.told.resumed += 1;
                let is_reset = matches!(batch.first(), Some(Update::Reset { .. }));
                self.told.resumed_by_reset += usize::from(is_reset);
            }
            is_first = false;
            self.take_in(batch);
            if self.is_over() || self.rest().await.is_break() {
                return;
            }
        }
    }

    /// Reads slowly, or hangs up.
    async fn rest(&mut self) -> ControlFlow<()> {
        let hangs_up = self.pace != Pace::Witness && self.dice.random_range(0..40) == 0;
        if self.pace == Pace::Slow {
            // Now and then it falls asleep.
            let longest = if self.dice.random_range(0..6) == 0 { 2_500 } else { 200 };
            sleep(Duration::from_millis(self.dice.random_range(0..longest))).await;
        }
        if hangs_up { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn take_in(&mut self, batch: Vec<Update>) {
        for update in &batch {
            match update {
                Update::Reset { all, .. } => {
                    self.known = all.iter().map(|one| (one.id.clone(), Arc::clone(one))).collect();
                }
                Update::Put { instance, .. } => {
                    self.known.insert(instance.id.clone(), Arc::clone(instance));
                }
                Update::Delete { id, .. } => {
                    self.known.remove(id);
                }
                Update::Progress { .. } => {}
            }
        }
        self.reached.send_replace(batch.last().map(Update::at));
        self.told.recording.batches.push(batch);
        self.told.times.push(now());
    }

    fn is_over(&self) -> bool {
        let only = &self.told.recording.query.service;
        let mut watched =
            ends().into_iter().filter(|(_, end)| only.as_ref().is_none_or(|it| *it == end.service));
        watched.all(|(_, end)| self.known.contains_key(&end.id))
    }
}

/// What says of each service that nothing comes after it: instances that no query hides, with their values.
pub(crate) fn ends() -> Vec<(u64, Instance)> {
    let end_of = |service: &str| {
        let content = |value| Content { registered: value, said: value, kept_out: None };
        let mut all =
            (1_000_000_000_u64..).map(|value| (value, instance_of(&end_key(service), content(value))));
        let is_seen = |instance: &Instance| {
            instance.service.as_str() == service
                && instance.tags.iter().count() == 2
                && Query { health: netloft_types::HealthFilter::Passing, ..Query::default() }
                    .matches(instance)
        };
        all.find(|(_, instance)| is_seen(instance)).unwrap()
    };
    SERVICES.iter().map(|service| end_of(service)).collect()
}

pub(crate) fn end_key(service: &str) -> String {
    format!("end-of-{service}")
}
