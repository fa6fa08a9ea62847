//! An agent that registers elsewhere: in a `registry-server`.

use std::time::{Duration, Instant};

use netloft_client::Client;
use netloft_tests::running::{Running, eventually, is_running, until};
use netloft_tests::{Agent, Lab, RegistryServer, tell};
use netloft_types::Query;
use serde_json::json;

use crate::support::{block_on, create_blue, endpoint_in};

pub(crate) fn an_instance_lives_in_a_remote_registry_as_long_as_its_process() {
    let lab = Lab::new();
    let registry = lab.registry("127.0.0.1:0");
    let agent = agent_of(&lab, &registry);
    let replica = start_replica(&lab, &registry);
    let pid = endpoint_in(&lab.json(&["--registry", &registry.target(), "status"]), "web-1").pid();
    let elsewhere = lab.json(&["--registry", &registry.target(), "resolve", "web"]);
    assert_eq!(elsewhere["instances"][0]["locality"]["host"], "edge");

    let took = block_on(async {
        let client = registry.client();
        let killed = Instant::now();
        netloft_tests::running::signal(pid, nix::sys::signal::Signal::SIGKILL);
        while count(&client).await > 0 {
            assert!(killed.elapsed() < Duration::from_secs(1), "still there");
        }
        killed.elapsed()
    });
    tell(format_args!("gone from a remote registry {took:.1?} after the kill"));
    assert_eq!(replica.wait().code(), Some(128 + 9));
    agent.stop();
    registry.stop();
    lab.finish();
}

pub(crate) fn a_restarted_registry_has_the_instances_again() {
    let lab = Lab::new();
    let registry = lab.registry("127.0.0.1:0");
    let agent = agent_of(&lab, &registry);
    let replica = start_replica(&lab, &registry);
    let before = lab.json(&["--registry", &registry.target(), "resolve", "web"]);
    let address = registry.address.to_string();
    // Killed, so that it cannot say farewell.
    registry.process.kill();
    let registry = lab.registry(&address);
    let restarted = Instant::now();
    let after = eventually("it is there again", || {
        let found = lab.json(&["--registry", &registry.target(), "resolve", "web"]);
        (found["instances"] != json!([])).then_some(found)
    });
    tell(format_args!("registered again {:.1?} after the registry was back", restarted.elapsed()));
    assert_eq!(after["instances"], before["instances"]);
    replica.stop().success();
    until("it is gone", || {
        lab.json(&["--registry", &registry.target(), "resolve", "web"])["instances"] == json!([])
    });
    agent.stop();
    registry.stop();
    lab.finish();
}

pub(crate) fn the_instances_of_a_killed_agent_go_when_its_session_does() {
    // Of a client that chooses nothing else, and how often such a client renews it.
    const TTL: Duration = Duration::from_secs(15);
    const RENEWAL: Duration = Duration::from_secs(5);
    const EXPIRY_DELAY_MAX: Duration = Duration::from_secs(1);
    let lab = Lab::new();
    let registry = lab.registry("127.0.0.1:0");
    let agent = agent_of(&lab, &registry);
    let replica = start_replica(&lab, &registry);
    let pid = endpoint_in(&lab.json(&["--registry", &registry.target(), "status"]), "web-1").pid();
    let killed = Instant::now();
    agent.kill();
    let lasted = block_on(async {
        let client = registry.client();
        while count(&client).await > 0 {
            let bound = TTL + EXPIRY_DELAY_MAX + Duration::from_secs(1);
            assert!(killed.elapsed() < bound, "still there after {:?}", killed.elapsed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        killed.elapsed()
    });
    tell(format_args!("gone {lasted:.1?} after its agent was killed"));
    assert!(lasted + RENEWAL + Duration::from_secs(1) >= TTL, "gone too early: after {lasted:?}");
    assert!(is_running(pid), "the process did nothing wrong");
    replica.kill();
    registry.stop();
    lab.sweep();
    lab.finish();
}

fn agent_of(lab: &Lab, registry: &RegistryServer) -> Agent {
    let agent = lab.agent(&["--registry", &registry.target(), "--host-name", "edge"]);
    create_blue(lab);
    agent
}

fn start_replica(lab: &Lab, registry: &RegistryServer) -> Running {
    let run = ["run", "--network", "blue", "--name", "web", "--sandbox", "web-1", "--port", "8080"];
    let replica = lab.spawn(&[&run[..], &["--", "netloft", "demo", "serve"]].concat());
    let resolve = || lab.json(&["--registry", &registry.target(), "resolve", "web"]);
    until("the replica is ready", || resolve()["instances"][0]["id"] == "web-1@edge");
    replica
}

async fn count(client: &Client) -> usize {
    client.resolve(&Query::everything()).await.unwrap().instances.len()
}
