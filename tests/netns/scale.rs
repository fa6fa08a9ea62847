//! Many endpoints.

use std::slice::from_ref;
use std::time::Duration;

use netloft_netns::Netns;

use crate::firewall::world::run;
use crate::network::{addresses, attach, block_on, is_reached, network};
use crate::site::{Site, publishing};
use crate::support::{eventually, feed, ip};

/// How many ports the kernel gives to a bridge (`BR_MAX_PORTS`, of which the first number is not used).
const BRIDGE_PORTS_MAX: usize = 1_023;

pub(crate) fn an_endpoint_too_many_for_a_bridge_is_refused_and_nothing_of_it_is_left() {
    block_on(async {
        let site = Site::new();
        let host = site.open();
        host.create_network(network("blue", &["10.88.0.0/20"])).await.unwrap();
        let first = host.attach(attach("blue", "first")).await.unwrap();
        // Ports like any other, for less than whole sandboxes cost.
        let fill = (1..BRIDGE_PORTS_MAX)
            .map(|number| format!("link add f{number} master nl-blue type veth peer name p{number}"))
            .collect::<Vec<_>>()
            .join("\n");
        feed(&site.netns, "ip", &["-batch", "-"], &fill);
        let before = (run(&site.netns, "ip -br link"), site.ruleset(), site.names().list().unwrap());

        let refused = host.attach(publishing("late", &["8080:80"])).await.unwrap_err();
        assert!(refused.is_exhausted(), "{refused:?}");
        assert_eq!(refused.to_string(), "cannot attach sandbox late to network blue");
        let after = || (run(&site.netns, "ip -br link"), site.ruleset(), site.names().list().unwrap());
        eventually("nothing of it is left", || after() == before);
        assert_eq!(host.endpoints().await.unwrap(), from_ref(&first));

        run(&site.netns, "ip link delete f1");
        let late = host.attach(publishing("late", &["8080:80"])).await.unwrap();
        assert!(is_reached(&first.netns, addresses(&late)[0]));
        host.close().await.unwrap();
    });
}

pub(crate) fn idle_sandboxes_send_nothing() {
    const COUNT: usize = 500;
    const WINDOW: Duration = Duration::from_secs(3);
    block_on(async {
        let site = Site::new();
        let host = site.open();
        host.create_network(network("blue", &["10.88.0.0/20"])).await.unwrap();
        let mut sandboxes = Vec::with_capacity(COUNT);
        for number in 0..COUNT {
            sandboxes.push(host.attach(attach("blue", &format!("s{number}"))).await.unwrap());
        }
        // What is counted is real.
        assert!(is_reached(&sandboxes[0].netns, addresses(&sandboxes[COUNT - 1])[0]));
        let busy = packets(&site.netns, COUNT);
        assert!(busy > 0);
        let mut last = busy;
        eventually("they are settled", || {
            std::thread::sleep(Duration::from_millis(500));
            let now = packets(&site.netns, COUNT);
            std::mem::replace(&mut last, now) == now
        });
        std::thread::sleep(WINDOW);
        assert_eq!(packets(&site.netns, COUNT) - last, 0, "in {WINDOW:?}");
        host.close().await.unwrap();
    });
}

/// How many packets the ports of a bridge have received and sent.
fn packets(host: &Netns, ports: usize) -> u64 {
    let links = ip(host, &["-statistics", "link", "show", "master", "nl-blue"]);
    assert_eq!(links.len(), ports);
    let count = |link: &serde_json::Value| {
        ["rx", "tx"].map(|way| link["stats64"][way]["packets"].as_u64().unwrap()).iter().sum::<u64>()
    };
    links.iter().map(count).sum()
}
