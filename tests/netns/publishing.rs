//! Published ports of attached sandboxes.

use std::collections::BTreeSet;
use std::net::{TcpListener, UdpSocket};
use std::slice::from_ref;

use netloft_netns::Netns;
use netloft_network::{Attached, Host};
use netloft_types::{AttachSpec, DefaultRoute, PublishedPort};

use crate::firewall::world::{ask, carries, connect, listen, listen_udp, run};
use crate::network::{DUAL_STACK, attach, block_on, network};
use crate::site::{Site, curl, is_silent, publishing, serve};
use crate::support::{eventually, ip, set};

pub(crate) fn published_ports_answer_from_everywhere_and_see_who_calls() {
    block_on(async {
        let (site, host, web) = web(&["8080:80", "6000-6009:7000-7009"]).await;
        let sibling = host.attach(attach("blue", "sibling")).await.unwrap();
        let _servers = [serve(&web.netns, "web", 80), serve(&web.netns, "last", 7009)];
        let ways = [
            (&site.lan, "192.0.2.1", "192.0.2.2"),
            (&site.lan, "[2001:db8::1]", "2001:db8::2"),
            (&site.netns, "192.0.2.1", "192.0.2.1"),
            (&site.netns, "[2001:db8::1]", "2001:db8::1"),
            (&site.netns, "127.0.0.1", "10.89.0.1"),
            (&sibling.netns, "192.0.2.1", "10.89.0.1"),
            (&sibling.netns, "[2001:db8::1]", "fd00:89::1"),
            (&web.netns, "192.0.2.1", "10.89.0.1"),
            (&web.netns, "[2001:db8::1]", "fd00:89::1"),
        ];
        // Where the filter of the host looks at the frames of bridges, and where it does not.
        for is_looking in ["1", "0"] {
            for key in ["bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"] {
                set(&site.netns, key, is_looking);
            }
            for (from, at, caller) in ways {
                assert_eq!(curl(from, &format!("{at}:8080")), format!("web {caller}"), "{at}");
                assert_eq!(curl(from, &format!("{at}:6009")), format!("last {caller}"), "{at}");
            }
        }
        assert!(is_silent(&site.lan, "192.0.2.1:6010"), "it is not published");
        assert_eq!(run(&site.netns, "ss -H -l -n -t -u"), "", "nobody listens: no program is in between");
        host.close().await.unwrap();
    });
}

pub(crate) fn published_datagrams_are_answered_from_everywhere() {
    block_on(async {
        let (site, host, web) = web(&["5000-5009:5000-5009/udp"]).await;
        let sibling = host.attach(attach("blue", "sibling")).await.unwrap();
        let socket = listen_udp(&web.netns, 5007);
        for (from, at, caller) in [
            (&site.lan, "192.0.2.1", "192.0.2.2"),
            (&site.lan, "[2001:db8::1]", "2001:db8::2"),
            (&site.netns, "192.0.2.1", "192.0.2.1"),
            (&site.netns, "127.0.0.1", "10.89.0.1"),
            (&sibling.netns, "192.0.2.1", "10.89.0.1"),
            (&web.netns, "192.0.2.1", "10.89.0.1"),
        ] {
            let seen = ask(from, &format!("{at}:5007"), &socket);
            assert_eq!(seen.map_err(|error| error.to_string()), Ok(caller.parse().unwrap()), "{at}");
        }
        assert!(ask(&site.lan, "192.0.2.1:5010", &socket).is_err(), "it is not published");
        host.close().await.unwrap();
    });
}

pub(crate) fn chosen_ports_are_told_and_answer() {
    block_on(async {
        let (site, host, web) = web(&["80", "81", "80/udp", "7000-7003"]).await;
        assert_eq!(host.endpoints().await.unwrap(), from_ref(&web));
        let told = &web.endpoint.ports;
        let asked: Vec<String> = told.iter().map(|port| port.ports.to_string()).collect();
        assert_eq!(asked, ["80", "81", "80", "7000-7003"]);
        assert!(told.iter().all(|port| port.host.count() == port.ports.count()));
        let tcp = [0, 1, 3].map(|index: usize| told[index].host);
        assert!(!tcp[0].overlaps(tcp[1]) && !tcp[0].overlaps(tcp[2]) && !tcp[1].overlaps(tcp[2]));
        let _servers = [
            serve(&web.netns, "first", 80),
            serve(&web.netns, "second", 81),
            serve(&web.netns, "last", 7003),
        ];
        for (port, name) in [(tcp[0].first(), "first"), (tcp[1].first(), "second"), (tcp[2].last(), "last")] {
            assert_eq!(curl(&site.lan, &format!("192.0.2.1:{port}")), format!("{name} 192.0.2.2"));
        }
        let socket = listen_udp(&web.netns, 80);
        ask(&site.lan, &format!("192.0.2.1:{}", told[2].host), &socket).unwrap();
        host.close().await.unwrap();
    });
}

pub(crate) fn of_many_ports_that_are_chosen_at_once_none_is_taken() {
    const COUNT: usize = 200;
    block_on(async {
        let site = Site::new();
        set(&site.netns, "ipv4/ip_local_reserved_ports", "61000-61003,61010");
        // One of each family, and one of another protocol, which is in nobody's way.
        let _listeners = ["0.0.0.0:61004", "[::]:61005", "192.0.2.1:61006"]
            .map(|at| site.netns.run(|| TcpListener::bind(at).unwrap()).unwrap());
        let _socket = site.netns.run(|| UdpSocket::bind("0.0.0.0:61007").unwrap()).unwrap();
        let host = site.open();
        host.create_network(network("blue", &["10.89.0.0/23"])).await.unwrap();
        let attaching: Vec<_> = (0..COUNT)
            .map(|number| {
                let host = host.clone();
                let spec = publishing(&format!("s{number}"), &["80"]);
                async move { host.attach(spec).await.unwrap() }
            })
            .collect();
        let mut chosen = BTreeSet::new();
        let runtime = tokio::task::LocalSet::new();
        let attaching: Vec<_> = attaching.into_iter().map(|it| runtime.spawn_local(it)).collect();
        runtime.await;
        for attached in attaching {
            let [PublishedPort { host, .. }] = attached.await.unwrap().endpoint.ports[..] else {
                panic!("one port is published")
            };
            chosen.insert(host.first().number());
        }
        assert_eq!(chosen.len(), COUNT, "no two are alike");
        let never = [61000, 61001, 61002, 61003, 61004, 61005, 61006, 61010];
        assert!(never.iter().all(|port| !chosen.contains(port)), "{chosen:?}");
        assert!(chosen.contains(&61007));
        for (port, is_taken) in [("61004:80", true), ("61005:80", true), ("61010:80", false)] {
            let outcome = host.attach(publishing("late", &[port])).await;
            assert_eq!(
                outcome.as_ref().is_err_and(netloft_network::Error::is_conflict),
                is_taken,
                "{outcome:?}"
            );
        }
        host.close().await.unwrap();
    });
}

pub(crate) fn with_its_endpoint_a_port_is_gone_and_so_are_its_connections() {
    block_on(async {
        let (site, host, web) = web(&["8080:80"]).await;
        let listener = listen(&web.netns, 80);
        let mut connections = ["192.0.2.1:8080", "[2001:db8::1]:8080"].map(|at| {
            let (near, far, _) = connect(&site.lan, at, &listener).unwrap();
            (near, far)
        });
        for (near, far) in &mut connections {
            assert!(carries((near, far)));
        }
        for address in ["10.89.0.2", "fd00:89::2"] {
            assert!(!site.connections_of(address).is_empty(), "{address}");
        }
        host.detach(web.endpoint.id).await.unwrap();
        for (near, far) in &mut connections {
            assert!(!carries((near, far)));
        }
        for address in ["10.89.0.2", "fd00:89::2"] {
            eventually("its connections are forgotten", || site.connections_of(address).is_empty());
        }
        for from in [&site.lan, &site.netns] {
            assert!(is_silent(from, "192.0.2.1:8080") && is_silent(from, "[2001:db8::1]:8080"));
        }
        assert!(!site.ruleset().contains("8080"), "{}", site.ruleset());

        let next = host.attach(publishing("next", &["8080:80"])).await.unwrap();
        let _server = serve(&next.netns, "next", 80);
        assert_eq!(curl(&site.lan, "192.0.2.1:8080"), "next 192.0.2.2");
        assert_eq!(curl(&site.lan, "[2001:db8::1]:8080"), "next 2001:db8::2");
        host.close().await.unwrap();
    });
}

pub(crate) fn an_address_of_the_host_publishes_at_it_alone() {
    block_on(async {
        let (site, host, web) = web(&["127.0.0.1:8080:80", "[2001:db8::1]:8081:80", "192.0.2.1::80"]).await;
        let _server = serve(&web.netns, "web", 80);
        assert_eq!(curl(&site.netns, "127.0.0.1:8080"), "web 10.89.0.1");
        assert_eq!(curl(&site.lan, "[2001:db8::1]:8081"), "web 2001:db8::2");
        let chosen = web.endpoint.ports[2].host;
        assert_eq!(curl(&site.lan, &format!("192.0.2.1:{chosen}")), "web 192.0.2.2");
        let nowhere: [(&Netns, String); 4] = [
            (&site.lan, "192.0.2.1:8080".to_owned()),
            (&site.netns, "192.0.2.1:8080".to_owned()),
            (&site.lan, "192.0.2.1:8081".to_owned()),
            (&site.netns, format!("127.0.0.1:{chosen}")),
        ];
        for (from, at) in nowhere {
            assert!(is_silent(from, &at), "{at}");
        }
        host.close().await.unwrap();
    });
}

pub(crate) fn behind_a_firewall_that_lets_nobody_in_ports_answer_the_host_alone_unless_meant() {
    for respect_firewall in [true, false] {
        block_on(async {
            let site = Site::new();
            run(&site.netns, "nft add table inet theirs");
            run(
                &site.netns,
                "nft add chain inet theirs input { type filter hook input priority 0 ; policy drop ; }",
            );
            run(&site.netns, "nft add rule inet theirs input ct state established accept");
            let host = site.open_with(|options| options.respect_firewall = respect_firewall);
            host.create_network(network("blue", &["10.89.0.0/24"])).await.unwrap();
            let web = host.attach(publishing("web", &["8080:80", "192.0.2.1:8081:80"])).await.unwrap();
            let _server = serve(&web.netns, "web", 80);
            assert_eq!(curl(&site.lan, "192.0.2.1:8081"), "web 192.0.2.2", "it was meant");
            assert_eq!(curl(&site.netns, "127.0.0.1:8080"), "web 10.89.0.1");
            let told = web.endpoint.ports[0].address;
            if respect_firewall {
                assert_eq!(told, Some("127.0.0.1".parse().unwrap()));
                assert!(is_silent(&site.lan, "192.0.2.1:8080"));
            } else {
                assert_eq!(told, None);
                assert_eq!(curl(&site.lan, "192.0.2.1:8080"), "web 192.0.2.2");
            }
            host.close().await.unwrap();
        });
    }
}

pub(crate) fn ports_on_every_network_of_a_sandbox_answer_by_the_link_they_were_asked_by() {
    block_on(async {
        let (site, host, blue, green) = two_networks(DefaultRoute::Auto, DefaultRoute::Auto).await;
        let netns = &green.netns;
        let _servers = [serve(netns, "web", 80), serve(&site.lan, "lan", 7070)];
        let sibling = host.attach(attach("green", "sibling")).await.unwrap();
        assert_answers(&site);
        assert_eq!(curl(&site.netns, "192.0.2.1:9090"), "web 192.0.2.1");
        assert_eq!(curl(&site.netns, "127.0.0.1:9090"), "web 10.90.0.1");
        assert_eq!(curl(&sibling.netns, "10.90.0.2"), "web 10.90.0.3", "neighbours are reached directly");
        let socket = netns.run(|| UdpSocket::bind("10.90.0.2:5353").unwrap()).unwrap();
        assert_eq!(
            ask(&site.lan, "192.0.2.1:5353", &socket).unwrap(),
            "192.0.2.2".parse::<std::net::IpAddr>().unwrap()
        );
        for (family, to) in [("-4", "192.0.2.2"), ("-6", "2001:db8::2")] {
            let route = ip(netns, &[family, "route", "get", to]);
            assert_eq!(route[0]["dev"], "eth0", "what it opens itself leaves by the first");
        }

        host.leave().await.unwrap();
        let host = site.open();
        assert_eq!(host.examine().await.unwrap(), []);
        assert_answers(&site);
        host.detach(blue.endpoint.id).await.unwrap();
        eventually("its interface is gone", || ip(netns, &["link"]).len() == 2);
        assert_eq!(curl(&site.lan, "192.0.2.1:9090"), "web 192.0.2.2");
        assert_eq!(curl(&site.lan, "[2001:db8::1]:9090"), "web 2001:db8::2");
        assert_eq!(curl(netns, "192.0.2.2:7070"), "lan 192.0.2.1", "it is the way out now");
        host.close().await.unwrap();
    });
}

pub(crate) fn with_its_endpoint_a_way_back_is_gone_and_without_it_nobody_beyond_the_host_is_answered() {
    block_on(async {
        let (site, host, blue, green) = two_networks(DefaultRoute::Auto, DefaultRoute::Auto).await;
        let netns = &blue.netns;
        let _server = serve(netns, "web", 80);
        for (family, address, at) in
            [("-4", "10.90.0.2", "192.0.2.1:9090"), ("-6", "fd00:90::2", "[2001:db8::1]:9090")]
        {
            run(netns, &format!("ip {family} rule del pref 32111"));
            assert!(is_silent(&site.lan, at), "{at}");
            let found = host.examine().await.unwrap();
            assert_eq!(found.len(), 1, "{found:?}");
            let lost = format!("web has lost its way back from {address}");
            assert!(found[0].problem.contains(&lost), "{found:?}");
            let rule = format!("from {address} lookup 110003 pref 32111 protocol 110");
            run(netns, &format!("ip {family} rule add {rule}"));
            assert_eq!(host.examine().await.unwrap(), []);
        }
        assert_answers(&site);
        host.detach(green.endpoint.id).await.unwrap();
        assert_eq!(rules(netns), rules(&site.lan), "those that every namespace has");
        for family in ["-4", "-6"] {
            eventually("its routes are gone with its link", || {
                !run(netns, &format!("ip {family} route show table all")).contains("110003")
            });
        }
        assert_eq!(curl(&site.lan, "192.0.2.1:8080"), "web 192.0.2.2");
        host.close().await.unwrap();
    });
}

pub(crate) fn whichever_network_is_the_way_out_ports_on_the_other_answer() {
    for ways in [
        [DefaultRoute::Metric(200), DefaultRoute::Metric(100)],
        [DefaultRoute::Never, DefaultRoute::Auto],
        [DefaultRoute::Auto, DefaultRoute::Never],
    ] {
        block_on(async {
            let (site, host, blue, _) = two_networks(ways[0], ways[1]).await;
            let _server = serve(&blue.netns, "web", 80);
            assert_answers(&site);
            host.close().await.unwrap();
        });
    }
}

pub(crate) fn a_namespace_of_somebody_else_answers_by_both_ways_and_has_its_own_rules_afterwards() {
    block_on(async {
        let site = Site::new();
        let theirs = Netns::create().unwrap();
        site.plug_in(&theirs, "wan0", "198.51.100", "2001:db8:1:");
        run(&theirs, "ip route add default via 198.51.100.1");
        run(&theirs, "ip rule add from 10.90.0.2 lookup 7 pref 7");
        let before = rules(&theirs);
        let host = site.open();
        host.create_network(network("blue", &DUAL_STACK)).await.unwrap();
        let spec = AttachSpec {
            netns: Some(theirs.path()),
            default_route: DefaultRoute::Never,
            ..publishing("web", &["8080:80"])
        };
        let web = host.attach(spec).await.unwrap();
        let _server = serve(&theirs, "web", 80);
        assert_eq!(curl(&site.lan, "192.0.2.1:8080"), "web 192.0.2.2");
        assert_eq!(curl(&site.netns, "198.51.100.2"), "web 198.51.100.1");
        host.leave().await.unwrap();
        let host = site.open();
        host.detach(web.endpoint.id).await.unwrap();
        assert_eq!(rules(&theirs), before);
        host.close().await.unwrap();
    });
}

/// A sandbox `web` on the networks `blue` and `green`, which publishes 8080 on the one and 9090 on the other; its
/// neighbour serves at 7070.
async fn two_networks(first: DefaultRoute, second: DefaultRoute) -> (Site, Host, Attached, Attached) {
    let site = Site::new();
    let host = site.open();
    host.create_network(network("blue", &DUAL_STACK)).await.unwrap();
    host.create_network(network("green", &["10.90.0.0/24", "fd00:90::/64"])).await.unwrap();
    let blue = AttachSpec { default_route: first, ..publishing("web", &["8080:80"]) };
    let green = AttachSpec {
        default_route: second,
        network: "green".parse().unwrap(),
        ..publishing("web", &["9090:80", "5353:5353/udp"])
    };
    let blue = host.attach(blue).await.unwrap();
    let green = host.attach(green).await.unwrap();
    (site, host, blue, green)
}

/// Beyond the host, ports on both networks answer, and see who calls.
fn assert_answers(site: &Site) {
    for (at, caller) in [("192.0.2.1", "192.0.2.2"), ("[2001:db8::1]", "2001:db8::2")] {
        for port in [8080, 9090] {
            assert_eq!(curl(&site.lan, &format!("{at}:{port}")), format!("web {caller}"), "{at}:{port}");
        }
    }
}

fn rules(netns: &Netns) -> [String; 2] {
    ["-4", "-6"].map(|family| run(netns, &format!("ip {family} rule")))
}

/// A sandbox `web` on a network `blue` of both families, which publishes ports.
async fn web(ports: &[&str]) -> (Site, Host, Attached) {
    let site = Site::new();
    let host = site.open();
    host.create_network(network("blue", &DUAL_STACK)).await.unwrap();
    let web = host.attach(publishing("web", ports)).await.unwrap();
    (site, host, web)
}
