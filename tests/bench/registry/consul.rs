//! Consul: an entry of its catalog for each instance, on a node for each client.
//!
//! Its catalog and not its agent, which answers some twenty times slower. What a client registered is gone when its node
//! is; nothing has to be kept alive.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail};
use hyper::Method;
use netloft_tests::bench::peers::Peers;
use serde_json::json;

use crate::client::{Client, Instance, service_name};
use crate::contender::Place;
use crate::http::{Http, numbers};

pub(crate) fn server(place: &Place, peers: &Peers) -> Result<Command> {
    let mut command = peers.command(peers.debian("usr/bin/consul")?);
    let [http, server, lan, wan] = [0, 1, 2, 3].map(|index| place.port(index));
    // Of one address, it takes no more than 200 connections; and it elects itself sooner than is usual.
    let settings = json!({
        "node_name": "bench",
        "bind_addr": place.address.ip(),
        "client_addr": place.address.ip(),
        "log_level": "err",
        "disable_update_check": true,
        "ports": { "http": http, "server": server, "serf_lan": lan, "serf_wan": wan, "dns": -1, "grpc": -1 },
        "limits": { "http_max_conns_per_client": 15_000, "rpc_max_conns_per_client": 15_000 },
        "performance": { "raft_multiplier": 1 },
    });
    fs::create_dir_all(&place.data)?;
    let file = place.data.join("settings.json");
    fs::write(&file, settings.to_string())?;
    command.args(["agent", "-server", "-bootstrap-expect=1", "-config-file"]).arg(file);
    command.arg("-data-dir").arg(place.data.join("data"));
    Ok(command)
}

pub(crate) struct Consul {
    http: Http,
    node: String,
}

impl Consul {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        static NODE: AtomicU32 = AtomicU32::new(0);
        let node = format!("node-{}", NODE.fetch_add(1, Ordering::Relaxed));
        Ok(Self { http: Http::connect(address).await?, node })
    }
}

#[tonic::async_trait]
impl Client for Consul {
    async fn register(&mut self, instance: Instance) -> Result<()> {
        // The address of a node that stays: a new one would be written beside each instance.
        let body = json!({
            "Node": self.node,
            "Address": "127.0.0.1",
            "Service": {
                "ID": instance.id(),
                "Service": instance.service_name(),
                "Address": instance.address(),
                "Port": instance.port(),
                "Tags": Instance::TAGS,
                "Meta": Instance::metadata(),
            },
        });
        self.http.call(Method::PUT, "/v1/catalog/register", body.to_string().into()).await.map(drop)
    }

    async fn lookup(&mut self, service: u32) -> Result<Vec<u32>> {
        let path = format!("/v1/health/service/{}?passing=1", service_name(service));
        numbers(&self.http.call(Method::GET, &path, Vec::new()).await?)
    }

    /// There is nothing to keep alive; this asks whether there is a leader, who can write.
    async fn heartbeat(&mut self) -> Result<()> {
        self.http.call(Method::GET, "/v1/catalog/nodes?consistent", Vec::new()).await.map(drop)
    }

    async fn watch(&mut self, _: u32) -> Result<()> {
        bail!("its watches are not measured")
    }

    async fn changed(&mut self) -> Result<Vec<u32>> {
        bail!("its watches are not measured")
    }

    async fn finish(&mut self) -> Result<()> {
        let body = json!({ "Node": self.node }).to_string();
        self.http.call(Method::PUT, "/v1/catalog/deregister", body.into()).await.map(drop)
    }
}
