//! Those who are compared: a server process each, on loopback, with files of its own on a disk.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use netloft_netns::Netns;
use netloft_tests::bench::process::Process;
use tokio::time::timeout;

use crate::client::Client;
use crate::consul::Consul;
use crate::etcd::Etcd;
use crate::field::Bench;
use crate::netloft::{Netloft, Store};
use crate::rnacos::Rnacos;
use crate::zookeeper::Zookeeper;
use crate::{consul, etcd, netloft, rnacos, zookeeper};

/// How long a server may take to begin with a client.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How many ports each has.
const PORTS: u16 = 4;

/// A registry, and how it keeps what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Netloft(Store),
    Etcd(Syncing),
    Zookeeper(Syncing),
    Consul,
    Rnacos,
}

/// Whether an answer waits until the disk has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syncing {
    Always,
    Never,
}

impl Kind {
    /// Those whose answers outlive a cut of power.
    pub(crate) const DURABLE: [Self; 3] =
        [Self::Netloft(Store::Embedded), Self::Etcd(Syncing::Always), Self::Zookeeper(Syncing::Always)];
    /// Those whose answers do not wait for a disk.
    pub(crate) const QUICK: [Self; 3] =
        [Self::Netloft(Store::Memory), Self::Etcd(Syncing::Never), Self::Zookeeper(Syncing::Never)];
    /// One of each, and both of ours: for whatever does not depend on the disk.
    pub(crate) const READING: [Self; 4] = [
        Self::Netloft(Store::Memory),
        Self::Netloft(Store::Embedded),
        Self::Etcd(Syncing::Always),
        Self::Zookeeper(Syncing::Always),
    ];
    /// Those that are widely used, or quick, and take part in few rows.
    pub(crate) const OTHERS: [Self; 2] = [Self::Consul, Self::Rnacos];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Netloft(Store::Memory) => "netloft, memory",
            Self::Netloft(Store::Embedded) => "netloft, embedded",
            Self::Etcd(Syncing::Always) => "etcd",
            Self::Etcd(Syncing::Never) => "etcd without fsync",
            Self::Zookeeper(Syncing::Always) => "ZooKeeper",
            Self::Zookeeper(Syncing::Never) => "ZooKeeper without fsync",
            Self::Consul => "Consul's catalog",
            Self::Rnacos => "r-nacos",
        }
    }

    /// Whether it gets quicker as it runs.
    pub(crate) fn compiles_while_running(self) -> bool {
        matches!(self, Self::Zookeeper(_))
    }

    /// What `--peers` calls it; ours is always measured.
    pub(crate) fn flag(self) -> Option<&'static str> {
        match self {
            Self::Netloft(_) => None,
            Self::Etcd(_) => Some("etcd"),
            Self::Zookeeper(_) => Some("zookeeper"),
            Self::Consul => Some("consul"),
            Self::Rnacos => Some("rnacos"),
        }
    }
}

/// Where a server listens and keeps its files.
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    pub(crate) data: PathBuf,
    log: PathBuf,
}

impl Place {
    fn new(bench: &Bench) -> Self {
        // Nobody else is in this network.
        static PORT: AtomicU16 = AtomicU16::new(7_400);
        let port = PORT.fetch_add(PORTS, Ordering::Relaxed);
        let file = |name| bench.files().join(format!("{name}-{port}"));
        Self { address: ([127, 0, 0, 1], port).into(), data: file("data"), log: file("log") }
    }

    /// One of its ports. The first is that of its address; the others are for those who listen more than once.
    pub(crate) fn port(&self, index: u16) -> u16 {
        debug_assert!(index < PORTS);
        self.address.port() + index
    }
}

/// A server, and how to get at it. Dropping it kills it and removes its files.
pub(crate) struct Contender {
    pub(crate) kind: Kind,
    place: Place,
    process: Process,
}

impl Contender {
    /// Starts a server without a past, and waits until it answers.
    pub(crate) fn start(kind: Kind, bench: &Bench) -> Result<Self> {
        let place = Place::new(bench);
        let process = spawn(kind, &place, bench)?;
        let mut this = Self { kind, place, process };
        let place = &this.place;
        this.process.brings("an answer", || bench.runtime.block_on(answers(kind, place.address)))?;
        bench.runtime.block_on(async {
            if let Kind::Zookeeper(_) = kind {
                Zookeeper::connect(place.address).await?.prepare().await?;
            }
            anyhow::Ok(())
        })?;
        Ok(this)
    }

    /// Kills it, as a cut of power would, but for what the kernel has.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again, on what it left, and does not wait.
    pub(crate) fn start_again(&mut self, bench: &Bench) -> Result<()> {
        self.process = spawn(self.kind, &self.place, bench)?;
        Ok(())
    }

    pub(crate) async fn connect(&self) -> Result<Box<dyn Client>> {
        // A server that is starting can have a connection and say nothing.
        timeout(CONNECT_TIMEOUT, connect(self.kind, self.place.address)).await?
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The bytes of disk that its files take.
    pub(crate) fn disk(&self) -> Result<u64> {
        if self.place.data.exists() { disk_of(&self.place.data) } else { Ok(0) }
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        self.process.kill();
        // The whole directory goes with the bench; this makes room for the next.
        let _ = fs::remove_dir_all(&self.place.data);
    }
}

fn spawn(kind: Kind, place: &Place, bench: &Bench) -> Result<Process> {
    let command = match kind {
        Kind::Netloft(store) => netloft::server(store, place)?,
        Kind::Etcd(syncing) => etcd::server(syncing, place, &bench.peers)?,
        Kind::Zookeeper(syncing) => zookeeper::server(syncing, place, &bench.peers)?,
        Kind::Consul => consul::server(place, &bench.peers)?,
        Kind::Rnacos => rnacos::server(place, &bench.peers)?,
    };
    Process::start(command, &Netns::current()?, &place.log)
}

async fn connect(kind: Kind, address: SocketAddr) -> Result<Box<dyn Client>> {
    Ok(match kind {
        Kind::Netloft(_) => Box::new(Netloft::connect(address).await?),
        Kind::Etcd(_) => Box::new(Etcd::connect(address).await?),
        Kind::Zookeeper(_) => Box::new(Zookeeper::connect(address).await?),
        Kind::Consul => Box::new(Consul::connect(address).await?),
        Kind::Rnacos => Box::new(Rnacos::connect(address).await?),
    })
}

/// Whether a session can be opened and kept, which needs all of a server.
async fn answers(kind: Kind, address: SocketAddr) -> bool {
    let asked = async {
        let mut client = connect(kind, address).await?;
        client.heartbeat().await?;
        client.finish().await
    };
    timeout(CONNECT_TIMEOUT, asked).await.is_ok_and(|asked| asked.is_ok())
}

fn disk_of(path: &Path) -> Result<u64> {
    let mut blocks = 0;
    for entry in fs::read_dir(path).with_context(|| format!("cannot look into {}", path.display()))? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        // Of 512 bytes, whatever the file system has (stat(2)).
        blocks += if metadata.is_dir() { disk_of(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(blocks)
}
