//! The inside of a sandbox.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netloft_netns::{Enterer, Netns};
use netloft_types::{InterfaceName, Subnet};
use rtnetlink::packet_route::route::{RouteAttribute, RouteScope};
use rtnetlink::{LinkUnspec, RouteMessageBuilder};

use crate::conn::add_address;
use crate::request::Request;
use crate::session::Session;
use crate::wire::RouteSocket;
use crate::{Error, InsideSpec, Ipv6, LinkIndex, Route, sysctl};

/// Configures an interface inside a sandbox, and its loopback interface.
///
/// One visit to the namespace opens a socket and writes the IPv6 setting, which must come before the
/// interface is up; one datagram does the rest: both links up, addresses, routes. IPv6 addresses skip
/// duplicate detection, which would make the first packet wait two seconds for an answer that our own
/// allocation has already given.
///
/// What was done is not undone on failure: a sandbox that could not be configured is thrown away.
///
/// # Errors
///
/// `is_not_found()` if there is no link of that index.
pub fn configure_inside(enterer: &Enterer, netns: &Netns, spec: &InsideSpec) -> Result<(), Error> {
    let (name, ipv6) = (spec.name.clone(), spec.ipv6);
    let socket = enterer
        .run(netns, move || {
            match ipv6 {
                Ipv6::Off => sysctl::disable_ipv6()?,
                Ipv6::On => sysctl::refuse_router_advertisements(name.as_str())?,
            }
            Ok(RouteSocket::open())
        })
        .map_err(|source| Error::Enter { source })??
        .map_err(|source| Error::Open { netns: netns.id(), source })?;
    Session::new(socket).batch(requests(spec))?;
    Ok(())
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
