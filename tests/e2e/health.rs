//! Checks that go on while a process runs, and operators who know better.

use netloft_tests::Lab;
use netloft_tests::running::{Running, eventually, signal};
use nix::sys::signal::Signal;

use crate::support::{create_blue, endpoint, endpoint_in, instances, start_replica};

const CHECK: &str = "http:/,interval=100ms,timeout=100ms,failures=2";

pub(crate) fn a_process_that_hangs_is_out_of_lookups_until_it_goes_on() {
    let lab = Lab::new();
    let agent = lab.agent(&[]);
    create_blue(&lab);
    let (replica, id) = start_checked(&lab, &[]);
    let pid = endpoint(&lab, "web-1").pid();

    signal(pid, Signal::SIGSTOP);
    until_resolved(&lab, &[], 0);
    let examined = lab.json(&["instance", &id]);
    assert_eq!(
        (&examined["instance"]["health"], &examined["instance"]["lifecycle"]),
        (&"critical".into(), &"ready".into())
    );
    let output = examined["checks"][0]["output"].as_str().unwrap();
    assert!(output.starts_with("no answer from 10.89.0."), "{output}");
    let shown = lab.netloft(&["instance", &id]).success();
    assert!(shown.contains("no answer from"), "{shown}");

    signal(pid, Signal::SIGCONT);
    until_resolved(&lab, &[], 1);
    replica.stop();
    agent.stop();
    lab.finish();
}

pub(crate) fn a_remote_registry_hears_what_the_agent_finds() {
    let lab = Lab::new();
    let registry = lab.registry("127.0.0.1:0");
    let target = registry.target();
    let agent = lab.agent(&["--registry", &target]);
    create_blue(&lab);
    let remote = ["--registry", &target];
    let (replica, id) = start_checked(&lab, &remote);
    let pid = endpoint_in(&lab.json(&[&["status"][..], &remote].concat()), "web-1").pid();

    signal(pid, Signal::SIGSTOP);
    until_resolved(&lab, &remote, 0);
    let examined = lab.json(&[&["instance", &id][..], &remote].concat());
    assert_eq!(examined["instance"]["health"], "critical");
    signal(pid, Signal::SIGCONT);
    until_resolved(&lab, &remote, 1);
    replica.stop();
    until_resolved(&lab, &remote, 0);
    agent.stop();
    registry.stop();
    lab.finish();
}

pub(crate) fn an_operator_keeps_an_instance_out_for_a_reason() {
    let lab = Lab::new();
    let agent = lab.agent(&[]);
    create_blue(&lab);
    let replica = start_replica(&lab, "web-1");
    let id = instances(&lab).remove(0);

    lab.netloft(&["maintenance", &id, "--reason", "new disk"]).success();
    assert!(instances(&lab).is_empty());
    let shown = lab.netloft(&["instance", &id]).success();
    assert!(
        shown.contains("in maintenance: new disk") && shown.contains("passing, ready, maintenance"),
        "{shown}"
    );
    lab.netloft(&["maintenance", &id, "--end"]).success();
    assert_eq!(instances(&lab), std::slice::from_ref(&id));
    assert_eq!(lab.netloft(&["maintenance", &id]).code(), Some(2));
    replica.stop();
    agent.stop();
    lab.finish();
}

/// Starts a replica that is asked over HTTP, and waits until it is found; its instance is answered, too.
fn start_checked(lab: &Lab, registry: &[&str]) -> (Running, String) {
    let run = [
        "run",
        "--network",
        "blue",
        "--name",
        "web",
        "--port",
        "8080",
        "--sandbox",
        "web-1",
        "--check",
        CHECK,
    ];
    let replica = lab.spawn(&[&run[..], &["--", "netloft", "demo", "serve"]].concat());
    let id = eventually("web-1 is ready", || resolved(lab, registry).pop());
    (replica, id)
}

fn resolved(lab: &Lab, registry: &[&str]) -> Vec<String> {
    let answer = lab.json(&[&["resolve", "web"][..], registry].concat());
    let instances = answer["instances"].as_array().unwrap();
    instances.iter().map(|instance| instance["id"].as_str().unwrap().to_owned()).collect()
}

fn until_resolved(lab: &Lab, registry: &[&str], count: usize) {
    eventually(&format!("{count} are found"), || (resolved(lab, registry).len() == count).then_some(()));
}
