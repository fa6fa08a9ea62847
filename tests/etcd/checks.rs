//! Health checks, of which each is run by one of several servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use netloft_proto::registry::v1 as wire;
use netloft_proto::registry::v1::registry_client::RegistryClient;
use netloft_proto::{from_wire, to_wire};
use netloft_tests::etcd::Cluster;
use netloft_types::{Check, CheckKind, Checks, Health, Instance, Lifecycle, Query, Update};
use nix::sys::signal::Signal;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;
use tonic::transport::Channel;

use crate::processes::{GRACE, LEASE, Process, open, renew};
use crate::world::block_on;

const PATIENCE: Duration = Duration::from_secs(20);
const PROBE_INTERVAL: Duration = Duration::from_millis(200);
const SESSION_TTL: Duration = Duration::from_secs(5);

/// Something that is probed: it counts those who connect.
struct Probed {
    connections: Arc<AtomicUsize>,
    instance: Instance,
    task: JoinHandle<()>,
}

impl Drop for Probed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Probed {
    async fn start(id: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap();
        let connections = Arc::<AtomicUsize>::default();
        let task = tokio::spawn(count(listener, Arc::clone(&connections)));
        let port = u32::from(place.port()).try_into().unwrap();
        let bare = Instance::new(id.parse().unwrap(), "api".parse().unwrap(), place.ip(), port);
        let check: Check = format!("tcp,interval={PROBE_INTERVAL:?},jitter=0%").parse().unwrap();
        let instance = bare.with_checks(Checks::from(check));
        Self { connections, instance, task }
    }

    /// How often it is probed in a time, as a multiple of how often it should be.
    async fn rate(&self, time: Duration) -> f64 {
        let (before, began) = (self.connections.load(Ordering::SeqCst), Instant::now());
        sleep(time).await;
        let probes = self.connections.load(Ordering::SeqCst) - before;
        f64::from(u32::try_from(probes).unwrap()) * PROBE_INTERVAL.div_duration_f64(began.elapsed())
    }
}

async fn count(listener: TcpListener, connections: Arc<AtomicUsize>) {
    loop {
        listener.accept().await.unwrap();
        connections.fetch_add(1, Ordering::SeqCst);
    }
}

/// A client of a server, with a session that it renews for as long as this lives.
struct Client {
    session: String,
    renewing: JoinHandle<()>,
}

impl Client {
    async fn new(client: &mut RegistryClient<Channel>) -> Self {
        let session = open(client, SESSION_TTL).await;
        let renewing = renewing(client.clone(), session.clone());
        Self { session, renewing }
    }

    /// Renews elsewhere from now on.
    fn go_to(&mut self, client: &RegistryClient<Channel>) {
        self.renewing.abort();
        self.renewing = renewing(client.clone(), self.session.clone());
    }

    async fn register(&self, client: &mut RegistryClient<Channel>, instance: &Instance) {
        let instance = Some(to_wire::instance(instance));
        let request = wire::RegisterRequest { session_id: self.session.clone(), instance };
        client.register(request).await.unwrap();
    }

    async fn beat(&self, client: &mut RegistryClient<Channel>, id: &str) -> Result<(), Status> {
        let (session_id, instance_id) = (self.session.clone(), id.to_owned());
        let request = wire::HeartbeatRequest { session_id, instance_id, ..wire::HeartbeatRequest::default() };
        client.heartbeat(request).await.map(drop)
    }

    /// Tells for a time, and in its end, that an instance is well.
    async fn beat_for(&self, time: Duration, client: &mut RegistryClient<Channel>, id: &str) {
        for _ in 0..10 {
            sleep(time / 10).await;
            self.beat(client, id).await.unwrap();
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

fn renewing(mut client: RegistryClient<Channel>, session: String) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let request = wire::KeepAliveRequest { session_id: session.clone() };
            // Fails while there is no etcd.
            if let Ok(answers) = client.keep_alive(tokio_stream::once(request)).await {
                let _ = answers.into_inner().message().await;
            }
            sleep(SESSION_TTL / 10).await;
        }
    })
}

/// The healths that an instance has had, as a watch told them.
struct Story(JoinHandle<Vec<Health>>);

impl Story {
    async fn of(client: &mut RegistryClient<Channel>, id: &'static str) -> Self {
        let query = Some(to_wire::query(&Query::everything()));
        let request = wire::WatchRequest { query, after_revision: None };
        let mut updates = client.watch(request).await.unwrap().into_inner();
        Self(tokio::spawn(async move {
            let mut healths = Vec::new();
            while let Ok(Some(batch)) = updates.message().await {
                for instance in batch.updates.into_iter().flat_map(instances) {
                    if instance.id.as_str() == id && instance.lifecycle == Lifecycle::Ready {
                        healths.push(instance.health);
                    }
                }
                if healths.last() == Some(&Health::Critical) {
                    break;
                }
            }
            healths
        }))
    }

    fn is_over(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits until it has become critical.
    async fn end(self) -> Vec<Health> {
        timeout(PATIENCE, self.0).await.expect("it becomes critical").unwrap()
    }
}

fn instances(update: wire::Update) -> Vec<Arc<Instance>> {
    match from_wire::update(update).unwrap() {
        Update::Reset { all, .. } => all.to_vec(),
        Update::Put { instance, .. } => vec![instance],
        Update::Delete { .. } | Update::Progress { .. } => Vec::new(),
    }
}

pub(crate) fn of_several_servers_one_probes_and_when_it_is_killed_another() {
    let cluster = Cluster::start(1);
    let [killed, other] = [(); 2].map(|()| Process::start(&cluster));
    block_on(async {
        let (mut here, mut there) = (killed.client().await, other.client().await);
        let [first, second] = [Probed::start("a").await, Probed::start("b").await];
        let mut client = Client::new(&mut here).await;
        client.register(&mut here, &first.instance).await;
        let elsewhere = Client::new(&mut there).await;
        elsewhere.register(&mut there, &second.instance).await;
        until_usable(&mut here, 2).await;
        let story = Story::of(&mut there, "a").await;

        let (one, two) = tokio::join!(first.rate(PROBE_INTERVAL * 15), second.rate(PROBE_INTERVAL * 15));
        // By both servers, it would be 2.
        assert!((0.6..1.4).contains(&one) && (0.6..1.4).contains(&two), "{one} and {two}");

        killed.process.kill();
        client.go_to(&there);
        let before = first.connections.load(Ordering::SeqCst);
        let probed = async {
            while first.connections.load(Ordering::SeqCst) < before + 2 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        // As soon as it has gone there: nobody waits for the lease of the dead.
        let bound = PROBE_INTERVAL + SESSION_TTL / 10 + Duration::from_secs(1);
        timeout(bound, probed).await.expect("the other probes");
        let rate = first.rate(LEASE + GRACE + Duration::from_secs(2)).await;
        assert!((0.6..1.4).contains(&rate), "{rate}");
        assert!(!story.is_over(), "it works and always did");

        let died = Instant::now();
        drop(first);
        let healths = story.end().await;
        assert_eq!(healths.len(), 2, "{healths:?}");
        assert!(died.elapsed() < PROBE_INTERVAL * 4 + Duration::from_secs(1), "{:?}", died.elapsed());
    });
    other.process.stop().success();
}

pub(crate) fn a_ttl_check_is_kept_wherever_its_heartbeats_go_and_fails_without_them() {
    let cluster = Cluster::start(1);
    let [killed, other] = [(); 2].map(|()| Process::start(&cluster));
    let interval = Duration::from_millis(1_500);
    block_on(async {
        let (mut here, mut there) = (killed.client().await, other.client().await);
        let mut client = Client::new(&mut here).await;
        client.register(&mut here, &with_ttl_check("a", interval)).await;
        client.beat(&mut here, "a").await.unwrap();
        until_usable(&mut there, 1).await;
        let story = Story::of(&mut there, "a").await;

        client.beat_for(interval * 2, &mut here, "a").await;
        // Both servers live, and nothing but the heartbeats goes to the other: the first must not take it for silent.
        client.renewing.abort();
        client.beat_for(interval * 2, &mut there, "a").await;
        client.go_to(&here);
        client.beat_for(interval * 2, &mut here, "a").await;
        killed.process.kill();
        client.go_to(&there);
        client.beat_for(interval * 2 + LEASE, &mut there, "a").await;
        assert!(!story.is_over(), "it was told all the time that all is well");
        let last = Instant::now();
        let healths = story.end().await;
        assert_eq!(healths.len(), 2, "{healths:?}");
        let took = last.elapsed();
        assert!(took >= interval && took < interval + Duration::from_secs(1), "{took:?}");
        assert_eq!(renew(&mut there, &client.session).await, SESSION_TTL);
    });
    other.process.stop().success();
}

pub(crate) fn without_etcd_for_a_while_nothing_becomes_critical_that_could_not_be_heard() {
    let cluster = Cluster::start(1);
    let server = Process::start(&cluster);
    let interval = Duration::from_millis(2_500);
    block_on(async {
        let mut server = server.client().await;
        let client = Client::new(&mut server).await;
        for id in ["a", "silent"] {
            client.register(&mut server, &with_ttl_check(id, interval)).await;
            client.beat(&mut server, id).await.unwrap();
        }
        until_usable(&mut server, 2).await;
        let [story, silent] = [Story::of(&mut server, "a").await, Story::of(&mut server, "silent").await];

        cluster.signal(0, Signal::SIGSTOP);
        let away = Instant::now();
        let mut refused = 0;
        while away.elapsed() < LEASE + interval * 2 {
            refused += u32::from(client.beat(&mut server, "a").await.is_err());
            sleep(interval / 10).await;
        }
        assert!(refused > 2, "nothing could be heard");
        cluster.signal(0, Signal::SIGCONT);
        assert!(!silent.is_over());
        let back = Instant::now();
        let beating = async {
            while back.elapsed() < interval * 3 {
                let _ = client.beat(&mut server, "a").await;
                sleep(interval / 10).await;
            }
        };
        let ending = async {
            silent.end().await;
            back.elapsed()
        };
        let ((), took) = tokio::join!(beating, ending);
        assert!(
            took >= interval && took < interval * 2,
            "it had its interval from the return of etcd on: {took:?}"
        );
        assert!(!story.is_over());
        let healths = story.end().await;
        assert_eq!(healths.len(), 2, "{healths:?}");
    });
    server.process.stop().success();
}

fn with_ttl_check(id: &str, interval: Duration) -> Instance {
    let (address, port) = ("10.0.0.2".parse().unwrap(), "80".parse().unwrap());
    let bare = Instance::new(id.parse().unwrap(), "api".parse().unwrap(), address, port);
    let check: Check = format!("ttl,interval={}ms", interval.as_millis()).parse().unwrap();
    assert_eq!(check.kind, CheckKind::Ttl);
    bare.with_checks(Checks::from(check))
}

/// Waits until so many instances would get calls.
async fn until_usable(client: &mut RegistryClient<Channel>, count: usize) {
    let usable = async {
        loop {
            let found = client.resolve(wire::ResolveRequest::default()).await.unwrap().into_inner();
            if found.instances.len() == count {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, usable).await.expect("they get ready");
}
