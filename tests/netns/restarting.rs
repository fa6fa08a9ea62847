//! One process after another, what goes on meanwhile, and what others do to what is ours.

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};

use netloft_netns::Netns;
use netloft_network::{Attached, Host};
use netloft_types::EndpointId;
use tokio::sync::mpsc::error::TryRecvError;

use crate::firewall::world::{carries, connect, listen, run, succeeds};
use crate::network::{DUAL_STACK, attach, block_on, is_reached, network, open};
use crate::site::{Site, curl, publishing, serve};
use crate::support::{eventually, ip, output};

pub(crate) fn connections_go_on_while_one_process_follows_another() {
    block_on(async {
        let site = Site::new();
        let (mut host, web, sibling) = two_sandboxes(&site).await;
        let listener = listen(&web.netns, 80);
        let mut connections = talk(&site, &sibling, &listener);
        let before = (host.networks().await.unwrap(), host.endpoints().await.unwrap());
        for is_left_in_good_order in [true, false] {
            if is_left_in_good_order {
                host.leave().await.unwrap();
            } else {
                drop(host);
            }
            for (near, far) in &mut connections {
                assert!(carries((near, far)), "nobody is there");
            }
            host = site.open();
            for (near, far) in &mut connections {
                assert!(carries((near, far)), "the next one is there");
            }
            assert_eq!((host.networks().await.unwrap(), host.endpoints().await.unwrap()), before);
            assert_eq!(host.examine().await.unwrap(), []);
            // And the ways are open for others.
            talk(&site, &sibling, &listener);
        }
        host.close().await.unwrap();
        assert_eq!(links(&site), ["lan0", "lo"]);
    });
}

pub(crate) fn a_sandbox_that_was_deleted_meanwhile_is_gone_and_its_neighbours_are_not() {
    // The namespace itself lives on while somebody has it open.
    for is_open in [false, true] {
        block_on(async {
            let site = Site::new();
            let (host, web, sibling) = two_sandboxes(&site).await;
            let third = host.attach(attach("blue", "third")).await.unwrap();
            host.leave().await.unwrap();
            site.names().delete(&"web".parse().unwrap()).unwrap();
            let (link, held) = (host_link(&web), is_open.then_some(web));
            if !is_open {
                eventually("the kernel takes its link away", || !links(&site).contains(&link));
            }

            let host = site.open();
            let alive: BTreeSet<_> = ids(&host).await;
            assert_eq!(alive, BTreeSet::from([sibling.endpoint.id, third.endpoint.id]));
            assert_eq!(host.examine().await.unwrap(), []);
            eventually("its link is gone", || !links(&site).contains(&link));
            assert!(!site.ruleset().contains("8080"));
            assert!(is_reached(&sibling.netns, third.endpoint.addresses[0].address()));
            let again = host.attach(publishing("web", &["8080:80"])).await.unwrap();
            let _server = serve(&again.netns, "again", 80);
            assert_eq!(curl(&site.lan, "192.0.2.1:8080"), "again 192.0.2.2");
            drop(held);
            host.close().await.unwrap();
        });
    }
}

pub(crate) fn what_says_it_is_ours_and_nobody_knows_is_collected_and_nothing_else() {
    block_on(async {
        let site = Site::new();
        let (host, web, sibling) = two_sandboxes(&site).await;
        run(&site.netns, "ip link add theirs type bridge");
        run(&site.netns, "ip link set theirs alias theirs:blue");
        run(&site.netns, "ip rule add iif theirs prohibit pref 110 protocol 99");
        run(&site.netns, "ip -6 rule add iif nl-blue prohibit pref 110 protocol 111");
        run(&site.netns, "nft add table inet theirs");
        // In the order of their names; what is wrong with ours is found by examining.
        let tables = || -> BTreeSet<String> {
            run(&site.netns, "nft list tables").lines().map(str::to_owned).collect()
        };
        let everything = || (links(&site), rules(&site), tables(), site.names().list().unwrap());
        let before = everything();

        // At runtime, when asked for.
        plant(&site);
        let planted = everything();
        assert_eq!(host.examine().await.unwrap().len(), 5, "two links, a sandbox, two rules");
        let strays = host.collect_garbage(true).await.unwrap();
        assert_eq!((strays.len(), everything()), (5, planted));
        assert_eq!(host.collect_garbage(false).await.unwrap(), strays);
        eventually("what was planted is gone", || everything() == before);
        assert_eq!(host.examine().await.unwrap(), []);

        // And at the start.
        host.leave().await.unwrap();
        plant(&site);
        let host = site.open();
        eventually("what was planted is gone", || everything() == before);
        assert_eq!(host.examine().await.unwrap(), []);
        assert_eq!(ids(&host).await, BTreeSet::from([web.endpoint.id, sibling.endpoint.id]));
        host.close().await.unwrap();
        assert_eq!(links(&site), ["lan0", "lo", "theirs"]);
        assert_eq!(site.ruleset().trim(), "table inet theirs {\n}");
    });
}

pub(crate) fn whoever_loses_its_link_is_told_of_and_detached() {
    block_on(async {
        let site = Site::new();
        let (host, web, sibling) = two_sandboxes(&site).await;
        let mut losses = host.losses().await.unwrap();
        run(&site.netns, &format!("ip link delete {}", host_link(&web)));
        let mut lost = Err(TryRecvError::Empty);
        eventually("it is told", || {
            lost = losses.try_recv();
            lost.is_ok()
        });
        assert_eq!(lost, Ok(web.endpoint.id));
        assert_eq!(ids(&host).await, BTreeSet::from([sibling.endpoint.id]));
        assert_eq!(site.names().list().unwrap(), BTreeSet::from(["sibling".parse().unwrap()]));
        assert!(!site.ruleset().contains("8080"));
        assert_eq!(host.examine().await.unwrap(), []);

        // Nobody is told of what we take away ourselves.
        let again = host.attach(publishing("web", &["8080:80"])).await.unwrap();
        host.detach(again.endpoint.id).await.unwrap();
        eventually("its link is deleted", || !links(&site).contains(&host_link(&again)));
        run(&site.netns, &format!("ip link delete {}", host_link(&sibling)));
        eventually("it is told", || {
            lost = losses.try_recv();
            lost.is_ok()
        });
        assert_eq!(lost, Ok(sibling.endpoint.id));
        host.close().await.unwrap();
    });
}

pub(crate) fn a_later_route_over_a_subnet_is_found() {
    block_on(async {
        let site = Site::new();
        let (host, web, _) = two_sandboxes(&site).await;
        for route in ["10.89.0.128/25", "10.0.0.0/8"] {
            run(&site.netns, &format!("ip route add {route} via 192.0.2.2"));
            let found = host.examine().await.unwrap();
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(
                found[0].problem.contains(route) && found[0].problem.contains("10.89.0.0/24"),
                "{found:?}"
            );
            run(&site.netns, &format!("ip route delete {route}"));
            assert_eq!(host.examine().await.unwrap(), []);
        }
        assert!(is_reached(&site.netns, web.endpoint.addresses[0].address()));
        host.close().await.unwrap();
    });
}

pub(crate) fn what_others_do_to_the_firewall_changes_nothing_while_we_live_and_is_mended_after() {
    block_on(async {
        let site = Site::new();
        let (host, web, _) = two_sandboxes(&site).await;
        let _server = serve(&web.netns, "web", 80);
        run(&site.netns, "nft add table inet theirs");
        let ours = || site.ruleset().replace("table inet theirs {\n}\n", "");
        let before = ours();
        assert!(before.contains("table inet netloft") && before.contains("table bridge netloft"));
        // This is what a firewall does that is loaded again.
        run(&site.netns, "nft flush ruleset");
        assert!(!site.ruleset().contains("theirs"), "theirs it flushed");
        assert!(!succeeds(&site.netns, "nft delete table inet netloft"));
        assert_eq!(ours(), before);
        assert_eq!(host.examine().await.unwrap(), []);
        assert_eq!(curl(&site.lan, "192.0.2.1:8080"), "web 192.0.2.2");

        // Nobody owns it while nobody is there.
        host.leave().await.unwrap();
        assert_eq!(curl(&site.lan, "192.0.2.1:8080"), "web 192.0.2.2");
        run(&site.netns, "nft flush ruleset");
        assert_eq!(site.ruleset(), "");
        let host = site.open();
        assert_eq!(host.examine().await.unwrap(), []);
        assert_eq!(curl(&site.lan, "192.0.2.1:8080"), "web 192.0.2.2");
        host.close().await.unwrap();
        assert_eq!(site.ruleset(), "");
    });
}

pub(crate) fn a_bridge_that_somebody_deleted_is_found_and_made_anew_at_the_next_start() {
    block_on(async {
        let site = Site::new();
        let (host, ..) = two_sandboxes(&site).await;
        host.create_network(network("green", &["10.90.0.0/24"])).await.unwrap();
        let green = host.attach(attach("green", "green")).await.unwrap();
        run(&site.netns, "ip link delete nl-blue");
        let found = host.examine().await.unwrap();
        assert!(found.iter().any(|it| it.problem.contains("create bridge nl-blue")), "{found:?}");
        host.leave().await.unwrap();

        let host = site.open();
        assert_eq!(host.networks().await.unwrap().len(), 2);
        assert_eq!(ids(&host).await, BTreeSet::from([green.endpoint.id]), "whose bridge was deleted is gone");
        assert_eq!(host.examine().await.unwrap(), []);
        assert!(is_reached(&site.netns, green.endpoint.addresses[0].address()));
        let web = host.attach(publishing("web", &["8080:80"])).await.unwrap();
        let _server = serve(&web.netns, "web", 80);
        assert_eq!(curl(&site.lan, "192.0.2.1:8080"), "web 192.0.2.2");
        host.close().await.unwrap();
        eventually("nothing is left", || links(&site) == ["lan0", "lo"]);
    });
}

/// A network `blue` with the sandboxes `web`, which publishes 8080 to 80, and `sibling`.
async fn two_sandboxes(site: &Site) -> (Host, Attached, Attached) {
    let host = site.open();
    host.create_network(network("blue", &DUAL_STACK)).await.unwrap();
    let web = host.attach(publishing("web", &["8080:80"])).await.unwrap();
    let sibling = host.attach(attach("blue", "sibling")).await.unwrap();
    (host, web, sibling)
}

/// Connections from a sibling and through the published port, of both families.
fn talk(site: &Site, sibling: &Attached, listener: &TcpListener) -> Vec<(TcpStream, TcpStream)> {
    let ways: [(&Netns, &str); 4] = [
        (&sibling.netns, "10.89.0.2:80"),
        (&sibling.netns, "[fd00:89::2]:80"),
        (&site.lan, "192.0.2.1:8080"),
        (&site.lan, "[2001:db8::1]:8080"),
    ];
    let mut connections = Vec::new();
    for (from, at) in ways {
        let (mut near, mut far, _) = connect(from, at, listener).unwrap();
        assert!(carries((&mut near, &mut far)), "{at}");
        connections.push((near, far));
    }
    connections
}

/// What a crash may have left, or somebody makes by hand.
fn plant(site: &Site) {
    run(&site.netns, "ip link add stray0 type bridge");
    run(&site.netns, "ip link set stray0 alias netloft:gone");
    run(&site.netns, "ip link add stray1 type veth peer name stray2");
    run(&site.netns, "ip link set stray1 alias netloft:gone/0123456789abcdef");
    run(&site.netns, "ip rule add iif stray0 prohibit pref 110 protocol 110");
    run(&site.netns, "ip -6 rule add iif stray0 prohibit pref 110 protocol 110");
    site.names().create(&"stray".parse().unwrap()).unwrap();
}

async fn ids(host: &Host) -> BTreeSet<EndpointId> {
    host.endpoints().await.unwrap().iter().map(|it| it.endpoint.id).collect()
}

fn host_link(attached: &Attached) -> String {
    attached.endpoint.host_link.as_ref().unwrap().to_string()
}

fn links(site: &Site) -> Vec<String> {
    let links = ip(&site.netns, &["link"]);
    let mut names: Vec<_> = links.iter().map(|link| link["ifname"].as_str().unwrap().to_owned()).collect();
    names.sort_unstable();
    names
}

fn rules(site: &Site) -> [String; 2] {
    ["-4", "-6"].map(|family| run(&site.netns, &format!("ip {family} rule")))
}

pub(crate) fn what_others_took_from_a_bridge_or_a_sandbox_is_found() {
    block_on(async {
        let (netns, host) = open(None);
        host.create_network(network("blue", &DUAL_STACK)).await.unwrap();
        let attached = host.attach(attach("blue", "api")).await.unwrap();
        assert_eq!(host.examine().await.unwrap(), []);
        output(&netns, "ip", &["address", "del", "10.89.0.1/24", "dev", "nl-blue"]);
        output(&attached.netns, "ip", &["-6", "route", "del", "default"]);
        let problems: Vec<String> = host.examine().await.unwrap().into_iter().map(|it| it.problem).collect();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("bridge nl-blue has lost its address 10.89.0.1/24"), "{problems:?}");
        assert!(problems[1].contains("sandbox api has lost its route by fd00:89::1"), "{problems:?}");
        host.close().await.unwrap();
    });
}
