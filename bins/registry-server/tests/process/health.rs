//! The process as an observer: it may be stopped, and instances may be replaced, and no call fails for that.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use netloft_balance::{Builtin, Outcome};
use netloft_client::{Balanced, Client, RegisterOptions, Registration};
use netloft_types::{Check, Checks, Health, Instance, Query};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::server::Server;

/// More than anything but the stop takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Shorter than the stop, as everything else that could run out meanwhile.
const TTL: Duration = Duration::from_secs(5);
const STOP: Duration = Duration::from_secs(10);

/// A registry in a process of its own, killed at the end.
struct Registry {
    server: Server,
    target: String,
    _data: TempDir,
}

impl Registry {
    fn start() -> Self {
        let data = TempDir::new().unwrap();
        let directory = data.path().to_str().unwrap();
        let place = ["--listen", "127.0.0.1:0", "--unix", "none", "--data-dir", directory];
        let arguments = [&place[..], &["--check-allow", "127.0.0.0/8", "--log", "off"]].concat();
        let mut server = Server::start(&arguments, &[]);
        let target = format!("http://{}", server.next_address());
        Self { server, target, _data: data }
    }

    fn client(&self) -> Client {
        Client::connect(self.target.parse().unwrap())
    }
}

/// A server of one byte, and how many calls it is in the middle of.
struct Replica {
    address: SocketAddr,
    under_way: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Replica {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let under_way = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&under_way);
        let serving = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let counter = Arc::clone(&counter);
                counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).await.is_ok() {
                        // Some work, so that calls are under way whenever something happens.
                        sleep(Duration::from_millis(20)).await;
                        if stream.write_all(&byte).await.is_err() {
                            break;
                        }
                    }
                    counter.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, under_way, serving }
    }

    /// Ends it, and whatever it is in the middle of: it must be in the middle of nothing.
    fn stop(self) {
        assert_eq!(self.under_way.load(Ordering::SeqCst), 0, "stopped in the middle of a call");
        self.serving.abort();
    }
}

fn instance(id: &str, at: SocketAddr, check: &str) -> Instance {
    let port = u32::from(at.port()).try_into().unwrap();
    let bare = Instance::new(id.parse().unwrap(), "api".parse().unwrap(), at.ip(), port);
    bare.with_checks(Checks::from(check.parse::<Check>().unwrap()))
}

async fn balanced(client: &Client) -> Balanced {
    let balanced = client.balance(Query::service("api".parse().unwrap()), Builtin::RoundRobin);
    balanced.ready(PATIENCE).await.unwrap();
    balanced
}

/// Who is usable, of those that it watches.
fn usable(balanced: &Balanced) -> Vec<String> {
    let set = balanced.discovery().snapshot();
    set.instances().iter().filter(|one| one.is_usable()).map(|one| one.id.to_string()).collect()
}

async fn becomes(balanced: &Balanced, expected: usize) {
    let reached = timeout(PATIENCE, async {
        while usable(balanced).len() != expected {
            sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(reached.await.is_ok(), "{:?} are usable and not {expected}", usable(balanced));
}

/// One call, without a second try: a connection, a byte there, a byte back.
async fn call(balanced: &Balanced) -> Result<(), String> {
    let chosen = balanced.pick().ok_or("there is nobody to call")?;
    let address = chosen.socket_address();
    let told = |error: std::io::Error| format!("{} at {address}: {error}", chosen.id);
    let mut stream = TcpStream::connect(address).await.map_err(told)?;
    stream.write_all(b"x").await.map_err(told)?;
    stream.read_exact(&mut [0]).await.map_err(told)?;
    chosen.end(Outcome::Success);
    Ok(())
}

/// Calls from several tasks until it is told to stop; answers how many, and what failed.
fn load(balanced: Balanced) -> (tokio::sync::watch::Sender<bool>, JoinHandle<(usize, Vec<String>)>) {
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let balanced = Arc::new(balanced);
    let calling = tokio::spawn(async move {
        let callers = (0..4).map(|_| {
            let (balanced, stopped) = (Arc::clone(&balanced), stopped.clone());
            tokio::spawn(async move {
                let (mut calls, mut failed) = (0, Vec::new());
                while !*stopped.borrow() {
                    calls += 1;
                    failed.extend(call(&balanced).await.err());
                }
                (calls, failed)
            })
        });
        let (mut calls, mut failed) = (0, Vec::new());
        for caller in callers.collect::<Vec<_>>() {
            let (made, failures) = caller.await.unwrap();
            calls += made;
            failed.extend(failures);
        }
        (calls, failed)
    });
    (stop, calling)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_stopped_for_ten_seconds_throws_nothing_out_that_works() {
    let registry = Registry::start();
    let client = registry.client();
    let mut replicas = Vec::new();
    let mut registrations: Vec<Arc<Registration>> = Vec::new();
    for number in 0..12 {
        let replica = Replica::start().await;
        let check = [
            "tcp,interval=200ms,timeout=100ms,failures=1,remove-after=2s",
            "ttl,interval=3s,remove-after=2s",
        ][number % 2];
        let said = instance(&format!("i{number}"), replica.address, check);
        let registered = client.register(said, RegisterOptions { ttl: TTL }).await.unwrap();
        registrations.push(Arc::new(registered));
        replicas.push(replica);
    }
    // Those of odd numbers say that they work, as often as is prudent.
    let beating: Vec<_> = registrations
        .iter()
        .skip(1)
        .step_by(2)
        .map(|registration| {
            let registration = Arc::clone(registration);
            tokio::spawn(async move {
                loop {
                    // While the server is stopped nobody hears it.
                    let _ = registration.heartbeat(Health::Passing, "").await;
                    sleep(Duration::from_millis(500)).await;
                }
            })
        })
        .collect();

    let observer = balanced(&client).await;
    becomes(&observer, 12).await;
    let mut watch = client.discover(Query::service("api".parse().unwrap()));
    let fewest = Arc::new(AtomicUsize::new(usize::MAX));
    let seen = Arc::clone(&fewest);
    let watching = tokio::spawn(async move {
        loop {
            seen.fetch_min(watch.changed().await.instances().len(), Ordering::SeqCst);
        }
    });
    let (stop_load, calling) = load(balanced(&client).await);

    registry.server.signal(Signal::SIGSTOP);
    sleep(STOP).await;
    registry.server.signal(Signal::SIGCONT);
    let resumed = Instant::now();
    // Long enough for whatever the stop had made overdue to be found so, removals included.
    while resumed.elapsed() < TTL + Duration::from_secs(4) {
        assert_eq!(usable(&observer).len(), 12, "{:?} after it went on", resumed.elapsed());
        sleep(Duration::from_millis(10)).await;
    }
    let services = client.services().await.unwrap();
    assert_eq!((services[0].instances, services[0].usable, services[0].held), (12, 12, 0));
    assert_eq!(fewest.load(Ordering::SeqCst), 12);

    // It has not gone blind: what really dies is noticed.
    replicas.swap_remove(0).serving.abort();
    becomes(&observer, 11).await;
    stop_load.send_replace(true);
    let (calls, failed) = calling.await.unwrap();
    assert!(calls > 500, "{calls}");
    assert!(failed.iter().all(|text| text.starts_with("i0 ")), "{failed:?}");
    watching.abort();
    beating.iter().for_each(JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_three_replicas_fails_no_call() {
    let registry = Registry::start();
    let client = registry.client();
    let check = "tcp,interval=100ms";
    let start = async |id: String| {
        let replica = Replica::start().await;
        let said = instance(&id, replica.address, check);
        let registration = client.register(said, RegisterOptions::default()).await.unwrap();
        (replica, registration)
    };
    let mut running = Vec::new();
    for number in 0..3 {
        running.push(start(format!("old-{number}")).await);
    }
    let observer = balanced(&client).await;
    becomes(&observer, 3).await;
    let (stop_load, calling) = load(balanced(&client).await);

    for number in 0..3 {
        let new = start(format!("new-{number}")).await;
        becomes(&observer, 4).await;
        let (replica, registration) = running.remove(0);
        registration.drain_within("1s".parse().unwrap()).await.unwrap();
        becomes(&observer, 3).await;
        // It serves until the registry has let go of it, which is when its window is over.
        let removed = timeout(PATIENCE, async {
            while client.get(registration.id()).await.is_ok() {
                sleep(Duration::from_millis(10)).await;
            }
        });
        removed.await.unwrap();
        replica.stop();
        registration.close().await.unwrap();
        running.push(new);
    }
    stop_load.send_replace(true);
    let (calls, failed) = calling.await.unwrap();
    assert!(calls > 100, "{calls}");
    assert_eq!(failed, [""; 0], "of {calls} calls");
    assert_eq!(usable(&observer), ["new-0", "new-1", "new-2"]);
}
