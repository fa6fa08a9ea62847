//! A host that forwards for its sandboxes, and for nobody else.

use netloft_netns::Netns;
use netloft_network::Host;
use netloft_types::NetworkSpec;

use crate::firewall::world::{run, succeeds};
use crate::network::{DUAL_STACK, attach, block_on, is_reached, network};
use crate::site::Site;
use crate::support::{set, setting};

/// What says whether a host forwards, of each family.
const SWITCHES: [&str; 2] = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"];

pub(crate) fn a_host_forwards_while_a_network_needs_it_and_then_as_before() {
    block_on(async {
        let (site, _yard) = between_two_lans();
        let host = site.open();
        let internal =
            NetworkSpec { internal: true, ..network("internal", &["10.90.0.0/24", "fd00:90::/64"]) };
        host.create_network(internal).await.unwrap();
        assert_eq!(switches(&site), ["0", "0"]);
        host.create_network(network("old", &["10.91.0.0/24"])).await.unwrap();
        assert_eq!(switches(&site), ["1", "0"], "IPv6 is of no use to it");
        host.create_network(network("blue", &DUAL_STACK)).await.unwrap();
        assert_eq!(switches(&site), ["1", "1"]);
        remove(&host, "old").await;
        assert_eq!(switches(&site), ["1", "1"]);
        // The next process knows, too, why the host forwards.
        host.leave().await.unwrap();
        assert_eq!(switches(&site), ["1", "1"]);
        let host = site.open();
        remove(&host, "blue").await;
        assert_eq!(switches(&site), ["0", "0"]);
        host.close().await.unwrap();

        for key in SWITCHES {
            set(&site.netns, key, "1");
        }
        let host = site.open();
        host.create_network(network("blue", &DUAL_STACK)).await.unwrap();
        remove(&host, "blue").await;
        assert_eq!(switches(&site), ["1", "1"], "it did before");
        host.close().await.unwrap();
        assert_eq!(switches(&site), ["1", "1"]);
    });
}

pub(crate) fn a_host_becomes_no_router_for_strangers_and_remains_one() {
    for did_forward in [false, true] {
        block_on(async {
            let (site, yard) = between_two_lans();
            if did_forward {
                for key in SWITCHES {
                    set(&site.netns, key, "1");
                }
            }
            let check = |when: &str| {
                for (from, to) in [
                    (&site.lan, "198.51.100.2"),
                    (&yard, "192.0.2.2"),
                    (&site.lan, "2001:db8:1::2"),
                    (&yard, "2001:db8::2"),
                ] {
                    let patience = if did_forward { 5.0 } else { 0.2 };
                    let ping = format!("ping -n -q -c 1 -W {patience} {to}");
                    assert_eq!(succeeds(from, &ping), did_forward, "{to} {when}");
                }
            };
            check("before");
            let host = site.open();
            host.create_network(network("blue", &DUAL_STACK)).await.unwrap();
            let a = host.attach(attach("blue", "a")).await.unwrap();
            let reaches_both = || {
                for to in ["192.0.2.2", "198.51.100.2", "2001:db8::2", "2001:db8:1::2"] {
                    assert!(is_reached(&a.netns, to.parse().unwrap()), "{to}");
                }
            };
            reaches_both();
            check("while a network is there");
            host.leave().await.unwrap();
            check("while nobody is there");
            let host = site.open();
            check("after a restart");
            reaches_both();
            host.close().await.unwrap();
            check("afterwards");
        });
    }
}

/// A host with a second LAN, and the neighbour there. Both neighbours send to each other what they have by the host.
fn between_two_lans() -> (Site, Netns) {
    let site = Site::new();
    let yard = Netns::create().unwrap();
    site.plug_in(&yard, "yard0", "198.51.100", "2001:db8:1:");
    run(&site.lan, "ip route add 198.51.100.0/24 via 192.0.2.1");
    run(&site.lan, "ip route add 2001:db8:1::/64 via 2001:db8::1");
    run(&yard, "ip route add 192.0.2.0/24 via 198.51.100.1");
    run(&yard, "ip route add 2001:db8::/64 via 2001:db8:1::1");
    (site, yard)
}

async fn remove(host: &Host, name: &str) {
    host.remove_network(&name.parse().unwrap()).await.unwrap();
}

fn switches(site: &Site) -> [String; 2] {
    SWITCHES.map(|key| setting(&site.netns, key))
}
