//! The handle: an async face before the one thread that does the kernel work.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;

use netloft_netns::Netns;
use netloft_types::{AttachSpec, EndpointId, Invalid, Network, NetworkName, NetworkSpec, Segment, Subnet};
use tokio::sync::{Semaphore, oneshot};
use tracing::warn;

use crate::attached::Attached;
use crate::error::{Error, chain};
use crate::kernel::{Kernel, LinuxKernel};
use crate::state::{CARVED_PREFIX_LEN, State};

/// Calls that may wait at a time. One takes about a millisecond: whoever finds the queue full would wait a quarter of a
/// second, and now waits outside it, where giving up costs nothing.
const QUEUE_LEN: usize = 256;

/// The networks of one host, and the sandboxes attached to them. A cheap handle; clone it at will.
///
/// Changes are made one after another by a thread of its own, because the kernel makes them one after another anyway
/// (RTNL is one lock) and netlink blocks. So every call sees the result of every call that was answered before it.
///
/// While nobody waits, the thread makes ahead what the next attachments need, and tidies up after the last.
///
/// Everything is taken away by [`Host::close`]. When the last handle is dropped without it, the same is done in the
/// background, if the process lives long enough, and failures go to the log.
///
/// # Example
///
/// ```no_run
/// use netloft_network::{Host, HostOptions};
/// use netloft_types::{AttachSpec, NetworkSpec};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let host = Host::open(HostOptions::default())?;
/// host.create_network(NetworkSpec::new("blue".parse()?)).await?;
/// let attached = host.attach(AttachSpec::new("blue".parse()?, "api-1".parse()?)).await?;
/// println!("{} at {}", attached.endpoint.addresses[0], attached.netns_path.display());
/// host.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Host {
    /// Unbounded in itself: `room` bounds the calls in it, and besides them it carries one job for each endpoint that
    /// nobody took, which must not fail for want of room.
    jobs: Sender<Job>,
    room: Arc<Semaphore>,
}

/// How a host is to be opened.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// The namespace in which bridges are made; that of the calling thread if absent.
    pub netns: Option<Netns>,
    /// The directory in which the namespaces of sandboxes are kept by name. Without it, a sandbox lives as long as it is
    /// attached or somebody has it open.
    pub netns_dir: Option<PathBuf>,
    /// What subnets are carved from for networks that name none: IPv4 prefixes of at most 24 bits.
    pub default_pools: Vec<Subnet>,
}

/// The namespace of the calling thread, no directory, and subnets from `10.80.0.0/12`.
impl Default for HostOptions {
    fn default() -> Self {
        let pool = Subnet::new([10, 80, 0, 0].into(), 12).expect("10.80.0.0/12 has no bits after the prefix");
        Self { netns: None, netns_dir: None, default_pools: vec![pool] }
    }
}

type Job = Box<dyn FnOnce(&mut State) + Send>;

/// What becomes of a call whose future is dropped while it waits in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unheard {
    Skip,
    Run,
}

impl Host {
    /// Opens this host for work. Blocks, shortly.
    ///
    /// # Errors
    ///
    /// [`Error::Open`] without the privilege to administer networks, or if the directory for namespaces cannot be used;
    /// [`Error::DefaultPool`].
    pub fn open(options: HostOptions) -> Result<Self, Error> {
        check_pools(&options.default_pools).map_err(Error::DefaultPool)?;
        let netns =
            options.netns.map_or_else(Netns::current, Ok).map_err(|error| Error::Open(error.into()))?;
        let kernel = LinuxKernel::open(netns, options.netns_dir.as_deref()).map_err(Error::Open)?;
        Self::start(Box::new(kernel), options.default_pools)
    }

    /// Opens a host over another kernel, such as [`FakeKernel`](crate::testing::FakeKernel).
    ///
    /// # Errors
    ///
    /// [`Error::DefaultPool`].
    pub fn open_over(kernel: Box<dyn Kernel>, default_pools: Vec<Subnet>) -> Result<Self, Error> {
        check_pools(&default_pools).map_err(Error::DefaultPool)?;
        Self::start(kernel, default_pools)
    }

    fn start(kernel: Box<dyn Kernel>, default_pools: Vec<Subnet>) -> Result<Self, Error> {
        let (jobs, queue) = mpsc::channel();
        let state = State::new(kernel, default_pools);
        thread::Builder::new()
            .name("netloft-network".into())
            .spawn(move || work(state, &queue))
            .map_err(Error::StartThread)?;
        Ok(Self { jobs, room: Arc::new(Semaphore::new(QUEUE_LEN)) })
    }

    /// Makes a network.
    ///
    /// # Errors
    ///
    /// [`Error::NetworkExists`], [`Error::BridgeTaken`], [`Error::FamilyTwice`], [`Error::SubnetInUse`],
    /// [`Error::Subnet`], [`Error::CreateNetwork`], [`Error::ReadHost`], [`Error::Closed`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the network is made or not, never half; [`Host::networks`] tells.
    pub async fn create_network(&self, spec: NetworkSpec) -> Result<Network, Error> {
        self.call(Unheard::Skip, move |state| state.create_network(&spec)).await
    }

    /// Removes a network to which nothing is attached.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchNetwork`], [`Error::NetworkInUse`], [`Error::RemoveNetwork`], [`Error::Closed`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped after its first poll, the network is removed nevertheless, unless the queue was full.
    pub async fn remove_network(&self, name: &NetworkName) -> Result<(), Error> {
        let name = name.clone();
        self.call(Unheard::Run, move |state| state.remove_network(&name)).await
    }

    /// Attaches a sandbox to a network; makes the sandbox.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchNetwork`], [`Error::SandboxAttached`], [`Error::AddressOutside`], [`Error::SubnetTwice`],
    /// [`Error::Address`], [`Error::MacTaken`], [`Error::Attach`], [`Error::Closed`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, whenever that is, nothing stays attached: an endpoint that nobody took is detached.
    pub async fn attach(&self, spec: AttachSpec) -> Result<Attached, Error> {
        let jobs = self.jobs.clone();
        let attach = move |state: &mut State| {
            let attached = state.attach(&spec)?;
            Ok(Offer { attached: Some(attached), jobs })
        };
        let offer = self.call(Unheard::Skip, attach).await?;
        Ok(offer.take())
    }

    /// Detaches an endpoint, and takes away its sandbox. Traffic is cut by the time this returns, and the addresses can
    /// be given to another; namespace and devices may vanish a little later.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchEndpoint`], as when it is detached already; [`Error::Detach`], [`Error::Closed`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped after its first poll, the endpoint is detached nevertheless, unless the queue was full.
    pub async fn detach(&self, id: EndpointId) -> Result<(), Error> {
        self.call(Unheard::Run, move |state| state.detach(id)).await
    }

    /// All networks, in order of name.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`].
    pub async fn networks(&self) -> Result<Vec<Network>, Error> {
        self.call(Unheard::Skip, |state| Ok(state.networks())).await
    }

    /// All endpoints, in order of id.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`].
    pub async fn endpoints(&self) -> Result<Vec<Attached>, Error> {
        self.call(Unheard::Skip, |state| Ok(state.endpoints())).await
    }

    /// Detaches every endpoint, removes every network and refuses further calls. What this host did not make it does
    /// not touch.
    ///
    /// # Errors
    ///
    /// [`Error::Close`] if something could not be taken away: the host is then still open, for another try.
    /// [`Error::Closed`] if it was closed before.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped after its first poll, the host is closed nevertheless, unless the queue was full.
    pub async fn close(&self) -> Result<(), Error> {
        self.call(Unheard::Run, State::close).await
    }

    async fn call<T: Send + 'static>(
        &self,
        unheard: Unheard,
        job: impl FnOnce(&mut State) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let room = Arc::clone(&self.room).acquire_owned().await;
        let room = room.expect("the semaphore is never closed");
        let (reply, answer) = oneshot::channel();
        let job = move |state: &mut State| {
            if unheard == Unheard::Run || !reply.is_closed() {
                // Dropping an answer that nobody hears is all that is to be done about it; see `Offer`.
                drop(reply.send(job(state)));
            }
            drop(room);
        };
        self.jobs.send(Box::new(job)).map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

/// An endpoint on its way to whoever asked for it. Dropped on the way, it has the endpoint detached.
struct Offer {
    attached: Option<Attached>,
    jobs: Sender<Job>,
}

impl Offer {
    fn take(mut self) -> Attached {
        self.attached.take().expect("an offer is taken once")
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        if let Some(attached) = self.attached.take() {
            let discard = move |state: &mut State| state.discard(attached.endpoint.id);
            // If this fails the thread is gone, and took everything away before it went.
            drop(self.jobs.send(Box::new(discard)));
        }
    }
}

/// The body of the thread: jobs in order, making ahead and tidying up in between, until the host is closed or nobody has a handle.
fn work(mut state: State, jobs: &Receiver<Job>) {
    while !state.is_closed() {
        let next = match state.patience() {
            Some(quiet) => jobs.recv_timeout(quiet),
            None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match next {
            Ok(job) => job(&mut state),
            Err(RecvTimeoutError::Timeout) => state.use_quiet(),
            Err(RecvTimeoutError::Disconnected) => {
                if let Err(error) = state.close() {
                    warn!(error = chain(&error), "the host was dropped and could not be closed");
                }
                return;
            }
        }
    }
}

fn check_pools(pools: &[Subnet]) -> Result<(), Invalid> {
    pools.iter().try_for_each(|pool| {
        if !pool.is_ipv4() || pool.prefix_len() > CARVED_PREFIX_LEN {
            let rule = format!("must be an IPv4 prefix of at most {CARVED_PREFIX_LEN} bits");
            return Err(Invalid::new("default pool", pool, rule));
        }
        Segment::new(*pool).map(drop)
    })
}

#[cfg(test)]
mod tests {
    use std::future::{Future, poll_fn};
    use std::pin::{Pin, pin};
    use std::task::Poll;

    use super::*;
    use crate::testing::FakeKernel;

    #[tokio::test]
    async fn an_endpoint_that_nobody_took_is_detached() {
        let kernel = FakeKernel::new().unwrap();
        let host = start(&kernel).await;
        let (open, gate) = mpsc::channel::<()>();
        let mut hold = pin!(host.call(Unheard::Run, move |_| {
            let _ = gate.recv();
            Ok(())
        }));
        assert!(poll_once(hold.as_mut()).await.is_pending());
        let mut attach = Box::pin(host.attach(api()));
        assert!(poll_once(attach.as_mut()).await.is_pending());
        drop(open);
        assert_eq!(host.endpoints().await.unwrap().len(), 1, "the answer is there, but not taken");
        drop(attach);
        assert_eq!(host.endpoints().await.unwrap(), []);
        assert!(!kernel.has_sandbox("api"));
    }

    #[tokio::test]
    async fn an_attach_dropped_in_the_queue_is_not_carried_out() {
        let kernel = FakeKernel::new().unwrap();
        let host = start(&kernel).await;
        let calls = kernel.calls();
        let (open, gate) = mpsc::channel::<()>();
        let mut hold = pin!(host.call(Unheard::Run, move |_| {
            let _ = gate.recv();
            Ok(())
        }));
        assert!(poll_once(hold.as_mut()).await.is_pending());
        let mut attach = Box::pin(host.attach(api()));
        assert!(poll_once(attach.as_mut()).await.is_pending());
        drop(attach);
        drop(open);
        assert_eq!(host.endpoints().await.unwrap(), []);
        assert_eq!(kernel.calls(), calls);
    }

    async fn start(kernel: &FakeKernel) -> Host {
        let pools = HostOptions::default().default_pools;
        let host = Host::open_over(Box::new(kernel.clone()), pools).unwrap();
        host.create_network(NetworkSpec::new("blue".parse().unwrap())).await.unwrap();
        host
    }

    fn api() -> AttachSpec {
        AttachSpec::new("blue".parse().unwrap(), "api".parse().unwrap())
    }

    async fn poll_once<T>(mut future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
    }
}
