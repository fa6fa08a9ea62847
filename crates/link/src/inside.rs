//! The inside of a sandbox.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netloft_netns::Enterer;
use netloft_types::{InterfaceName, Subnet};
use rtnetlink::packet_route::route::{RouteAttribute, RouteScope};
use rtnetlink::{LinkUnspec, RouteMessageBuilder};

use crate::conn::add_address;
use crate::request::Request;
use crate::{Conn, Error, InsideSpec, Ipv6, LinkIndex, Route, sysctl};

impl Conn {
    /// Configures an interface inside a sandbox, in whose namespace this connection acts, and its loopback interface.
    ///
    /// One datagram does it: both links up, addresses, routes. Before it, because it must come before the
    /// interface is up, the IPv6 setting is written, which takes a visit to the namespace, unless it is known to be
    /// right ([`Conn::create_sandbox`]). IPv6 addresses skip duplicate detection, which would make the first packet
    /// wait two seconds for an answer that our own allocation has already given.
    ///
    /// What was done is not undone on failure: a sandbox that could not be configured is thrown away.
    ///
    /// # Errors
    ///
    /// `is_not_found()` if there is no link of that index.
    pub fn configure_inside(&mut self, enterer: &Enterer, spec: &InsideSpec) -> Result<(), Error> {
        self.settle_ipv6(enterer, spec)?;
        self.session.batch(requests(spec))?;
        Ok(())
    }

    fn settle_ipv6(&mut self, enterer: &Enterer, spec: &InsideSpec) -> Result<(), Error> {
        if spec.ipv6 == Ipv6::Off && self.ipv6 == Some(Ipv6::Off) {
            return Ok(());
        }
        let (known, wanted, name) = (self.ipv6, spec.ipv6, spec.name.clone());
        let settle = move || match wanted {
            Ipv6::Off => sysctl::disable_ipv6(),
            Ipv6::On => {
                // Before IPv6 is on: the link must not hear an advertisement in between.
                sysctl::refuse_router_advertisements(name.as_str())?;
                if known == Some(Ipv6::Off) { sysctl::enable_ipv6() } else { Ok(()) }
            }
        };
        enterer.run(self.netns(), settle).map_err(|source| Error::Enter { source })??;
        self.ipv6 = Some(spec.ipv6);
        Ok(())
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
    });
    let routes = defaults.chain(spec.routes.iter().copied());
    requests.extend(routes.map(|route| add_route(route, index, name)));
    requests
}

fn add_route(route: Route, link: LinkIndex, name: &str) -> Request {
    let destination = route.destination;
    let mut message = match destination.first() {
        IpAddr::V4(_) => RouteMessageBuilder::<Ipv4Addr>::new().build(),
        IpAddr::V6(_) => RouteMessageBuilder::<Ipv6Addr>::new().build(),
    };
    message.header.destination_prefix_length = destination.prefix_len();
    let first = destination.first().into();
    message.attributes.push(RouteAttribute::Destination(first));
    message.attributes.push(RouteAttribute::Oif(link.number()));
    let object = if let Some(gateway) = route.gateway {
        message.attributes.push(RouteAttribute::Gateway(gateway.into()));
        format!("{destination} via {gateway} on {name}")
    } else {
        // What is on-link is no further away than the link; the kernel asks IPv4 routes to say so.
        message.header.scope = RouteScope::Link;
        format!("{destination} on {name}")
    };
    Request::add_route(&object, message)
}

/// The destination of a default route of the family of `gateway`.
fn everywhere(gateway: IpAddr) -> Subnet {
    let first = match gateway {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    Subnet::new(first, 0).expect("the unspecified address has no bits after any prefix")
}
