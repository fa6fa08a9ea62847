//! What a network needs to know of the host, and to set there.

use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};

use netloft_link::{Notice, Switch, Watcher};
use netloft_netns::Netns;
use netloft_types::{Family, Subnet};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt};

use crate::support::{Host, TempDir, bridge_spec, eventually, ip, output, set, setting};

pub(crate) fn forwarding_is_switched_on_and_back() {
    let mut host = Host::new();
    for (family, path) in [(Family::V4, "ipv4/ip_forward"), (Family::V6, "ipv6/conf/all/forwarding")] {
        set(&host.netns, path, "0");
        assert_eq!(host.conn.set_forwarding(family, Switch::On).unwrap(), Switch::Off);
        assert_eq!(setting(&host.netns, path), "1");
        assert_eq!(host.conn.set_forwarding(family, Switch::On).unwrap(), Switch::On);
        assert_eq!(host.conn.set_forwarding(family, Switch::Off).unwrap(), Switch::On);
        assert_eq!(setting(&host.netns, path), "0");
    }
}

/// A host that has its default route from a router advertisement loses it by forwarding, unless somebody sees to it.
pub(crate) fn a_host_that_forwards_ipv6_keeps_the_route_it_was_advertised() {
    let (plain, _router) = autoconfigured();
    set(&plain.netns, "ipv6/conf/all/forwarding", "1");
    eventually("the plain host has lost its route", || default_routes(&plain.netns) == 0);

    let (mut host, _router) = autoconfigured();
    set(&host.netns, "ipv6/conf/lo/accept_ra", "1");
    host.conn.set_forwarding(Family::V6, Switch::On).unwrap();
    assert_eq!(setting(&host.netns, "ipv6/conf/all/forwarding"), "1");
    assert_eq!(setting(&host.netns, "ipv6/conf/up0/accept_ra"), "2");
    assert_eq!(setting(&host.netns, "ipv6/conf/lo/accept_ra"), "1");
    assert_eq!(default_routes(&host.netns), 1);
}

pub(crate) fn loopback_addresses_are_routed_by_a_bridge_when_asked() {
    let (mut host, _) = Host::with_bridge(&["10.89.0.1/24"]);
    let bridge = "br0".parse().unwrap();
    for (switch, digit) in [(Switch::On, "1"), (Switch::Off, "0")] {
        host.conn.set_route_localnet(&bridge, switch).unwrap();
        assert_eq!(setting(&host.netns, "ipv4/conf/br0/route_localnet"), digit);
    }
    let nobody = "nobody".parse().unwrap();
    assert!(host.conn.set_route_localnet(&nobody, Switch::On).unwrap_err().is_not_found());
}

pub(crate) fn the_ports_of_the_kernel_are_told() {
    let host = Host::new();
    assert!(host.conn.local_reserved_ports().unwrap().is_empty());
    set(&host.netns, "ipv4/ip_local_reserved_ports", "0-9,8080,9148-9150");
    set(&host.netns, "ipv4/ip_local_port_range", "40000 50000");
    let told: Vec<_> = host.conn.local_reserved_ports().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(told, ["1-9", "8080", "9148-9150"]);
    assert_eq!(host.conn.local_port_range().unwrap().to_string(), "40000-50000");
}

pub(crate) fn the_mtu_outwards_is_that_of_the_links_of_the_default_routes() {
    let mut host = Host::new();
    assert_eq!(host.conn.outgoing_mtu(Family::V4).unwrap(), None);
    for (number, mtu) in [(1, "1400"), (2, "1300"), (3, "1290")] {
        let name = format!("up{number}");
        ip(
            &host.netns,
            &["link", "add", &name, "mtu", mtu, "type", "veth", "peer", "name", &format!("far{number}")],
        );
        ip(&host.netns, &["link", "set", &name, "up"]);
        ip(&host.netns, &["address", "add", &format!("10.7{number}.0.2/24"), "dev", &name]);
    }
    ip(&host.netns, &["route", "add", "default", "via", "10.71.0.1"]);
    assert_eq!(host.conn.outgoing_mtu(Family::V4).unwrap(), Some(1400));
    assert_eq!(host.conn.outgoing_mtu(Family::V6).unwrap(), None);
    ip(&host.netns, &["route", "del", "default"]);
    let hops = "route add default nexthop via 10.71.0.1 nexthop via 10.72.0.1";
    ip(&host.netns, &hops.split(' ').collect::<Vec<_>>());
    assert_eq!(host.conn.outgoing_mtu(Family::V4).unwrap(), Some(1300));
    ip(&host.netns, &["-6", "route", "add", "default", "dev", "up3"]);
    assert_eq!(host.conn.outgoing_mtu(Family::V6).unwrap(), Some(1290));
}

pub(crate) fn a_watcher_tells_of_links_that_go_and_routes_that_come() {
    let mut host = Host::new();
    let mut watcher = Watcher::open(&host.enterer, &host.netns).unwrap();
    assert_eq!(watcher.read().unwrap(), None);

    let bridge = host.conn.create_bridge(&bridge_spec("br0", &["10.89.0.1/24"])).unwrap();
    let (_sandbox, veth) = host.sandbox("port", bridge);
    assert_eq!(heard(&mut watcher), [route("10.89.0.0/24")]);

    // To leave its bridge is not to be gone.
    ip(&host.netns, &["link", "set", "port", "nomaster"]);
    ip(&host.netns, &["route", "add", "192.0.2.0/24", "via", "10.89.0.9"]);
    assert_eq!(heard(&mut watcher), [route("192.0.2.0/24")]);

    ip(&host.netns, &["link", "del", "port"]);
    assert_eq!(heard(&mut watcher), [Notice::LinkGone { index: veth.host, name: "port".to_owned() }]);
    ip(&host.netns, &["link", "del", "br0"]);
    assert_eq!(heard(&mut watcher), [Notice::LinkGone { index: bridge, name: "br0".to_owned() }]);
}

pub(crate) fn a_watcher_that_does_not_keep_up_is_told_to_look_itself() {
    let (mut host, bridge) = Host::with_bridge(&["10.89.0.1/24"]);
    let mut watcher = Watcher::open(&host.enterer, &host.netns).unwrap();
    let (_sandbox, _veth) = host.sandbox("port0", bridge);
    let routes = (0..4_000)
        .map(|number| format!("route add 198.{}.{}.0/24 dev br0\n", 18 + number / 256, number % 256));
    let directory = TempDir::new("watcher");
    let batch = directory.0.join("batch");
    std::fs::write(&batch, routes.collect::<String>()).unwrap();
    output(&host.netns, "ip", &["-batch", batch.to_str().unwrap()]);
    assert!(heard(&mut watcher).contains(&Notice::Missed));
    // It hears again.
    ip(&host.netns, &["link", "del", "port0"]);
    let gone = |notice: &Notice| matches!(notice, Notice::LinkGone { name, .. } if name == "port0");
    assert!(heard(&mut watcher).iter().any(gone));
}

fn heard(watcher: &mut Watcher) -> Vec<Notice> {
    std::iter::from_fn(|| watcher.read().unwrap()).flatten().collect()
}

fn route(destination: &str) -> Notice {
    Notice::RouteAdded { destination: destination.parse::<Subnet>().unwrap() }
}

/// A host that took its default route from a router, which stays.
fn autoconfigured() -> (Host, Netns) {
    let host = Host::new();
    let router = Netns::create().unwrap();
    let path = router.path();
    ip(
        &host.netns,
        &["link", "add", "up0", "type", "veth", "peer", "name", "net0", "netns", path.to_str().unwrap()],
    );
    set(&host.netns, "ipv6/conf/up0/accept_ra", "1");
    for (netns, name) in [(&host.netns, "up0"), (&router, "net0")] {
        // Without it an address may be used only after a second.
        set(netns, &format!("ipv6/conf/{name}/accept_dad"), "0");
        ip(netns, &["link", "set", name, "up"]);
    }
    let address = |netns: &Netns| link_local(netns).filter(|_| link_local(&host.netns).is_some());
    eventually("both have an address", || address(&router).is_some());
    let to = link_local(&host.netns).unwrap();
    let link = ip(&router, &["link", "show", "net0"])[0]["ifindex"].as_u64().unwrap().try_into().unwrap();
    eventually("the host has a route", || {
        router.run(|| advertise(SocketAddrV6::new(to, 0, 0, link))).unwrap();
        default_routes(&host.netns) == 1
    });
    (host, router)
}

fn link_local(netns: &Netns) -> Option<Ipv6Addr> {
    let seen = ip(netns, &["-6", "address", "show", "scope", "link", "-tentative"]);
    seen.iter().find_map(|link| link["addr_info"][0]["local"].as_str()?.parse().ok())
}

fn default_routes(netns: &Netns) -> usize {
    ip(netns, &["-6", "route", "show", "default"]).len()
}

/// Sends a router advertisement (RFC 4861, section 4.2): a default router for half an hour.
fn advertise(to: SocketAddrV6) {
    let message = [134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    let socket =
        socket(AddressFamily::Inet6, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::IcmpV6).unwrap();
    // With less, it could have come from beyond the link.
    setsockopt(&socket, sockopt::Ipv6Ttl, &255).unwrap();
    UdpSocket::from(socket).send_to(&message, to).unwrap();
}
