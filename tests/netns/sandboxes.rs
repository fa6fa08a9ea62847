//! The inside of a sandbox.

use netloft_link::{Conn, Ipv6, Route, Sysctl};
use netloft_netns::Netns;

use crate::support::{Host, assert_reaches, eventually, inside_spec, ip, setting, veth_spec};

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
            metric: None,
        },
        Route { destination: "198.51.100.0/24".parse().unwrap(), gateway: None, link: None, metric: None },
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

pub(crate) fn a_later_interface_does_not_take_ipv6_from_the_first() {
    let (mut host, bridge) = Host::with_bridge(&["10.89.0.1/24", "fd00:89::1/64"]);
    let (sandbox, first) = host.sandbox("first", bridge);
    let spec = inside_spec(first, &["10.89.0.2/24", "fd00:89::2/64"], &["fd00:89::1"], Ipv6::On);
    host.configure(&sandbox, &spec).unwrap();

    let mut spec = veth_spec("second", bridge, &sandbox);
    spec.peer_name = "eth1".parse().unwrap();
    let second = host.conn.create_veth(&spec).unwrap();
    let mut spec = inside_spec(second, &["10.89.0.3/24"], &[], Ipv6::Off);
    spec.name = "eth1".parse().unwrap();
    host.configure(&sandbox, &spec).unwrap();

    assert_eq!(setting(&sandbox, "ipv6/conf/eth1/disable_ipv6"), "1");
    eventually("the link has a carrier", || ip(&sandbox, &["link", "show", "eth1"])[0]["operstate"] == "UP");
    let speakers: Vec<_> = ip(&sandbox, &["-6", "address"]).iter().map(|it| it["ifname"].clone()).collect();
    assert_eq!(speakers, ["lo", "eth0"]);
    assert_reaches(&host, &host.netns, &sandbox, "fd00:89::2".parse().unwrap());
}

pub(crate) fn a_later_interface_does_not_bring_ipv6_to_the_first() {
    let (mut host, bridge) = Host::with_bridge(&["10.89.0.1/24", "fd00:89::1/64"]);
    let mut conn = Conn::create_sandbox(&host.enterer).unwrap();
    let sandbox = conn.netns().clone();
    let first = host.conn.create_veth(&veth_spec("first", bridge, &sandbox)).unwrap();
    conn.configure_inside(&host.enterer, &inside_spec(first, &["10.89.0.2/24"], &[], Ipv6::Off)).unwrap();

    let mut spec = veth_spec("second", bridge, &sandbox);
    spec.peer_name = "eth1".parse().unwrap();
    let second = host.conn.create_veth(&spec).unwrap();
    let mut spec = inside_spec(second, &["fd00:89::3/64"], &["fd00:89::1"], Ipv6::On);
    spec.name = "eth1".parse().unwrap();
    conn.configure_inside(&host.enterer, &spec).unwrap();

    assert_reaches(&host, &host.netns, &sandbox, "fd00:89::3".parse().unwrap());
    let speakers: Vec<_> = ip(&sandbox, &["-6", "address"]).iter().map(|it| it["ifname"].clone()).collect();
    assert_eq!(speakers, ["lo", "eth1"]);
}

pub(crate) fn of_two_default_routes_the_one_of_the_lower_metric_is_taken() {
    let (mut host, bridge) = Host::with_bridge(&["10.89.0.1/24", "10.90.0.1/24"]);
    let sandbox = Netns::create().unwrap();
    for (number, name, metric) in [(89, "eth0", 200), (90, "eth1", 100)] {
        let mut spec = veth_spec(&format!("port{number}"), bridge, &sandbox);
        spec.peer_name = name.parse().unwrap();
        let veth = host.conn.create_veth(&spec).unwrap();
        let (address, gateway) = (format!("10.{number}.0.2/24"), format!("10.{number}.0.1"));
        let mut spec = inside_spec(veth, &[&address], &[&gateway], Ipv6::Off);
        spec.name = name.parse().unwrap();
        spec.gateway_metric = Some(metric);
        host.configure(&sandbox, &spec).unwrap();
    }
    assert_eq!(ip(&sandbox, &["route", "get", "192.0.2.1"])[0]["gateway"], "10.90.0.1");
    let routes = Conn::open(&host.enterer, &sandbox).unwrap().routes().unwrap();
    let defaults = routes.iter().filter(|route| route.destination.prefix_len() == 0);
    assert_eq!(defaults.map(|route| route.metric).collect::<Vec<_>>(), [Some(100), Some(200)]);
}

pub(crate) fn a_sandbox_has_the_settings_it_was_given_and_the_host_its_own() {
    let (mut host, bridge) = Host::with_bridge(&["10.89.0.1/24"]);
    let (sandbox, veth) = host.sandbox("port", bridge);
    let before = setting(&host.netns, "core/somaxconn");
    let mut spec = inside_spec(veth, &["10.89.0.2/24"], &[], Ipv6::Off);
    spec.sysctls = [
        ("net.core.somaxconn", "777"),
        ("net/ipv4/conf/eth0/forwarding", "1"),
        // Ours holds.
        ("net.ipv6.conf.all.disable_ipv6", "0"),
    ]
    .map(|(key, value)| Sysctl::new(key, value).unwrap())
    .into();
    host.configure(&sandbox, &spec).unwrap();
    assert_eq!(setting(&sandbox, "core/somaxconn"), "777");
    assert_eq!(setting(&sandbox, "ipv4/conf/eth0/forwarding"), "1");
    assert_eq!(setting(&sandbox, "ipv6/conf/eth0/disable_ipv6"), "1");
    assert_eq!(setting(&host.netns, "core/somaxconn"), before);
}

pub(crate) fn a_sandbox_cannot_be_given_a_setting_of_the_whole_machine() {
    let (mut host, bridge) = Host::with_bridge(&[]);
    let (sandbox, veth) = host.sandbox("port", bridge);
    let mut spec = inside_spec(veth, &[], &[], Ipv6::Off);
    spec.sysctls = vec![Sysctl::new("net.core.netdev_budget", "300").unwrap()];
    let refused = host.configure(&sandbox, &spec).unwrap_err();
    assert!(refused.is_not_found() || refused.is_permission_denied(), "{refused:?}");
    assert_eq!(refused.to_string(), "cannot write /proc/sys/net/core/netdev_budget");
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
