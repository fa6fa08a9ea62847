//! Real traffic, and what other programs see of its ways.

use std::net::SocketAddr;

use netloft_tests::Lab;
use netloft_tests::eyes::From;
use netloft_tests::running::{Running, until};
use serde_json::Value;

use crate::support::{create_blue, endpoint, start_replica};

pub(crate) fn three_replicas_are_called_from_the_host_and_from_a_sandbox() {
    let lab = Lab::new();
    let agent = lab.agent(&[]);
    create_blue(&lab);
    let names = ["web-1", "web-2", "web-3"];
    let replicas = names.map(|name| start_replica(&lab, name));
    let mut called = 0;
    for name in names {
        for address in endpoint(&lab, name).sockets(8080) {
            let greeting = format!("hello from {name}");
            assert_eq!(From::Host.curl(address), Some(greeting.clone()), "{address} from the host");
            assert!(From::Host.pings(address.ip()), "{address} from the host");

            let url = format!("http://{address}/");
            let curl = ["--", "curl", "--silent", "--globoff", "--noproxy", "*", "--max-time", "5", &url];
            let run = ["run", "--network", "blue", "--name", "caller"];
            let heard = lab.netloft(&[&run[..], &curl].concat()).success();
            assert_eq!(heard.trim_end(), greeting, "{address} from a sandbox");
            called += 1;
        }
    }
    assert_eq!(called, 6, "three replicas, two families");
    // And the host answers a sandbox that asks whether it is there.
    for gateway in ["10.89.0.1", "fd89::1"] {
        assert!(From::Sandbox(&endpoint(&lab, "web-1").netns()).pings(gateway.parse().unwrap()), "{gateway}");
    }
    for replica in replicas {
        // The example server ends in good order when it is asked to.
        replica.stop().success();
    }
    agent.stop();
    lab.finish();
}

pub(crate) fn other_programs_see_what_was_promised() {
    let lab = Lab::new();
    let agent = lab.agent(&[]);
    create_blue(&lab);
    let replica = start_replica(&lab, "web-1");
    let promised = endpoint(&lab, "web-1");

    let outside = &From::Host.ip(&["link", "show", "dev", promised.text("host_link")])[0];
    assert_eq!(outside["master"], "nl-blue");
    assert_eq!(outside["ifalias"], format!("netloft:blue/{}", promised.text("id")));

    let netns = promised.netns();
    let inside = From::Sandbox(&netns);
    let link = &inside.ip(&["address", "show", "dev", "eth0"])[0];
    assert_eq!(link["address"], promised.text("mac"));
    assert_eq!(global_addresses(link), promised.prefixes());
    let routes = inside.ip(&["route", "show", "default"]);
    assert_eq!(routes[0]["gateway"], "10.89.0.1");
    let routes = inside.ip(&["-6", "route", "show", "default"]);
    assert_eq!(routes[0]["gateway"], "fd89::1");
    assert!(inside.listening().contains(":8080"), "{}", inside.listening());
    assert!(!From::Host.listening().contains(":8080"), "{}", From::Host.listening());

    replica.stop().success();
    agent.stop();
    lab.finish();
}

pub(crate) fn a_sandbox_connects_to_services_of_the_host_only_where_it_may() {
    let lab = Lab::new();
    let agent = lab.agent(&[]);
    create_blue(&lab);
    let open = ["network", "create", "open", "--subnet", "10.90.0.0/24", "--host-access"];
    lab.netloft(&open).success();
    let mut server = lab.ours("netloft", &["demo", "serve", "--port", "18081"]);
    server.env("NETLOFT_SANDBOX", "the host");
    let server = Running::spawn(server);
    let at = |host: [u8; 4]| SocketAddr::from((host, 18081));
    until("it serves", || From::Host.curl(at([127, 0, 0, 1])).is_some());
    let ask = |network: &str, gateway: [u8; 4]| {
        lab.netloft(&["attach", network, "caller"]).success();
        let netns = endpoint(&lab, "caller").netns();
        assert!(From::Sandbox(&netns).pings(gateway.into()), "{network}");
        let answer = From::Sandbox(&netns).curl(at(gateway));
        lab.netloft(&["detach", "caller", "--strict"]).success();
        answer
    };
    assert_eq!(ask("open", [10, 90, 0, 1]).as_deref(), Some("hello from the host"));
    assert_eq!(ask("blue", [10, 89, 0, 1]), None);
    server.stop().success();
    agent.stop();
    lab.finish();
}

pub(crate) fn two_networks_do_not_reach_each_other() {
    let lab = Lab::new();
    let agent = lab.agent(&[]);
    create_blue(&lab);
    lab.netloft(&["network", "create", "green", "--subnet", "10.90.0.0/24", "--subnet", "fd90::/64"])
        .success();
    let replica = start_replica(&lab, "web-1");
    let target = endpoint(&lab, "web-1");
    for address in target.addresses() {
        let ping = |network: &str| {
            let address = address.to_string();
            let run =
                ["run", "--network", network, "--name", "caller", "--", "ping", "-q", "-c1", "-W1", &address];
            lab.netloft(&run).code()
        };
        assert_eq!(ping("blue"), Some(0), "{address}");
        assert_eq!(ping("green"), Some(1), "{address}");
    }
    replica.stop().success();
    agent.stop();
    lab.finish();
}

fn global_addresses(link: &Value) -> Vec<String> {
    let held = link["addr_info"].as_array().unwrap().iter();
    let global = held.filter(|it| it["scope"] == "global");
    global.map(|it| format!("{}/{}", it["local"].as_str().unwrap(), it["prefixlen"])).collect()
}
