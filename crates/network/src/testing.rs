//! A kernel in memory, for tests of this crate and of those who build on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use netloft_link::Prohibition;
use netloft_netns::Netns;
use netloft_types::{InterfaceName, MacAddr, SandboxName, Subnet};

use crate::kernel::{Kernel, KernelError, SandboxNetns};
use crate::plan::{Step, Undo, Veth};

/// A [`Kernel`] of maps: it knows names and what hangs on what, refuses what the real one refuses, and fails when told
/// to. Clones share what they hold, so that a test can look at it while a [`Host`](crate::Host) works on it.
///
/// Its sandboxes have no namespaces of their own: their handles lead to that of the thread that made it.
#[derive(Debug, Clone)]
pub struct FakeKernel {
    netns: Netns,
    shared: Arc<Mutex<Shared>>,
}

/// When a [`FakeKernel`] is to fail. Calls are counted from 0: steps, undos, reaping and reading alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Call number so much does nothing and fails.
    Before(u64),
    /// Call number so much does its work and fails nevertheless, as when the answer is lost.
    After(u64),
}

#[derive(Debug, Default)]
struct Shared {
    links: BTreeMap<InterfaceName, Link>,
    /// By sandbox: whether it is ours, and the interfaces in it.
    sandboxes: BTreeMap<SandboxName, Sandbox>,
    prohibitions: BTreeSet<Prohibition>,
    used: Vec<Subnet>,
    calls: u64,
    faults: Vec<Fault>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    mac: MacAddr,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Bridge,
    /// The host end of a pair; cut, it has no bridge.
    Veth {
        sandbox: SandboxName,
        bridge: Option<InterfaceName>,
    },
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
        Ok(Self { netns: Netns::current()?, shared: Arc::default() })
    }

    /// Plants a link that somebody else made.
    pub fn plant_link(&self, name: InterfaceName, mac: MacAddr) {
        let kind = Kind::Bridge;
        self.lock().links.insert(name, Link { mac, kind });
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

    /// Fails once, at that call.
    pub fn fail(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.lock().calls
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
        shared.links.is_empty() && shared.sandboxes.is_empty() && shared.prohibitions.is_empty()
    }

    /// A panic while the lock was held is a failed test already; what others see then does not matter.
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call and lets it fail if it is to.
    fn call<T>(&self, work: impl FnOnce(&mut Shared) -> Result<T, KernelError>) -> Result<T, KernelError> {
        let mut shared = self.lock();
        let call = shared.calls;
        shared.calls += 1;
        let planned = Err(KernelError::Planned { call });
        if shared.faults.contains(&Fault::Before(call)) {
            return planned;
        }
        let outcome = work(&mut shared)?;
        if shared.faults.contains(&Fault::After(call)) {
            return planned;
        }
        Ok(outcome)
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

    fn reap(&mut self) -> Result<(), KernelError> {
        self.call(|shared| {
            let is_cut = |link: &Link| matches!(link.kind, Kind::Veth { bridge: None, .. });
            shared.links.retain(|_, link| !is_cut(link));
            Ok(())
        })
    }

    fn subnets_in_use(&mut self) -> Result<Vec<Subnet>, KernelError> {
        self.call(|shared| Ok(shared.used.clone()))
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
                let kind = Kind::Bridge;
                self.create_link(&spec.name, Link { mac: spec.mac, kind })
            }
            Step::ProhibitForwarding(rule) => {
                self.prohibitions.insert(rule.clone());
                Ok(())
            }
            Step::CreateNetns { sandbox } => {
                if self.sandboxes.contains_key(sandbox) {
                    return Err(exists(format!("sandbox {sandbox}")));
                }
                self.sandboxes.insert(sandbox.clone(), Sandbox::default());
                Ok(())
            }
            Step::CreateVeth(veth) => self.create_veth(veth),
            Step::ConfigureInside { sandbox, interface, .. } => {
                if self.sandbox(sandbox)?.interfaces.contains(interface) {
                    Ok(())
                } else {
                    Err(missing(format!("interface {interface}")))
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
            Undo::PermitForwarding(rule) => {
                self.prohibitions.remove(rule);
            }
            Undo::DropNetns { sandbox } => {
                if self.sandboxes.get(sandbox).is_some_and(|found| !found.is_foreign) {
                    self.sandboxes.remove(sandbox);
                    let is_in = |link: &Link| matches!(&link.kind, Kind::Veth { sandbox: other, .. } if other == sandbox);
                    self.links.retain(|_, link| !is_in(link));
                }
            }
            Undo::CutVeth { host_link, host_mac } => {
                if let Some(link) = self.links.get_mut(host_link)
                    && link.mac == *host_mac
                    && let Kind::Veth { bridge, .. } = &mut link.kind
                {
                    *bridge = None;
                }
            }
        }
    }

    fn create_veth(&mut self, veth: &Veth) -> Result<(), KernelError> {
        self.bridge(&veth.bridge)?;
        let sandbox = self.sandbox(&veth.sandbox)?;
        if veth.interface.as_str() == "lo" || sandbox.interfaces.contains(&veth.interface) {
            return Err(exists(format!("interface {}", veth.interface)));
        }
        let kind = Kind::Veth { sandbox: veth.sandbox.clone(), bridge: Some(veth.bridge.clone()) };
        let mac = veth.host_mac;
        self.create_link(&veth.host_link, Link { mac, kind })?;
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
