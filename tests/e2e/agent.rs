//! `netloftd` and `netloft`, each command once.

use netloft_tests::Lab;
use netloft_tests::eyes::From;
use netloft_tests::running::until;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{BLUE, create_blue, instances, start_replica};

pub(crate) fn networks_are_created_listed_and_removed() {
    let lab = Lab::new();
    let agent = lab.agent(&[]);
    let table = lab.netloft(&[&BLUE[..], &["--mtu", "1400"]].concat()).success();
    for part in ["blue", " bridge ", " nl-blue ", "10.89.0.0/24,fd89::/64"] {
        assert!(table.contains(part), "{table}");
    }

    let bridge = &From::Host.ip(&["address", "show", "dev", "nl-blue"])[0];
    assert_eq!((&bridge["linkinfo"]["info_kind"], &bridge["mtu"]), (&json!("bridge"), &json!(1400)));
    let addresses: Vec<_> = bridge["addr_info"].as_array().unwrap().iter().map(|it| &it["local"]).collect();
    assert!(addresses.contains(&&json!("10.89.0.1")) && addresses.contains(&&json!("fd89::1")), "{bridge}");

    // Without a subnet it gets a free one.
    lab.netloft(&["network", "create", "green"]).success();
    let listed = lab.json(&["network", "ls"]);
    assert_eq!(names(&listed), ["blue", "green"]);
    assert_eq!(listed[1]["segments"][0]["subnet"], "10.80.0.0/24");

    // Everything that can be chosen is told again.
    let chosen = ["--ipv6", "--internal", "--host-access", "--bridge", "br-red"];
    let red = &lab.json(&[&["network", "create", "red"], &chosen[..]].concat())[0];
    assert_eq!((&red["internal"], &red["host_access"]), (&json!(true), &json!(true)));
    assert_eq!(red["driver"]["bridge"]["bridge"], "br-red");
    assert_eq!(red["segments"].as_array().unwrap().len(), 2, "{red}");
    let table = lab.netloft(&["network", "ls"]).success();
    assert!(table.contains(" internal,host-access"), "{table}");

    lab.netloft(&["network", "rm", "blue", "green", "red"]).success();
    assert_eq!(lab.json(&["network", "ls"]), json!([]));
    assert_eq!(From::Host.links(), ["lo"]);
    agent.stop();
    lab.finish();
}

pub(crate) fn run_answers_as_its_command_does() {
    let lab = Lab::new();
    let agent = lab.agent(&[]);
    create_blue(&lab);
    let run =
        |script: &str| lab.netloft(&["run", "--network", "blue", "--name", "job", "--", "sh", "-c", script]);
    assert_eq!(run("exit 0").code(), Some(0));
    assert_eq!(run("exit 7").code(), Some(7));
    assert_eq!(run("kill -TERM $$").code(), Some(128 + 15));
    let said = run("echo to stdout; echo to stderr >&2; echo $NETLOFT_SANDBOX; ip -o -4 address show eth0");
    assert!(said.stdout.starts_with("to stdout\njob\n") && said.stdout.contains("10.89.0."), "{said:?}");
    assert_eq!(said.stderr, "to stderr\n");

    let status = lab.json(&["status"]);
    assert_eq!((&status["endpoints"], &status["instances"]), (&json!([]), &json!([])));
    // Its link waits, cut off, for the kernel to take it with the namespace.
    until("the links are gone", || From::Host.links() == ["lo", "nl-blue"]);
    agent.stop();
    lab.finish();
}

/// The signal was once caught only after the agent had been told of the command, so that one sent as soon as the
/// command said a word killed it instead.
pub(crate) fn run_passes_sigterm_on() {
    let lab = Lab::new();
    let agent = lab.agent(&[]);
    create_blue(&lab);
    let script = "trap 'echo caught; exit 42' TERM; echo waiting; while :; do sleep 0.02; done";
    for _ in 0..10 {
        let mut run = lab.spawn(&["run", "--network", "blue", "--name", "job", "--", "sh", "-c", script]);
        run.line("waiting");
        run.signal(Signal::SIGTERM);
        let ended = run.wait();
        assert_eq!((ended.code(), ended.stdout.as_str()), (Some(42), "waiting\ncaught\n"), "{ended:?}");
    }
    assert_eq!(lab.json(&["status"])["endpoints"], json!([]));
    agent.stop();
    lab.finish();
}

pub(crate) fn every_command_answers_in_json() {
    let lab = Lab::new();
    let agent = lab.agent(&[]);
    let created = lab.json(&BLUE);
    assert_eq!(names(&created), ["blue"]);
    let replica = start_replica(&lab, "web-1");

    assert_eq!(lab.json(&["network", "ls"]), created);
    assert_eq!(lab.json(&["services"]), json!([{ "name": "web", "instances": 1, "usable": 1, "held": 0 }]));
    let resolved = lab.json(&["resolve", "web"]);
    let instance = &resolved["instances"][0];
    assert_eq!(
        (&instance["service"], &instance["port"], &instance["weight"]),
        (&json!("web"), &json!(8080), &json!(1))
    );
    let id = instance["id"].as_str().unwrap();
    let examined = lab.json(&["instance", id]);
    assert_eq!((&examined["instance"], &examined["checks"][0]["output"]), (instance, &json!("connected")));
    let load = lab.json(&["load", "web"]);
    assert_eq!((&load[0]["instance"], &load[0]["reporters"]), (&instance["id"], &json!(0)));
    assert!(load[0]["advice"].is_null() && load[0]["latency_us"].is_null(), "nobody has called it: {load:?}");
    let status = lab.json(&["status"]);
    assert_eq!(status["networks"], created);
    assert_eq!(status["instances"][0], *instance);
    let endpoint = &status["endpoints"][0];
    assert_eq!(endpoint["instance"], instance["id"]);
    assert_eq!(endpoint["addresses"][0], format!("{}/24", instance["address"].as_str().unwrap()));

    replica.stop();
    assert_eq!(lab.json(&["resolve", "web"])["instances"], json!([]));
    agent.stop();
    lab.finish();
}

pub(crate) fn a_watch_prints_every_change() {
    let lab = Lab::new();
    let agent = lab.agent(&[]);
    create_blue(&lab);
    let mut json = lab.spawn(&["watch", "web", "--all", "--json"]);
    let mut table = lab.spawn(&["watch", "web"]);
    json.line("reset");
    table.line("reset");
    let replica = start_replica(&lab, "web-1");
    replica.stop();
    json.line("delete");
    table.line("delete");
    assert!(instances(&lab).is_empty());

    // Interrupted as a person would; that is a good end.
    json.signal(Signal::SIGINT);
    let printed = json.wait().success();
    let updates: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let steps: Vec<_> = updates.iter().map(|update| update["step"].as_str().unwrap()).collect();
    let mut changes = steps.iter().filter(|step| **step != "progress").copied();
    assert_eq!(changes.next(), Some("reset"));
    let changes: Vec<_> = changes.collect();
    assert_eq!(changes.last(), Some(&"delete"), "{printed}");
    let lifecycles: Vec<_> =
        updates.iter().filter_map(|update| update["instance"]["lifecycle"].as_str()).collect();
    assert_eq!((lifecycles.first(), lifecycles.last()), (Some(&"starting"), Some(&"ready")), "{printed}");
    let revisions: Vec<_> = updates.iter().map(|update| update["at"].as_u64().unwrap()).collect();
    assert!(revisions.is_sorted(), "{printed}");
    let seen = table.stop().success();
    let words: Vec<_> = seen.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(words, ["reset", "put", "delete"], "{seen}");
    agent.stop();
    lab.finish();
}

fn names(networks: &Value) -> Vec<&str> {
    networks.as_array().unwrap().iter().map(|network| network["name"].as_str().unwrap()).collect()
}
