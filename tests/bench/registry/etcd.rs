//! etcd: a key for each instance, on one lease a client.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use netloft_tests::bench::peers::Peers;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use self::wire::kv_client::KvClient;
use self::wire::lease_client::LeaseClient;
use self::wire::watch_client::WatchClient;
use crate::channel::Channel;
use crate::client::{Client, Instance, number, service_name};
use crate::contender::{Place, Syncing};

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated code")]
mod wire {
    tonic::include_proto!("etcdserverpb");
}

/// Longer than a bench takes.
const TTL_S: i64 = 3_600;
const PUT: i32 = 0;

pub(crate) fn server(syncing: Syncing, place: &Place, peers: &Peers) -> Result<Command> {
    let mut command = peers.command(peers.debian("usr/bin/etcd")?);
    let clients = format!("http://{}", place.address);
    let members = format!("http://{}:{}", place.address.ip(), place.port(1));
    command.args(["--name", "bench", "--data-dir"]).arg(&place.data);
    command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
    command.args(["--listen-peer-urls", &members, "--initial-advertise-peer-urls", &members]);
    command.args(["--initial-cluster", &format!("bench={members}")]);
    command.args(["--logger", "zap", "--log-level", "error"]);
    // Of the default of 2 GB, registering for some minutes leaves nothing, because old revisions stay.
    command.args(["--quota-backend-bytes", "8589934592"]);
    if syncing == Syncing::Never {
        command.arg("--unsafe-no-fsync");
    }
    Ok(command)
}

pub(crate) struct Etcd {
    keys: KvClient<Channel>,
    leases: LeaseClient<Channel>,
    watches: WatchClient<Channel>,
    lease: Option<i64>,
    renewals: Option<(mpsc::Sender<wire::LeaseKeepAliveRequest>, Streaming<wire::LeaseKeepAliveResponse>)>,
    /// The watch lasts as long as its requests.
    watch: Option<(mpsc::Sender<wire::WatchRequest>, Streaming<wire::WatchResponse>)>,
}

impl Etcd {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let (channel, origin) = Channel::connect(address).await?;
        let keys = KvClient::with_origin(channel.clone(), origin.clone());
        Ok(Self {
            keys: keys.max_decoding_message_size(usize::MAX),
            leases: LeaseClient::with_origin(channel.clone(), origin.clone()),
            watches: WatchClient::with_origin(channel, origin),
            lease: None,
            renewals: None,
            watch: None,
        })
    }

    async fn lease(&mut self) -> Result<i64> {
        if let Some(lease) = self.lease {
            return Ok(lease);
        }
        let granted = self.leases.lease_grant(wire::LeaseGrantRequest { ttl: TTL_S }).await?.into_inner().id;
        self.lease = Some(granted);
        Ok(granted)
    }
}

#[tonic::async_trait]
impl Client for Etcd {
    async fn register(&mut self, instance: Instance) -> Result<()> {
        let lease = self.lease().await?;
        let key = format!("{}{}", prefix(instance.service), instance.id()).into_bytes();
        self.keys.put(wire::PutRequest { key, value: instance.json(), lease }).await?;
        Ok(())
    }

    async fn lookup(&mut self, service: u32) -> Result<Vec<u32>> {
        let (key, range_end) = range(service);
        let found = self.keys.range(wire::RangeRequest { key, range_end }).await?.into_inner().kvs;
        found.iter().map(numbered).collect()
    }

    async fn heartbeat(&mut self) -> Result<()> {
        let id = self.lease().await?;
        let request = wire::LeaseKeepAliveRequest { id };
        if self.renewals.is_none() {
            let (requests, outgoing) = mpsc::channel(1);
            // It answers the call with the answer to the first request.
            requests.send(request).await?;
            let answers = self.leases.lease_keep_alive(ReceiverStream::new(outgoing)).await?.into_inner();
            self.renewals = Some((requests, answers));
        } else if let Some((requests, _)) = &self.renewals {
            requests.send(request).await?;
        }
        let (_, answers) = self.renewals.as_mut().context("was just made")?;
        let answer = answers.message().await?.context("the renewals ended")?;
        ensure!(answer.ttl > 0, "the lease is gone");
        Ok(())
    }

    async fn watch(&mut self, service: u32) -> Result<()> {
        let (key, range_end) = range(service);
        let create = wire::WatchCreateRequest { key, range_end };
        let request = wire::WatchRequest {
            request_union: Some(wire::watch_request::RequestUnion::CreateRequest(create)),
        };
        let (requests, outgoing) = mpsc::channel(1);
        requests.send(request).await?;
        let mut answers = self.watches.watch(ReceiverStream::new(outgoing)).await?.into_inner();
        ensure!(answers.message().await?.is_some_and(|answer| answer.created), "there is no watch");
        self.watch = Some((requests, answers));
        Ok(())
    }

    async fn changed(&mut self) -> Result<Vec<u32>> {
        let (_, answers) = self.watch.as_mut().context("nothing is watched")?;
        let answer = answers.message().await?.context("the watch ended")?;
        ensure!(!answer.canceled, "the watch was cancelled");
        let put = answer.events.iter().filter(|event| event.r#type == PUT);
        put.filter_map(|event| event.kv.as_ref()).map(numbered).collect()
    }

    async fn finish(&mut self) -> Result<()> {
        if let Some(id) = self.lease.take() {
            self.leases.lease_revoke(wire::LeaseRevokeRequest { id }).await?;
        }
        Ok(())
    }
}

fn numbered(pair: &wire::KeyValue) -> Result<u32> {
    ensure!(!pair.value.is_empty(), "there is nothing in it");
    number(str::from_utf8(&pair.key)?)
}

fn prefix(service: u32) -> String {
    format!("/services/{}/", service_name(service))
}

/// All keys that begin with the prefix of a service: `0` comes after `/`.
fn range(service: u32) -> (Vec<u8>, Vec<u8>) {
    let first = prefix(service).into_bytes();
    let mut end = first.clone();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    (first, end)
}
