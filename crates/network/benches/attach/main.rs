//! Attaching and detaching a sandbox: this crate, the bare kernel underneath it, and the `ip` program.
//!
//! All do the same: a new network namespace, a veth pair born in place with one end in a bridge, both ends up, one
//! address, one default route. They take turns in one run, because absolute figures vary with the machine and its load;
//! the ratios say something. Needs no privilege and touches nothing outside a private world.
//!
//! Half of the time goes into making the namespace. This crate makes a few ahead, while nobody waits, so it is shown
//! twice, as is the floor: taking from its stock, and when calls come so fast that the stock is used up.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on ends")]

mod bare;

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use bare::Bare;
use netloft_netns::Netns;
use netloft_netns::private::enter_private;
use netloft_network::{Host, HostOptions};
use netloft_types::{AttachSpec, EndpointId, NetworkSpec};
use tokio::runtime::{Builder, Runtime};

const ROUNDS: usize = 64;
/// Sandboxes that are attached in a row, then detached in a row: as many as this crate makes namespaces for ahead.
const BATCH: u8 = 8;
/// A batch of the `ip` program, which takes a hundred times as long.
const BATCH_OF_IP: u8 = 3;
/// What was detached goes in the background and would slow down whoever comes next; and stock is filled up.
const PAUSE: Duration = Duration::from_millis(300);

fn main() {
    enter_private().unwrap();
    let mut contenders: [(&str, u8, Box<dyn Contender>); 5] = [
        ("bare kernel, namespace ready", BATCH, Box::new(Bare::new(true))),
        ("netloft-network, from stock", BATCH, Box::new(Ours::new(0))),
        ("bare kernel", BATCH, Box::new(Bare::new(false))),
        ("netloft-network, stock used up", BATCH, Box::new(Ours::new(BATCH))),
        ("ip, one process per step", BATCH_OF_IP, Box::new(Ip::new())),
    ];
    let mut times = vec![(Vec::new(), Vec::new()); contenders.len()];
    for _ in 0..ROUNDS {
        for ((_, batch, contender), (attach, detach)) in contenders.iter_mut().zip(&mut times) {
            thread::sleep(PAUSE);
            contender.prepare(*batch);
            attach.extend((0..*batch).map(|index| timed(|| contender.attach(index))));
            detach.extend((0..*batch).map(|index| timed(|| contender.detach(index))));
            contender.finish();
        }
    }
    print_table(&contenders.map(|(name, ..)| name), &mut times);
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn print_table(names: &[&str], times: &mut [(Vec<Duration>, Vec<Duration>)]) {
    println!("{:<31}{:>6}{:>24}{:>24}", "", "", "attach, ms", "detach, ms");
    println!(
        "{:<31}{:>6}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}",
        "", "n", "p50", "p99", "ratio", "p50", "p99", "ratio"
    );
    let mut floor = [Duration::ZERO; 2];
    for (name, (attach, detach)) in names.iter().zip(times) {
        if name.starts_with("bare") {
            floor = [median(attach), median(detach)];
        }
        print!("{name:<31}{:>6}", attach.len());
        for (times, floor) in [attach, detach].into_iter().zip(floor) {
            let p50 = median(times);
            let p99 = times[times.len() * 99 / 100];
            let ratio = p50.as_secs_f64() / floor.as_secs_f64();
            print!("{:>8.3}{:>8.3}{ratio:>8.2}", millis(p50), millis(p99));
        }
        println!();
    }
}

/// Sorts the times and tells the middle one.
fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

trait Contender {
    /// What is done before the clock runs.
    fn prepare(&mut self, _batch: u8) {}
    fn attach(&mut self, index: u8);
    fn detach(&mut self, index: u8);
    /// What is done after the clock has stopped.
    fn finish(&mut self) {}
}

/// This crate, through its async front and with all its bookkeeping.
struct Ours {
    runtime: Runtime,
    host: Host,
    endpoints: Vec<EndpointId>,
    /// How many are attached before the clock runs, so that nothing is left in stock.
    before: u8,
}

impl Ours {
    fn new(before: u8) -> Self {
        let runtime = Builder::new_current_thread().build().unwrap();
        let options = HostOptions { netns: Some(Netns::create().unwrap()), ..HostOptions::default() };
        let host = Host::open(options).unwrap();
        let blue = NetworkSpec::new("blue".parse().unwrap());
        runtime.block_on(host.create_network(blue)).unwrap();
        Self { runtime, host, endpoints: Vec::new(), before }
    }
}

impl Contender for Ours {
    fn prepare(&mut self, batch: u8) {
        (0..self.before).for_each(|index| self.attach(batch + index));
    }

    fn attach(&mut self, index: u8) {
        let spec = AttachSpec::new("blue".parse().unwrap(), format!("s{index}").parse().unwrap());
        let attached = self.runtime.block_on(self.host.attach(spec)).unwrap();
        self.endpoints.push(attached.endpoint.id);
    }

    fn detach(&mut self, _: u8) {
        let id = self.endpoints.pop().unwrap();
        self.runtime.block_on(self.host.detach(id)).unwrap();
    }

    fn finish(&mut self) {
        while !self.endpoints.is_empty() {
            self.detach(0);
        }
    }
}

/// One process of iproute2 per step, in the namespace of this process.
struct Ip;

impl Ip {
    fn new() -> Self {
        // `ip netns` keeps its files here; ours are in the mount namespace of the private world.
        run("mount", "-t tmpfs tmpfs /run");
        run("ip", "link add br0 type bridge");
        run("ip", "addr add 10.89.0.1/24 dev br0");
        run("ip", "link set br0 up");
        Self
    }
}

impl Contender for Ip {
    fn attach(&mut self, index: u8) {
        run("ip", &format!("netns add s{index}"));
        run("ip", &format!("link add v{index} master br0 type veth peer name eth0 netns s{index}"));
        run("ip", &format!("link set v{index} up alias bench"));
        run("ip", &format!("-n s{index} link set lo up"));
        run("ip", &format!("-n s{index} link set eth0 up"));
        run("ip", &format!("-n s{index} addr add 10.89.0.{}/24 dev eth0", index + 2));
        run("ip", &format!("-n s{index} route add default via 10.89.0.1"));
    }

    fn detach(&mut self, index: u8) {
        run("ip", &format!("link del v{index}"));
        run("ip", &format!("netns del s{index}"));
    }
}

fn run(program: &str, arguments: &str) {
    let status = Command::new(program).args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "{program} {arguments}");
}
