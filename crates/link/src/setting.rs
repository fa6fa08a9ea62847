//! Settings of the host's namespace that networks need.

use netloft_types::{Family, InterfaceName, PortRange};
use rtnetlink::packet_route::route::RouteProtocol;

use crate::observed::exits;
use crate::{Conn, Error, Switch, sysctl};

impl Conn {
    /// Has the namespace forward packets of a family, or no more; returns what it did before.
    ///
    /// A host that forwards IPv6 takes no more routes from router advertisements, unless it is told to. Before
    /// forwarding is switched on, every link by which such a route leaves is therefore told (`accept_ra` 2 instead of
    /// 1): the host would lose its default route. That stays when forwarding is switched off, and means nothing then.
    pub fn set_forwarding(&mut self, family: Family, switch: Switch) -> Result<Switch, Error> {
        let was = self.visit(|| sysctl::forwarding(family))?;
        if was == switch {
            return Ok(was);
        }
        let autoconfigured = match (family, switch) {
            (Family::V6, Switch::On) => self.autoconfigured_links()?,
            _ => Vec::new(),
        };
        self.visit(|| {
            autoconfigured.iter().try_for_each(|link| sysctl::keep_router_advertisements(link))?;
            sysctl::set_forwarding(family, switch)
        })?;
        Ok(was)
    }

    /// Whether the namespace forwards packets of a family.
    pub fn forwarding(&self, family: Family) -> Result<Switch, Error> {
        self.visit(|| sysctl::forwarding(family))
    }

    /// Has the kernel route packets from and to 127.0.0.0/8 by a bridge, or no more.
    pub fn set_route_localnet(&mut self, bridge: &InterfaceName, switch: Switch) -> Result<(), Error> {
        self.visit(|| sysctl::set_route_localnet(bridge.as_str(), switch))
    }

    /// The ports that the kernel gives to nobody by itself (`ip_local_reserved_ports`).
    pub fn local_reserved_ports(&self) -> Result<Vec<PortRange>, Error> {
        self.visit(sysctl::reserved_ports)
    }

    /// The ports that the kernel gives to whoever asks for any (`ip_local_port_range`).
    pub fn local_port_range(&self) -> Result<PortRange, Error> {
        self.visit(sysctl::ephemeral_ports)
    }

    /// The names of the links by which a route leaves that a router advertised.
    fn autoconfigured_links(&mut self) -> Result<Vec<String>, Error> {
        let routes = self.route_messages(Family::V6)?;
        let advertised = routes.iter().filter(|route| route.header.protocol == RouteProtocol::Ra);
        let exits: Vec<_> = advertised.flat_map(exits).collect();
        let links = self.links()?.into_iter().filter(|link| exits.contains(&link.index));
        Ok(links.map(|link| link.name).collect())
    }
}
