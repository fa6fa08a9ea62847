//! The inside of a sandbox.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use netloft_link::{Conn, Ipv6, Route};
use netloft_netns::Netns;

use crate::support::{Host, eventually, inside_spec, ip, setting, veth_spec};

pub(crate) fn an_inside_has_what_was_asked() {
    let (mut host, bridge) = Host::with_bridge(&["10.89.0.1/24", "fd00:89::1/64"]);
    let (sandbox, veth) = host.sandbox("port", bridge);
    let addresses = ["10.89.0.2/24", "fd00:89::2/64"];
    let mut spec = inside_spec(veth, &addresses, &["10.89.0.1", "fd00:89::1"], Ipv6::On);
    spec.routes = vec![
        Route {
            destination: "192.0.2.0/24".parse().unwrap(),
            gateway: Some("10.89.0.9".parse().unwrap()),
            link: None,
        },
        Route { destination: "198.51.100.0/24".parse().unwrap(), gateway: None, link: None },
    ];
    host.configure(&sandbox, &spec).unwrap();

    let seen = ip(&sandbox, &["address"]);
    let is_up = |index: usize| seen[index]["flags"].as_array().unwrap().contains(&"UP".into());
    assert!(is_up(0) && is_up(1));
    let held = seen[1]["addr_info"].as_array().unwrap();
    let is_held = |address: &str| held.iter().any(|it| it["local"] == address);
    assert!(is_held("10.89.0.2") && is_held("fd00:89::2"), "{held:?}");
    let tentative = held.iter().filter(|it| it["scope"] == "global" && it["tentative"] == true);
    assert_eq!(tentative.count(), 0);

    let routes = [ip(&sandbox, &["route"]), ip(&sandbox, &["-6", "route"])].concat();
    let leads = |destination: &str, gateway: Option<&str>| {
        let gateway: serde_json::Value = gateway.map(Into::into).unwrap_or_default();
        let found = |it: &&serde_json::Value| it["dst"] == destination && it["gateway"] == gateway;
        routes.iter().filter(found).count()
    };
    assert_eq!(leads("default", Some("10.89.0.1")), 1, "{routes:?}");
    assert_eq!(leads("default", Some("fd00:89::1")), 1, "{routes:?}");
    assert_eq!(leads("192.0.2.0/24", Some("10.89.0.9")), 1, "{routes:?}");
    assert_eq!(leads("198.51.100.0/24", None), 1, "{routes:?}");
}

pub(crate) fn packets_pass_between_sandboxes_and_to_the_host() {
    let (mut host, bridge) = Host::with_bridge(&["10.89.0.1/24", "fd00:89::1/64"]);
    let mut places = vec![host.netns.clone()];
    for number in 2..=3 {
        let (sandbox, veth) = host.sandbox(&format!("port{number}"), bridge);
        let addresses = [format!("10.89.0.{number}/24"), format!("fd00:89::{number}/64")];
        let addresses = addresses.each_ref().map(String::as_str);
        let spec = inside_spec(veth, &addresses, &["10.89.0.1", "fd00:89::1"], Ipv6::On);
        host.configure(&sandbox, &spec).unwrap();
        places.push(sandbox);
    }
    for (from, to) in [(1, 2), (2, 1), (0, 1), (1, 0)] {
        for prefix in ["10.89.0.", "fd00:89::"] {
            let target = format!("{prefix}{}", to + 1).parse().unwrap();
            assert_reaches(&host, &places[from], &places[to], target);
        }
    }
}

pub(crate) fn a_sandbox_without_ipv6_has_no_link_local_address() {
    let (mut host, bridge) = Host::with_bridge(&["10.89.0.1/24"]);
    let (sandbox, veth) = host.sandbox("port", bridge);
    let spec = inside_spec(veth, &["10.89.0.2/24"], &["10.89.0.1"], Ipv6::Off);
    host.configure(&sandbox, &spec).unwrap();
    // The kernel would make the address when the link has a carrier.
    eventually("the link has a carrier", || ip(&sandbox, &["link", "show", "eth0"])[0]["operstate"] == "UP");
    assert!(ip(&sandbox, &["-6", "address"]).is_empty());
    assert!(ip(&host.netns, &["-6", "address"]).is_empty());
}

pub(crate) fn a_sandbox_made_with_its_connection_speaks_ipv6_only_when_asked() {
    let (mut host, bridge) = Host::with_bridge(&["10.89.0.1/24", "fd00:89::1/64"]);
    for (ipv6, addresses) in
        [(Ipv6::Off, &["10.89.0.2/24"][..]), (Ipv6::On, &["10.89.0.3/24", "fd00:89::3/64"])]
    {
        let mut conn = Conn::create_sandbox(&host.enterer).unwrap();
        let name = format!("port{ipv6:?}").to_lowercase();
        let veth = host.conn.create_veth(&veth_spec(&name, bridge, conn.netns())).unwrap();
        conn.configure_inside(&host.enterer, &inside_spec(veth, addresses, &[], ipv6)).unwrap();
        assert_eq!(conn.links().unwrap()[1].name, "eth0");
        let sandbox = conn.netns().clone();
        eventually("the link has a carrier", || {
            ip(&sandbox, &["link", "show", "eth0"])[0]["operstate"] == "UP"
        });
        let seen = ip(&sandbox, &["-6", "address"]);
        assert_eq!(seen.len(), if ipv6 == Ipv6::On { 2 } else { 0 }, "{seen:?}");
        if ipv6 == Ipv6::On {
            assert_eq!(seen[0]["addr_info"][0]["local"], "::1");
            assert_eq!(setting(&sandbox, "ipv6/conf/eth0/accept_ra"), "0");
            assert_reaches(&host, &host.netns, &sandbox, "fd00:89::3".parse().unwrap());
        }
    }
}

pub(crate) fn a_sandbox_takes_no_routes_from_router_advertisements() {
    let (mut host, bridge) = Host::with_bridge(&["fd00:89::1/64"]);
    let (sandbox, veth) = host.sandbox("port", bridge);
    let spec = inside_spec(veth, &["fd00:89::2/64"], &["fd00:89::1"], Ipv6::On);
    host.configure(&sandbox, &spec).unwrap();
    assert_eq!(setting(&sandbox, "ipv6/conf/eth0/accept_ra"), "0");
    assert_eq!(setting(&host.netns, "ipv6/conf/br0/accept_ra"), "0");
}

pub(crate) fn a_refused_request_is_named_and_the_rest_of_the_batch_done() {
    let (mut host, bridge) = Host::with_bridge(&[]);
    let (sandbox, veth) = host.sandbox("port", bridge);
    let addresses = ["10.89.0.2/24", "10.89.0.2/24", "10.89.0.3/24"];
    let spec = inside_spec(veth, &addresses, &["203.0.113.1"], Ipv6::Off);
    let error = host.configure(&sandbox, &spec).unwrap_err();
    assert_eq!(error.to_string(), "cannot add address 10.89.0.2/24 to eth0");
    assert!(error.is_exists());
    let held = ip(&sandbox, &["address", "show", "eth0"]);
    assert_eq!(held[0]["addr_info"].as_array().unwrap().len(), 2);

    let unreachable = inside_spec(veth, &[], &["203.0.113.1"], Ipv6::Off);
    let error = host.configure(&sandbox, &unreachable).unwrap_err();
    assert_eq!(error.to_string(), "cannot add route 0.0.0.0/0 via 203.0.113.1 on eth0");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("Nexthop has invalid gateway"), "{source}");
}

fn assert_reaches(host: &Host, from: &Netns, to: &Netns, target: IpAddr) {
    let bind = move |address: IpAddr| move || UdpSocket::bind((address, 0)).unwrap();
    let any = if target.is_ipv4() { "0.0.0.0" } else { "::" };
    let receiver = host.enterer.run(to, bind(target)).unwrap();
    let sender = host.enterer.run(from, bind(any.parse().unwrap())).unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    sender.send_to(b"hello", receiver.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 8];
    let len = receiver.recv(&mut buffer);
    assert_eq!(len.ok(), Some(5), "nothing arrived at {target}");
    assert_eq!(&buffer[..5], b"hello");
}
