//! Addresses that rest between two owners.

use std::net::IpAddr;
use std::thread;

use netloft_network::{Attached, Host};
use netloft_types::AttachSpec;

use crate::firewall::world::{run, succeeds};
use crate::network::{addresses, attach, block_on, network};
use crate::site::{Site, curl, publishing, serve};
use crate::support::eventually;

pub(crate) fn a_client_under_way_reaches_the_right_service_and_never_who_has_the_address_now() {
    // With room for the address to rest, and without.
    for subnet in ["10.92.0.0/24", "10.92.0.0/30"] {
        block_on(async {
            let site = Site::new();
            let host = site.open();
            host.create_network(network("blue", &["10.89.0.0/24"])).await.unwrap();
            host.create_network(network("tiny", &[subnet])).await.unwrap();
            let on_tiny = |spec| AttachSpec { network: "tiny".parse().unwrap(), ..spec };
            let old = host.attach(on_tiny(publishing("old", &["8080:80"]))).await.unwrap();
            // It answers nothing, not even that nobody listens.
            run(&old.netns, "ip route replace blackhole default");
            let lan = site.lan.clone();
            let client = thread::spawn(move || curl(&lan, "192.0.2.1:8080"));
            let address = first(&old).to_string();
            eventually("its SYN waits for an answer", || {
                site.connections_of(&address).iter().any(|it| it.contains("SYN_SENT"))
            });

            host.detach(old.endpoint.id).await.unwrap();
            let wrong = host.attach(on_tiny(attach("tiny", "wrong"))).await.unwrap();
            assert_eq!(first(&wrong) == first(&old), subnet.ends_with("/30"), "{subnet}");
            let right = host.attach(publishing("right", &["8080:80"])).await.unwrap();
            let _services = [serve(&wrong.netns, "wrong", 80), serve(&right.netns, "right", 80)];
            assert_eq!(client.join().unwrap(), "right 192.0.2.2", "{subnet}");
            host.close().await.unwrap();
        });
    }
}

pub(crate) fn who_comes_back_has_its_address_at_once_and_nobody_else_gets_it() {
    block_on(async {
        let site = Site::new();
        let host = site.open();
        host.create_network(network("blue", &["10.89.0.0/24"])).await.unwrap();
        let api = host.attach(attach("blue", "api")).await.unwrap();
        let other = host.attach(attach("blue", "other")).await.unwrap();
        host.detach(api.endpoint.id).await.unwrap();
        let next = host.attach(attach("blue", "next")).await.unwrap();
        let again = host.attach(attach("blue", "api")).await.unwrap();
        assert_eq!((first(&again), again.endpoint.mac), (first(&api), api.endpoint.mac));
        assert_ne!(first(&next), first(&api));
        for from in [&site.netns, &other.netns, &next.netns] {
            assert!(succeeds(from, &format!("ping -n -q -c 1 -W 5 {}", first(&api))));
        }
        host.close().await.unwrap();
    });
}

pub(crate) fn an_exhausted_subnet_gives_what_has_rested_longest_and_forgets_its_connections() {
    block_on(async {
        let site = Site::new();
        let host = site.open();
        host.create_network(network("blue", &["10.89.0.0/29"])).await.unwrap();
        let mut held = Vec::new();
        for name in ["a", "b", "c", "d", "e"] {
            held.push(host.attach(attach("blue", name)).await.unwrap());
        }
        assert!(host.attach(attach("blue", "f")).await.unwrap_err().is_exhausted(), "five have room");
        for index in [2, 0, 1] {
            detach_and_settle(&site, &host, &held[index]).await;
        }
        for (name, oldest) in [("f", &held[2]), ("g", &held[0])] {
            let address = first(oldest).to_string();
            // Something still calls who had it.
            assert!(!succeeds(&site.netns, &format!("ping -n -q -c 1 -W 0.05 {address}")));
            assert!(!site.connections_of(&address).is_empty(), "the host remembers that");
            let next = host.attach(attach("blue", name)).await.unwrap();
            assert_eq!(first(&next).to_string(), address);
            assert_eq!(site.connections_of(&address), [""; 0], "forgotten before anybody was told");
        }
        host.close().await.unwrap();
    });
}

pub(crate) fn addresses_rest_on_over_a_restart() {
    block_on(async {
        let site = Site::new();
        let host = site.open();
        host.create_network(network("blue", &["10.89.0.0/24"])).await.unwrap();
        let api = host.attach(attach("blue", "api")).await.unwrap();
        host.detach(api.endpoint.id).await.unwrap();
        host.leave().await.unwrap();

        let host = site.open();
        let next = host.attach(attach("blue", "next")).await.unwrap();
        assert_ne!(first(&next), first(&api));
        host.leave().await.unwrap();
        let host = site.open();
        let again = host.attach(attach("blue", "api")).await.unwrap();
        assert_eq!(first(&again), first(&api));
        host.close().await.unwrap();
    });
}

pub(crate) fn connections_that_a_dead_process_left_are_forgotten_by_the_next_one() {
    block_on(async {
        let site = Site::new();
        let host = site.open();
        host.create_network(network("blue", &["10.89.0.0/24"])).await.unwrap();
        let alive = host.attach(attach("blue", "alive")).await.unwrap();
        let gone = host.attach(attach("blue", "gone")).await.unwrap();
        // Comes and goes, and comes back: it rested once and does no more.
        host.detach(alive.endpoint.id).await.unwrap();
        let alive = host.attach(attach("blue", "alive")).await.unwrap();
        detach_and_settle(&site, &host, &gone).await;
        host.leave().await.unwrap();
        let [alive, gone] = [&alive, &gone].map(|it| first(it).to_string());
        for (address, answers) in [(&alive, true), (&gone, false)] {
            let patience = if answers { "5" } else { "0.05" };
            assert_eq!(succeeds(&site.netns, &format!("ping -n -q -c 1 -W {patience} {address}")), answers);
            assert!(!site.connections_of(address).is_empty(), "{address}");
        }
        let host = site.open();
        eventually("the next one forgets them", || site.connections_of(&gone).is_empty());
        assert!(!site.connections_of(&alive).is_empty(), "those that live are not");
        host.close().await.unwrap();
    });
}

/// Detaches an endpoint that has a connection, and waits until that is forgotten: nothing more is flushed then.
async fn detach_and_settle(site: &Site, host: &Host, attached: &Attached) {
    let address = first(attached).to_string();
    assert!(succeeds(&site.netns, &format!("ping -n -q -c 1 -W 5 {address}")));
    assert!(!site.connections_of(&address).is_empty(), "{address}");
    host.detach(attached.endpoint.id).await.unwrap();
    eventually("its connections are forgotten", || site.connections_of(&address).is_empty());
}

fn first(attached: &Attached) -> IpAddr {
    addresses(attached)[0]
}
