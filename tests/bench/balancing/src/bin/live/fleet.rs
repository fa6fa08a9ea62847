//! The replicas, and each way in which somebody is told of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use netloft_client::{Client, RegisterOptions, Registration};
use netloft_registry::{MemoryStore, StoreOptions};
use netloft_rpc::{Listener, ServerOptions};
use netloft_types::Instance;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::REPLICAS;
use crate::ads;
use crate::replica::{Nature, Replica};

/// What happens.
#[derive(Debug, Clone, Copy)]
pub enum Event {
    None,
    /// Another one comes, and everybody is told.
    Join,
    /// The first one stands still for a second.
    Stop,
    /// The first one is killed.
    Kill,
}

pub struct Fleet {
    replicas: Vec<Replica>,
    /// Who is there, as everybody is told.
    pub announced: watch::Sender<Vec<SocketAddr>>,
    /// Where our registry is.
    pub registry: String,
    /// Where the server of xDS is.
    pub ads: SocketAddr,
    registrar: Client,
    registrations: Vec<Registration>,
    servers: Vec<JoinHandle<()>>,
}

impl Fleet {
    pub async fn start(first: Nature) -> anyhow::Result<Self> {
        let listener = Listener::tcp("127.0.0.1:0".parse()?).await?;
        let registry = format!("http://{listener}");
        let store = Arc::new(MemoryStore::start(StoreOptions::default()));
        let serving = tokio::spawn(async move {
            let _ =
                netloft_rpc::serve(listener, store, ServerOptions::default(), std::future::pending()).await;
        });
        let announced = watch::Sender::new(Vec::new());
        let (ads, serving_ads) = ads::serve(announced.subscribe()).await?;
        let mut fleet = Self {
            replicas: Vec::new(),
            announced,
            registrar: Client::connect(registry.parse()?),
            registry,
            ads,
            registrations: Vec::new(),
            servers: vec![serving, serving_ads],
        };
        for number in 0..REPLICAS {
            fleet.add(if number == 0 { first } else { Nature::ORDINARY }).await?;
        }
        Ok(fleet)
    }

    async fn add(&mut self, nature: Nature) -> anyhow::Result<()> {
        let replica = Replica::start(nature).await?;
        let id = format!("echo-{}", self.replicas.len()).parse()?;
        let (address, port) = (replica.address.ip(), u32::from(replica.address.port()));
        let instance = Instance::new(id, "echo".parse()?, address, port.try_into()?);
        let options = RegisterOptions { ttl: Duration::from_secs(600) };
        self.registrations.push(self.registrar.register(instance, options).await?);
        self.announced.send_modify(|all| all.push(replica.address));
        self.replicas.push(replica);
        Ok(())
    }

    pub async fn undergo(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::None => {}
            Event::Join => self.add(Nature::COLD).await?,
            Event::Kill => self.signal(Signal::SIGKILL)?,
            Event::Stop => {
                self.signal(Signal::SIGSTOP)?;
                tokio::time::sleep(Duration::from_secs(1)).await;
                self.signal(Signal::SIGCONT)?;
            }
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let process = self.replicas[0].process.as_ref().and_then(tokio::process::Child::id);
        let pid = process.ok_or_else(|| anyhow::anyhow!("the replica is gone"))?;
        Ok(kill(Pid::from_raw(pid.try_into()?), signal)?)
    }

    pub async fn stop(mut self) {
        for process in self.replicas.iter_mut().filter_map(|replica| replica.process.as_mut()) {
            let _ = process.kill().await;
        }
        for server in &self.servers {
            server.abort();
        }
    }
}
