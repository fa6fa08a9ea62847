//! The handle: an async face before the one thread that does the kernel work.

mod options;
#[cfg(test)]
mod tests;
mod worker;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};

use netloft_netns::Netns;
use netloft_types::{AttachSpec, EndpointId, Network, NetworkName, NetworkSpec};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc as channel, oneshot, watch};

pub use self::options::HostOptions;
use self::worker::{Job, Offer, Reply};
use crate::attached::Attached;
use crate::doctor::Finding;
use crate::error::Error;
use crate::journal::Journal;
use crate::kernel::{Kernel, LinuxKernel, Stray};
use crate::record;
use crate::state::{Change, Policy, State};

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
        options::check_pools(&options.default_pools).map_err(Error::DefaultPool)?;
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
        worker::spawn("netloft-network", move || {
            worker::work(state, &queue);
            drop(going);
        })?;
        if let Some(watch) = incidents {
            let (jobs, host) = (jobs.clone(), Arc::downgrade(&room));
            worker::spawn("netloft-watch", move || {
                worker::observe(watch, &jobs, || host.strong_count() > 0);
            })?;
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
        let (change, jobs) = (Change::Attach(Box::new(spec), note), self.jobs.clone());
        let attach = |reply, room| Job::Change(change, Reply::Attach(reply, jobs), room);
        self.ask(attach).await.map(Offer::take)
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
        self.ask(|reply, room| Job::Change(Change::Detach(id), Reply::Detach(reply), room)).await
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
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
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
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nobody is told. Losses from then on can be asked for again.
    pub async fn losses(&self) -> Result<channel::UnboundedReceiver<EndpointId>, Error> {
        self.call(Unheard::Skip, |state| Ok(state.losses())).await
    }

    /// All networks, in order of name.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn networks(&self) -> Result<Vec<Network>, Error> {
        self.call(Unheard::Skip, |state| Ok(state.networks())).await
    }

    /// How many endpoints of a network are ready for whoever attaches next; at most as many as it is to keep
    /// ([`NetworkSpec::ready`]).
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchNetwork`], [`Error::Closed`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn count_ready(&self, network: &NetworkName) -> Result<usize, Error> {
        let network = network.clone();
        self.call(Unheard::Skip, move |state| state.count_ready(&network)).await
    }

    /// All endpoints, in order of id.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`].
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
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

    async fn call<T: Send + 'static>(
        &self,
        unheard: Unheard,
        job: impl FnOnce(&mut State) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let job = |reply: oneshot::Sender<_>, room| {
            Job::Other(Box::new(move |state: &mut State| {
                if unheard == Unheard::Run || !reply.is_closed() {
                    // Dropping an answer that nobody hears is all that is to be done about it; see `Offer`.
                    drop(reply.send(job(state)));
                }
                drop(room);
            }))
        };
        self.ask(job).await
    }

    /// Puts a job into the queue and waits for the answer. The job keeps its room until it is done, heard or not.
    async fn ask<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, Error>>, OwnedSemaphorePermit) -> Job,
    ) -> Result<T, Error> {
        let room = Arc::clone(&self.room).acquire_owned().await;
        let room = room.expect("the semaphore is never closed");
        let (reply, answer) = oneshot::channel();
        self.jobs.send(job(reply, room)).map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

/// A number that is this machine's for as long as it is installed (`machine-id(5)`), or else chance.
fn machine_number() -> u64 {
    let id = std::fs::read(Path::new("/etc/machine-id")).unwrap_or_default();
    if id.is_empty() { rand::random() } else { record::hash(&id) }
}
