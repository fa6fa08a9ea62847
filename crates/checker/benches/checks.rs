//! What 10,000 checks of 10 seconds cost the checker: processor time of its thread, without that of what it checks.
//!
//! `cargo bench -p netloft-checker`. The instances are addresses of loopback, served by another thread that answers and hangs
//! up, so a probe is a real connection.

#![expect(clippy::print_stdout, reason = "a bench reports on the standard output")]
#![expect(clippy::cast_precision_loss, reason = "counts of some thousands are exact")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use netloft_checker::Checker;
use netloft_health::{MonitorOptions, Targets};
use netloft_registry::{Command, MemoryStore, Store, StoreOptions};
use netloft_types::{Check, Checks, Instance, Lifecycle, SessionId};
use nix::sys::resource::{UsageWho, getrusage};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

const INSTANCES: u32 = 10_000;
const PER_SESSION: u32 = 4_000;
const MEASURED: Duration = Duration::from_secs(30);

fn main() {
    for check in ["tcp,interval=10s", "http:/healthz,interval=10s"] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(measure(check));
    }
}

async fn measure(check: &str) {
    let port = serve();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::start(StoreOptions::default()));
    let targets = Targets { allow: vec!["127.0.0.0/8".parse().expect("a subnet")], ..Targets::default() };
    let checker = Checker::start(Arc::clone(&store), MonitorOptions { targets, ..MonitorOptions::default() });
    register(&*store, port, check).await;
    // Over the first probes of all, which come at once.
    tokio::time::sleep(Duration::from_secs(15)).await;

    let (before, cpu, began) = (checker.stats(), cpu_time(), Instant::now());
    tokio::time::sleep(MEASURED).await;
    let (after, cpu, took) = (checker.stats(), cpu_time().saturating_sub(cpu), began.elapsed());
    let probes = after.results - before.results;
    let each_us = cpu.as_secs_f64() * 1e6 / probes as f64;
    println!(
        "{check}: {INSTANCES} instances, {:.0} probes/s, {:.1} % of a core, {each_us:.0} us each, doubt {}, discarded {}",
        probes as f64 / took.as_secs_f64(),
        100.0 * cpu.as_secs_f64() / took.as_secs_f64(),
        after.doubt,
        after.discarded,
    );
    for number in 0..INSTANCES {
        let reports = checker.reports(&format!("i{number}").parse().expect("an id"));
        assert!(reports.iter().all(|report| report.failures == 0), "{reports:?}");
    }
}

async fn register(store: &dyn Store, port: u16, check: &str) {
    for number in 0..INSTANCES {
        let session = SessionId::from_number(u128::from(number / PER_SESSION));
        if number % PER_SESSION == 0 {
            store.apply(Command::OpenSession { session, ttl: None }).await.expect("a session");
        }
        let address = IpAddr::from(Ipv4Addr::from_bits(0x7f01_0001 + number));
        let id = format!("i{number}").parse().expect("an id");
        let port = u32::from(port).try_into().expect("a port");
        let bare = Instance::new(id, format!("s{}", number % 100).parse().expect("a name"), address, port);
        let checks = Checks::from(check.parse::<Check>().expect("a check"));
        let instance = Instance { lifecycle: Lifecycle::Starting, checks, ..bare };
        store.apply(Command::Register { session, instance }).await.expect("a registration");
    }
}

/// Answers whatever comes with 200 and hangs up, in a thread of its own.
fn serve() -> u16 {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.bind("0.0.0.0:0".parse().expect("an address")).expect("a free port");
            let listener = socket.listen(4_096).expect("a listener");
            tell.send(listener.local_addr().expect("an address").port()).expect("somebody listens");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream));
            }
        });
    });
    told.recv().expect("it serves")
}

async fn answer(mut stream: TcpStream) {
    let mut request = [0; 1024];
    if stream.read(&mut request).await.is_ok_and(|len| len > 0) {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    }
}

fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("the usage of this thread");
    let all = [usage.user_time(), usage.system_time()];
    all.iter()
        .map(|time| Duration::from_micros((time.tv_sec() * 1_000_000 + time.tv_usec()).unsigned_abs()))
        .sum()
}
