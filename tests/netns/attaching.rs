//! What an attachment can ask for, on networks of every kind.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::slice::from_ref;

use netloft_netns::Netns;
use netloft_network::Attached;
use netloft_types::{AttachSpec, Bandwidth, DefaultRoute, Driver, DriverSpec, NetworkSpec};

use crate::firewall::world::run;
use crate::network::{DUAL_STACK, addresses, attach, block_on, is_reached, network};
use crate::shaping::throughput;
use crate::site::{Site, curl, is_silent, serve};
use crate::support::{eventually, ip, setting};

pub(crate) fn sandboxes_of_a_macvlan_network_reach_the_lan_and_each_other() {
    block_on(async {
        let site = Site::new();
        let host = site.open();
        let spec = NetworkSpec {
            driver: DriverSpec::Macvlan { parent: "lan0".parse().unwrap() },
            segments: netloft_types::Segment::pair(
                vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/64".parse().unwrap()],
                vec!["192.0.2.2".parse().unwrap(), "2001:db8::2".parse().unwrap()],
            )
            .unwrap(),
            ..network("lan", &[])
        };
        let made = host.create_network(spec).await.unwrap();
        assert_eq!(made.driver, Driver::Macvlan { parent: "lan0".parse().unwrap() });
        let at = |name, addresses: [&str; 2]| AttachSpec {
            addresses: addresses.map(|text| text.parse().unwrap()).to_vec(),
            ..attach("lan", name)
        };
        let a = host.attach(at("a", ["192.0.2.7", "2001:db8::7"])).await.unwrap();
        let b = host.attach(at("b", ["192.0.2.8", "2001:db8::8"])).await.unwrap();
        assert_eq!(a.endpoint.host_link, None);
        let _servers = [serve(&site.lan, "lan", 80), serve(&b.netns, "b", 80)];
        assert_eq!(curl(&a.netns, "203.0.113.1"), "lan 192.0.2.7", "beyond the router, in its own name");
        assert_eq!(curl(&a.netns, "[2001:db8::2]"), "lan 2001:db8::7");
        assert_eq!(curl(&a.netns, "192.0.2.8"), "b 192.0.2.7");
        assert_eq!(curl(&site.lan, "[2001:db8::8]"), "b 2001:db8::2");
        assert_eq!(setting(&site.netns, "ipv4/ip_forward"), "0", "the host has no part in it");

        host.leave().await.unwrap();
        let host = site.open();
        assert_eq!(host.endpoints().await.unwrap().len(), 2);
        assert_eq!(host.examine().await.unwrap(), []);
        assert_eq!(curl(&a.netns, "192.0.2.8"), "b 192.0.2.7");
        host.detach(b.endpoint.id).await.unwrap();
        assert!(is_silent(&a.netns, "192.0.2.8"));
        assert_eq!(ip(&b.netns, &["link"]).len(), 1, "its link is gone at once");
        host.close().await.unwrap();
        assert_eq!(ip(&site.netns, &["link"]).len(), 2, "lo and lan0");
    });
}

pub(crate) fn a_sandbox_that_leaves_by_a_bridge_answers_the_lan_by_the_lan() {
    block_on(async {
        let site = Site::new();
        let host = site.open();
        host.create_network(network("blue", &DUAL_STACK)).await.unwrap();
        let gateway = "192.0.2.2".parse().unwrap();
        let segments = netloft_types::Segment::pair(vec!["192.0.2.0/24".parse().unwrap()], vec![gateway]);
        let driver = DriverSpec::Macvlan { parent: "lan0".parse().unwrap() };
        let lan = NetworkSpec { driver, segments: segments.unwrap(), ..network("lan", &[]) };
        host.create_network(lan).await.unwrap();
        let blue = host.attach(attach("blue", "both")).await.unwrap();
        let at = AttachSpec { addresses: vec!["192.0.2.77".parse().unwrap()], ..attach("lan", "both") };
        let lan = host.attach(at).await.unwrap();
        let _servers = [serve(&blue.netns, "both", 80), serve(&site.lan, "lan", 80)];
        let call = "curl --silent --max-time 8 --interface 203.0.113.1 http://192.0.2.77/";
        assert_eq!(run(&site.lan, call), "both 203.0.113.1", "from beyond the router");
        assert_eq!(curl(&blue.netns, "203.0.113.1"), "lan 192.0.2.1", "it leaves by the first");
        assert_eq!(host.examine().await.unwrap(), []);
        host.detach(lan.endpoint.id).await.unwrap();
        assert_eq!(run(&blue.netns, "ip rule"), run(&site.lan, "ip rule"));
        host.close().await.unwrap();
    });
}

pub(crate) fn a_sandbox_on_two_networks_leaves_by_the_first_and_keeps_the_second() {
    block_on(async {
        let site = Site::new();
        let host = site.open();
        let mut siblings = Vec::new();
        for (name, number) in [("blue", 89), ("green", 90), ("red", 91)] {
            let subnets = [format!("10.{number}.0.0/24"), format!("fd00:{number}::/64")];
            host.create_network(network(name, &subnets.each_ref().map(String::as_str))).await.unwrap();
            siblings.push(host.attach(attach(name, &format!("sibling-{name}"))).await.unwrap());
        }
        let blue = host.attach(attach("blue", "both")).await.unwrap();
        let green = host.attach(attach("green", "both")).await.unwrap();
        let never = AttachSpec { default_route: DefaultRoute::Never, ..attach("red", "both") };
        let red = host.attach(never).await.unwrap();
        let interfaces = [&blue, &green, &red].map(|it| it.endpoint.interface.as_str());
        assert_eq!(interfaces, ["eth0", "eth1", "eth2"]);
        assert_eq!([&blue.netns, &green.netns], [&green.netns, &red.netns], "it is one sandbox");
        let _server = serve(&site.lan, "lan", 80);
        let netns = &red.netns;
        for (family, expected) in [("-4", ["10.89.0.1", "10.90.0.1"]), ("-6", ["fd00:89::1", "fd00:90::1"])] {
            let routes = ip(netns, &[family, "route", "show", "default"]);
            let told: Vec<_> = routes.iter().map(|it| it["gateway"].as_str().unwrap()).collect();
            assert_eq!(told, expected);
            let metrics: Vec<_> = routes.iter().map(|it| it["metric"].as_u64().unwrap_or(0)).collect();
            assert!(metrics[0] < metrics[1], "{routes:?}");
        }
        assert_eq!(ip(netns, &["route", "get", "203.0.113.1"])[0]["dev"], "eth0");
        assert_eq!(curl(netns, "203.0.113.1"), "lan 192.0.2.1");
        for sibling in &siblings {
            assert!(addresses(sibling).iter().all(|address| is_reached(netns, *address)));
        }

        host.leave().await.unwrap();
        let host = site.open();
        assert_eq!(host.examine().await.unwrap(), []);
        assert_eq!(curl(netns, "203.0.113.1"), "lan 192.0.2.1");
        host.detach(blue.endpoint.id).await.unwrap();
        eventually("its interface is gone", || ip(netns, &["link"]).len() == 3);
        assert_eq!(ip(netns, &["route", "get", "203.0.113.1"])[0]["dev"], "eth1");
        assert_eq!(curl(netns, "203.0.113.1"), "lan 192.0.2.1");
        for (sibling, is_there) in siblings.iter().zip([false, true, true]) {
            let path = &red.netns_path;
            assert!(path.exists(), "the sandbox is there while anything is attached");
            assert!(is_there || !is_reached_soon(netns, sibling));
            assert!(!is_there || addresses(sibling).iter().all(|address| is_reached(netns, *address)));
        }
        host.detach(green.endpoint.id).await.unwrap();
        host.detach(red.endpoint.id).await.unwrap();
        assert!(!red.netns_path.exists());
        host.close().await.unwrap();
    });
}

pub(crate) fn nothing_leaves_an_internal_network() {
    block_on(async {
        let site = Site::new();
        let host = site.open();
        host.create_network(NetworkSpec { internal: true, ..network("blue", &DUAL_STACK) }).await.unwrap();
        assert_eq!(setting(&site.netns, "ipv4/ip_forward"), "0");
        let plain = host.attach(attach("blue", "plain")).await.unwrap();
        assert_eq!(plain.endpoint.gateways, [] as [std::net::IpAddr; 0]);
        assert_eq!(ip(&plain.netns, &["route", "show", "default"]), [] as [serde_json::Value; 0]);
        // One that insists on a way out, on a host that forwards.
        let spec = AttachSpec { default_route: DefaultRoute::Metric(0), ..attach("blue", "bold") };
        let bold = host.attach(spec).await.unwrap();
        for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            crate::support::set(&site.netns, key, "1");
        }
        for (near, any) in [("192.0.2.2:9000", "0.0.0.0:0"), ("[2001:db8::2]:9000", "[::]:0")] {
            let heard = site.lan.run(|| UdpSocket::bind(near).unwrap()).unwrap();
            heard.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
            // What is refused at once is not sent either.
            let say = |from: &Netns, what: &[u8]| {
                drop(from.run(|| UdpSocket::bind(any).unwrap()).unwrap().send_to(what, near));
            };
            say(&bold.netns, b"bold");
            say(&plain.netns, b"plain");
            say(&site.netns, b"honest");
            let mut word = [0; 16];
            let (len, _) = heard.recv_from(&mut word).unwrap();
            assert_eq!(&word[..len], b"honest", "nothing came before what was sent last");
        }
        assert!(is_reached(&plain.netns, addresses(&bold)[0]), "the network itself is whole");
        host.close().await.unwrap();
    });
}

pub(crate) fn what_leaves_a_network_has_the_address_of_the_host() {
    block_on(async {
        let site = Site::new();
        let host = site.open();
        host.create_network(network("blue", &DUAL_STACK)).await.unwrap();
        let a = host.attach(attach("blue", "a")).await.unwrap();
        let b = host.attach(attach("blue", "b")).await.unwrap();
        let _servers = [serve(&site.lan, "lan", 80), serve(&b.netns, "b", 80)];
        assert_eq!(curl(&a.netns, "192.0.2.2"), "lan 192.0.2.1");
        assert_eq!(curl(&a.netns, "203.0.113.1"), "lan 192.0.2.1");
        assert_eq!(curl(&a.netns, "[2001:db8::2]"), "lan 2001:db8::1");
        assert_eq!(curl(&a.netns, "10.89.0.3"), "b 10.89.0.2", "among siblings everybody has its own");
        assert_eq!(curl(&a.netns, "[fd00:89::3]"), "b fd00:89::2");
        host.close().await.unwrap();
    });
}

pub(crate) fn the_links_of_a_network_carry_what_the_way_out_carries() {
    block_on(async {
        let site = Site::new();
        for netns in [&site.netns, &site.lan] {
            run(netns, "ip link set lan0 mtu 1400");
        }
        let host = site.open();
        let blue = host.create_network(network("blue", &[])).await.unwrap();
        let asked = NetworkSpec { mtu: Some("1300".parse().unwrap()), ..network("green", &[]) };
        let green = host.create_network(asked).await.unwrap();
        assert_eq!([blue.mtu, green.mtu].map(|mtu| mtu.unwrap().bytes()), [1400, 1300]);
        for (network, mtu) in [("blue", 1400), ("green", 1300)] {
            let attached = host.attach(attach(network, &format!("in-{network}"))).await.unwrap();
            assert_eq!(ip(&attached.netns, &["link", "show", "eth0"])[0]["mtu"], mtu);
            assert_eq!(ip(&site.netns, &["link", "show", &format!("nl-{network}")])[0]["mtu"], mtu);
            let length = format!("{}", mtu - 28);
            run(&attached.netns, &format!("ping -n -q -c 1 -W 5 -M do -s {length} 192.0.2.2"));
        }
        host.close().await.unwrap();
    });
}

pub(crate) fn networks_that_want_ipv6_get_unique_local_subnets_of_their_own() {
    block_on(async {
        let site = Site::new();
        let host = site.open();
        let mut subnets = Vec::new();
        for name in ["blue", "green"] {
            let made = host.create_network(NetworkSpec { ipv6: true, ..network(name, &[]) }).await.unwrap();
            let [first, second] = &made.segments[..] else { panic!("{made:?} has no two segments") };
            assert!(first.subnet().is_ipv4());
            assert_eq!(second.subnet().prefix_len(), 64);
            assert!(second.subnet().to_string().starts_with("fd"), "{}", second.subnet());
            subnets.push(second.subnet());
            let a = host.attach(attach(name, &format!("{name}-a"))).await.unwrap();
            let b = host.attach(attach(name, &format!("{name}-b"))).await.unwrap();
            assert!(second.subnet().contains(addresses(&b)[1]));
            assert!(is_reached(&a.netns, addresses(&b)[1]));
            assert!(is_reached(&a.netns, "2001:db8::2".parse().unwrap()), "and out");
        }
        assert!(!subnets[0].overlaps(&subnets[1]));
        host.close().await.unwrap();
    });
}

pub(crate) fn a_sandbox_has_the_routes_settings_and_names_it_asks_for() {
    block_on(async {
        let site = Site::new();
        let host = site.open();
        host.create_network(network("blue", &DUAL_STACK)).await.unwrap();
        let settings = [("net.ipv4.tcp_keepalive_time", "77"), ("net.ipv4.ip_unprivileged_port_start", "0")];
        let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let routes = ["198.51.100.0/24", "203.0.113.0/24 via 10.89.0.9", "2001:db8:7::/64 via fd00:89::9"];
        let spec = AttachSpec {
            interface: Some("up0".parse().unwrap()),
            mac: Some("02:00:00:00:00:07".parse().unwrap()),
            addresses: vec!["10.89.0.77".parse().unwrap()],
            routes: routes.iter().map(|text| text.parse().unwrap()).collect(),
            sysctls: BTreeMap::from(settings),
            ..attach("blue", "a")
        };
        let a = host.attach(spec).await.unwrap();
        assert_eq!(setting(&a.netns, "ipv4/tcp_keepalive_time"), "77");
        assert_eq!(setting(&a.netns, "ipv4/ip_unprivileged_port_start"), "0");
        assert_eq!(setting(&site.netns, "ipv4/tcp_keepalive_time"), "7200");
        let link = &ip(&a.netns, &["address", "show", "up0"])[0];
        assert_eq!(link["address"], "02:00:00:00:00:07");
        assert_eq!(link["addr_info"][0]["local"], "10.89.0.77");
        for (to, via) in
            [("198.51.100.7", "10.89.0.1"), ("203.0.113.7", "10.89.0.9"), ("2001:db8:7::7", "fd00:89::9")]
        {
            assert_eq!(ip(&a.netns, &["route", "get", to])[0]["gateway"], via, "{to}");
        }
        assert!(is_reached(&site.netns, addresses(&a)[0]));

        for bad in ["kernel.hostname", "net.ipv4../../../kernel.x", "vm.swappiness"] {
            let sysctls = BTreeMap::from([(bad.to_owned(), "1".to_owned())]);
            let refused = host.attach(AttachSpec { sysctls, ..attach("blue", "b") }).await.unwrap_err();
            assert!(refused.is_invalid(), "{refused:?}");
        }
        let routes = vec!["203.0.113.0/24 via 10.90.0.9".parse().unwrap()];
        let refused = host.attach(AttachSpec { routes, ..attach("blue", "b") }).await.unwrap_err();
        assert!(refused.is_invalid(), "{refused:?}");
        assert_eq!(host.endpoints().await.unwrap(), [a]);
        host.close().await.unwrap();
    });
}

pub(crate) fn services_of_the_host_answer_where_the_network_may_reach_them() {
    block_on(async {
        let site = Site::new();
        let host = site.open();
        host.create_network(network("blue", &DUAL_STACK)).await.unwrap();
        let spec = NetworkSpec { host_access: true, ..network("green", &["10.90.0.0/24", "fd00:90::/64"]) };
        host.create_network(spec).await.unwrap();
        let blue = host.attach(attach("blue", "a")).await.unwrap();
        let green = host.attach(attach("green", "b")).await.unwrap();
        let _server = serve(&site.netns, "host", 9000);
        for at in ["10.90.0.1:9000", "[fd00:90::1]:9000", "192.0.2.1:9000"] {
            let expected = if at.starts_with('[') { "host fd00:90::2" } else { "host 10.90.0.2" };
            assert_eq!(curl(&green.netns, at), expected, "{at}");
        }
        for at in ["10.89.0.1:9000", "[fd00:89::1]:9000", "192.0.2.1:9000", "[2001:db8::1]:9000"] {
            assert!(is_silent(&blue.netns, at), "{at}");
        }
        host.close().await.unwrap();
    });
}

pub(crate) fn bandwidth_is_limited_in_both_directions_for_whoever_asks() {
    block_on(async {
        let site = Site::new();
        let host = site.open();
        host.create_network(network("blue", &["10.89.0.0/24"])).await.unwrap();
        let rate = Some("40M".parse().unwrap());
        let bandwidth = Bandwidth { to_sandbox: rate, from_sandbox: rate };
        let limited = host.attach(AttachSpec { bandwidth, ..attach("blue", "limited") }).await.unwrap();
        let free = host.attach(attach("blue", "free")).await.unwrap();
        let other = host.attach(attach("blue", "other")).await.unwrap();
        for (from, to, at) in [(&free, &limited, "10.89.0.2:0"), (&limited, &free, "10.89.0.3:0")] {
            let share = throughput(&from.netns, &to.netns, at) / 40e6;
            assert!((0.5..=1.2).contains(&share), "{share} to {at}");
        }
        let share = throughput(&other.netns, &free.netns, "10.89.0.3:0") / 40e6;
        assert!(share > 3.0, "{share} where nothing is limited");
        assert_eq!(ip(&site.netns, &["link", "show", "type", "ifb"]).len(), 1);

        host.leave().await.unwrap();
        let host = site.open();
        assert_eq!(host.examine().await.unwrap(), []);
        host.detach(limited.endpoint.id).await.unwrap();
        eventually("nothing of it is left", || ip(&site.netns, &["link", "show", "type", "ifb"]).is_empty());
        host.close().await.unwrap();
    });
}

pub(crate) fn a_namespace_of_somebody_else_is_used_and_left_to_them() {
    block_on(async {
        let site = Site::new();
        let host = site.open();
        host.create_network(network("blue", &DUAL_STACK)).await.unwrap();
        let theirs = Netns::create().unwrap();
        run(&theirs, "ip link add theirs type bridge");
        run(&theirs, "ip link set lo up");
        let before = ip(&theirs, &["address"]);
        let spec = AttachSpec { netns: Some(theirs.path()), ..attach("blue", "a") };
        let a = host.attach(spec.clone()).await.unwrap();
        assert_eq!(a.netns.id(), theirs.id());
        assert!(is_reached(&theirs, "2001:db8::2".parse().unwrap()));
        let twice = host.attach(AttachSpec { network: "blue".parse().unwrap(), ..spec.clone() }).await;
        assert!(twice.unwrap_err().is_conflict());

        host.leave().await.unwrap();
        let host = site.open();
        assert_eq!(host.endpoints().await.unwrap(), from_ref(&a));
        host.detach(a.endpoint.id).await.unwrap();
        eventually("its link is gone", || ip(&theirs, &["link"]).len() == 2);
        assert_eq!(ip(&theirs, &["address"]), before);
        assert!(!a.netns_path.exists());
        let again = host.attach(spec.clone()).await.unwrap();
        assert_eq!(again.netns.id(), theirs.id());
        // The link that was cut has the name still.
        host.detach(again.endpoint.id).await.unwrap();
        let again = host.attach(spec).await.unwrap();
        assert_eq!(again.netns.id(), theirs.id());

        let taken = Netns::create().unwrap();
        run(&taken, "ip link add eth0 type veth peer name far");
        let before = ip(&taken, &["link"]);
        let spec = AttachSpec { netns: Some(taken.path()), ..attach("blue", "c") };
        let refused = host.attach(spec.clone()).await.unwrap_err();
        assert!(refused.is_conflict(), "{refused:?}");
        assert_eq!(ip(&taken, &["link"]), before);
        let spec = AttachSpec { interface: Some("eth7".parse().unwrap()), ..spec };
        host.detach(host.attach(spec).await.unwrap().endpoint.id).await.unwrap();

        let nowhere = AttachSpec { netns: Some("/proc/self/nowhere".into()), ..attach("blue", "b") };
        host.attach(nowhere).await.unwrap_err();
        let a_file = AttachSpec { netns: Some("/proc/self/status".into()), ..attach("blue", "b") };
        host.attach(a_file).await.unwrap_err();
        assert_eq!(host.endpoints().await.unwrap(), [again]);
        host.close().await.unwrap();
    });
}

/// Whether a sibling answers without being waited for.
fn is_reached_soon(from: &Netns, sibling: &Attached) -> bool {
    let answers =
        |address| crate::firewall::world::succeeds(from, &format!("ping -n -q -c 1 -W 0.2 {address}"));
    addresses(sibling).into_iter().any(answers)
}
