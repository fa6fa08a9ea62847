//! The inside of a sandbox: what its interfaces have, and by which of them it answers.

use std::net::IpAddr;

use netloft_link::{Conn, InsideSpec, Route, Sysctl};
use netloft_netns::Netns;
use netloft_types::{RouteSpec, SandboxName};

use super::{LinuxKernel, missing};
use crate::driver::PROTOCOL;
use crate::kernel::KernelError;
use crate::plan::{Inside, WayBack};

/// Where the rules of a way back stand among those of the sandbox, the first of two.
///
/// Just before the main table at 32766, so that whatever else runs in the sandbox goes first, such as a virtual private
/// network: those that name a priority name a lower one, and those that name none get one in front of all others.
const PRIORITY: u32 = 32_110;

/// The number of the table of a link is this and the index of the link: nobody else has it, and it is the same for as
/// long as the link is there. Far above what others use (253 to 255, and a few hundreds or tens of thousands by habit).
const TABLES: u32 = 110_000;

impl LinuxKernel {
    pub(super) fn configure_inside(&mut self, inside: &Inside) -> Result<(), KernelError> {
        let ends = self.links.get(&inside.endpoint).copied().flatten();
        let ends = ends.ok_or_else(|| missing("link", &inside.interface))?;
        let route = |route: &RouteSpec| Route {
            destination: route.destination,
            gateway: route.via,
            link: None,
            metric: None,
        };
        let sysctls = inside.sysctls.iter().map(|(key, value)| Sysctl::new(key, value));
        let spec = InsideSpec {
            link: ends.inner,
            name: inside.interface.clone(),
            addresses: inside.addresses.clone(),
            gateways: inside.gateways.clone(),
            gateway_metric: inside.metric,
            routes: inside.routes.iter().map(route).collect(),
            ipv6: inside.ipv6,
            sysctls: sysctls.collect::<Result<_, _>>()?,
        };
        let mut conn = self.conn_inside(inside.endpoint, &inside.sandbox)?;
        conn.configure_inside(&self.enterer, &spec)?;
        let addresses: Vec<IpAddr> = inside.announced.iter().map(|held| held.address()).collect();
        if let (Some(port), Some(bridge)) = (ends.host, &inside.bridge) {
            let bridge = *self.bridges.get(bridge).ok_or_else(|| missing("bridge", bridge))?;
            self.conn.open_port(bridge, port)?;
            self.conn.announce(&self.enterer, bridge, inside.mac, &addresses)?;
        } else {
            conn.announce(&self.enterer, ends.inner, inside.mac, &addresses)?;
        }
        self.retire(conn);
        Ok(())
    }

    pub(super) fn open_way_back(&mut self, way: &WayBack) -> Result<(), KernelError> {
        let ends = self.links.get(&way.endpoint).copied().flatten();
        let link = ends.ok_or_else(|| missing("link", &way.interface))?.inner;
        let mut inside = self.conn_inside(way.endpoint, &way.sandbox)?;
        for (address, gateway) in &way.gateways {
            inside.ensure_way_back(&netloft_link::WayBack {
                address: *address,
                gateway: *gateway,
                link,
                table: TABLES + link.number(),
                priority: PRIORITY,
                protocol: PROTOCOL,
            })?;
        }
        Ok(())
    }

    /// Goes by the name of the sandbox where this process does not know it: the namespace may be somebody else's, and
    /// live on with rules that an earlier process made.
    pub(super) fn close_way_back(
        &self,
        sandbox: &SandboxName,
        addresses: &[IpAddr],
    ) -> Result<(), KernelError> {
        let Some(netns) = self.find_sandbox(sandbox) else { return Ok(()) };
        let mut inside = Conn::open(&self.enterer, &netns)?;
        for address in addresses {
            inside.delete_way_back(*address, PRIORITY, PROTOCOL)?;
        }
        Ok(())
    }

    /// An address of which the way back is not as it was made.
    pub(super) fn lost_way_back(inside: &mut Conn, way: &WayBack) -> Result<Option<IpAddr>, KernelError> {
        let found = inside.ways_back()?;
        let is_there = |(address, gateway): &(&IpAddr, &IpAddr)| {
            found.iter().any(|it| {
                (it.address, it.gateway) == (**address, **gateway)
                    && (it.priority, it.protocol) == (PRIORITY, PROTOCOL)
            })
        };
        Ok(way.gateways.iter().find(|it| !is_there(it)).map(|(address, _)| *address))
    }

    /// A namespace that cannot be opened is gone.
    fn find_sandbox(&self, sandbox: &SandboxName) -> Option<Netns> {
        let known = self.sandboxes.get(sandbox).map(|found| found.netns.handle.clone());
        known.or_else(|| self.netns_dir.as_ref()?.find(sandbox).ok())
    }
}
