//! A kernel in memory.

mod objects;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use netloft_netns::Netns;
use netloft_nft::Fact;
use netloft_types::{Family, InterfaceName, MacAddr, Port, PortRange, Protocol, SandboxName, Subnet};

use self::objects::{Kind, Link, Sandbox, Shared};
use crate::kernel::{HostFacts, Kernel, KernelError, SandboxNetns, Stray, Survey};
use crate::plan::{Step, Undo};
use crate::testing::{Fault, Faults};

/// A [`Kernel`] of maps: it knows names and what hangs on what, refuses what the real one refuses, and fails when told
/// to. Clones share what they hold, so that a test can look at it while a [`Host`](crate::Host) works on it.
///
/// Its sandboxes have no namespaces of their own: their handles lead to that of the thread that made it.
#[derive(Debug, Clone)]
pub struct FakeKernel {
    netns: Netns,
    faults: Faults,
    shared: Arc<Mutex<Shared>>,
}

impl FakeKernel {
    /// An empty kernel.
    ///
    /// # Errors
    ///
    /// If the calling thread's own namespace cannot be opened.
    pub fn new() -> Result<Self, netloft_netns::Error> {
        Ok(Self { netns: Netns::current()?, faults: Faults::default(), shared: Arc::default() })
    }

    /// Plants a link that somebody else made.
    pub fn plant_link(&self, name: InterfaceName, mac: MacAddr) {
        let kind = Kind::Bridge;
        self.lock().links.insert(name, Link { mac, alias: String::new(), kind });
    }

    /// Plants a sandbox that somebody else made.
    pub fn plant_sandbox(&self, name: SandboxName) {
        let sandbox = Sandbox { is_foreign: true, ..Sandbox::default() };
        self.lock().sandboxes.insert(name, sandbox);
    }

    /// Lets the host have an address in a subnet, or a route to it.
    pub fn plant_route(&self, subnet: Subnet) {
        self.lock().used.push(subnet);
    }

    /// Has somebody on the host listen at a port.
    pub fn plant_listener(&self, port: Port) {
        self.lock().busy.insert(port);
    }

    /// Has a firewall of the host drop what nobody let in.
    pub fn plant_default_deny(&self) {
        self.lock().default_deny.push("chain input".to_owned());
    }

    /// Lets bridges have so many ports and no more.
    pub fn limit_ports(&self, ports_max: usize) {
        self.lock().ports_max = Some(ports_max);
    }

    /// Deletes a link, as somebody else might.
    pub fn delete_link(&self, name: &str) {
        self.lock().links.remove(name);
    }

    /// Lets go of what only a process held, as when it dies: namespaces without a name, and the links in them.
    pub fn bury_process(&self) {
        self.lock().drop_unnamed();
    }

    /// Forgets everything that a machine forgets when it is started again.
    pub fn reboot(&self) {
        *self.lock() = Shared::default();
    }

    /// Answers calls to make something ahead of need in this way, one after another; as a kernel that makes nothing
    /// ahead afterwards.
    pub fn plan_stock(&self, answers: impl IntoIterator<Item = Result<bool, KernelError>>) {
        self.lock().stock.extend(answers);
    }

    /// What the packet filter knows.
    pub fn facts(&self) -> BTreeSet<Fact> {
        self.lock().facts.clone()
    }

    /// The families that the host forwards.
    pub fn forwards(&self) -> BTreeSet<Family> {
        self.lock().forwards.clone()
    }

    /// The addresses whose connections were forgotten at once.
    pub fn forgotten(&self) -> Vec<IpAddr> {
        self.lock().forgotten.clone()
    }

    /// Fails once, at that call.
    pub fn fail(&self, fault: Fault) {
        self.faults.plan(fault);
    }

    /// Fails at no call any more.
    pub fn mend(&self) {
        self.faults.clear();
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.faults.calls()
    }

    /// Whether the host has a link of that name.
    pub fn has_link(&self, name: &str) -> bool {
        self.lock().links.contains_key(name)
    }

    /// Whether there is a sandbox of that name.
    pub fn has_sandbox(&self, name: &str) -> bool {
        self.lock().sandboxes.contains_key(name)
    }

    /// The addresses from which a sandbox answers by a link that is not its way out.
    pub fn ways_back(&self, sandbox: &str) -> BTreeSet<IpAddr> {
        self.lock().sandboxes.get(sandbox).map(|found| found.ways_back.clone()).unwrap_or_default()
    }

    /// Whether nothing is there, planted or made.
    pub fn is_empty(&self) -> bool {
        let shared = self.lock();
        shared.links.is_empty()
            && shared.sandboxes.is_empty()
            && shared.unnamed.is_empty()
            && shared.prohibitions.is_empty()
            && !shared.has_filter
            && shared.forwards.is_empty()
    }

    /// A panic while the lock was held is a failed test already; what others see then does not matter.
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call and lets it fail if it is to.
    fn call<T>(&self, work: impl FnOnce(&mut Shared) -> Result<T, KernelError>) -> Result<T, KernelError> {
        self.faults.call(|| work(&mut self.lock()))
    }
}

impl Kernel for FakeKernel {
    fn apply(&mut self, step: &Step) -> Result<(), KernelError> {
        self.call(|shared| shared.apply(step))
    }

    fn undo(&mut self, undo: &Undo) -> Result<(), KernelError> {
        self.call(|shared| {
            shared.undo(undo);
            Ok(())
        })
    }

    fn reap(&mut self, _released: &[IpAddr]) -> Result<(), KernelError> {
        self.call(|shared| {
            shared.links.retain(|_, link| !link.is_cut());
            Ok(())
        })
    }

    fn forget_connections(&mut self, addresses: &[IpAddr]) -> Result<(), KernelError> {
        self.call(|shared| {
            shared.forgotten.extend(addresses);
            Ok(())
        })
    }

    fn stock_up(&mut self) -> Result<bool, KernelError> {
        self.lock().stock.pop_front().unwrap_or(Ok(false))
    }

    fn survey(&mut self) -> Result<Survey, KernelError> {
        self.call(|shared| Ok(shared.survey()))
    }

    fn adopt(&mut self, step: &Step, _survey: &Survey) -> Result<bool, KernelError> {
        self.call(|shared| Ok(shared.has(step)))
    }

    fn discard(&mut self, stray: &Stray) -> Result<(), KernelError> {
        self.call(|shared| {
            match stray {
                Stray::Link { name, .. } => drop(shared.links.remove(name)),
                Stray::Sandbox(name) => shared.drop_sandbox(name),
                Stray::Prohibition(rule) => drop(shared.prohibitions.remove(rule)),
            }
            Ok(())
        })
    }

    fn dismantle(&mut self) -> Result<(), KernelError> {
        self.call(|shared| {
            shared.facts.clear();
            shared.has_filter = false;
            Ok(())
        })
    }

    fn is_filter_disturbed(&mut self) -> Result<bool, KernelError> {
        Ok(false)
    }

    fn establish(&mut self, facts: &BTreeSet<Fact>) -> Result<(), KernelError> {
        self.call(|shared| {
            shared.facts.clone_from(facts);
            shared.has_filter = true;
            Ok(())
        })
    }

    fn audit(&mut self, facts: &BTreeSet<Fact>) -> Result<Vec<String>, KernelError> {
        self.call(|shared| {
            let differences = shared.facts.symmetric_difference(facts);
            Ok(differences.map(|fact| format!("{fact:?}")).collect())
        })
    }

    fn forward(&mut self, family: Family, on: bool) -> Result<(), KernelError> {
        self.call(|shared| {
            if on {
                shared.forwards.insert(family)
            } else {
                shared.forwards.remove(&family)
            };
            Ok(())
        })
    }

    fn host(&mut self) -> Result<HostFacts, KernelError> {
        self.call(|shared| {
            let forwards = shared.forwards.iter().copied().collect();
            Ok(HostFacts { subnets: shared.used.clone(), forwards, ..HostFacts::default() })
        })
    }

    fn is_link(&mut self, name: &InterfaceName) -> Result<bool, KernelError> {
        self.call(|shared| Ok(shared.links.contains_key(name)))
    }

    fn reserved_ports(&mut self) -> Result<BTreeSet<PortRange>, KernelError> {
        Ok(BTreeSet::new())
    }

    fn default_deny(&mut self) -> Result<Vec<String>, KernelError> {
        self.call(|shared| Ok(shared.default_deny.clone()))
    }

    fn is_port_busy(&mut self, _: Protocol, _: Option<IpAddr>, port: Port) -> bool {
        self.lock().busy.contains(&port)
    }

    fn sandbox(&self, sandbox: &SandboxName) -> Result<SandboxNetns, KernelError> {
        self.call(|shared| shared.sandbox(sandbox).map(drop))?;
        Ok(SandboxNetns { handle: self.netns.clone(), path: self.netns.path() })
    }
}
