//! A kernel in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use netloft_link::Prohibition;
use netloft_netns::Netns;
use netloft_nft::Fact;
use netloft_types::{Family, InterfaceName, MacAddr, Port, PortRange, Protocol, SandboxName, Subnet};

use crate::kernel::{FoundLink, HostFacts, Kernel, KernelError, SandboxNetns, Stray, Survey};
use crate::plan::{Macvlan, Step, Undo, Veth};
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

#[derive(Debug, Default)]
struct Shared {
    links: BTreeMap<InterfaceName, Link>,
    /// By sandbox: whether it is ours, and the interfaces in it.
    sandboxes: BTreeMap<SandboxName, Sandbox>,
    prohibitions: BTreeSet<Prohibition>,
    has_filter: bool,
    facts: BTreeSet<Fact>,
    forwards: BTreeSet<Family>,
    used: Vec<Subnet>,
    /// Ports that somebody on the host has.
    busy: BTreeSet<Port>,
    default_deny: Vec<String>,
    /// Addresses whose connections were forgotten at once, because they did not rest.
    forgotten: Vec<IpAddr>,
    stock: VecDeque<Result<bool, KernelError>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    mac: MacAddr,
    /// Empty if it is not ours.
    alias: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Bridge,
    /// The host end of a pair; cut, it has no bridge.
    Veth {
        sandbox: SandboxName,
        interface: InterfaceName,
        bridge: Option<InterfaceName>,
    },
}

impl Link {
    fn is_cut(&self) -> bool {
        matches!(self.kind, Kind::Veth { bridge: None, .. })
    }
}

#[derive(Debug, Default)]
struct Sandbox {
    is_foreign: bool,
    interfaces: Vec<InterfaceName>,
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
        let sandbox = Sandbox { is_foreign: true, interfaces: Vec::new() };
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

    /// Deletes a link, as somebody else might.
    pub fn delete_link(&self, name: &str) {
        self.lock().links.remove(name);
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

    /// Whether nothing is there, planted or made.
    pub fn is_empty(&self) -> bool {
        let shared = self.lock();
        shared.links.is_empty()
            && shared.sandboxes.is_empty()
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

    fn forward(&mut self, family: Family, on: bool) -> Result<bool, KernelError> {
        self.call(|shared| {
            let was = shared.forwards.contains(&family);
            if on {
                shared.forwards.insert(family)
            } else {
                shared.forwards.remove(&family)
            };
            Ok(was)
        })
    }

    fn host(&mut self) -> Result<HostFacts, KernelError> {
        self.call(|shared| {
            let forwards = shared.forwards.iter().copied().collect();
            Ok(HostFacts { subnets: shared.used.clone(), forwards, outgoing_mtu: None })
        })
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

impl Shared {
    fn apply(&mut self, step: &Step) -> Result<(), KernelError> {
        match step {
            Step::CreateBridge(spec) => {
                let (alias, kind) = (spec.alias.clone(), Kind::Bridge);
                self.create_link(&spec.name, Link { mac: spec.mac, alias, kind })
            }
            Step::ProhibitForwarding(rule) => {
                self.prohibitions.insert(rule.clone());
                Ok(())
            }
            Step::Admit { .. } if !self.has_filter => Err(missing("packet filter".to_owned())),
            Step::Admit { facts } => {
                self.facts.extend(facts.iter().cloned());
                Ok(())
            }
            Step::CreateNetns { sandbox } | Step::AdoptNetns { sandbox, .. } => {
                if self.sandboxes.contains_key(sandbox) {
                    return Err(exists(format!("sandbox {sandbox}")));
                }
                self.sandboxes.insert(sandbox.clone(), Sandbox::default());
                Ok(())
            }
            Step::CreateVeth(veth) => self.create_veth(veth),
            Step::CreateMacvlan(macvlan) => self.create_macvlan(macvlan),
            Step::Limit { host_link, .. } => match self.links.get(host_link) {
                Some(_) => Ok(()),
                None => Err(missing(format!("link {host_link}"))),
            },
            Step::ConfigureInside(inside) => {
                if self.sandbox(&inside.sandbox)?.interfaces.contains(&inside.interface) {
                    Ok(())
                } else {
                    Err(missing(format!("interface {}", inside.interface)))
                }
            }
        }
    }

    fn undo(&mut self, undo: &Undo) {
        match undo {
            Undo::DeleteBridge { bridge, mac } => {
                if self.links.get(bridge).is_some_and(|link| link.mac == *mac) {
                    self.links.remove(bridge);
                }
            }
            Undo::PermitForwarding(rule) => drop(self.prohibitions.remove(rule)),
            Undo::Withdraw { facts } => self.facts.retain(|fact| !facts.contains(fact)),
            Undo::DropNetns { sandbox } => {
                if self.sandboxes.get(sandbox).is_some_and(|found| !found.is_foreign) {
                    self.drop_sandbox(sandbox);
                }
            }
            Undo::CutVeth { host_link, host_mac, .. } => self.cut_veth(host_link, *host_mac),
            Undo::DeleteMacvlan { sandbox, interface, .. } => {
                if let Some(sandbox) = self.sandboxes.get_mut(sandbox) {
                    sandbox.interfaces.retain(|it| it != interface);
                }
            }
            Undo::Unlimit { .. } => {}
        }
    }

    fn drop_sandbox(&mut self, sandbox: &SandboxName) {
        self.sandboxes.remove(sandbox);
        let is_in = |link: &Link| matches!(&link.kind, Kind::Veth { sandbox: other, .. } if other == sandbox);
        self.links.retain(|_, link| !is_in(link));
    }

    fn cut_veth(&mut self, host_link: &InterfaceName, host_mac: MacAddr) {
        if let Some(link) = self.links.get_mut(host_link)
            && link.mac == host_mac
            && let Kind::Veth { bridge, sandbox, interface } = &mut link.kind
        {
            *bridge = None;
            if let Some(sandbox) = self.sandboxes.get_mut(sandbox) {
                sandbox.interfaces.retain(|it| it != interface);
            }
        }
    }

    fn survey(&self) -> Survey {
        let ours = self.links.iter().filter(|(_, link)| !link.alias.is_empty());
        let links = ours.map(|(name, link)| FoundLink {
            name: name.clone(),
            mac: link.mac,
            index: 0,
            bridge: None,
            alias: link.alias.clone(),
            is_cut: link.is_cut(),
        });
        let sandboxes = self.sandboxes.iter().filter(|(_, sandbox)| !sandbox.is_foreign);
        Survey {
            links: links.collect(),
            sandboxes: sandboxes.map(|(name, _)| name.clone()).collect(),
            prohibitions: self.prohibitions.iter().cloned().collect(),
        }
    }

    /// Whether what a step makes is there.
    fn has(&self, step: &Step) -> bool {
        let link = |name, mac| self.links.get(name).filter(|link: &&Link| link.mac == mac);
        match step {
            Step::CreateBridge(spec) => link(&spec.name, spec.mac).is_some(),
            Step::ProhibitForwarding(rule) => self.prohibitions.contains(rule),
            Step::CreateNetns { sandbox } | Step::AdoptNetns { sandbox, .. } => {
                self.sandboxes.contains_key(sandbox)
            }
            Step::CreateVeth(veth) => {
                link(&veth.host_link, veth.host_mac).is_some_and(|link| !link.is_cut())
                    && self.links.contains_key(&veth.bridge)
            }
            Step::CreateMacvlan(it) => {
                let sandbox = self.sandboxes.get(&it.sandbox);
                sandbox.is_some_and(|sandbox| sandbox.interfaces.contains(&it.interface))
            }
            Step::Admit { .. } | Step::Limit { .. } | Step::ConfigureInside(_) => true,
        }
    }

    fn create_macvlan(&mut self, macvlan: &Macvlan) -> Result<(), KernelError> {
        if !self.links.contains_key(&macvlan.parent) {
            return Err(missing(format!("link {}", macvlan.parent)));
        }
        self.sandbox(&macvlan.sandbox)?.interfaces.push(macvlan.interface.clone());
        Ok(())
    }

    fn create_veth(&mut self, veth: &Veth) -> Result<(), KernelError> {
        self.bridge(&veth.bridge)?;
        let sandbox = self.sandbox(&veth.sandbox)?;
        if veth.interface.as_str() == "lo" || sandbox.interfaces.contains(&veth.interface) {
            return Err(exists(format!("interface {}", veth.interface)));
        }
        let kind = Kind::Veth {
            sandbox: veth.sandbox.clone(),
            interface: veth.interface.clone(),
            bridge: Some(veth.bridge.clone()),
        };
        let (mac, alias) = (veth.host_mac, veth.alias.clone());
        self.create_link(&veth.host_link, Link { mac, alias, kind })?;
        self.sandbox(&veth.sandbox)?.interfaces.push(veth.interface.clone());
        Ok(())
    }

    fn create_link(&mut self, name: &InterfaceName, link: Link) -> Result<(), KernelError> {
        if self.links.contains_key(name) {
            return Err(exists(format!("link {name}")));
        }
        self.links.insert(name.clone(), link);
        Ok(())
    }

    fn bridge(&self, name: &InterfaceName) -> Result<(), KernelError> {
        match self.links.get(name) {
            Some(Link { kind: Kind::Bridge, .. }) => Ok(()),
            _ => Err(missing(format!("bridge {name}"))),
        }
    }

    fn sandbox(&mut self, name: &SandboxName) -> Result<&mut Sandbox, KernelError> {
        let found = self.sandboxes.get_mut(name);
        found.ok_or_else(|| missing(format!("sandbox {name}")))
    }
}

fn missing(object: String) -> KernelError {
    KernelError::Missing { object }
}

fn exists(object: String) -> KernelError {
    KernelError::Exists { object }
}
