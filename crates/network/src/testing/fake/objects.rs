//! What a kernel in memory has.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use netloft_link::Prohibition;
use netloft_nft::Fact;
use netloft_types::{EndpointId, Family, InterfaceName, MacAddr, Port, SandboxName, Subnet};

use crate::kernel::{FoundLink, KernelError, Survey};
use crate::plan::{Macvlan, Step, Undo, Veth};

#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) links: BTreeMap<InterfaceName, Link>,
    /// By sandbox: whether it is ours, and the interfaces in it.
    pub(super) sandboxes: BTreeMap<SandboxName, Sandbox>,
    /// Namespaces that only the process holds that made them, and the interfaces in them.
    pub(super) unnamed: BTreeMap<EndpointId, Sandbox>,
    pub(super) prohibitions: BTreeSet<Prohibition>,
    pub(super) has_filter: bool,
    pub(super) facts: BTreeSet<Fact>,
    pub(super) forwards: BTreeSet<Family>,
    pub(super) used: Vec<Subnet>,
    /// Ports that somebody on the host has.
    pub(super) busy: BTreeSet<Port>,
    pub(super) default_deny: Vec<String>,
    /// Addresses whose connections were forgotten at once, because they did not rest.
    pub(super) forgotten: Vec<IpAddr>,
    /// How many ports a bridge has at most, if there is a limit.
    pub(super) ports_max: Option<usize>,
    pub(super) stock: VecDeque<Result<bool, KernelError>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) mac: MacAddr,
    /// Empty if it is not ours.
    pub(super) alias: String,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Bridge,
    /// The host end of a pair; cut, it has no bridge.
    Veth {
        home: Home,
        interface: InterfaceName,
        bridge: Option<InterfaceName>,
    },
}

/// Where the other end of a pair is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Home {
    Sandbox(SandboxName),
    Unnamed(EndpointId),
}

impl Link {
    pub(super) fn is_cut(&self) -> bool {
        matches!(self.kind, Kind::Veth { bridge: None, .. })
    }
}

#[derive(Debug, Default)]
pub(super) struct Sandbox {
    pub(super) is_foreign: bool,
    pub(super) interfaces: Vec<InterfaceName>,
    /// The addresses that it answers from by a link of their own.
    pub(super) ways_back: BTreeSet<IpAddr>,
}

impl Shared {
    pub(super) fn apply(&mut self, step: &Step) -> Result<(), KernelError> {
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
            Step::CreateUnnamed { endpoint } => {
                self.unnamed.insert(*endpoint, Sandbox::default());
                Ok(())
            }
            Step::NameNetns { endpoint, sandbox } => self.name_netns(*endpoint, sandbox),
            Step::CreateVeth(veth) => self.create_veth(veth),
            Step::CreateMacvlan(macvlan) => self.create_macvlan(macvlan),
            Step::Limit { host_link, .. } => match self.links.get(host_link) {
                Some(_) => Ok(()),
                None => Err(missing(format!("link {host_link}"))),
            },
            Step::ConfigureInside(inside) => {
                let home = self.home_of(inside.endpoint, &inside.sandbox);
                if self.inside(&home)?.interfaces.contains(&inside.interface) {
                    Ok(())
                } else {
                    Err(missing(format!("interface {}", inside.interface)))
                }
            }
            Step::OpenWayBack(way) => {
                let sandbox = self.sandbox(&way.sandbox)?;
                if !sandbox.interfaces.contains(&way.interface) {
                    return Err(missing(format!("interface {}", way.interface)));
                }
                sandbox.ways_back.extend(way.gateways.keys());
                Ok(())
            }
        }
    }

    pub(super) fn undo(&mut self, undo: &Undo) {
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
            Undo::DropUnnamed { endpoint } => {
                self.unnamed.remove(endpoint);
                self.drop_links(&Home::Unnamed(*endpoint));
            }
            Undo::CutVeth { host_link, host_mac, .. } => self.cut_veth(host_link, *host_mac),
            Undo::DeleteMacvlan { sandbox, interface, .. } => {
                if let Some(sandbox) = self.sandboxes.get_mut(sandbox) {
                    sandbox.interfaces.retain(|it| it != interface);
                }
            }
            Undo::Unlimit { .. } => {}
            Undo::CloseWayBack { sandbox, addresses } => {
                if let Some(sandbox) = self.sandboxes.get_mut(sandbox) {
                    sandbox.ways_back.retain(|it| !addresses.contains(it));
                }
            }
        }
    }

    pub(super) fn drop_sandbox(&mut self, sandbox: &SandboxName) {
        self.sandboxes.remove(sandbox);
        self.drop_links(&Home::Sandbox(sandbox.clone()));
    }

    /// Drops what only its maker held.
    pub(super) fn drop_unnamed(&mut self) {
        for endpoint in std::mem::take(&mut self.unnamed).into_keys() {
            self.drop_links(&Home::Unnamed(endpoint));
        }
    }

    /// Drops the links whose other end was there.
    fn drop_links(&mut self, gone: &Home) {
        let is_there = |link: &Link| matches!(&link.kind, Kind::Veth { home, .. } if home == gone);
        self.links.retain(|_, link| !is_there(link));
    }

    fn name_netns(&mut self, endpoint: EndpointId, sandbox: &SandboxName) -> Result<(), KernelError> {
        if self.sandboxes.contains_key(sandbox) {
            return Err(exists(format!("sandbox {sandbox}")));
        }
        let found = self.unnamed.remove(&endpoint);
        let found = found.ok_or_else(|| missing(format!("network namespace of endpoint {endpoint}")))?;
        self.sandboxes.insert(sandbox.clone(), found);
        for link in self.links.values_mut() {
            if let Kind::Veth { home, .. } = &mut link.kind
                && *home == Home::Unnamed(endpoint)
            {
                *home = Home::Sandbox(sandbox.clone());
            }
        }
        Ok(())
    }

    pub(super) fn cut_veth(&mut self, host_link: &InterfaceName, host_mac: MacAddr) {
        if let Some(link) = self.links.get_mut(host_link)
            && link.mac == host_mac
            && let Kind::Veth { bridge, home, interface } = &mut link.kind
        {
            *bridge = None;
            let inside = match home {
                Home::Sandbox(sandbox) => self.sandboxes.get_mut(sandbox),
                Home::Unnamed(endpoint) => self.unnamed.get_mut(endpoint),
            };
            if let Some(inside) = inside {
                inside.interfaces.retain(|it| it != interface);
            }
        }
    }

    pub(super) fn survey(&self) -> Survey {
        let ours = self.links.iter().filter(|(_, link)| !link.alias.is_empty());
        let links = ours.map(|(name, link)| FoundLink {
            name: name.clone(),
            mac: link.mac,
            index: 0,
            bridge: None,
            addresses: Vec::new(),
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
    pub(super) fn has(&self, step: &Step) -> bool {
        let link = |name, mac| self.links.get(name).filter(|link: &&Link| link.mac == mac);
        match step {
            Step::CreateBridge(spec) => link(&spec.name, spec.mac).is_some(),
            Step::ProhibitForwarding(rule) => self.prohibitions.contains(rule),
            Step::CreateNetns { sandbox }
            | Step::AdoptNetns { sandbox, .. }
            | Step::NameNetns { sandbox, .. } => self.sandboxes.contains_key(sandbox),
            Step::CreateUnnamed { endpoint } => self.unnamed.contains_key(endpoint),
            Step::CreateVeth(veth) => {
                link(&veth.host_link, veth.host_mac).is_some_and(|link| !link.is_cut())
                    && self.links.contains_key(&veth.bridge)
            }
            Step::CreateMacvlan(it) => {
                let sandbox = self.sandboxes.get(&it.sandbox);
                sandbox.is_some_and(|sandbox| sandbox.interfaces.contains(&it.interface))
            }
            Step::Admit { .. } | Step::Limit { .. } | Step::ConfigureInside(_) | Step::OpenWayBack(_) => true,
        }
    }

    pub(super) fn create_macvlan(&mut self, macvlan: &Macvlan) -> Result<(), KernelError> {
        if !self.links.contains_key(&macvlan.parent) {
            return Err(missing(format!("link {}", macvlan.parent)));
        }
        self.sandbox(&macvlan.sandbox)?.interfaces.push(macvlan.interface.clone());
        Ok(())
    }

    pub(super) fn create_veth(&mut self, veth: &Veth) -> Result<(), KernelError> {
        self.bridge(&veth.bridge)?;
        let is_port = |link: &&Link| matches!(&link.kind, Kind::Veth { bridge, .. } if *bridge == Some(veth.bridge.clone()));
        let ports = self.links.values().filter(is_port).count();
        if self.ports_max.is_some_and(|most| ports >= most) {
            return Err(KernelError::Full { bridge: veth.bridge.clone() });
        }
        let home = self.home_of(veth.endpoint, &veth.sandbox);
        let inside = self.inside(&home)?;
        if veth.interface.as_str() == "lo" || inside.interfaces.contains(&veth.interface) {
            return Err(exists(format!("interface {}", veth.interface)));
        }
        let (interface, bridge) = (veth.interface.clone(), Some(veth.bridge.clone()));
        let kind = Kind::Veth { home: home.clone(), interface, bridge };
        let (mac, alias) = (veth.host_mac, veth.alias.clone());
        self.create_link(&veth.host_link, Link { mac, alias, kind })?;
        self.inside(&home)?.interfaces.push(veth.interface.clone());
        Ok(())
    }

    pub(super) fn create_link(&mut self, name: &InterfaceName, link: Link) -> Result<(), KernelError> {
        if self.links.contains_key(name) {
            return Err(exists(format!("link {name}")));
        }
        self.links.insert(name.clone(), link);
        Ok(())
    }

    pub(super) fn bridge(&self, name: &InterfaceName) -> Result<(), KernelError> {
        match self.links.get(name) {
            Some(Link { kind: Kind::Bridge, .. }) => Ok(()),
            _ => Err(missing(format!("bridge {name}"))),
        }
    }

    fn home_of(&self, endpoint: EndpointId, sandbox: &SandboxName) -> Home {
        if self.unnamed.contains_key(&endpoint) {
            Home::Unnamed(endpoint)
        } else {
            Home::Sandbox(sandbox.clone())
        }
    }

    fn inside(&mut self, home: &Home) -> Result<&mut Sandbox, KernelError> {
        match home {
            Home::Sandbox(sandbox) => self.sandbox(sandbox),
            Home::Unnamed(endpoint) => {
                let found = self.unnamed.get_mut(endpoint);
                found.ok_or_else(|| missing(format!("network namespace of endpoint {endpoint}")))
            }
        }
    }

    pub(super) fn sandbox(&mut self, name: &SandboxName) -> Result<&mut Sandbox, KernelError> {
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
