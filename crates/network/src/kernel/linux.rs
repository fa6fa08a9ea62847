//! The real kernel: namespaces by `netloft-netns`, links and rules by `netloft-link`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::path::Path;

use netloft_link::{BridgeSpec, Conn, InsideSpec, LinkGroup, LinkIndex, VethSpec};
use netloft_netns::{Enterer, Netns, NetnsDir};
use netloft_types::{InterfaceAddr, InterfaceName, MacAddr, Mtu, SandboxName, Subnet};

use super::{Kernel, KernelError, SandboxNetns};
use crate::plan::{Step, Undo, Veth};

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
/// given to another.
pub struct LinuxKernel {
    conn: Conn,
    enterer: Enterer,
    netns_dir: Option<NetnsDir>,
    bridges: BTreeMap<InterfaceName, LinkIndex>,
    /// The inner end of each pair we made, by the name of its host end.
    inner_ends: BTreeMap<InterfaceName, LinkIndex>,
    sandboxes: BTreeMap<SandboxName, Sandbox>,
    /// Connections to namespaces that no sandbox has yet.
    stock: Vec<Conn>,
}

struct Sandbox {
    netns: SandboxNetns,
    /// A connection to the namespace, until the first interface is configured.
    conn: Option<Conn>,
}

impl LinuxKernel {
    /// Prepares for work in `host`, the namespace in which bridges are made. Sandboxes are kept by name under
    /// `netns_dir`; without it they live as long as this value, and somebody's use of them.
    pub fn open(host: Netns, netns_dir: Option<&Path>) -> Result<Self, KernelError> {
        let enterer = Enterer::new()?;
        Ok(Self {
            conn: Conn::open(&enterer, &host)?,
            netns_dir: netns_dir.map(NetnsDir::open).transpose()?,
            enterer,
            bridges: BTreeMap::new(),
            inner_ends: BTreeMap::new(),
            sandboxes: BTreeMap::new(),
            stock: Vec::with_capacity(STOCK_LEN),
        })
    }

    fn create_bridge(&mut self, spec: &BridgeSpec) -> Result<(), KernelError> {
        let index = self.conn.create_bridge(spec)?;
        self.bridges.insert(spec.name.clone(), index);
        Ok(())
    }

    fn create_netns(&mut self, sandbox: &SandboxName) -> Result<(), KernelError> {
        let conn = self.stock.pop().map_or_else(|| Conn::create_sandbox(&self.enterer), Ok)?;
        let handle = conn.netns().clone();
        let path = if let Some(dir) = &self.netns_dir {
            dir.bind(sandbox, &handle)?;
            dir.path_of(sandbox)
        } else {
            handle.path()
        };
        let netns = SandboxNetns { handle, path };
        self.sandboxes.insert(sandbox.clone(), Sandbox { netns, conn: Some(conn) });
        Ok(())
    }

    fn create_veth(&mut self, veth: &Veth) -> Result<(), KernelError> {
        let bridge = self.bridges.get(&veth.bridge).ok_or_else(|| missing("bridge", &veth.bridge))?;
        let made = self.conn.create_veth(&VethSpec {
            host_name: veth.host_link.clone(),
            host_mac: Some(veth.host_mac),
            bridge: *bridge,
            alias: veth.alias.clone(),
            mtu: veth.mtu.map(Mtu::bytes),
            peer_netns: self.sandbox(&veth.sandbox)?.handle,
            peer_name: veth.interface.clone(),
            peer_mac: veth.mac,
        })?;
        self.inner_ends.insert(veth.host_link.clone(), made.peer);
        Ok(())
    }

    fn configure_inside(&mut self, sandbox: &SandboxName, inside: &InsideSpec) -> Result<(), KernelError> {
        let found = self.sandboxes.get_mut(sandbox).ok_or_else(|| missing("sandbox", sandbox))?;
        let mut conn = match found.conn.take() {
            Some(conn) => conn,
            None => Conn::open(&self.enterer, &found.netns.handle)?,
        };
        Ok(conn.configure_inside(&self.enterer, inside)?)
    }

    fn delete_bridge(&mut self, bridge: &InterfaceName, mac: MacAddr) -> Result<(), KernelError> {
        if self.is_there(bridge, mac)? {
            self.conn.delete_link(bridge)?;
        }
        self.bridges.remove(bridge);
        Ok(())
    }

    /// Looks the link up only if making it failed: one that was made is known, and one datagram cuts it.
    fn cut_veth(&mut self, host_link: &InterfaceName, host_mac: MacAddr) -> Result<(), KernelError> {
        if self.inner_ends.contains_key(host_link) || self.is_there(host_link, host_mac)? {
            self.conn.cut(host_link, CORPSES)?;
        }
        self.inner_ends.remove(host_link);
        Ok(())
    }

    fn drop_netns(&mut self, sandbox: &SandboxName) -> Result<(), KernelError> {
        if self.sandboxes.contains_key(sandbox) {
            if let Some(dir) = &self.netns_dir {
                dir.delete(sandbox)?;
            }
            self.sandboxes.remove(sandbox);
        }
        Ok(())
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
            Step::CreateNetns { sandbox } => self.create_netns(sandbox),
            Step::CreateVeth(veth) => self.create_veth(veth),
            Step::ConfigureInside { sandbox, host_link, interface, addresses, ipv6, gateways } => {
                let link = self.inner_ends.get(host_link).ok_or_else(|| missing("link", host_link))?;
                let inside = InsideSpec {
                    link: *link,
                    name: interface.clone(),
                    addresses: addresses.clone(),
                    gateways: gateways.clone(),
                    routes: Vec::new(),
                    ipv6: *ipv6,
                };
                self.configure_inside(sandbox, &inside)
            }
        }
    }

    fn undo(&mut self, undo: &Undo) -> Result<(), KernelError> {
        match undo {
            Undo::DeleteBridge { bridge, mac } => self.delete_bridge(bridge, *mac),
            Undo::PermitForwarding(rule) => Ok(self.conn.delete_prohibition(rule)?),
            Undo::DropNetns { sandbox } => self.drop_netns(sandbox),
            Undo::CutVeth { host_link, host_mac } => self.cut_veth(host_link, *host_mac),
        }
    }

    fn reap(&mut self) -> Result<(), KernelError> {
        Ok(self.conn.reap(CORPSES)?)
    }

    fn stock_up(&mut self) -> Result<bool, KernelError> {
        if self.stock.len() < STOCK_LEN {
            self.stock.push(Conn::create_sandbox(&self.enterer)?);
        }
        Ok(self.stock.len() < STOCK_LEN)
    }

    fn subnets_in_use(&mut self) -> Result<Vec<Subnet>, KernelError> {
        let addresses = self.conn.addresses()?;
        let routes = self.conn.routes()?;
        let destinations = routes.iter().map(|route| route.destination);
        Ok(addresses
            .iter()
            .filter_map(|held| prefix(held.address))
            .chain(destinations)
            .filter(|subnet| subnet.prefix_len() > 1)
            .collect())
    }

    fn sandbox(&self, sandbox: &SandboxName) -> Result<SandboxNetns, KernelError> {
        let found = self.sandboxes.get(sandbox).ok_or_else(|| missing("sandbox", sandbox))?;
        Ok(found.netns.clone())
    }
}

fn missing(kind: &str, name: &impl AsRef<str>) -> KernelError {
    KernelError::Missing { object: format!("{kind} {}", name.as_ref()) }
}

/// The subnet that an address puts its interface in.
fn prefix(held: InterfaceAddr) -> Option<Subnet> {
    let host_bits = |bits: u32| bits - u32::from(held.prefix_len());
    let first: IpAddr = match held.address() {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(host_bits(32)).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(host_bits(128)).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    };
    Subnet::new(first, held.prefix_len()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_of_an_address_has_no_host_bits() {
        for (held, subnet) in [
            ("10.89.3.7/24", "10.89.3.0/24"),
            ("10.89.3.7/32", "10.89.3.7/32"),
            ("10.89.3.7/0", "0.0.0.0/0"),
            ("fd00:89::7/64", "fd00:89::/64"),
            ("::1/128", "::1/128"),
            ("::1/0", "::/0"),
        ] {
            let held: InterfaceAddr = held.parse().unwrap();
            assert_eq!(prefix(held).unwrap().to_string(), subnet);
        }
    }
}
