//! Ours: in this process, and through the socket of the agent. What the bench knows of our API is here.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use netloft_client::{AgentClient, Target};
use netloft_ipam::{Pool, PoolOptions, Request, Tenant};
use netloft_netns::Enterer;
use netloft_network::{Host, HostOptions};
use netloft_nft::{Fact, Firewall, Publication};
use netloft_tests::bench::process::Process;
use netloft_tests::programs::released;
use netloft_types::{AttachSpec, EndpointId, Lifetime, NetworkName, NetworkSpec, PublishSpec, Segment};
use tokio::runtime::{Builder, Runtime};

use crate::contender::{Order, Place, Port, Worker};

const NETWORK: &str = "blue";
const SUBNET: &str = "10.89.0.0/16";

/// What is wanted: `blue`, as wide as the networks of the others, with so many endpoints kept ready.
fn blue(ready: u16) -> Result<NetworkSpec> {
    let segments = vec![Segment::new(SUBNET.parse()?)?];
    let ready = u32::from(ready).try_into()?;
    Ok(NetworkSpec { segments, ready, ..NetworkSpec::new(NETWORK.parse()?) })
}

fn attach_spec(order: Order) -> Result<AttachSpec> {
    let port = (order.port != Port::None).then(|| format!("{}:80", order.host_port()));
    let publish = port.iter().map(|port| port.parse()).collect::<Result<_, _>>()?;
    Ok(AttachSpec { publish, ..AttachSpec::new(NETWORK.parse()?, order.name().parse()?) })
}

fn other_network(number: u8) -> Result<NetworkName> {
    Ok(format!("n{number}").parse()?)
}

/// A caller of the library.
pub(crate) struct InProcess {
    /// Waits for answers of the host, which needs neither I/O nor time.
    runtime: Runtime,
    host: Host,
    endpoints: HashMap<Order, EndpointId>,
    /// How many are attached before the clock runs, so that nothing is left in stock.
    before: u16,
}

impl InProcess {
    /// How many namespaces a host makes ahead.
    pub(crate) const STOCK: u16 = 8;
    /// The first slot of those that use up the stock.
    const BEFORE: u16 = 2_800;

    pub(crate) fn workers(
        place: &Arc<Place>,
        count: usize,
        before: u16,
        ready: u16,
    ) -> Result<Vec<Box<dyn Worker>>> {
        let options = HostOptions { netns: Some(place.host.clone()), ..HostOptions::default() };
        let host = Host::open(options)?;
        Builder::new_current_thread().build()?.block_on(host.create_network(blue(ready)?))?;
        let worker = |_| {
            let runtime = Builder::new_current_thread().build()?;
            let worker = Self { runtime, host: host.clone(), endpoints: HashMap::new(), before };
            Ok(Box::new(worker) as Box<dyn Worker>)
        };
        (0..count).map(worker).collect()
    }

    /// Those that are attached so that nothing is left in stock.
    fn orders_before(&self) -> impl Iterator<Item = Order> + use<> {
        let port = Port::None;
        (Self::BEFORE..Self::BEFORE + self.before).map(move |slot| Order { slot, port })
    }
}

impl Worker for InProcess {
    fn prepare(&mut self, _: &[Order]) -> Result<()> {
        self.orders_before().try_for_each(|order| self.attach(order))
    }

    fn attach(&mut self, order: Order) -> Result<()> {
        let attached = self.runtime.block_on(self.host.attach(attach_spec(order)?))?;
        self.endpoints.insert(order, attached.endpoint.id);
        Ok(())
    }

    fn attach_all(&mut self, orders: &[Order]) -> Result<()> {
        let call = |spec| {
            let host = self.host.clone();
            async move { Ok(host.attach(spec).await?.endpoint.id) }
        };
        self.runtime.block_on(attach_all(orders, &mut self.endpoints, call))
    }

    fn detach(&mut self, order: Order) -> Result<()> {
        let id = self.endpoints.remove(&order).context("it is attached")?;
        Ok(self.runtime.block_on(self.host.detach(id))?)
    }

    fn create_network(&mut self, number: u8) -> Result<()> {
        let spec = NetworkSpec::new(other_network(number)?);
        self.runtime.block_on(self.host.create_network(spec))?;
        Ok(())
    }

    fn remove_network(&mut self, number: u8) -> Result<()> {
        Ok(self.runtime.block_on(self.host.remove_network(&other_network(number)?))?)
    }

    fn finish(&mut self) -> Result<()> {
        self.orders_before().try_for_each(|order| self.detach(order))
    }
}

/// Attaches at once whatever is called for; keeps what was, and tells of the first that was not.
async fn attach_all<C>(
    orders: &[Order],
    endpoints: &mut HashMap<Order, EndpointId>,
    call: impl Fn(AttachSpec) -> C,
) -> Result<()>
where
    C: Future<Output = Result<EndpointId>> + Send + 'static,
{
    let specs = orders.iter().map(|order| attach_spec(*order)).collect::<Result<Vec<_>>>()?;
    let calls: Vec<_> = specs.into_iter().map(|spec| tokio::spawn(call(spec))).collect();
    let mut outcome = Ok(());
    for (order, call) in orders.iter().zip(calls) {
        match call.await? {
            Ok(endpoint) => drop(endpoints.insert(*order, endpoint)),
            Err(error) => outcome = outcome.and(Err(error)),
        }
    }
    outcome
}

/// A running agent.
pub(crate) struct Agent {
    socket: PathBuf,
    pub(crate) process: Process,
}

impl Agent {
    /// Starts it, and waits until it listens. Its state is in the directory of the place, and outlives it.
    pub(crate) fn start(place: &Place) -> Result<Self> {
        let socket = place.run.join("netloftd.sock");
        let mut command = Command::new(released("netloftd")?);
        command.arg("--socket").arg(&socket).arg("--netns-dir").arg(place.run.join("netloft"));
        command.arg("--state-dir").arg(place.directory.join("state"));
        let mut process = Process::start(command, &place.host, &place.directory.join("netloftd.log"))?;
        process.says("listening on")?;
        Ok(Self { socket, process })
    }

    /// How many sandboxes it holds.
    pub(crate) fn count_attached(&self) -> Result<usize> {
        let (runtime, client) = self.client()?;
        Ok(runtime.block_on(client.attachments(None))?.len())
    }

    pub(crate) fn create_network(&self, ready: u16) -> Result<()> {
        let (runtime, client) = self.client()?;
        runtime.block_on(client.create_network(&blue(ready)?))?;
        Ok(())
    }

    fn client(&self) -> Result<(Runtime, AgentClient)> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(async { AgentClient::connect(Target::unix(&self.socket)) });
        Ok((runtime, client))
    }
}

/// A caller of the agent, with a connection of its own.
pub(crate) struct Daemon {
    runtime: Runtime,
    client: AgentClient,
    endpoints: HashMap<Order, EndpointId>,
    /// Lives as long as anybody calls it.
    _agent: Arc<Agent>,
}

impl Daemon {
    pub(crate) fn workers(place: &Place, count: usize, ready: u16) -> Result<Vec<Box<dyn Worker>>> {
        let agent = Arc::new(Agent::start(place)?);
        agent.create_network(ready)?;
        (0..count).map(|_| Ok(Box::new(Self::connect(&agent)?) as Box<dyn Worker>)).collect()
    }

    pub(crate) fn connect(agent: &Arc<Agent>) -> Result<Self> {
        let (runtime, client) = agent.client()?;
        Ok(Self { runtime, client, endpoints: HashMap::new(), _agent: Arc::clone(agent) })
    }
}

impl Worker for Daemon {
    fn prepare(&mut self, _: &[Order]) -> Result<()> {
        // Between calls nobody answers the agent's pings, so that it hangs up in a long pause.
        drop(self.runtime.block_on(self.client.networks()));
        Ok(())
    }

    fn attach(&mut self, order: Order) -> Result<()> {
        let spec = attach_spec(order)?;
        let attach = self.client.attach(&spec, None, Lifetime::UntilDetached);
        let attachment = self.runtime.block_on(attach)?;
        self.endpoints.insert(order, attachment.endpoint.id);
        Ok(())
    }

    fn attach_all(&mut self, orders: &[Order]) -> Result<()> {
        let call = |spec| {
            let client = self.client.clone();
            async move { Ok(client.attach(&spec, None, Lifetime::UntilDetached).await?.endpoint.id) }
        };
        self.runtime.block_on(attach_all(orders, &mut self.endpoints, call))
    }

    fn detach(&mut self, order: Order) -> Result<()> {
        let id = self.endpoints.remove(&order).context("it is attached")?;
        Ok(self.runtime.block_on(self.client.detach(id))?)
    }

    fn create_network(&mut self, number: u8) -> Result<()> {
        let spec = NetworkSpec::new(other_network(number)?);
        self.runtime.block_on(self.client.create_network(&spec))?;
        Ok(())
    }

    fn remove_network(&mut self, number: u8) -> Result<()> {
        Ok(self.runtime.block_on(self.client.remove_network(&other_network(number)?))?)
    }
}

/// The addresses of 10.99.0.0/16, of which some are given.
pub(crate) struct Addresses {
    pool: Pool,
    next: u64,
}

impl Addresses {
    pub(crate) fn with(given: u32) -> Result<Self> {
        let mut addresses =
            Self { pool: Pool::new("10.99.0.0/16".parse()?, &PoolOptions::default())?, next: 0 };
        (0..given).try_for_each(|_| addresses.allocate().map(drop))?;
        Ok(addresses)
    }

    /// Gives one more, to somebody who had none before.
    pub(crate) fn allocate(&mut self) -> Result<(EndpointId, IpAddr)> {
        self.next += 1;
        let (owner, tenant) = (EndpointId::from_number(self.next), Tenant::from_number(self.next));
        Ok((owner, self.pool.allocate(owner, tenant, Request::Any, SystemTime::now())?.address))
    }

    /// Takes one back.
    pub(crate) fn release(&mut self, (owner, address): (EndpointId, IpAddr)) -> Result<()> {
        let released = self.pool.release(owner, address, SystemTime::now());
        released.map(drop).with_context(|| format!("{address} was not given"))
    }
}

/// Published ports alone: the packet filter of a host.
pub(crate) struct PortMap {
    firewall: Firewall,
}

impl PortMap {
    pub(crate) fn open(place: &Place) -> Result<Self> {
        Ok(Self { firewall: Firewall::open(&Enterer::new()?, &place.host)? })
    }

    /// Publishes all of these and no others.
    pub(crate) fn establish(&mut self, ports: impl Iterator<Item = u16>) -> Result<()> {
        Ok(self.firewall.establish(&ports.map(publication).collect::<Result<_>>()?)?)
    }

    pub(crate) fn publish(&mut self, port: u16) -> Result<()> {
        Ok(self.firewall.change(&[publication(port)?], &[])?)
    }

    pub(crate) fn withdraw(&mut self, port: u16) -> Result<()> {
        Ok(self.firewall.change(&[], &[publication(port)?])?)
    }
}

/// A port of the host that leads to port 80 of the first sandbox.
fn publication(port: u16) -> Result<Fact> {
    let port: PublishSpec = format!("{port}:80").parse()?;
    Ok(Fact::Publication(Publication::new(port.try_into()?, [10, 89, 0, 2].into())?))
}
