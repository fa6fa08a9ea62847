//! r-nacos: the protocol of Nacos in Rust, by its HTTP interface; an ephemeral instance for each instance.
//!
//! It keeps instances in memory only, and takes those for ill that were silent for a quarter of a minute.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Result, bail};
use hyper::Method;
use netloft_tests::bench::peers::Peers;
use serde_json::Value;

use crate::client::{Client, Instance, service_name};
use crate::contender::Place;
use crate::http::{Http, escaped, numbers};

const INSTANCE: &str = "/nacos/v1/ns/instance";
/// Longer than a bench takes, as for everybody.
const TTL_S: &str = "3600";

pub(crate) fn server(place: &Place, peers: &Peers) -> Result<Command> {
    let mut command = peers.command(peers.built("rnacos")?);
    let [http, grpc, console] = [0, 1, 2].map(|index| place.port(index).to_string());
    let host = place.address.ip().to_string();
    fs::create_dir_all(&place.data)?;
    command.current_dir(&place.data);
    command.envs([
        ("RUST_LOG", "warn"),
        ("RNACOS_SDK_HOST", &host),
        ("RNACOS_CONSOLE_HOST", &host),
        ("RNACOS_HTTP_PORT", &http),
        ("RNACOS_GRPC_PORT", &grpc),
        ("RNACOS_HTTP_CONSOLE_PORT", &console),
        ("RNACOS_RAFT_NODE_ADDR", &format!("{host}:{grpc}")),
        ("RNACOS_NAMING_HEALTH_TIMEOUT_SECOND", TTL_S),
        ("RNACOS_NAMING_INSTANCE_TIMEOUT_SECOND", TTL_S),
    ]);
    command.env("RNACOS_DATA_DIR", &place.data).env("RNACOS_CONFIG_DB_DIR", &place.data);
    Ok(command)
}

pub(crate) struct Rnacos(Http);

impl Rnacos {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        Ok(Self(Http::connect(address).await?))
    }
}

#[tonic::async_trait]
impl Client for Rnacos {
    async fn register(&mut self, instance: Instance) -> Result<()> {
        let (service, address, port) = (instance.service_name(), instance.address(), instance.port());
        let mut metadata = Instance::metadata();
        metadata.insert("id".into(), instance.id().into());
        metadata.insert("tags".into(), Instance::TAGS.join(",").into());
        let metadata = escaped(&Value::from(metadata).to_string());
        let named = format!("serviceName={service}&ip={address}&port={port}");
        let path = format!("{INSTANCE}?{named}&ephemeral=true&weight=1&metadata={metadata}");
        self.0.call(Method::POST, &path, Vec::new()).await.map(drop)
    }

    async fn lookup(&mut self, service: u32) -> Result<Vec<u32>> {
        let path = format!("{INSTANCE}/list?serviceName={}&healthyOnly=true", service_name(service));
        numbers(&self.0.call(Method::GET, &path, Vec::new()).await?)
    }

    /// It is instances that are kept alive, and no clients; this asks how it is.
    async fn heartbeat(&mut self) -> Result<()> {
        self.0.call(Method::GET, "/nacos/v1/ns/operator/metrics", Vec::new()).await.map(drop)
    }

    async fn watch(&mut self, _: u32) -> Result<()> {
        bail!("its watches are not measured")
    }

    async fn changed(&mut self) -> Result<Vec<u32>> {
        bail!("its watches are not measured")
    }

    /// What it registered stays: taking many away keeps the server busy long after it has answered, and would be
    /// measured with what comes next.
    async fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}
