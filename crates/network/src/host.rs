//! The handle: an async face before the one thread that does the kernel work.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use netloft_ipam::PoolOptions;
use netloft_netns::Netns;
use netloft_types::{AttachSpec, EndpointId, Invalid, Network, NetworkName, NetworkSpec, Segment, Subnet};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc as channel, oneshot, watch};
use tracing::warn;

use crate::attached::Attached;
use crate::doctor::Finding;
use crate::error::{Error, chain};
use crate::journal::Journal;
use crate::kernel::{Kernel, LinuxKernel, Stray, Watch};
use crate::record;
use crate::state::{CARVED_PREFIX_LEN, Change, Outcome, Policy, State};

/// Calls that may wait at a time. One takes about a millisecond: whoever finds the queue full would wait a quarter of a
/// second, and now waits outside it, where giving up costs nothing.
const QUEUE_LEN: usize = 256;

/// Attachments and detachments that share their writes to the journal. Whoever comes first in a batch waits for all of
/// it, some 30 ms at the most.
const BATCH_LEN_MAX: usize = 32;

/// How often the thread that watches looks whether the host is still there.
const WATCH_PACE: Duration = Duration::from_millis(500);

/// The networks of one host, and the sandboxes attached to them. A cheap handle; clone it at will.
///
/// Changes are made one after another by a thread of its own, because the kernel makes them one after another anyway
/// (RTNL is one lock) and netlink blocks. So every call sees the result of every call that was answered before it.
///
/// While nobody waits, the thread makes ahead what the next attachments need, and tidies up after the last.
///
/// Everything is taken away by [`Host::close`]. With a journal ([`HostOptions::state_dir`]), whatever else ends the
/// process leaves all of it in place, live, for the next one to take over; [`Host::leave`] ends it so in good order.
/// Without one nobody could find it again: when the last handle is dropped, everything is taken away in the background,
/// if the process lives long enough, and failures go to the log.
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
    /// Closed when the thread has let go of everything.
    gone: watch::Receiver<()>,
}

/// How a host is to be opened.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// The namespace in which bridges are made; that of the calling thread if absent.
    pub netns: Option<Netns>,
    /// The directory in which the namespaces of sandboxes are kept by name. Without it, a sandbox lives as long as it is
    /// attached or somebody has it open.
    pub netns_dir: Option<PathBuf>,
    /// The directory of the journal; needs `netns_dir`. Without it nothing is remembered.
    pub state_dir: Option<PathBuf>,
    /// What subnets are carved from for networks that name none: IPv4 prefixes of at most 24 bits.
    pub default_pools: Vec<Subnet>,
    /// How long an address rests after its release before another sandbox gets it.
    pub rest: Duration,
    /// Whether ports that are published at no address in particular answer to the host alone while a firewall of the
    /// host drops whatever nobody let in. Publishing at an address of the host then opens a port on purpose.
    pub respect_firewall: bool,
}

/// The namespace of the calling thread, no directories, subnets from `10.80.0.0/12`, and 130 s of rest.
impl Default for HostOptions {
    fn default() -> Self {
        let pool = Subnet::new([10, 80, 0, 0].into(), 12).expect("10.80.0.0/12 has no bits after the prefix");
        Self {
            netns: None,
            netns_dir: None,
            state_dir: None,
            default_pools: vec![pool],
            rest: PoolOptions::default().rest,
            respect_firewall: false,
        }
    }
}

enum Job {
    Change(Change, Reply),
    Other(Box<dyn FnOnce(&mut State) + Send>),
}

/// Where the outcome of a change goes. An attachment carries the way back to the queue, for when nobody takes it.
enum Reply {
    Attach(oneshot::Sender<Result<Offer, Error>>, Sender<Job>),
    Detach(oneshot::Sender<Result<(), Error>>),
}

/// What becomes of a call whose future is dropped while it waits in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unheard {
    Skip,
    Run,
}

impl Host {
    /// Opens this host for work, and takes over what its journal names. Blocks: some 10 ms, and half a millisecond
    /// for each endpoint that is there.
    ///
    /// # Errors
    ///
    /// [`Error::Open`] without the privilege to administer networks, or if the directory for namespaces cannot be used;
    /// [`Error::DefaultPool`]; [`Error::Journal`]; whatever keeps from taking over.
    pub fn open(options: HostOptions) -> Result<Self, Error> {
        if options.state_dir.is_some() && options.netns_dir.is_none() {
            return Err(Error::NetnsDirNeeded);
        }
        let netns = options.netns.clone().map_or_else(Netns::current, Ok);
        let netns = netns.map_err(|error| Error::Open(error.into()))?;
        let kernel = LinuxKernel::open(netns, options.netns_dir.as_deref()).map_err(Error::Open)?;
        Self::open_over(Box::new(kernel), options)
    }

    /// Opens a host over another kernel, such as [`FakeKernel`](crate::testing::FakeKernel). Of the options, `netns` and
    /// `netns_dir` say nothing then.
    ///
    /// # Errors
    ///
    /// [`Error::DefaultPool`]; [`Error::Journal`]; whatever keeps from taking over.
    pub fn open_over(kernel: Box<dyn Kernel>, options: HostOptions) -> Result<Self, Error> {
        check_pools(&options.default_pools).map_err(Error::DefaultPool)?;
        let policy = Policy {
            default_pools: options.default_pools,
            unique_local: netloft_ipam::ula(machine_number()),
            rest: options.rest,
            respect_firewall: options.respect_firewall,
        };
        let mut state = State::new(kernel, policy)?;
        if let Some(directory) = &options.state_dir {
            let (journal, contents) = Journal::open(directory)?;
            state.take_over(journal, contents)?;
        }
        Self::start(state)
    }

    fn start(mut state: State) -> Result<Self, Error> {
        let (jobs, queue) = mpsc::channel();
        let incidents = state.watch()?;
        let room = Arc::new(Semaphore::new(QUEUE_LEN));
        let (going, gone) = watch::channel(());
        spawn("netloft-network", move || {
            work(state, &queue);
            drop(going);
        })?;
        if let Some(watch) = incidents {
            let (jobs, host) = (jobs.clone(), Arc::downgrade(&room));
            spawn("netloft-watch", move || observe(watch, &jobs, || host.strong_count() > 0))?;
        }
        Ok(Self { jobs, room, gone })
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
        self.submit(spec, None).await
    }

    /// Attaches a sandbox to a network, as [`Host::attach`], and remembers a note with the endpoint from its first moment
    /// on; see [`Host::annotate`].
    ///
    /// # Errors
    ///
    /// As [`Host::attach`].
    ///
    /// # Cancel safety
    ///
    /// As [`Host::attach`].
    pub async fn attach_noted(&self, spec: AttachSpec, note: String) -> Result<Attached, Error> {
        self.submit(spec, Some(note)).await
    }

    async fn submit(&self, spec: AttachSpec, note: Option<String>) -> Result<Attached, Error> {
        let room = self.room().await;
        let (reply, answer) = oneshot::channel();
        let change = Change::Attach(Box::new(spec), note);
        let attach = Job::Change(change, Reply::Attach(reply, self.jobs.clone()));
        self.jobs.send(attach).map_err(|_| Error::Closed)?;
        let offer = answer.await.map_err(|_| Error::Closed)?;
        drop(room);
        offer.map(Offer::take)
    }

    /// Detaches an endpoint, and takes away its sandbox with the last one. Traffic is cut by the time this returns;
    /// namespace and devices vanish a little later, and the addresses rest before another sandbox gets them.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchEndpoint`], as when it is detached already; [`Error::Detach`], [`Error::Closed`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped after its first poll, the endpoint is detached nevertheless, unless the queue was full.
    pub async fn detach(&self, id: EndpointId) -> Result<(), Error> {
        let room = self.room().await;
        let (reply, answer) = oneshot::channel();
        let detach = Job::Change(Change::Detach(id), Reply::Detach(reply));
        self.jobs.send(detach).map_err(|_| Error::Closed)?;
        let outcome = answer.await.map_err(|_| Error::Closed)?;
        drop(room);
        outcome
    }

    /// Remembers a note with an endpoint, in place of the one before; it comes back with [`Host::endpoints`], after a
    /// restart too.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchEndpoint`], [`Error::Journal`], [`Error::Closed`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped after its first poll, the note is remembered nevertheless, unless the queue was full.
    pub async fn annotate(&self, id: EndpointId, note: String) -> Result<(), Error> {
        self.call(Unheard::Run, move |state| state.annotate(id, note)).await
    }

    /// Everything that is not as it should be: what is missing, left over, changed or in the way. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::ReadHost`], [`Error::Filter`], [`Error::Closed`].
    pub async fn examine(&self) -> Result<Vec<Finding>, Error> {
        self.call(Unheard::Skip, State::examine).await
    }

    /// Takes away what says it is ours and nobody knows, and tells what it was; with `dry_run`, only tells.
    ///
    /// # Errors
    ///
    /// [`Error::ReadHost`], [`Error::Reap`], [`Error::Closed`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped after its first poll, it is done nevertheless, unless the queue was full.
    pub async fn collect_garbage(&self, dry_run: bool) -> Result<Vec<Stray>, Error> {
        self.call(Unheard::Run, move |state| state.collect_garbage(dry_run)).await
    }

    /// The endpoints that are lost from now on: somebody else deleted their link or their sandbox. They are detached by
    /// the time they are told.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`].
    pub async fn losses(&self) -> Result<channel::UnboundedReceiver<EndpointId>, Error> {
        self.call(Unheard::Skip, |state| Ok(state.losses())).await
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
        self.call(Unheard::Run, State::close).await?;
        self.gone().await;
        Ok(())
    }

    /// Refuses further calls, and leaves everything in place for the next one to open the journal. Without a journal,
    /// as [`Host::close`].
    ///
    /// # Errors
    ///
    /// As [`Host::close`], and [`Error::Journal`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped after its first poll, the host is left nevertheless, unless the queue was full.
    pub async fn leave(&self) -> Result<(), Error> {
        self.call(Unheard::Run, State::leave).await?;
        self.gone().await;
        Ok(())
    }

    /// Waits until the thread has let go of the kernel and the journal.
    async fn gone(&self) {
        // Nothing is ever sent: it ends with an error, when the other end is dropped.
        drop(self.gone.clone().changed().await);
    }

    async fn room(&self) -> OwnedSemaphorePermit {
        let room = Arc::clone(&self.room).acquire_owned().await;
        room.expect("the semaphore is never closed")
    }

    async fn call<T: Send + 'static>(
        &self,
        unheard: Unheard,
        job: impl FnOnce(&mut State) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let room = self.room().await;
        let (reply, answer) = oneshot::channel();
        let job = move |state: &mut State| {
            if unheard == Unheard::Run || !reply.is_closed() {
                // Dropping an answer that nobody hears is all that is to be done about it; see `Offer`.
                drop(reply.send(job(state)));
            }
            drop(room);
        };
        self.jobs.send(Job::Other(Box::new(job))).map_err(|_| Error::Closed)?;
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
            drop(self.jobs.send(Job::Other(Box::new(discard))));
        }
    }
}

/// The body of the thread: jobs in order, making ahead and tidying up in between, until the host is closed or nobody
/// has a handle.
fn work(mut state: State, jobs: &Receiver<Job>) {
    let mut next = None;
    while !state.is_closed() {
        let job = next.take().map_or_else(|| wait(&state, jobs), Ok);
        match job {
            Ok(Job::Other(job)) => job(&mut state),
            Ok(change) => next = work_off(&mut state, change, jobs),
            Err(RecvTimeoutError::Timeout) => state.use_quiet(),
            Err(RecvTimeoutError::Disconnected) => {
                if let Err(error) = state.leave() {
                    warn!(error = chain(&error), "the host was dropped and could not be closed");
                }
                return;
            }
        }
    }
}

fn wait(state: &State, jobs: &Receiver<Job>) -> Result<Job, RecvTimeoutError> {
    match state.patience() {
        Some(quiet) => jobs.recv_timeout(quiet),
        None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
    }
}

/// Carries a change out together with those that wait behind it; gives back the job that is none, if it came to one.
fn work_off(state: &mut State, first: Job, jobs: &Receiver<Job>) -> Option<Job> {
    let (mut changes, mut replies) = (Vec::new(), Vec::new());
    let mut next = Some(first);
    while let Some(job) = next.take() {
        match job {
            // Nobody would hear of it.
            Job::Change(_, Reply::Attach(reply, _)) if reply.is_closed() => {}
            Job::Change(change, reply) => {
                changes.push(change);
                replies.push(reply);
            }
            Job::Other(_) => {
                next = Some(job);
                break;
            }
        }
        if changes.len() < BATCH_LEN_MAX {
            next = jobs.try_recv().ok();
        }
    }
    for (outcome, reply) in state.carry_out(changes).into_iter().zip(replies) {
        reply.send(outcome);
    }
    next
}

impl Reply {
    /// Dropping an answer that nobody hears is all that is to be done about it; see [`Offer`].
    fn send(self, outcome: Outcome) {
        match (self, outcome) {
            (Self::Attach(reply, jobs), Outcome::Attached(outcome)) => {
                let offer = outcome.map(|attached| Offer { attached: Some(attached), jobs });
                drop(reply.send(offer));
            }
            (Self::Detach(reply), Outcome::Detached(outcome)) => drop(reply.send(outcome)),
            _ => unreachable!("outcomes are in the order of their changes"),
        }
    }
}

/// The body of the thread that watches: tells the other one what happens, until the host is gone.
fn observe(mut watch: Box<dyn Watch>, jobs: &Sender<Job>, is_alive: impl Fn() -> bool) {
    while is_alive() {
        if let Some(incident) = watch.next(WATCH_PACE) {
            let handle = move |state: &mut State| state.handle(&incident);
            if jobs.send(Job::Other(Box::new(handle))).is_err() {
                return;
            }
        }
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    thread::Builder::new().name(name.into()).spawn(body).map_err(Error::StartThread)?;
    Ok(())
}

/// A number that is this machine's for as long as it is installed (`machine-id(5)`), or else chance.
fn machine_number() -> u64 {
    let id = std::fs::read(Path::new("/etc/machine-id")).unwrap_or_default();
    if id.is_empty() { rand::random() } else { record::hash(&id) }
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
        let host = Host::open_over(Box::new(kernel.clone()), HostOptions::default()).unwrap();
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
