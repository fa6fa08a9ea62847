//! Those who are compared, and the host that each has to itself.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};
use netloft_netns::{Netns, NetnsDir};
use netloft_types::SandboxName;
use nix::mount::{MntFlags, umount2};

use crate::cni::Cni;
use crate::docker::Docker;
use crate::floor::{Floor, Ipv6, Namespaces};
use crate::ip::Ip;
use crate::netavark::Netavark;
use crate::netloft::{Daemon, InProcess};
use netloft_tests::bench::peers::Peers;

/// A way to attach a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The system calls that have to be made, in a namespace that is there already.
    FloorReady,
    /// The same, and the namespace is made on the spot.
    FloorMade,
    /// The same, with IPv6 left as the kernel has it: what a bridge costs that nobody cared about.
    FloorIpv6,
    /// Ours, called in this process, taking from its stock of namespaces.
    InProcess,
    /// The same when the stock is used up.
    UsedUp,
    /// Ours, called in this process, with so many endpoints kept ready.
    Ready(u16),
    /// Ours, through the socket of the agent.
    Daemon,
    /// The same, with so many endpoints kept ready.
    DaemonReady(u16),
    Ip,
    Cni,
    NetavarkDebian,
    Netavark21,
    Docker,
}

impl Kind {
    /// Those that attach one sandbox at a time.
    pub(crate) const ALL: [Self; 10] = [
        Self::FloorReady,
        Self::InProcess,
        Self::FloorMade,
        Self::UsedUp,
        Self::Daemon,
        Self::Ip,
        Self::Netavark21,
        Self::NetavarkDebian,
        Self::Docker,
        Self::Cni,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::FloorReady => "floor, namespace ready",
            Self::FloorMade => "floor, namespace made",
            Self::FloorIpv6 => "plain bridge with IPv6 on",
            Self::InProcess => "netloft in process",
            Self::UsedUp => "netloft in process, stock used up",
            Self::Ready(_) => "netloft in process, kept ready",
            Self::Daemon => "netloftd",
            Self::DaemonReady(_) => "netloftd, kept ready",
            Self::Ip => "ip, a process a step",
            Self::Cni => "CNI bridge+portmap+firewall",
            Self::NetavarkDebian => "netavark of Debian",
            Self::Netavark21 => "netavark 2.1",
            Self::Docker => "docker connect/disconnect",
        }
    }

    /// What `--peers` calls it; those of us and the floor are always measured.
    pub(crate) fn flag(self) -> Option<&'static str> {
        match self {
            Self::Ip => Some("ip"),
            Self::Cni => Some("cni"),
            Self::NetavarkDebian => Some("netavark-debian"),
            Self::Netavark21 => Some("netavark-2.1"),
            Self::Docker => Some("docker"),
            _ => None,
        }
    }

    /// Whether an attachment takes so long that fewer are measured.
    pub(crate) fn is_slow(self) -> bool {
        self.flag().is_some()
    }
}

/// One sandbox that is to be attached: its number decides its names and addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Order {
    pub(crate) slot: u16,
    /// Whether its port 80 is to answer at the host.
    pub(crate) port: Port,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Port {
    None,
    Published,
}

impl Order {
    /// Its address, for those who do not choose one themselves: of 10.89.0.0/16.
    pub(crate) fn address(self) -> Ipv4Addr {
        let [high, low] = (self.slot + 10).to_be_bytes();
        Ipv4Addr::new(10, 89, high, low)
    }

    /// The port at the host.
    pub(crate) fn host_port(self) -> u16 {
        20_000 + self.slot
    }

    pub(crate) fn name(self) -> String {
        format!("s{}", self.slot)
    }

    /// What a runtime would call the container: 64 digits.
    pub(crate) fn container_id(self) -> String {
        format!("{:064x}", 0xabc_0000_0000_u64 + u64::from(self.slot))
    }
}

/// What somebody may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    Attach,
    Publish,
    Networks,
}

/// One caller: works alone, beside others of its kind. Its methods are called on threads that are in its host.
pub(crate) trait Worker: Send {
    /// Why a task is not for it; none if it is.
    fn refuses(&self, _: Task) -> Option<&'static str> {
        None
    }

    /// Does what comes before the clock runs, so that these orders can be attached.
    fn prepare(&mut self, _: &[Order]) -> Result<()> {
        Ok(())
    }

    fn attach(&mut self, order: Order) -> Result<()>;

    /// Attaches several: all of them at once, if it can.
    fn attach_all(&mut self, orders: &[Order]) -> Result<()> {
        orders.iter().try_for_each(|order| self.attach(*order))
    }

    fn detach(&mut self, order: Order) -> Result<()>;

    fn create_network(&mut self, _: u8) -> Result<()> {
        bail!("it has no such call")
    }

    fn remove_network(&mut self, _: u8) -> Result<()> {
        bail!("it has no such call")
    }

    /// Does what comes after the clock has stopped.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A host for one contender: a network namespace, and a directory on a disk.
pub(crate) struct Place {
    /// Tells it from every other.
    pub(crate) name: String,
    pub(crate) host: Netns,
    /// For what outlives a process.
    pub(crate) directory: PathBuf,
    /// For sockets and names of namespaces.
    pub(crate) run: PathBuf,
    pub(crate) peers: Arc<Peers>,
    sandboxes: NetnsDir,
}

impl Place {
    /// Makes one for somebody.
    pub(crate) fn new(who: &str, files: &Path, peers: Arc<Peers>) -> Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("{who}-{}", MADE.fetch_add(1, Ordering::Relaxed));
        let host = Netns::create()?;
        host.run(|| {
            // Those who forward switch it on by themselves; that takes time once, and not ours.
            fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
            peers.tool("ip", "link set lo up").map(drop)
        })??;
        let directory = files.join(&name);
        let run = Path::new("/run").join(&name);
        fs::create_dir_all(&directory)?;
        fs::create_dir_all(&run)?;
        let sandboxes = NetnsDir::open(run.join("sandboxes"))?;
        Ok(Self { name, host, directory, run, peers, sandboxes })
    }

    /// The namespace of an order, for those who want it ready.
    pub(crate) fn sandbox(&self, order: Order) -> Result<PathBuf> {
        let name: SandboxName = order.name().parse()?;
        let path = self.sandboxes.path_of(&name);
        if !path.exists() {
            self.sandboxes.create(&name)?;
        }
        Ok(path)
    }

    pub(crate) fn drop_sandbox(&self, order: Order) -> Result<()> {
        Ok(self.sandboxes.delete(&order.name().parse()?)?)
    }

    /// The links of the host: those that sandboxes bring among them.
    pub(crate) fn count_links(&self) -> Result<usize> {
        self.host.run(links_here)?
    }
}

/// Lets the namespaces go: whoever comes later is not to share the machine with a thousand of them.
impl Drop for Place {
    fn drop(&mut self) {
        for entry in fs::read_dir(&self.run).into_iter().flatten().flatten() {
            for named in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
                // Fails for what is none.
                let _ = umount2(&named.path(), MntFlags::MNT_DETACH);
            }
        }
    }
}

/// How many links there are in the namespace of the calling thread.
pub(crate) fn links_here() -> Result<usize> {
    // Two lines of head; /proc/net is that of the main thread.
    Ok(fs::read_to_string("/proc/thread-self/net/dev")?.lines().count() - 2)
}

/// Somebody who is ready to work, with a host to itself.
pub(crate) struct Contender {
    pub(crate) kind: Kind,
    pub(crate) place: Arc<Place>,
    /// One for each call that may be under way at a time.
    pub(crate) workers: Vec<Box<dyn Worker>>,
}

/// The one sandbox that stays attached, because some peers remove the bridge with the last.
const KEPT: u16 = 2_900;

impl Contender {
    /// Gets somebody ready, with so many workers and one sandbox attached.
    pub(crate) fn start(kind: Kind, count: usize, files: &Path, peers: &Arc<Peers>) -> Result<Self> {
        let name = format!("{kind:?}").to_lowercase();
        let place = Arc::new(Place::new(&name, files, Arc::clone(peers))?);
        let workers = workers(kind, count, &place)?;
        let mut contender = Self { kind, place, workers };
        let kept = Order { slot: KEPT, port: Port::None };
        contender.on_host(|workers| {
            workers[0].prepare(&[kept])?;
            workers[0].attach(kept).context("the first attachment")?;
            workers[0].finish()
        })?;
        Ok(contender)
    }

    /// Does a job on a thread in its host.
    pub(crate) fn on_host<T: Send>(
        &mut self,
        job: impl FnOnce(&mut [Box<dyn Worker>]) -> Result<T> + Send,
    ) -> Result<T> {
        let workers = &mut self.workers;
        self.place.host.run(|| job(workers))?
    }
}

fn workers(kind: Kind, count: usize, place: &Arc<Place>) -> Result<Vec<Box<dyn Worker>>> {
    match kind {
        Kind::FloorReady => Floor::workers(place, count, Namespaces::Ready, Ipv6::Off),
        Kind::FloorMade => Floor::workers(place, count, Namespaces::Made, Ipv6::Off),
        Kind::FloorIpv6 => Floor::workers(place, count, Namespaces::Made, Ipv6::On),
        Kind::InProcess => InProcess::workers(place, count, 0, 0),
        Kind::UsedUp => InProcess::workers(place, count, InProcess::STOCK, 0),
        Kind::Ready(ready) => InProcess::workers(place, count, 0, ready),
        Kind::Daemon => Daemon::workers(place, count, 0),
        Kind::DaemonReady(ready) => Daemon::workers(place, count, ready),
        Kind::Ip => Ip::workers(place, count),
        Kind::Cni => Cni::workers(place, count),
        Kind::NetavarkDebian => {
            Ok(Netavark::workers(place, count, &place.peers.debian("usr/lib/podman/netavark")?))
        }
        Kind::Netavark21 => Ok(Netavark::workers(place, count, &place.peers.built("netavark")?)),
        Kind::Docker => Docker::workers(place, count),
    }
}
