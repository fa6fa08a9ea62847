//! Ten thousand who watch one service, and some who do not read what they are told.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use netloft_proto::registry::v1 as wire;
use netloft_proto::registry::v1::registry_client::RegistryClient;
use netloft_proto::{from_wire, to_wire};
use netloft_tests::disk::SmallDisk;
use netloft_tests::running::Running;
use netloft_tests::{Lab, tell};
use netloft_types::{Instance, InstanceId, Query, Update};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::client::LONG;
use crate::nemesis::address;
use crate::speaker::{Speaker, endpoint};

/// Who watches, over how many connections. A server takes 1,024 streams of one.
const WATCHERS: usize = 10_000;
const CONNECTIONS: usize = 10;
/// Who watches another service and does not read.
const SLOW: usize = 200;
/// What the registry remembers; then one who did not read has to begin anew.
const HISTORY_LEN_MAX: usize = 512;
const UNREAD: usize = 1_500;
/// What one who watches may cost the server: the stream, its task and its place in the registry.
const KIB_PER_WATCHER_MAX: u64 = 40;
/// What unread changes may cost it. Kept for each who does not read, they would be some 100 MiB.
const UNREAD_MIB_MAX: u64 = 40;
/// How long all of them may take to be told, in a build without optimization on a machine with much else to do.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) fn ten_thousand_watchers_are_told_and_slow_ones_cost_nothing() {
    let lab = Lab::new();
    let place = lab.path("disk");
    let disk = SmallDisk::mount(&place, 256);
    let history = HISTORY_LEN_MAX.to_string();
    let directory = place.join("registry");
    let arguments = [
        ["--listen", "127.0.0.1:0"],
        ["--unix", "none"],
        ["--data-dir", directory.to_str().unwrap()],
        ["--history-len-max", &history],
    ];
    let mut server = Running::spawn(lab.ours("registry-server", &arguments.concat()));
    let line = server.line("listening on ");
    let at = line.strip_prefix("listening on ").unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(watch_and_be_told(at, server.pid()));
    drop(runtime);
    server.stop().success();
    drop(disk);
    lab.finish();
}

async fn watch_and_be_told(server: SocketAddr, pid: u32) {
    let publisher = Publisher::start(server).await;
    publisher.register("first", "api").await;
    let before = resident_kib(pid);
    let began = Instant::now();
    let audience = Audience::gather(server).await;
    let after = resident_kib(pid);
    let each = (after - before) / WATCHERS as u64;
    tell(format!(
        "{WATCHERS} watches in {:?}; {each} KiB each, {} MiB in all",
        began.elapsed(),
        after / 1_024
    ));
    assert!(each <= KIB_PER_WATCHER_MAX, "a watch costs {each} KiB");

    let began = Instant::now();
    publisher.register("second", "api").await;
    let told = audience.all_know("second").await;
    tell(format!("the last of {told} was told of a registration after {:?}", began.elapsed()));

    let mut slow = Vec::new();
    for _ in 0..SLOW {
        slow.push(Unread::begin(server).await);
    }
    let before = resident_kib(pid);
    publisher.register_many(UNREAD).await;
    let grown = resident_kib(pid).saturating_sub(before) / 1_024;
    tell(format!("{UNREAD} changes unread by {SLOW}: {grown} MiB more"));
    assert!(grown <= UNREAD_MIB_MAX, "unread changes cost {grown} MiB");
    let mut resets = 0;
    for unread in slow {
        resets += unread.read_to_the_end().await;
    }
    assert!(resets >= SLOW, "those who fell behind were not told so: {resets} resets");

    // Nobody has missed anything for those who did not read.
    let began = Instant::now();
    publisher.register("third", "api").await;
    let told = audience.all_know("third").await;
    tell(format!("the last of {told} was told of another after {:?}", began.elapsed()));
}

/// One who registers.
struct Publisher {
    rpc: RegistryClient<Channel>,
    session: String,
}

impl Publisher {
    async fn start(server: SocketAddr) -> Self {
        let mut speaker = Speaker::new(vec![server], address(2));
        let session = speaker.open(LONG).await;
        Self { rpc: speaker.connected().await, session }
    }

    async fn register(&self, id: &str, service: &str) {
        let address = "10.0.0.2".parse().unwrap();
        let bare =
            Instance::new(id.parse().unwrap(), service.parse().unwrap(), address, "80".parse().unwrap());
        let instance = Some(to_wire::instance(&bare));
        let request = wire::RegisterRequest { session_id: self.session.clone(), instance };
        self.rpc.clone().register(request).await.unwrap();
    }

    /// Registers so many instances of `busy`, many at a time.
    async fn register_many(&self, count: usize) {
        let places = Arc::new(Semaphore::new(64));
        let mut under_way = JoinSet::new();
        for number in 0..count {
            let (rpc, session) = (self.rpc.clone(), self.session.clone());
            let place = Arc::clone(&places).acquire_owned().await.unwrap();
            under_way.spawn(async move {
                Self { rpc, session }.register(&format!("busy-{number:05}"), "busy").await;
                drop(place);
            });
        }
        under_way.join_all().await;
    }
}

/// All who watch `api`.
struct Audience {
    tasks: JoinSet<()>,
    told: Arc<Told>,
}

#[derive(Default)]
struct Told {
    /// How many know of an instance, by its id.
    of: [AtomicUsize; 3],
    changed: Notify,
}

const IDS: [&str; 3] = ["first", "second", "third"];

impl Told {
    fn note(&self, id: &InstanceId) {
        if let Some(place) = IDS.iter().position(|it| *it == id.as_str()) {
            self.of[place].fetch_add(1, Ordering::SeqCst);
            self.changed.notify_one();
        }
    }
}

impl Audience {
    async fn gather(server: SocketAddr) -> Self {
        let told = Arc::new(Told::default());
        let mut tasks = JoinSet::new();
        for connection in 0..CONNECTIONS {
            let from = address(100 + u8::try_from(connection).unwrap());
            let channel = endpoint(server, from).connect().await.unwrap();
            for _ in 0..WATCHERS / CONNECTIONS {
                let (rpc, told) = (RegistryClient::new(channel.clone()), Arc::clone(&told));
                tasks.spawn(follow(rpc, told));
            }
        }
        let audience = Self { tasks, told };
        audience.all_know("first").await;
        audience
    }

    /// Waits until everybody knows of an instance; answers how many that are.
    async fn all_know(&self, id: &str) -> usize {
        let place = IDS.iter().position(|it| *it == id).unwrap();
        let count = || self.told.of[place].load(Ordering::SeqCst);
        let all = async {
            while count() < WATCHERS {
                self.told.changed.notified().await;
            }
        };
        let all = timeout(PATIENCE, all).await;
        assert!(all.is_ok(), "only {} of {WATCHERS} were told of {id}", count());
        assert_eq!(self.tasks.len(), WATCHERS);
        count()
    }
}

/// Watches `api`, and tells of each instance that it did not know.
async fn follow(mut rpc: RegistryClient<Channel>, told: Arc<Told>) {
    let mut stream = rpc.watch(watch_of("api")).await.unwrap().into_inner();
    let mut known = std::collections::BTreeSet::new();
    while let Some(batch) = stream.message().await.unwrap() {
        for update in batch.updates {
            let ids: Vec<InstanceId> = match from_wire::update(update).unwrap() {
                Update::Reset { all, .. } => all.iter().map(|one| one.id.clone()).collect(),
                Update::Put { instance, .. } => vec![instance.id.clone()],
                Update::Delete { .. } | Update::Progress { .. } => Vec::new(),
            };
            for id in ids.into_iter().filter(|id| known.insert(id.clone())) {
                told.note(&id);
            }
        }
    }
}

fn watch_of(service: &str) -> wire::WatchRequest {
    let query = Some(to_wire::query(&Query::service(service.parse().unwrap())));
    wire::WatchRequest { query, after_revision: None }
}

/// One who watches `busy`, takes next to nothing ahead, and does not read for long.
struct Unread {
    stream: Streaming<wire::WatchResponse>,
}

impl Unread {
    async fn begin(server: SocketAddr) -> Self {
        let from: IpAddr = address(3);
        let channel = endpoint(server, from).initial_stream_window_size(Some(1_024)).connect().await.unwrap();
        let mut stream = RegistryClient::new(channel).watch(watch_of("busy")).await.unwrap().into_inner();
        let first = stream.message().await.unwrap().unwrap();
        assert!(matches!(from_wire::update(first.updates[0].clone()).unwrap(), Update::Reset { .. }));
        Self { stream }
    }

    /// Reads until it knows everything; answers how often it had to begin anew.
    async fn read_to_the_end(mut self) -> usize {
        let mut known = std::collections::BTreeSet::new();
        let mut resets = 0;
        let reading = async {
            while known.len() < UNREAD {
                let batch = self.stream.message().await.unwrap().unwrap();
                for update in batch.updates {
                    match from_wire::update(update).unwrap() {
                        Update::Reset { all, .. } => {
                            resets += 1;
                            known = all.iter().map(|one| one.id.clone()).collect();
                        }
                        Update::Put { instance, .. } => drop(known.insert(instance.id.clone())),
                        Update::Delete { .. } | Update::Progress { .. } => {}
                    }
                }
            }
        };
        timeout(PATIENCE, reading).await.expect("one who reads again is not told everything");
        resets
    }
}

/// What a process has in memory (`VmRSS` of `proc_pid_status(5)`).
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}
