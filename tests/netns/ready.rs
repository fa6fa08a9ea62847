//! Endpoints that are kept ready, with the eyes of other programs, and what becomes of them when somebody dies.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use netloft_network::testing::{Fault, Faults};
use netloft_network::{Attached, Host};
use netloft_types::{AttachSpec, Bandwidth, NetworkSpec, ReadyCount};

use crate::firewall::world::run;
use crate::network::{DUAL_STACK, addresses, attach, block_on, is_reached, network};
use crate::site::{Site, curl, publishing, serve};
use crate::support::{eventually, feed, ip};

/// Ports of a bridge, as the kernel counts.
const BRIDGE_PORTS_MAX: usize = 1_023;

pub(crate) fn a_ready_endpoint_is_in_every_respect_as_one_that_was_made() {
    block_on(async {
        let site = Site::new();
        let host = site.open();
        host.create_network(network("plain", &["10.90.0.0/24", "fd00:90::/64"])).await.unwrap();
        host.create_network(keeping(network("blue", &DUAL_STACK), 2)).await.unwrap();
        until_ready(&host, 2).await;
        assert_eq!(host.endpoints().await.unwrap(), []);
        assert_eq!(host.examine().await.unwrap(), []);
        assert_eq!(site.names().list().unwrap(), BTreeSet::new());

        let plain = host.attach(attach("plain", "plain")).await.unwrap();
        let web = host.attach(publishing("web", &["8080:80"])).await.unwrap();
        let sibling = host.attach(attach("blue", "sibling")).await.unwrap();
        let shape = |attached: &Attached| {
            let inner = &ip(&attached.netns, &["address", "show", "eth0"])[0];
            let outer = &ip(&site.netns, &["link", "show", host_link(attached)])[0];
            let port = outer["linkinfo"]["info_slave_data"].clone();
            let port: Vec<_> = ["learning", "flood", "guard", "hairpin", "isolated", "state"]
                .map(|name| port[name].clone())
                .into();
            let routes =
                ["-4", "-6"].map(|family| ip(&attached.netns, &[family, "route", "show", "default"]).len());
            (
                inner["flags"].clone(),
                inner["mtu"].clone(),
                inner["addr_info"].as_array().unwrap().len(),
                port,
                routes,
            )
        };
        assert_eq!(shape(&web), shape(&plain));
        assert_eq!(shape(&sibling), shape(&plain));
        let _server = serve(&web.netns, "web", 80);
        assert_eq!(curl(&site.lan, "192.0.2.1:8080"), "web 192.0.2.2");
        for (from, to) in [(&sibling, &web), (&web, &sibling)] {
            for address in addresses(to) {
                assert!(is_reached(&from.netns, address));
            }
        }
        assert!(is_reached(&sibling.netns, "203.0.113.1".parse().unwrap()), "the way out");
        assert!(!is_reached(&sibling.netns, addresses(&plain)[0]), "another network");
        // It cannot speak for others.
        run(&web.netns, "ip address add 10.89.0.77/24 dev eth0");
        assert!(!is_reached_from(&web, "10.89.0.77", addresses(&sibling)[0]));

        let by_path = format!("--net={}", web.netns_path.display());
        let seen =
            std::process::Command::new("nsenter").args([&by_path, "ip", "-o", "link"]).output().unwrap();
        assert!(String::from_utf8(seen.stdout).unwrap().contains(&web.endpoint.mac.to_string()));
        until_ready(&host, 2).await;
        assert_eq!(host.examine().await.unwrap(), []);
        host.close().await.unwrap();
        eventually("nothing is left", || links(&site) == ["lan0", "lo"]);
        assert_eq!(site.ruleset(), "");
    });
}

pub(crate) fn what_is_ready_dies_with_its_process_and_what_was_given_lives_on() {
    for is_waited_for in [true, false] {
        block_on(async {
            let (site, faults) = (Site::new(), Faults::default());
            let host = site.open_failing(faults.clone());
            host.create_network(keeping(network("blue", &DUAL_STACK), 3)).await.unwrap();
            until_ready(&host, 3).await;
            let web = host.attach(publishing("web", &["8080:80"])).await.unwrap();
            let sibling = host.attach(attach("blue", "sibling")).await.unwrap();
            until_ready(&host, 3).await;
            // The one that was being given goes, too: nobody was told of it.
            faults.plan(Fault::DieAfter(faults.calls()));
            host.attach(publishing("late", &["8081:80"])).await.unwrap_err();
            drop(host);
            let given = [host_link(&sibling), host_link(&web), "lan0", "lo", "nl-blue"];
            let kept: BTreeSet<String> = given.iter().map(|name| (*name).to_owned()).collect();
            let remaining = || BTreeSet::from_iter(links(&site));
            if is_waited_for {
                // The name of the last one keeps its namespace until the next process takes it away.
                eventually("the kernel takes them away", || remaining().difference(&kept).count() == 1);
            }

            let host = site.open();
            assert_eq!(host.endpoints().await.unwrap().len(), 2);
            eventually("nothing of the dead one is left", || {
                site.names().list().unwrap().len() == 2 && remaining().is_superset(&kept)
            });
            until_ready(&host, 3).await;
            eventually("as many links as before", || remaining().len() == kept.len() + 3);
            assert_eq!(host.examine().await.unwrap(), []);
            assert_eq!(host.collect_garbage(false).await.unwrap(), []);
            let _server = serve(&web.netns, "web", 80);
            assert_eq!(curl(&site.lan, "192.0.2.1:8080"), "web 192.0.2.2");
            assert!(is_reached(&sibling.netns, addresses(&web)[0]));

            host.leave().await.unwrap();
            eventually("what is ready goes with who leaves", || remaining() == kept);
            site.open().close().await.unwrap();
            eventually("nothing is left", || links(&site) == ["lan0", "lo"]);
        });
    }
}

pub(crate) fn after_a_failure_at_any_step_of_making_ready_and_giving_nothing_is_left() {
    // Two are made ready in four steps each, one is given in two, and its namespace looked up.
    for step in 4..4 + 11 {
        for fault in [Fault::Before(step), Fault::After(step)] {
            block_on(async {
                let (site, faults) = (Site::new(), Faults::default());
                let host = site.open_failing(faults.clone());
                let network = keeping(network("blue", &DUAL_STACK), 2);
                host.create_network(NetworkSpec { internal: true, ..network }).await.unwrap();
                assert_eq!(faults.calls(), 4, "bridge, two prohibitions, packet filter");
                faults.plan(fault);
                eventually("two were made ready or not", || faults.calls() >= 12 || faults.calls() > step);
                let outcome = host.attach(publishing("api", &["8080:80"])).await;
                eventually("the fault was met", || faults.calls() > step);
                let given = outcome.into_iter().collect::<Vec<_>>();
                assert_eq!(host.endpoints().await.unwrap(), given, "{fault:?}");
                assert_eq!(site.names().list().unwrap().len(), given.len(), "{fault:?}");
                assert_eq!(host.examine().await.unwrap(), [], "{fault:?}");
                let again = host.attach(attach("blue", "again")).await.unwrap();
                assert!(is_reached(&site.netns, addresses(&again)[0]), "{fault:?}");
                host.close().await.unwrap();
                eventually("nothing is left", || links(&site) == ["lan0", "lo"]);
            });
        }
    }
}

pub(crate) fn a_ready_endpoint_whose_link_is_deleted_is_given_to_nobody() {
    block_on(async {
        let site = Site::new();
        let host = site.open();
        host.create_network(keeping(network("blue", &DUAL_STACK), 4)).await.unwrap();
        let mut losses = host.losses().await.unwrap();
        for round in 0..10 {
            until_ready(&host, 4).await;
            eventually("what was detached is deleted", || links(&site).len() == 3 + 4);
            let mut ready = links(&site);
            ready.retain(|name| !["lan0", "lo", "nl-blue"].contains(&name.as_str()));
            run(&site.netns, &format!("ip link delete {}", ready[round % 4]));
            eventually("it is noticed", || {
                let others = links(&site);
                ready.iter().filter(|name| others.contains(name)).count() == 3 && others.len() == 3 + 4
            });
            for number in 0..4 {
                let attached = host.attach(attach("blue", &format!("s{round}-{number}"))).await.unwrap();
                assert!(is_reached(&site.netns, addresses(&attached)[0]));
                host.detach(attached.endpoint.id).await.unwrap();
            }
        }
        assert!(losses.try_recv().is_err(), "nobody had one");
        assert_eq!(host.examine().await.unwrap(), []);
        host.close().await.unwrap();
    });
}

pub(crate) fn a_bridge_full_of_ready_endpoints_has_room_for_others() {
    block_on(async {
        const KEPT: usize = 5;
        let site = Site::new();
        let host = site.open();
        let kept = u32::try_from(KEPT).unwrap();
        host.create_network(keeping(network("blue", &["10.88.0.0/20"]), kept)).await.unwrap();
        until_ready(&host, KEPT).await;
        // Ports like any other, for less than whole sandboxes cost.
        let fill = (KEPT..BRIDGE_PORTS_MAX)
            .map(|number| format!("link add f{number} master nl-blue type veth peer name p{number}"))
            .collect::<Vec<_>>()
            .join("\n");
        feed(&site.netns, "ip", &["-batch", "-"], &fill);
        let limited = |name: &str| AttachSpec {
            bandwidth: Bandwidth { to_sandbox: Some("1G".parse().unwrap()), from_sandbox: None },
            ..attach("blue", name)
        };
        let mut attached = Vec::new();
        for number in 0..KEPT {
            attached.push(host.attach(limited(&format!("s{number}"))).await.unwrap());
        }
        for one in &attached {
            assert!(is_reached(&site.netns, addresses(one)[0]));
        }
        assert!(host.attach(limited("late")).await.unwrap_err().is_exhausted(), "full of others");
        assert_eq!(host.count_ready(&"blue".parse().unwrap()).await.unwrap(), 0);
        host.detach(attached[0].endpoint.id).await.unwrap();
        host.attach(limited("late")).await.unwrap();
        host.close().await.unwrap();
    });
}

fn keeping(spec: NetworkSpec, count: u32) -> NetworkSpec {
    NetworkSpec { ready: ReadyCount::try_from(count).unwrap(), ..spec }
}

/// Waits until so many of network `blue` are ready.
async fn until_ready(host: &Host, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while host.count_ready(&"blue".parse().unwrap()).await.unwrap() != count {
        assert!(Instant::now() < deadline, "not {count} are ready");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_reached_from(from: &Attached, source: &str, to: IpAddr) -> bool {
    crate::firewall::world::succeeds(&from.netns, &format!("ping -n -q -c 1 -W 1 -I {source} {to}"))
}

fn host_link(attached: &Attached) -> &str {
    attached.endpoint.host_link.as_ref().unwrap().as_str()
}

fn links(site: &Site) -> Vec<String> {
    let links = ip(&site.netns, &["link"]);
    let mut names: Vec<_> = links.iter().map(|link| link["ifname"].as_str().unwrap().to_owned()).collect();
    names.sort_unstable();
    names
}
