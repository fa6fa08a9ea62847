//! The client of ours, of several servers over etcd.

use std::process::Command;
use std::time::Duration;

use netloft_client::{Client, Discovery, RegisterOptions};
use netloft_tests::etcd::Cluster;
use netloft_tests::programs::ours;
use netloft_tests::running::Running;
use netloft_types::{Instance, Query, Update};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::processes::{GRACE, LEASE, Process};
use crate::world::block_on;

const TTL: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(20);
/// Sooner than a broken connection shows by itself.
const SOON: Duration = Duration::from_secs(3);

/// The servers, with a client of all of them that uses the first.
fn pair(cluster: &Cluster) -> ([Process; 2], String) {
    let servers = [(); 2].map(|()| Process::start(cluster));
    let targets = format!("{},{}", servers[0].target, servers[1].target);
    (servers, targets)
}

pub(crate) fn a_client_of_several_servers_outlives_the_one_it_uses() {
    let cluster = Cluster::start(1);
    let ([killed, other], targets) = pair(&cluster);
    block_on(async {
        let client = Client::connect(targets.parse().unwrap());
        let registration = client.register(instance("a"), RegisterOptions { ttl: TTL }).await.unwrap();
        let mut watch = client.watch(&Query::everything(), None).await.unwrap();
        let at = watch.next().await.unwrap().last().map(Update::at);
        let mut discovery = client.discover(Query::everything());
        discovery.changed().await;

        killed.process.kill();
        let died = Instant::now();
        let found = client.resolve(&Query::everything()).await.unwrap();
        assert!(died.elapsed() < Duration::from_secs(1), "a call works after {:?}", died.elapsed());
        assert_eq!((found.instances.len(), Some(found.at)), (1, at));

        assert!(watch.next().await.is_err());
        let mut watch = client.watch(&Query::everything(), at).await.unwrap();
        // All of the time after which a session without renewals is ended.
        sleep(LEASE + TTL + GRACE + Duration::from_secs(2)).await;
        let other = client.register(instance("b"), RegisterOptions::default()).await.unwrap();
        let batch = timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
        let is_other = matches!(&batch[..], [Update::Put { instance, .. }] if instance.id.as_str() == "b");
        assert!(is_other, "no reset, and nothing registered again: {batch:?}");
        knows(&mut discovery, 2).await;
        assert!(!discovery.is_stale());
        other.close().await.unwrap();
        registration.close().await.unwrap();
        knows(&mut discovery, 0).await;
    });
    other.process.stop().success();
}

pub(crate) fn a_server_that_stands_still_is_left_for_the_other() {
    let cluster = Cluster::start(1);
    let ([stopped, other], targets) = pair(&cluster);
    block_on(async {
        let client = Client::connect(targets.parse().unwrap());
        let registration = client.register(instance("a"), RegisterOptions { ttl: TTL }).await.unwrap();
        let mut discovery = client.discover(Query::everything());
        discovery.changed().await;
        stopped.process.signal(Signal::SIGSTOP);
        // Its renewals are not answered; who only watches follows them.
        sleep(LEASE + TTL + GRACE + Duration::from_secs(2)).await;
        assert_eq!(client.target().to_string(), other.target);
        let there = Client::connect(other.target.parse().unwrap());
        assert_eq!(there.resolve(&Query::everything()).await.unwrap().instances.len(), 1, "it lives on");
        let second = there.register(instance("b"), RegisterOptions::default()).await.unwrap();
        knows(&mut discovery, 2).await;
        second.close().await.unwrap();
        registration.close().await.unwrap();
    });
    stopped.process.signal(Signal::SIGCONT);
    stopped.process.stop().success();
    other.process.stop().success();
}

pub(crate) fn the_command_line_takes_all_servers_and_finds_the_one_that_is_there() {
    let cluster = Cluster::start(1);
    let ([killed, other], targets) = pair(&cluster);
    block_on(async {
        let client = Client::connect(other.target.parse().unwrap());
        let registration = client.register(instance("a"), RegisterOptions::default()).await.unwrap();
        killed.process.kill();
        let mut command = Command::new(ours("netloft"));
        command.args(["--json", "--registry", &targets, "resolve", "api"]);
        let said: Value = serde_json::from_str(&Running::spawn(command).wait().success()).unwrap();
        assert_eq!(said["instances"][0]["id"], "a", "{said}");
        registration.close().await.unwrap();
    });
    other.process.stop().success();
}

async fn knows(discovery: &mut Discovery, count: usize) {
    let reached = async {
        while discovery.snapshot().instances().len() != count {
            discovery.changed().await;
        }
    };
    assert!(timeout(SOON, reached).await.is_ok(), "{:?}", discovery.snapshot());
}

fn instance(id: &str) -> Instance {
    let (address, port) = ("10.0.0.2".parse().unwrap(), "80".parse().unwrap());
    Instance::new(id.parse().unwrap(), "api".parse().unwrap(), address, port)
}
