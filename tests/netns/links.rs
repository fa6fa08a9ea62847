//! Bridges and veth pairs.

use netloft_link::{LinkGroup, LinkKind};
use netloft_netns::Netns;
use netloft_types::MacAddr;

use crate::support::{Host, bridge_spec, ip, mac_after, output, veth_spec};

pub(crate) fn a_bridge_has_what_was_asked() {
    let mut host = Host::new();
    let mut spec = bridge_spec("br0", &["10.89.0.1/24", "fd00:89::1/64"]);
    spec.mtu = Some(1450);
    let index = host.conn.create_bridge(&spec).unwrap();

    let seen = &ip(&host.netns, &["address", "show", "br0"])[0];
    assert_eq!(seen["ifindex"], index.number());
    assert_eq!(seen["address"], spec.mac.to_string());
    assert_eq!(seen["mtu"], 1450);
    assert_eq!(seen["ifalias"], spec.alias);
    assert!(seen["flags"].as_array().unwrap().contains(&"UP".into()));
    let bridge = &seen["linkinfo"]["info_data"];
    assert_eq!(bridge["stp_state"], 0);
    assert_eq!(bridge["forward_delay"], 0);
    assert_eq!(bridge["mcast_snooping"], 0);
    let addresses = seen["addr_info"].as_array().unwrap();
    let global: Vec<_> = addresses.iter().filter(|it| it["scope"] == "global").collect();
    assert_eq!(global[0]["local"], "10.89.0.1");
    assert_eq!(global[0]["broadcast"], "10.89.0.255");
    assert_eq!(global[1]["local"], "fd00:89::1");
    assert_eq!(global[1]["nodad"], true);

    let read = host.conn.link(&spec.name).unwrap().unwrap();
    assert_eq!((read.index, read.mac, read.mtu), (index, Some(spec.mac), 1450));
    assert_eq!((read.kind, read.alias), (LinkKind::Bridge, Some(spec.alias)));
    assert!(read.is_up && read.group.is_none() && read.master.is_none());
    let held = host.conn.addresses().unwrap();
    for address in spec.addresses {
        assert!(held.iter().any(|it| it.link == index && it.address == address));
    }
    assert!(
        host.conn
            .routes()
            .unwrap()
            .iter()
            .any(|route| { route.destination.to_string() == "10.89.0.0/24" && route.link == Some(index) })
    );
}

pub(crate) fn a_bridge_without_ipv6_addresses_does_not_speak_ipv6() {
    let (mut host, bridge) = Host::with_bridge(&["10.89.0.1/24"]);
    host.sandbox("port", bridge);
    assert!(ip(&host.netns, &["-6", "address", "show", "dev", "br0"]).is_empty());
}

pub(crate) fn a_bridge_keeps_its_mac_when_ports_join() {
    let (mut host, bridge) = Host::with_bridge(&["10.89.0.1/24"]);
    let pinned = bridge_spec("br0", &[]).mac;
    for number in 0..3 {
        let sandbox = Netns::create().unwrap();
        let mut spec = veth_spec(&format!("port{number}"), bridge, &sandbox);
        // Lower than that of the bridge: an unpinned bridge would take it.
        spec.host_mac = Some(MacAddr::local(number));
        host.conn.create_veth(&spec).unwrap();
        let seen = &ip(&host.netns, &["link", "show", "br0"])[0];
        assert_eq!(seen["address"], pinned.to_string());
    }
}

pub(crate) fn a_veth_pair_is_born_in_place() {
    let (mut host, bridge) = Host::with_bridge(&[]);
    let (sandbox, first) = host.sandbox("first", bridge);
    let (_other, second) = host.sandbox("second", bridge);
    // A peer that had been made here, then moved, would have used up an index in between.
    assert_eq!(second.host.number(), first.host.number() + 1);
    assert_eq!(host.names(), ["lo", "br0", "first", "second"]);

    let seen = &ip(&host.netns, &["link", "show", "first"])[0];
    assert_eq!(seen["master"], "br0");
    assert_eq!(seen["ifalias"], "netloft test first");
    assert_eq!(seen["inet6_addr_gen_mode"], "none");
    assert_eq!((&seen["num_tx_queues"], &seen["num_rx_queues"]), (&1.into(), &1.into()));
    assert!(seen["flags"].as_array().unwrap().contains(&"UP".into()));

    let inside = ip(&sandbox, &["link"]);
    assert_eq!(inside.len(), 2);
    assert_eq!(inside[1]["ifname"], "eth0");
    assert_eq!(inside[1]["ifindex"], first.peer.number());
    assert_eq!(inside[1]["address"], mac_after("first").to_string());
    assert_eq!(inside[1]["num_rx_queues"], 1);
    assert_eq!(inside[1]["operstate"], "DOWN");

    let read = host.conn.link(&"first".parse().unwrap()).unwrap().unwrap();
    assert_eq!(read.kind, LinkKind::Veth);
    assert_eq!((read.master, read.peer), (Some(bridge), Some(first.peer)));
}

pub(crate) fn names_of_fifteen_bytes_work() {
    let mut host = Host::new();
    let bridge = host.conn.create_bridge(&bridge_spec("nl-bridge-15-by", &[])).unwrap();
    let sandbox = Netns::create().unwrap();
    let mut spec = veth_spec("nl0123456789abc", bridge, &sandbox);
    spec.peer_name = "inside-fifteen-".parse().unwrap();
    host.conn.create_veth(&spec).unwrap();
    assert_eq!(host.names(), ["lo", "nl-bridge-15-by", "nl0123456789abc"]);
    assert_eq!(ip(&sandbox, &["link"])[1]["ifname"], "inside-fifteen-");
}

pub(crate) fn a_taken_name_is_refused_and_its_link_untouched() {
    let (mut host, bridge) = Host::with_bridge(&["10.89.0.1/24"]);
    let (_sandbox, _) = host.sandbox("port", bridge);
    let before = output(&host.netns, "ip", &["address"]);

    let mut again = bridge_spec("br0", &["10.90.0.1/24"]);
    "not ours".clone_into(&mut again.alias);
    let refused = host.conn.create_bridge(&again).unwrap_err();
    assert!(refused.is_exists());
    assert_eq!(refused.to_string(), "cannot create bridge br0");

    let sandbox = Netns::create().unwrap();
    let mut again = veth_spec("port", bridge, &sandbox);
    "not ours".clone_into(&mut again.alias);
    let refused = host.conn.create_veth(&again).unwrap_err();
    assert!(refused.is_exists());
    assert_eq!(refused.to_string(), "cannot create veth pair port");

    assert_eq!(output(&host.netns, "ip", &["address"]), before);
    assert_eq!(ip(&sandbox, &["link"]).len(), 1);
}

pub(crate) fn a_pair_whose_peer_name_is_taken_leaves_nothing() {
    let (mut host, bridge) = Host::with_bridge(&[]);
    let (sandbox, _) = host.sandbox("first", bridge);
    let second = veth_spec("second", bridge, &sandbox);
    assert!(host.conn.create_veth(&second).unwrap_err().is_exists());
    assert_eq!(host.names(), ["lo", "br0", "first"]);
}

pub(crate) fn a_full_bridge_says_so() {
    let (mut host, bridge) = Host::with_bridge(&[]);
    let sandbox = Netns::create().unwrap();
    let spec = |number: u32| {
        let mut spec = veth_spec(&format!("port{number}"), bridge, &sandbox);
        spec.peer_name = format!("eth{number}").parse().unwrap();
        spec
    };
    for number in 0..1023 {
        host.conn.create_veth(&spec(number)).unwrap();
    }
    let refused = host.conn.create_veth(&spec(1023)).unwrap_err();
    assert!(refused.is_bridge_full(), "{refused:?}");
    assert_eq!(host.names().len(), 2 + 1023);
}

pub(crate) fn links_of_others_are_listed_too() {
    let mut host = Host::new();
    for command in ["link add strange type vxlan id 7 dstport 4789", "link set strange group 42"] {
        ip(&host.netns, &command.split(' ').collect::<Vec<_>>());
    }
    let links = host.conn.links().unwrap();
    assert_eq!(links[0].name, "lo");
    assert_eq!((links[0].kind.clone(), links[0].mac), (LinkKind::Unknown, None));
    assert_eq!(links[1].kind, LinkKind::Other("vxlan".to_owned()));
    assert_eq!(links[1].group, 42.try_into().ok().map(LinkGroup::new));
}
