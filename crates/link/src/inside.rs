//! The inside of a sandbox.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netloft_netns::Enterer;
use netloft_types::{InterfaceName, Subnet};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteScope};
use rtnetlink::{LinkUnspec, RouteMessageBuilder};

use crate::conn::add_address;
use crate::request::Request;
use crate::{Conn, Error, InsideSpec, Ipv6, LinkIndex, Route, Sysctl, sysctl};

impl Conn {
    /// Configures an interface inside a sandbox, in whose namespace this connection acts, and its loopback interface.
    ///
    /// One datagram does it: both links up, addresses, routes. Settings are written before it, because they must be
    /// there before the interface is up. That takes a visit to the namespace, unless nothing is to be written: to the
    /// first interface of a namespace that [`Conn::create_sandbox`] made, which speaks no IPv6. IPv6 addresses skip
    /// duplicate detection, which would make the first packet wait two seconds for an answer that our own allocation
    /// has already given.
    ///
    /// A sandbox may have several interfaces, each configured by a call of its own, over any connection to its
    /// namespace. What one of them has stays when another is configured.
    ///
    /// What was done is not undone on failure: a sandbox that could not be configured is thrown away.
    ///
    /// # Errors
    ///
    /// `is_not_found()` if there is no link of that index, or no such setting in the namespace of a sandbox.
    pub fn configure_inside(&mut self, enterer: &Enterer, spec: &InsideSpec) -> Result<(), Error> {
        self.settle(enterer, spec)?;
        self.session.batch(requests(spec))?;
        Ok(())
    }

    fn settle(&mut self, enterer: &Enterer, spec: &InsideSpec) -> Result<(), Error> {
        let is_fresh = std::mem::replace(&mut self.is_fresh, false);
        if is_fresh && spec.ipv6 == Ipv6::Off && spec.sysctls.is_empty() {
            return Ok(());
        }
        let (name, ipv6, sysctls) = (spec.name.clone(), spec.ipv6, spec.sysctls.clone());
        let settle = move || {
            // Ours come last, so that they hold.
            sysctls.iter().try_for_each(Sysctl::apply)?;
            settle_ipv6(&name, ipv6)
        };
        enterer.run(self.netns(), settle).map_err(|source| Error::Enter { source })?
    }
}

/// Writes what an interface needs, in the namespace of the calling thread.
fn settle_ipv6(name: &InterfaceName, ipv6: Ipv6) -> Result<(), Error> {
    let loopback = InterfaceName::loopback();
    let is_first = || -> Result<bool, Error> {
        Ok(sysctl::ipv6_links()?.iter().all(|it| [name.as_str(), loopback.as_str()].contains(&it.as_str())))
    };
    match ipv6 {
        Ipv6::Off if is_first()? => sysctl::disable_ipv6(),
        Ipv6::Off => sysctl::disable_ipv6_on(name.as_str()),
        Ipv6::On => {
            // Before IPv6 is on: the link must not hear an advertisement in between.
            sysctl::refuse_router_advertisements(name.as_str())?;
            if is_first()? {
                return sysctl::enable_ipv6();
            }
            sysctl::enable_ipv6_on(loopback.as_str())?;
            sysctl::enable_ipv6_on(name.as_str())
        }
    }
}

fn requests(spec: &InsideSpec) -> Vec<Request> {
    let (name, index) = (spec.name.as_str(), spec.link);
    let loopback = InterfaceName::loopback();
    let loopback_up = LinkUnspec::new_with_name(loopback.as_str()).up().build();
    let link_up = LinkUnspec::new_with_index(index.number()).up().build();
    let mut requests = vec![
        Request::set_link("set up", loopback.as_str(), loopback_up),
        Request::set_link("set up", name, link_up),
    ];
    let addresses = spec.addresses.iter();
    requests.extend(addresses.map(|address| add_address(*address, index, name)));
    let defaults = spec.gateways.iter().map(|gateway| Route {
        destination: everywhere(*gateway),
        gateway: Some(*gateway),
        link: Some(index),
        metric: spec.gateway_metric,
    });
    let routes = defaults.chain(spec.routes.iter().copied());
    requests.extend(routes.map(|route| add_route(route, index, name)));
    requests
}

fn add_route(route: Route, link: LinkIndex, name: &str) -> Request {
    let object = match route.gateway {
        Some(gateway) => format!("{} via {gateway} on {name}", route.destination),
        None => format!("{} on {name}", route.destination),
    };
    Request::add_route(&object, route_message(&route, link))
}

/// A route of the main table that leaves by a link.
pub(crate) fn route_message(route: &Route, link: LinkIndex) -> RouteMessage {
    let destination = route.destination;
    let mut message = match destination.first() {
        IpAddr::V4(_) => RouteMessageBuilder::<Ipv4Addr>::new().build(),
        IpAddr::V6(_) => RouteMessageBuilder::<Ipv6Addr>::new().build(),
    };
    message.header.destination_prefix_length = destination.prefix_len();
    let first = destination.first().into();
    message.attributes.push(RouteAttribute::Destination(first));
    message.attributes.push(RouteAttribute::Oif(link.number()));
    message.attributes.extend(route.metric.map(RouteAttribute::Priority));
    match route.gateway {
        Some(gateway) => message.attributes.push(RouteAttribute::Gateway(gateway.into())),
        // What is on-link is no further away than the link; the kernel asks IPv4 routes to say so.
        None => message.header.scope = RouteScope::Link,
    }
    message
}

/// The destination of a default route of the family of `gateway`.
pub(crate) fn everywhere(gateway: IpAddr) -> Subnet {
    let first = match gateway {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    Subnet::new(first, 0).expect("the unspecified address has no bits after any prefix")
}
