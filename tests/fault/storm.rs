//! Everybody at once: a mass of registrations, all connections cut in one moment, and everybody back in the next.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use netloft_client::{Client, Discovery, RegisterOptions, Registration};
use netloft_registry::EXPIRY_DELAY_MAX;
use netloft_tests::disk::SmallDisk;
use netloft_tests::{Lab, tell};
use netloft_types::{Instance, Query, ServiceName};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::deployment::{Deployment as _, Embedded, EmbeddedOptions};

/// Clients, each with a connection, a session and a discovery, as a host has; and what each registers.
const CLIENTS: usize = 100;
const INSTANCES: usize = 10;
/// Longer than the registry is away; what is lost is lost by the connections.
const TTL: Duration = Duration::from_secs(4);
/// For everybody to be back, in a build without optimization on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) fn a_storm_of_registrations_and_reconnections_loses_nothing() {
    let lab = Lab::new();
    let place = lab.path("disk");
    let disk = SmallDisk::mount(&place, 256);
    let options = EmbeddedOptions { directory: place.join("registry"), history_len_max: 16_384 };
    let mut deployment = Embedded::start(&lab, options);
    let server = deployment.addresses()[0];

    let first = runtime();
    let everybody = first.block_on(async {
        let everybody = arrive(server).await;
        let began = Instant::now();
        deployment.kill(0);
        deployment.restart(0);
        know_all(&everybody).await;
        tell(format!("everybody was cut off, and is back after {:?}", began.elapsed()));
        everybody
    });
    // Without a word: tasks that could say one are gone before the guards are.
    first.shutdown_background();
    let began = Instant::now();
    drop(everybody);
    let second = runtime();
    second.block_on(async {
        let observer = Client::connect(format!("http://{server}").parse().unwrap());
        let left = async || observer.resolve(&Query::everything()).await.unwrap().instances.len();
        while left().await > 0 {
            assert!(began.elapsed() < TTL + EXPIRY_DELAY_MAX + PATIENCE / 4, "{} live on", left().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tell(format!("everybody vanished, and the last is gone after {:?}", began.elapsed()));
        let everybody = arrive(server).await;
        depart(everybody).await;
        assert_eq!(left().await, 0, "somebody left something behind");
    });
    drop(second);
    deployment.stop();
    drop(disk);
    lab.finish();
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

struct Host {
    registrations: Vec<Registration>,
    discovery: Discovery,
    /// What it should know: everything of one service.
    wanted: BTreeSet<String>,
}

fn id(client: usize, instance: usize) -> String {
    format!("i{client:03}-{instance:02}")
}

/// Everybody arrives in the same moment, and in the end knows of everybody.
async fn arrive(server: SocketAddr) -> Vec<Host> {
    let began = Instant::now();
    let mut arriving = JoinSet::new();
    for number in 0..CLIENTS {
        let client = Client::connect(format!("http://{server}").parse().unwrap());
        arriving.spawn(async move {
            let watched = number % INSTANCES;
            let discovery = client.discover(Query::service(service(watched)));
            let mut registrations = Vec::new();
            for instance in 0..INSTANCES {
                let (id, service) = (id(number, instance).parse().unwrap(), service(instance));
                let address = "10.0.0.2".parse().unwrap();
                let instance = Instance::new(id, service, address, "80".parse().unwrap());
                let registered = client.register(instance, RegisterOptions { ttl: TTL }).await;
                registrations.push(registered.unwrap());
            }
            let wanted = (0..CLIENTS).map(|number| id(number, watched)).collect();
            Host { registrations, discovery, wanted }
        });
    }
    let everybody = arriving.join_all().await;
    know_all(&everybody).await;
    tell(format!("{} registered at once, and known after {:?}", CLIENTS * INSTANCES, began.elapsed()));
    everybody
}

fn service(number: usize) -> ServiceName {
    format!("s{number}").parse().unwrap()
}

/// Waits until everybody follows the registry and knows exactly what it should.
async fn know_all(everybody: &[Host]) {
    let began = Instant::now();
    for host in everybody {
        let known = || -> BTreeSet<String> {
            let snapshot = host.discovery.snapshot();
            snapshot.instances().iter().map(|one| one.id.to_string()).collect()
        };
        while host.discovery.is_stale() || known() != host.wanted {
            assert!(began.elapsed() < PATIENCE, "somebody knows {:?}", known());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn depart(everybody: Vec<Host>) {
    let mut departing = JoinSet::new();
    for registration in everybody.into_iter().flat_map(|host| host.registrations) {
        departing.spawn(registration.close());
    }
    let all = timeout(PATIENCE, departing.join_all()).await.expect("closing has an end");
    for closed in all {
        closed.unwrap();
    }
}
