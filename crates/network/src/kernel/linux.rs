//! The real kernel: namespaces by `netloft-netns`, links and rules by `netloft-link`, the packet filter by `netloft-nft`.

mod adopt;
mod host;
mod inside;
mod reaper;
mod sandboxes;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::Path;

use netloft_link::{BridgeSpec, Conn, LinkGroup, LinkIndex, MacvlanSpec, ShapeSpec, Switch, VethSpec};
use netloft_netns::{Enterer, Netns, NetnsDir};
use netloft_nft::{Connections, Fact, Firewall};
use netloft_types::{
    Bandwidth, EndpointId, Family, InterfaceName, MacAddr, Mtu, Port, PortRange, Protocol, Rate, SandboxName,
};

use self::reaper::Reaper;
use self::sandboxes::Sandbox;
use super::{HostFacts, Kernel, KernelError, SandboxNetns, Stray, Survey, Watch};
use crate::plan::{Macvlan, Step, Undo, Veth};

/// The group of links that were cut and wait to be deleted: "nloft" squeezed into 32 bits, which nobody picks
/// by chance.
const CORPSES: LinkGroup = LinkGroup::new(NonZeroU32::new(0x6e6c_6f66).expect("is not zero"));

/// How many namespaces are made ahead of need. One takes half of the time of an attachment and some 220 KiB of the
/// kernel's memory; so many serve the containers of one application that start together.
const STOCK_LEN: usize = 8;

/// The kernel this process runs on.
///
/// Keeps one netlink socket open in the host's namespace and one thread for entering sandboxes, and remembers
/// what it made: an attachment looks nothing up. A few namespaces are kept in stock; one that a sandbox had is never
/// given to another. Links that were cut are deleted by a thread of its own, because that waits for the kernel some
/// 20 ms and more.
pub struct LinuxKernel {
    host: Netns,
    enterer: Enterer,
    conn: Conn,
    firewall: Firewall,
    connections: Connections,
    reaper: Reaper,
    netns_dir: Option<NetnsDir>,
    bridges: BTreeMap<InterfaceName, LinkIndex>,
    /// The link of each endpoint we made or adopted; its ends are unknown if it was adopted.
    links: BTreeMap<EndpointId, Option<Ends>>,
    sandboxes: BTreeMap<SandboxName, Sandbox>,
    /// The namespaces of endpoints whose sandbox is not known yet.
    unnamed: BTreeMap<EndpointId, Sandbox>,
    /// Connections to namespaces that no sandbox has yet.
    stock: Vec<Conn>,
    /// Connections that are done with: to close one takes as long as to ask something by it.
    retired: Vec<Conn>,
}

/// The two ends of an endpoint's link.
#[derive(Clone, Copy)]
struct Ends {
    /// In the host; a macvlan link has none.
    host: Option<LinkIndex>,
    inner: LinkIndex,
}

impl LinuxKernel {
    /// Prepares for work in `host`, the namespace in which bridges are made. Sandboxes are kept by name under
    /// `netns_dir`; without it they live as long as this value, and somebody's use of them.
    pub fn open(host: Netns, netns_dir: Option<&Path>) -> Result<Self, KernelError> {
        let enterer = Enterer::new()?;
        Ok(Self {
            conn: Conn::open(&enterer, &host)?,
            firewall: Firewall::open(&enterer, &host)?,
            connections: Connections::open(&enterer, &host)?,
            reaper: Reaper::start(&enterer, &host)?,
            netns_dir: netns_dir.map(NetnsDir::open).transpose()?,
            enterer,
            host,
            bridges: BTreeMap::new(),
            links: BTreeMap::new(),
            sandboxes: BTreeMap::new(),
            unnamed: BTreeMap::new(),
            stock: Vec::with_capacity(STOCK_LEN),
            retired: Vec::new(),
        })
    }

    fn create_bridge(&mut self, spec: &BridgeSpec) -> Result<(), KernelError> {
        let index = self.conn.create_bridge(spec)?;
        self.bridges.insert(spec.name.clone(), index);
        if spec.addresses.iter().any(|held| held.address().is_ipv4()) {
            // So that a published port answers at 127.0.0.1, too. What the sandboxes send there is dropped by the packet
            // filter, which therefore comes first and goes last.
            self.conn.set_route_localnet(&spec.name, Switch::On)?;
        }
        Ok(())
    }

    fn create_veth(&mut self, veth: &Veth) -> Result<(), KernelError> {
        let bridge = *self.bridges.get(&veth.bridge).ok_or_else(|| missing("bridge", &veth.bridge))?;
        let peer_netns = self.home(veth.endpoint, &veth.sandbox)?.netns.handle.clone();
        let spec = VethSpec {
            host_name: veth.host_link.clone(),
            host_mac: Some(veth.host_mac),
            bridge,
            isolated: false,
            alias: veth.alias.clone(),
            mtu: veth.mtu.map(Mtu::bytes),
            peer_netns,
            peer_name: veth.interface.clone(),
            peer_mac: veth.mac,
        };
        let made = match self.conn.create_veth(&spec) {
            // What was cut in the sandbox a moment ago may have the name still.
            Err(error) if error.is_exists() => {
                self.conn.reap(CORPSES)?;
                self.conn.create_veth(&spec)?
            }
            made => made?,
        };
        self.links.insert(veth.endpoint, Some(Ends { host: Some(made.host), inner: made.peer }));
        Ok(())
    }

    fn create_macvlan(&mut self, macvlan: &Macvlan) -> Result<(), KernelError> {
        let mut inside = self.conn_inside(macvlan.endpoint, &macvlan.sandbox)?;
        let made = self.conn.create_macvlan(
            &mut inside,
            &MacvlanSpec {
                parent: macvlan.parent.clone(),
                name: macvlan.interface.clone(),
                mac: macvlan.mac,
                mtu: macvlan.mtu.map(Mtu::bytes),
            },
        )?;
        self.links.insert(macvlan.endpoint, Some(Ends { host: None, inner: made }));
        if let Some(sandbox) = self.sandboxes.get_mut(&macvlan.sandbox) {
            sandbox.conn = Some(inside);
        }
        Ok(())
    }

    fn limit(&mut self, host_link: &InterfaceName, bandwidth: &Bandwidth) -> Result<(), KernelError> {
        let link = self.conn.link(host_link)?.ok_or_else(|| missing("link", host_link))?;
        let rate = |rate: Rate| {
            let bits = NonZeroU64::new(rate.bits_per_second()).expect("a rate is at least 8 kbit/s");
            netloft_link::Rate::from_bits_per_second(bits)
        };
        self.conn.shape(&ShapeSpec {
            link: link.index,
            name: host_link.clone(),
            ifb: ifb_of(host_link),
            alias: link.alias.unwrap_or_default(),
            to_sandbox: bandwidth.to_sandbox.map(rate),
            from_sandbox: bandwidth.from_sandbox.map(rate),
        })?;
        Ok(())
    }

    fn delete_bridge(&mut self, bridge: &InterfaceName, mac: MacAddr) -> Result<(), KernelError> {
        if self.is_there(bridge, mac)? {
            self.conn.delete_link(bridge)?;
        }
        self.bridges.remove(bridge);
        Ok(())
    }

    /// Looks the link up only if making it failed: one that was made is known, and one datagram cuts it.
    fn cut_veth(
        &mut self,
        endpoint: EndpointId,
        host_link: &InterfaceName,
        host_mac: MacAddr,
    ) -> Result<(), KernelError> {
        if self.links.contains_key(&endpoint) || self.is_there(host_link, host_mac)? {
            self.conn.cut(host_link, CORPSES)?;
        }
        self.links.remove(&endpoint);
        Ok(())
    }

    fn delete_macvlan(
        &mut self,
        endpoint: EndpointId,
        sandbox: &SandboxName,
        interface: &InterfaceName,
        mac: MacAddr,
    ) -> Result<(), KernelError> {
        if self.sandboxes.contains_key(sandbox) {
            let mut inside = self.conn_inside(endpoint, sandbox)?;
            if inside.link(interface)?.is_some_and(|link| link.mac == Some(mac)) {
                inside.delete_link(interface)?;
            }
        }
        self.links.remove(&endpoint);
        Ok(())
    }

    fn withdraw(&mut self, facts: &[Fact]) -> Result<(), KernelError> {
        match self.firewall.change(&[], facts) {
            // Without tables there is nothing that it knows.
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn is_there(&mut self, name: &InterfaceName, mac: MacAddr) -> Result<bool, KernelError> {
        let link = self.conn.link(name)?;
        Ok(link.is_some_and(|link| link.mac == Some(mac)))
    }
}

impl Kernel for LinuxKernel {
    fn apply(&mut self, step: &Step) -> Result<(), KernelError> {
        match step {
            Step::CreateBridge(spec) => self.create_bridge(spec),
            Step::ProhibitForwarding(rule) => Ok(self.conn.ensure_prohibition(rule)?),
            Step::Admit { facts } => Ok(self.firewall.change(facts, &[])?),
            Step::CreateNetns { sandbox } => self.create_netns(sandbox),
            Step::AdoptNetns { sandbox, path } => self.adopt_netns(sandbox, path),
            Step::CreateUnnamed { endpoint } => self.create_unnamed(*endpoint),
            Step::NameNetns { endpoint, sandbox } => self.name_netns(*endpoint, sandbox),
            Step::CreateVeth(veth) => self.create_veth(veth),
            Step::CreateMacvlan(macvlan) => self.create_macvlan(macvlan),
            Step::Limit { host_link, bandwidth } => self.limit(host_link, bandwidth),
            Step::ConfigureInside(inside) => self.configure_inside(inside),
            Step::OpenWayBack(way) => self.open_way_back(way),
        }
    }

    fn undo(&mut self, undo: &Undo) -> Result<(), KernelError> {
        match undo {
            Undo::DeleteBridge { bridge, mac } => self.delete_bridge(bridge, *mac),
            Undo::PermitForwarding(rule) => Ok(self.conn.delete_prohibition(rule)?),
            Undo::Withdraw { facts } => self.withdraw(facts),
            Undo::DropNetns { sandbox } => self.drop_netns(sandbox),
            Undo::DropUnnamed { endpoint } => {
                self.unnamed.remove(endpoint);
                Ok(())
            }
            Undo::CutVeth { endpoint, host_link, host_mac } => self.cut_veth(*endpoint, host_link, *host_mac),
            Undo::DeleteMacvlan { endpoint, sandbox, interface, mac } => {
                self.delete_macvlan(*endpoint, sandbox, interface, *mac)
            }
            Undo::Unlimit { host_link } => Ok(self.conn.cut(&ifb_of(host_link), CORPSES)?),
            Undo::CloseWayBack { sandbox, addresses } => self.close_way_back(sandbox, addresses),
        }
    }

    fn reap(&mut self, released: &[IpAddr]) -> Result<(), KernelError> {
        self.reaper.reap(released);
        Ok(())
    }

    fn forget_connections(&mut self, addresses: &[IpAddr]) -> Result<(), KernelError> {
        self.connections.forget(addresses)?;
        Ok(())
    }

    fn stock_up(&mut self) -> Result<bool, KernelError> {
        self.retired.clear();
        if self.stock.len() < STOCK_LEN {
            self.stock.push(Conn::create_sandbox(&self.enterer)?);
        }
        Ok(self.stock.len() < STOCK_LEN)
    }

    fn survey(&mut self) -> Result<Survey, KernelError> {
        self.look_around()
    }

    fn adopt(&mut self, step: &Step, survey: &Survey) -> Result<bool, KernelError> {
        self.take_over(step, survey)
    }

    fn differs(&mut self, step: &Step, survey: &Survey) -> Result<Option<String>, KernelError> {
        self.look_closer(step, survey)
    }

    fn discard(&mut self, stray: &Stray) -> Result<(), KernelError> {
        self.take_away(stray)
    }

    fn establish(&mut self, facts: &BTreeSet<Fact>) -> Result<(), KernelError> {
        Ok(self.firewall.establish(facts)?)
    }

    fn dismantle(&mut self) -> Result<(), KernelError> {
        Ok(self.firewall.remove()?)
    }

    fn is_filter_disturbed(&mut self) -> Result<bool, KernelError> {
        Ok(self.firewall.is_disturbed()?)
    }

    fn audit(&mut self, facts: &BTreeSet<Fact>) -> Result<Vec<String>, KernelError> {
        if facts.is_empty() {
            return Ok(Vec::new());
        }
        let differences = self.firewall.audit(&self.enterer, facts)?;
        Ok(differences.iter().map(ToString::to_string).collect())
    }

    fn forward(&mut self, family: Family, on: bool) -> Result<(), KernelError> {
        let switch = if on { Switch::On } else { Switch::Off };
        self.conn.set_forwarding(family, switch)?;
        Ok(())
    }

    fn host(&mut self) -> Result<HostFacts, KernelError> {
        self.learn()
    }

    fn is_link(&mut self, name: &InterfaceName) -> Result<bool, KernelError> {
        Ok(self.conn.link(name)?.is_some())
    }

    fn reserved_ports(&mut self) -> Result<BTreeSet<PortRange>, KernelError> {
        Ok(self.conn.local_reserved_ports()?.into_iter().collect())
    }

    fn default_deny(&mut self) -> Result<Vec<String>, KernelError> {
        host::default_deny(&mut self.firewall)
    }

    fn is_port_busy(&mut self, protocol: Protocol, address: Option<IpAddr>, port: Port) -> bool {
        host::is_port_busy(&self.enterer, &self.host, protocol, address, port)
    }

    fn sandbox(&self, sandbox: &SandboxName) -> Result<SandboxNetns, KernelError> {
        let found = self.sandboxes.get(sandbox).ok_or_else(|| missing("sandbox", sandbox))?;
        Ok(found.netns.clone())
    }

    fn watch(&mut self) -> Result<Option<Box<dyn Watch>>, KernelError> {
        let watch = watch::LinuxWatch::open(&self.enterer, &self.host, &self.firewall)?;
        Ok(Some(Box::new(watch)))
    }
}

/// The link through which what comes from a sandbox is led, if it is limited: named after the host end.
fn ifb_of(host_link: &InterfaceName) -> InterfaceName {
    let digits = host_link.as_str().trim_start_matches("nl");
    format!("ni{digits}").parse().expect("as long as the name of the host end")
}

fn missing(kind: &str, name: &impl AsRef<str>) -> KernelError {
    KernelError::Missing { object: format!("{kind} {}", name.as_ref()) }
}
