//! What keeps two networks apart.

use netloft_link::Conn;
use netloft_netns::{Enterer, Netns};
use serde_json::Value;

use crate::network::{DUAL_STACK, addresses, attach, block_on, is_reached, network, open, rules};
use crate::support::{output, set};

pub(crate) fn two_networks_do_not_reach_each_other() {
    block_on(async {
        let (_netns, host) = open(None);
        host.create_network(network("blue", &DUAL_STACK)).await.unwrap();
        host.create_network(network("green", &["10.90.0.0/24", "fd00:90::/64"])).await.unwrap();
        let blue = host.attach(attach("blue", "a")).await.unwrap();
        let sibling = host.attach(attach("blue", "b")).await.unwrap();
        let green = host.attach(attach("green", "c")).await.unwrap();
        for index in 0..2 {
            assert!(is_reached(&blue.netns, addresses(&sibling)[index]));
            assert!(!is_reached(&blue.netns, addresses(&green)[index]));
            assert!(!is_reached(&green.netns, addresses(&blue)[index]));
        }
        host.close().await.unwrap();
    });
}

pub(crate) fn two_networks_do_not_reach_each_other_on_a_host_that_forwards() {
    block_on(async {
        let (netns, host) = open(None);
        // Before the networks are made, and once more when they are there.
        forward(&netns);
        host.create_network(network("blue", &DUAL_STACK)).await.unwrap();
        host.create_network(network("green", &["10.90.0.0/24", "fd00:90::/64"])).await.unwrap();
        let blue = host.attach(attach("blue", "a")).await.unwrap();
        let sibling = host.attach(attach("blue", "b")).await.unwrap();
        let green = host.attach(attach("green", "c")).await.unwrap();
        for _ in 0..2 {
            for family in 0..2 {
                assert!(!is_reached(&blue.netns, addresses(&green)[family]));
                assert!(!is_reached(&green.netns, addresses(&blue)[family]));
                assert!(is_reached(&blue.netns, addresses(&sibling)[family]), "a network is whole");
                assert!(is_reached(&netns, addresses(&green)[family]), "the host reaches its sandboxes");
                assert!(
                    is_reached(&green.netns, green.endpoint.gateways[family]),
                    "sandboxes reach their gateway"
                );
            }
            forward(&netns);
        }

        // The counter-proof: without the rules they would.
        let mut conn = Conn::open(&Enterer::new().unwrap(), &netns).unwrap();
        let rules = conn.prohibitions().unwrap();
        assert_eq!(rules.len(), 4, "one of each network and family");
        for rule in &rules {
            conn.delete_prohibition(rule).unwrap();
        }
        for family in 0..2 {
            assert!(is_reached(&blue.netns, addresses(&green)[family]));
        }
        // Nor does it disturb us that what we made is gone.
        host.close().await.unwrap();
    });
}

pub(crate) fn a_network_takes_its_own_rules_away_and_no_others() {
    block_on(async {
        let (netns, host) = open(None);
        for theirs in [
            "rule add iif nl-blue prohibit pref 111",
            "rule add iif nl-blue to 192.0.2.2 prohibit pref 110",
            "-6 rule add iif nl-blue to 2001:db8::2 prohibit pref 110",
            "rule add iif nl-red prohibit pref 110",
            "rule add iif nl-blue to 192.0.2.1 lookup main pref 110",
        ] {
            output(&netns, "ip", &theirs.split(' ').collect::<Vec<_>>());
        }
        let rules = || rules(&netns);
        let before = rules();
        host.create_network(network("blue", &DUAL_STACK)).await.unwrap();
        let ours = serde_json::json!({
            "priority": 110, "src": "all", "iif": "nl-blue", "action": "prohibit", "protocol": "110"
        });
        for family in rules() {
            let found = family.iter().filter(|rule| {
                let says = |(key, value): (&String, &Value)| rule[key] == *value;
                ours.as_object().unwrap().iter().all(says) && rule["dst"].is_null()
            });
            assert_eq!(found.count(), 1, "{family:?}");
        }
        host.remove_network(&"blue".parse().unwrap()).await.unwrap();
        assert_eq!(rules(), before);

        // A rule of ours that a crash left is taken over. And an IPv4 network has no say in IPv6.
        let left = "rule add iif nl-blue prohibit pref 110 protocol 110";
        output(&netns, "ip", &left.split(' ').collect::<Vec<_>>());
        host.create_network(network("blue", &["10.89.0.0/24"])).await.unwrap();
        assert_eq!([rules()[0].len(), rules()[1].len()], [before[0].len() + 1, before[1].len()]);
        host.close().await.unwrap();
        assert_eq!(rules(), before);
    });
}

/// Lets a host forward, after it did not: switching it on resets whatever a link says.
fn forward(netns: &Netns) {
    for value in ["0", "1"] {
        set(netns, "ipv4/ip_forward", value);
        set(netns, "ipv6/conf/all/forwarding", value);
    }
}
