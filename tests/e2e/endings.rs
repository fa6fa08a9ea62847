//! How an agent ends: asked to, or killed.

use netloft_tests::eyes::From;
use netloft_tests::running::is_running;
use netloft_tests::{Lab, tell};
use serde_json::json;

use crate::support::{create_blue, endpoint, start_replica};

pub(crate) fn an_agent_that_is_asked_to_end_leaves_nothing() {
    let lab = Lab::new();
    let agent = lab.agent(&[]);
    create_blue(&lab);
    lab.netloft(&["network", "create", "green"]).success();
    let replica = start_replica(&lab, "web-1");
    let watch = lab.spawn(&["watch"]);
    let promised = endpoint(&lab, "web-1");
    assert_eq!(lab.traces().files.len(), 3, "the socket, and the namespace in its directory");

    agent.stop();
    let left = lab.traces();
    assert!(left.files.iter().eq([&lab.path("netns")]), "{left:?}");
    assert!(!left.links.iter().any(|name| name.starts_with("nl-")), "{left:?}");
    assert!(!promised.netns().exists());
    assert!(is_running(promised.pid()), "a process is nobody's but its parent's");
    assert_eq!(watch.wait().code(), Some(1), "a watch that was cut off");
    replica.kill();
    lab.finish();
}

pub(crate) fn the_sandboxes_of_a_killed_agent_go_on() {
    let lab = Lab::new();
    let agent = lab.agent(&[]);
    create_blue(&lab);
    let replicas = ["web-1", "web-2"].map(|name| start_replica(&lab, name));
    let promised = ["web-1", "web-2"].map(|name| endpoint(&lab, name));
    agent.kill();
    for (index, endpoint) in promised.iter().enumerate() {
        let sibling = &promised[1 - index];
        for address in endpoint.sockets(8080) {
            assert!(From::Host.curl(address).is_some(), "the host calls {address}");
            assert!(From::Sandbox(&sibling.netns()).curl(address).is_some(), "its sibling calls {address}");
        }
    }
    let left = lab.traces();
    let links: Vec<_> = left.links.iter().filter(|name| *name != "lo").collect();
    let files: Vec<_> = left.files.iter().filter_map(|path| path.file_name()).collect();
    tell(format_args!("a killed agent leaves links {links:?} and files {files:?}"));

    // A socket that nobody serves is no reason for the next agent not to start.
    let next = lab.agent(&[]);
    assert_eq!(lab.json(&["network", "ls"]), json!([]));
    next.stop();
    for replica in replicas {
        replica.kill();
    }
    lab.sweep();
    lab.finish();
}
