//! `netloft attach`, `detach`, `endpoints`, `doctor` and `gc`, and what can be chosen for an attachment.

use std::net::SocketAddr;
use std::process::Command;

use netloft_tests::eyes::From;
use netloft_tests::running::{Running, until};
use netloft_tests::{Lab, programs};
use serde_json::{Value, json};

use crate::support::{create_blue, endpoint, start_replica};

pub(crate) fn a_sandbox_is_attached_until_it_is_detached() {
    let lab = Lab::new();
    let agent = lab.agent(&[]);
    create_blue(&lab);
    lab.netloft(&["network", "create", "green", "--subnet", "10.90.0.0/24"]).success();
    let attached = lab.json(&["attach", "blue", "web-1"]);
    assert_eq!((&attached[0]["sandbox"], &attached[0]["interface"]), (&json!("web-1"), &json!("eth0")));
    // A further interface of the same sandbox; the way out stays with the first.
    let second = lab.json(&["attach", "green", "web-1"]);
    assert_eq!((&second[0]["interface"], &second[0]["netns"]), (&json!("eth1"), &attached[0]["netns"]));
    assert_eq!(lab.json(&["endpoints"]), json!([attached[0], second[0]]));
    assert_eq!(lab.json(&["endpoints", "--network", "green"]), second);

    let netns = endpoint(&lab, "web-1").netns();
    assert!(From::Sandbox(&netns).pings("10.89.0.1".parse().unwrap()));
    assert!(From::Sandbox(&netns).pings("10.90.0.1".parse().unwrap()));
    assert_eq!(lab.json(&["detach", "web-1", "--network", "green"]), json!([second[0]["id"]]));
    assert!(From::Sandbox(&netns).pings("10.89.0.1".parse().unwrap()));
    assert_eq!(lab.json(&["detach", attached[0]["id"].as_str().unwrap()]), json!([attached[0]["id"]]));
    assert_eq!(lab.json(&["endpoints"]), json!([]));

    // Once more changes nothing, and is no failure unless that is asked for.
    let word = lab.netloft(&["detach", "web-1"]).success();
    assert_eq!(word, "there is no endpoint and no sandbox \"web-1\"\n");
    assert_eq!(lab.json(&["detach", "web-1"]), json!([]));
    let strict = lab.netloft(&["detach", "web-1", "--network", "blue", "--strict"]);
    assert_eq!(strict.code(), Some(1));
    assert!(strict.stderr.contains("no sandbox \"web-1\" on network blue"), "{strict:?}");
    agent.stop();
    lab.finish();
}

pub(crate) fn a_namespace_of_somebody_else_is_used_and_not_taken_away() {
    let lab = Lab::new();
    let agent = lab.agent(&[]);
    create_blue(&lab);
    let mut holder = Command::new(programs::tool("unshare"));
    holder.args(["--net", "sh", "-c", "echo up; exec sleep 600"]);
    let mut holder = Running::spawn(holder);
    holder.line("up");
    let (pid, netns) = (holder.pid().to_string(), format!("/proc/{}/ns/net", holder.pid()));
    let attach =
        ["attach", "blue", "web-1", "--netns", &netns, "--service", "web", "--port", "80", "--no-check"];
    let attached = lab.json(&[&attach[..], &["--pid", &pid]].concat());
    assert_eq!(attached[0]["pid"], holder.pid());
    let seen = lab.json(&["resolve", "web"]);
    assert_eq!(seen["instances"][0]["id"], attached[0]["instance"]);
    let inside = From::Sandbox(netns.as_ref());
    assert!(inside.links().contains(&"eth0".to_owned()));

    lab.netloft(&["detach", "web-1", "--strict"]).success();
    until("its link is gone", || inside.links() == ["lo"]);
    assert_eq!(lab.json(&["resolve", "web"])["instances"], json!([]));
    holder.kill();
    agent.stop();
    lab.finish();
}

pub(crate) fn a_published_port_answers_at_the_host_while_its_sandbox_is_attached() {
    let lab = Lab::new();
    let agent = lab.agent(&[]);
    create_blue(&lab);
    let run = ["run", "--network", "blue", "--name", "web", "--port", "8080", "--sandbox", "web-1"];
    let publish = ["--publish", "18080:8080", "--", "netloft", "demo", "serve"];
    let published = SocketAddr::from(([127, 0, 0, 1], 18080));
    assert_eq!(From::Host.curl(published), None);
    let replica = lab.spawn(&[&run[..], &publish].concat());
    until("it answers", || From::Host.curl(published).is_some());
    assert_eq!(From::Host.curl(published).as_deref(), Some("hello from web-1"));
    assert_eq!(lab.json(&["endpoints"])[0]["ports"], json!(["18080:8080/tcp"]));
    let table = lab.netloft(&["endpoints"]).success();
    assert!(table.contains(" 18080:8080/tcp "), "{table}");

    let taken = lab.netloft(&["attach", "blue", "web-2", "--publish", "18080:80"]);
    assert_eq!(taken.code(), Some(1));
    assert!(taken.stderr.contains("cannot publish 18080:80/tcp"), "{taken:?}");
    replica.stop().success();
    assert_eq!(From::Host.curl(published), None);
    agent.stop();
    lab.finish();
}

pub(crate) fn a_command_with_dns_settings_has_a_resolv_conf_of_its_own() {
    let lab = Lab::new();
    let agent = lab.agent(&[]);
    create_blue(&lab);
    let run = |options: &[&str]| {
        let run = ["run", "--network", "blue", "--name", "job"];
        lab.netloft(&[&run[..], options, &["--", "cat", "/etc/resolv.conf"]].concat()).success()
    };
    let own = std::fs::read_to_string("/etc/resolv.conf").unwrap();
    let chosen =
        ["--dns", "10.89.0.1", "--dns", "fd89::1", "--dns-search", "example.org", "--dns-option", "ndots:2"];
    let lines = "nameserver 10.89.0.1\nnameserver fd89::1\nsearch example.org\noptions ndots:2\n";
    assert_eq!(run(&chosen), lines);
    assert_eq!(run(&[]), own, "nothing is chosen, so nothing is changed");
    assert_eq!(std::fs::read_to_string("/etc/resolv.conf").unwrap(), own);
    agent.stop();
    lab.finish();
}

pub(crate) fn what_is_chosen_for_an_attachment_is_seen_inside() {
    let lab = Lab::new();
    let agent = lab.agent(&[]);
    create_blue(&lab);
    let chosen = [
        "--interface=lan",
        "--address=10.89.0.77",
        "--mac=02:00:00:00:00:77",
        "--route=192.0.2.0/24 via 10.89.0.9",
        "--route=198.51.100.0/24",
        "--route-metric=50",
    ];
    lab.netloft(&[&["attach", "blue", "web-1"], &chosen[..]].concat()).success();
    let netns = endpoint(&lab, "web-1").netns();
    let inside = From::Sandbox(&netns);
    let link = &inside.ip(&["address", "show", "dev", "lan"])[0];
    assert_eq!(link["address"], "02:00:00:00:00:77");
    assert!(link["addr_info"].as_array().unwrap().iter().any(|held| held["local"] == "10.89.0.77"), "{link}");
    let route = |to: &str| inside.ip(&["route", "show", to])[0].clone();
    assert_eq!(route("192.0.2.0/24")["gateway"], "10.89.0.9");
    assert_eq!(route("198.51.100.0/24")["gateway"], "10.89.0.1");
    assert_eq!(
        (&route("default")["gateway"], &route("default")["metric"]),
        (&json!("10.89.0.1"), &json!(50))
    );
    let keepalive =
        ["run", "--network", "blue", "--name", "job", "--sysctl", "net.ipv4.tcp_keepalive_time=61"];
    let read = ["--", "cat", "/proc/sys/net/ipv4/tcp_keepalive_time"];
    assert_eq!(lab.netloft(&[&keepalive[..], &read].concat()).success(), "61\n");

    lab.netloft(&["attach", "blue", "web-2", "--no-default-route"]).success();
    let netns = endpoint(&lab, "web-2").netns();
    assert_eq!(From::Sandbox(&netns).ip(&["route", "show", "default"]), Vec::<Value>::new());
    lab.netloft(&["detach", "web-1", "--strict"]).success();
    lab.netloft(&["detach", "web-2", "--strict"]).success();
    agent.stop();
    lab.finish();
}

pub(crate) fn the_doctor_finds_what_somebody_broke_and_nothing_else() {
    let lab = Lab::new();
    let agent = lab.agent(&[]);
    create_blue(&lab);
    let replica = start_replica(&lab, "web-1");
    assert_eq!(lab.json(&["doctor"]), json!([]));
    assert_eq!(lab.netloft(&["doctor"]).success(), "everything is as it should be\n");
    assert_eq!(lab.json(&["gc", "--dry-run"]), json!([]));
    assert_eq!(lab.netloft(&["gc"]).success(), "there is nothing to take away\n");

    let stray = ["link", "add", "nl-stray", "type", "bridge"];
    let alias = ["link", "set", "nl-stray", "alias", "netloft:stray"];
    for arguments in [&stray[..], &alias] {
        let mut ip = Command::new(programs::tool("ip"));
        ip.args(arguments);
        Running::spawn(ip).wait().success();
    }
    let found = lab.netloft(&["doctor"]);
    assert_eq!(found.code(), Some(1), "{found:?}");
    for part in ["nl-stray", "\n  cause   ", "\n  remedy  ", "netloft gc"] {
        assert!(found.stdout.contains(part), "{found:?}");
    }
    let told = lab.netloft(&["gc", "--dry-run"]).success();
    assert!(told.starts_with("would take away link nl-stray"), "{told}");
    assert!(From::Host.links().contains(&"nl-stray".to_owned()));
    let told = lab.netloft(&["gc"]).success();
    assert!(told.starts_with("took away link nl-stray"), "{told}");
    assert!(!From::Host.links().contains(&"nl-stray".to_owned()));
    assert_eq!(lab.json(&["doctor"]), json!([]));
    replica.stop().success();
    agent.stop();
    lab.finish();
}
