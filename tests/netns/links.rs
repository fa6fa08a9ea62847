//! Bridges and veth pairs.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use netloft_link::{Conn, ForwardingEntry, InsideSpec, Ipv6, LinkGroup, LinkIndex, LinkKind, Origin};
use netloft_netns::Netns;
use netloft_types::MacAddr;
use serde_json::Value;

use crate::support::{
    Host, assert_reaches, bridge_spec, eventually, inside_spec, ip, mac_after, output, reaches, veth_spec,
};

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

pub(crate) fn a_port_is_guarded() {
    let (mut host, bridge) = Host::with_bridge(&["10.89.0.1/24"]);
    let (_sandbox, veth) = host.sandbox("port", bridge);
    let seen = &port(&host.netns, "port");
    for (setting, expected) in [
        ("learning", false),
        ("flood", false),
        ("guard", true),
        ("isolated", false),
        ("bcast_flood", true),
        ("mcast_flood", true),
    ] {
        assert_eq!(seen[setting], expected, "{setting}: {seen}");
    }
    let entries = host.conn.forwarding_entries(bridge).unwrap();
    let pinned: Vec<_> = entries.iter().filter(|it| it.mac == mac_after("port")).collect();
    assert!(!pinned.is_empty(), "{entries:?}");
    assert!(pinned.iter().all(|it| it.port == veth.host && it.origin == Origin::Set), "{pinned:?}");
    let told = output(&host.netns, "bridge", &["fdb", "show", "dev", "port"]);
    assert!(told.contains(&format!("{} sticky master br0 static", mac_after("port"))), "{told}");
}

/// The attacker announces addresses of its own invention and one of a neighbour, with frames that carry them as their
/// source. Where it can teach the bridge, it gets the neighbour's frames and fills the bridge's table.
pub(crate) fn a_bridge_learns_nothing_from_a_sandbox() {
    let (mut host, bridge) = Host::with_bridge(&["10.89.0.1/24"]);
    let (victim, attacker) = (host.speaker("victim", bridge, 2), host.speaker("attacker", bridge, 3));
    assert_reaches(&host, &victim, &attacker, "10.89.0.3".parse().unwrap());
    let before = host.conn.forwarding_entries(bridge).unwrap();

    // A port as it is without a guard, to see that the attack works at all.
    let plain = Netns::create().unwrap();
    host.conn.create_veth(&veth_spec("plain", bridge, &plain)).unwrap();
    output(&host.netns, "bridge", &["link", "set", "dev", "plain", "learning", "on"]);
    let inventions = || (0..50).map(|number| MacAddr::local(0x00ba_d000 + number));
    for (sandbox, is_learned) in [(&attacker, false), (&plain, true)] {
        let mut inside = Conn::open(&host.enterer, sandbox).unwrap();
        ip(sandbox, &["link", "set", "eth0", "up"]);
        eventually("the link has a carrier", || {
            ip(sandbox, &["link", "show", "eth0"])[0]["operstate"] == "UP"
        });
        let link = inside.link(&"eth0".parse().unwrap()).unwrap().unwrap().index;
        for mac in inventions().chain([mac_after("victim")]) {
            inside.announce(&host.enterer, link, mac, &["10.89.0.99".parse().unwrap()]).unwrap();
        }
        let known = host.conn.forwarding_entries(bridge).unwrap();
        let learned = inventions().filter(|mac| known.iter().any(|it| it.mac == *mac)).count();
        assert_eq!(learned, if is_learned { 50 } else { 0 }, "{known:?}");
        // The neighbour's address stays where it is even at a port that learns.
        let of_victim = |it: &&ForwardingEntry| it.mac == mac_after("victim");
        assert!(known.iter().filter(of_victim).eq(before.iter().filter(of_victim)), "{known:?}");
    }
    assert_reaches(&host, &host.netns, &victim, "10.89.0.2".parse().unwrap());
}

pub(crate) fn isolated_ports_reach_the_host_and_not_each_other() {
    let (mut host, bridge) = Host::with_bridge(&["10.89.0.1/24"]);
    let sandboxes = [2, 3].map(|number| {
        let sandbox = Netns::create().unwrap();
        let mut spec = veth_spec(&format!("port{number}"), bridge, &sandbox);
        spec.isolated = true;
        let veth = host.conn.create_veth(&spec).unwrap();
        let address = format!("10.89.0.{number}/24");
        host.configure(&sandbox, &inside_spec(veth, &[&address], &[], Ipv6::Off)).unwrap();
        sandbox
    });
    let neighbour = host.speaker("neighbour", bridge, 4);
    let [first, second] = &sandboxes;
    assert_reaches(&host, first, &host.netns, "10.89.0.1".parse().unwrap());
    assert_reaches(&host, first, &neighbour, "10.89.0.4".parse().unwrap());
    assert_reaches(&host, &host.netns, second, "10.89.0.3".parse().unwrap());
    assert!(!reaches(&host, first, second, "10.89.0.3".parse().unwrap(), Duration::from_millis(300)));
}

/// A sender asks for the address again after a second, so whatever arrives sooner came at the first attempt. Somebody
/// else keeps the kernel's one lock on links busy, or its own task would open the ports too soon to tell.
pub(crate) fn the_first_packet_passes_an_opened_port() {
    let (mut host, bridge) = Host::with_bridge(&["10.89.0.1/24"]);
    let name = |number: u8| format!("port{number}");
    let sandboxes: Vec<_> = (2..12).map(|number| (number, host.sandbox(&name(number), bridge))).collect();
    for number in 2..12 {
        // From now on only its peer's coming up can open it.
        eventually("the port is closed", || port(&host.netns, &name(number))["state"] == "disabled");
    }
    let wanted = Arc::new(());
    let busy = thread::spawn({
        let (wanted, mut elsewhere) = (Arc::downgrade(&wanted), Host::new());
        move || {
            let spec = bridge_spec("br0", &[]);
            while wanted.strong_count() > 0 {
                elsewhere.conn.create_bridge(&spec).unwrap();
                elsewhere.conn.delete_link(&spec.name).unwrap();
            }
        }
    });
    let bind = || UdpSocket::bind(("0.0.0.0", 0)).unwrap();
    let sender = host.enterer.run(&host.netns, bind).unwrap();
    for (number, (sandbox, veth)) in &sandboxes {
        let receiver = host.enterer.run(sandbox, bind).unwrap();
        receiver.set_read_timeout(Some(Duration::from_millis(900))).unwrap();
        let target = SocketAddr::new([10, 89, 0, *number].into(), receiver.local_addr().unwrap().port());
        let spec = inside_spec(*veth, &[&format!("{}/24", target.ip())], &[], Ipv6::Off);
        host.configure(sandbox, &spec).unwrap();
        host.conn.open_port(bridge, veth.host).unwrap();
        sender.send_to(b"hello", target).unwrap();
        assert!(receiver.recv(&mut [0; 8]).is_ok(), "{target}");
    }
    drop(wanted);
    busy.join().unwrap();
    let nobody = LinkIndex::from_number(99_999).unwrap();
    assert!(host.conn.open_port(bridge, nobody).unwrap_err().is_not_found());
}

pub(crate) fn who_knows_an_address_learns_its_new_place_and_nobody_else() {
    let (mut host, bridge) = Host::with_bridge(&["10.89.0.1/24", "fd00:89::1/64"]);
    let addresses: [IpAddr; 2] = ["10.89.0.9", "fd00:89::9"].map(|text| text.parse().unwrap());
    let (friend, stranger) = (host.speaker("friend", bridge, 2), host.speaker("stranger", bridge, 3));
    let first = host.speaker("first", bridge, 9);
    for address in addresses {
        assert_reaches(&host, &friend, &first, address);
        assert_reaches(&host, &host.netns, &first, address);
    }
    let known_to = |netns: &Netns| {
        let found = |address: &IpAddr| ip(netns, &["neigh", "show", &address.to_string()]);
        let entries: Vec<Value> = addresses.iter().flat_map(found).collect();
        entries.iter().filter_map(|it| it["lladdr"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(known_to(&friend), [mac_after("first").to_string(), mac_after("first").to_string()]);

    host.conn.delete_link(&"first".parse().unwrap()).unwrap();
    let second = host.speaker("second", bridge, 9);
    host.conn.announce(&host.enterer, bridge, mac_after("second"), &addresses).unwrap();

    let new = [mac_after("second").to_string(), mac_after("second").to_string()];
    assert_eq!(known_to(&host.netns), new);
    eventually("the friend has heard it", || known_to(&friend) == new);
    assert!(known_to(&stranger).is_empty());
    assert_reaches(&host, &friend, &second, addresses[0]);
}

pub(crate) fn an_announcement_on_a_link_that_is_down_says_so() {
    let (mut host, _) = Host::with_bridge(&["10.89.0.1/24"]);
    ip(&host.netns, &["link", "set", "br0", "down"]);
    let bridge = host.conn.link(&"br0".parse().unwrap()).unwrap().unwrap().index;
    let address = "10.89.0.9".parse().unwrap();
    let refused = host.conn.announce(&host.enterer, bridge, mac_after("x"), &[address]).unwrap_err();
    assert_eq!(refused.to_string(), format!("cannot announce 10.89.0.9 on link {bridge}"));
}

pub(crate) fn the_ports_of_a_bridge_are_counted() {
    let (mut host, bridge) = Host::with_bridge(&[]);
    assert_eq!(host.conn.ports_of(bridge).unwrap(), 0);
    let _sandboxes: Vec<_> = (0..70).map(|number| host.sandbox(&format!("port{number}"), bridge)).collect();
    assert_eq!(host.conn.ports_of(bridge).unwrap(), 70);
    let nobody = LinkIndex::from_number(99_999).unwrap();
    assert_eq!(host.conn.ports_of(nobody).unwrap(), 0);
}

pub(crate) fn a_link_tells_in_which_namespace_its_peer_is() {
    let (mut host, bridge) = Host::with_bridge(&[]);
    let sandboxes = ["first", "second"].map(|name| host.sandbox(name, bridge).0);
    ip(&host.netns, &["link", "add", "here", "type", "veth", "peer", "name", "there"]);
    let links = host.conn.links().unwrap();
    let leads_to = |name: &str| links.iter().find(|it| it.name == name).unwrap().peer_netns;
    for (name, sandbox) in ["first", "second"].iter().zip(&sandboxes) {
        assert_eq!(leads_to(name), host.conn.number_of(sandbox).unwrap());
    }
    assert!(leads_to("first").is_some() && leads_to("first") != leads_to("second"));
    assert_eq!(leads_to("here"), None);
    assert_eq!(host.conn.number_of(&Netns::create().unwrap()).unwrap(), None);
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

impl Host {
    /// A sandbox that is `number` in `10.89.0.0/24` and `fd00:89::/64`.
    fn speaker(&mut self, name: &str, bridge: LinkIndex, number: u8) -> Netns {
        let (sandbox, veth) = self.sandbox(name, bridge);
        let addresses = [format!("10.89.0.{number}/24"), format!("fd00:89::{number}/64")];
        let spec: InsideSpec = inside_spec(veth, &addresses.each_ref().map(String::as_str), &[], Ipv6::On);
        self.configure(&sandbox, &spec).unwrap();
        sandbox
    }
}

/// What `bridge` tells of a port.
fn port(netns: &Netns, name: &str) -> Value {
    let text = output(netns, "bridge", &["-json", "-details", "link", "show", "dev", name]);
    let mut ports: Vec<Value> = serde_json::from_str(&text).unwrap();
    ports.remove(0)
}
