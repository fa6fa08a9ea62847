//! What keeps two networks apart.

use std::net::IpAddr;

use netloft_netns::Netns;
use netloft_types::{AttachSpec, DefaultRoute, NetworkSpec};
use serde_json::Value;

use crate::firewall::world::succeeds;
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
            assert!(is_apart(&blue.netns, addresses(&green)[index]));
            assert!(is_apart(&green.netns, addresses(&blue)[index]));
        }
        host.close().await.unwrap();
    });
}

pub(crate) fn two_networks_do_not_reach_each_other_on_a_host_that_forwards() {
    for internal in [false, true] {
        block_on(async {
            let (netns, host) = open(None);
            // Before the networks are made, and once more when they are there.
            forward(&netns);
            let spec = |name, subnets: &[&str]| NetworkSpec { internal, ..network(name, subnets) };
            host.create_network(spec("blue", &DUAL_STACK)).await.unwrap();
            host.create_network(spec("green", &["10.90.0.0/24", "fd00:90::/64"])).await.unwrap();
            let blue = host.attach(routed("blue", "a")).await.unwrap();
            let sibling = host.attach(routed("blue", "b")).await.unwrap();
            let green = host.attach(routed("green", "c")).await.unwrap();
            for _ in 0..2 {
                for family in 0..2 {
                    // First what is reached, so that what is not is silent because it is refused, not because it sleeps.
                    assert!(is_reached(&blue.netns, addresses(&sibling)[family]), "a network is whole");
                    assert!(is_reached(&netns, addresses(&green)[family]), "the host reaches its sandboxes");
                    assert!(
                        is_reached(&green.netns, green.endpoint.gateways[family]),
                        "sandboxes reach their gateway"
                    );
                    assert!(is_apart(&blue.netns, addresses(&green)[family]));
                    assert!(is_apart(&green.netns, addresses(&blue)[family]));
                    assert!(is_apart(&blue.netns, green.endpoint.gateways[family]), "its gateway neither");
                }
                forward(&netns);
            }
            host.close().await.unwrap();
        });
    }
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
        let internal = |subnets: &[&str]| NetworkSpec { internal: true, ..network("blue", subnets) };
        host.create_network(network("out", &["10.91.0.0/24"])).await.unwrap();
        assert_eq!(rules(), before, "a network that leads outside has none");
        host.create_network(internal(&DUAL_STACK)).await.unwrap();
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
        host.create_network(internal(&["10.89.0.0/24"])).await.unwrap();
        assert_eq!([rules()[0].len(), rules()[1].len()], [before[0].len() + 1, before[1].len()]);
        host.close().await.unwrap();
        assert_eq!(rules(), before);
    });
}

/// Whether somebody does not answer who answers others at once, within a hundred times as long as that takes.
fn is_apart(from: &Netns, to: IpAddr) -> bool {
    !succeeds(from, &format!("ping -n -q -c 1 -W 0.2 {to}"))
}

/// With a default route, even on a network that leads nowhere.
fn routed(network: &str, sandbox: &str) -> AttachSpec {
    AttachSpec { default_route: DefaultRoute::Metric(0), ..attach(network, sandbox) }
}

/// Lets a host forward, after it did not: switching it on resets whatever a link says.
fn forward(netns: &Netns) {
    for value in ["0", "1"] {
        set(netns, "ipv4/ip_forward", value);
        set(netns, "ipv6/conf/all/forwarding", value);
    }
}
