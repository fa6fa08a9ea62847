//! Attaching and detaching a sandbox: this crate, the bare kernel underneath it, and the `ip` program.
//!
//! All three do the same: a new network namespace, a veth pair born in place with one end in a bridge, both ends
//! up, one address, one default route. They take turns in one run, because absolute figures vary with the machine
//! and its load; the ratios say something. Needs no privilege and touches nothing outside a private world.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on ends")]

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use netloft_link::{BridgeSpec, Conn, InsideSpec, Ipv6, LinkGroup, LinkIndex, VethSpec, configure_inside};
use netloft_netns::private::enter_private;
use netloft_netns::{Enterer, Netns};
use netloft_network::{Host, HostOptions};
use netloft_types::InterfaceAddr;
use netloft_types::{AttachSpec, EndpointId, InterfaceName, MacAddr, NetworkSpec};
use tokio::runtime::{Builder, Runtime};

const ROUNDS: usize = 25;
/// Sandboxes that are attached in a row, then detached in a row.
const BATCH: u8 = 20;
/// A batch of the `ip` program, which takes a hundred times as long.
const BATCH_OF_IP: u8 = 3;

fn main() {
    enter_private().unwrap();
    let mut contenders: [(&str, u8, Box<dyn Contender>); 3] = [
        ("bare kernel", BATCH, Box::new(Bare::new())),
        ("netloft-network", BATCH, Box::new(Ours::new())),
        ("ip, one process per step", BATCH_OF_IP, Box::new(Ip::new())),
    ];
    let mut times = vec![(Vec::new(), Vec::new()); contenders.len()];
    for _ in 0..ROUNDS {
        for ((_, batch, contender), (attach, detach)) in contenders.iter_mut().zip(&mut times) {
            attach.extend((0..*batch).map(|index| timed(|| contender.attach(index))));
            detach.extend((0..*batch).map(|index| timed(|| contender.detach(index))));
            // What was detached goes in the background and would slow down whoever comes next.
            thread::sleep(Duration::from_millis(300));
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
    println!("{:<26}{:>6}{:>24}{:>24}", "", "", "attach, ms", "detach, ms");
    println!(
        "{:<26}{:>6}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}",
        "", "n", "p50", "p99", "ratio", "p50", "p99", "ratio"
    );
    let floor = [median(&mut times[0].0), median(&mut times[0].1)];
    for (name, (attach, detach)) in names.iter().zip(times) {
        print!("{name:<26}{:>6}", attach.len());
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
    fn attach(&mut self, index: u8);
    fn detach(&mut self, index: u8);
}

/// This crate, through its async front and with all its bookkeeping.
struct Ours {
    runtime: Runtime,
    host: Host,
    endpoints: Vec<EndpointId>,
}

impl Ours {
    fn new() -> Self {
        let runtime = Builder::new_current_thread().build().unwrap();
        let options = HostOptions { netns: Some(Netns::create().unwrap()), ..HostOptions::default() };
        let host = Host::open(options).unwrap();
        let blue = NetworkSpec::new("blue".parse().unwrap());
        runtime.block_on(host.create_network(blue)).unwrap();
        Self { runtime, host, endpoints: Vec::new() }
    }
}

impl Contender for Ours {
    fn attach(&mut self, index: u8) {
        let spec = AttachSpec::new("blue".parse().unwrap(), format!("s{index}").parse().unwrap());
        let attached = self.runtime.block_on(self.host.attach(spec)).unwrap();
        self.endpoints.push(attached.endpoint.id);
    }

    fn detach(&mut self, _: u8) {
        let id = self.endpoints.pop().unwrap();
        self.runtime.block_on(self.host.detach(id)).unwrap();
    }
}

/// The requests that have to be made, with nothing around them.
struct Bare {
    conn: Conn,
    enterer: Enterer,
    bridge: LinkIndex,
    sandboxes: Vec<(InterfaceName, Netns)>,
    made: u32,
}

impl Bare {
    fn new() -> Self {
        let enterer = Enterer::new().unwrap();
        let mut conn = Conn::open(&enterer, &Netns::create().unwrap()).unwrap();
        let bridge = BridgeSpec {
            name: "br0".parse().unwrap(),
            mac: MacAddr::local(1),
            mtu: None,
            alias: "bench".to_owned(),
            addresses: vec![address(1)],
        };
        let bridge = conn.create_bridge(&bridge).unwrap();
        Self { conn, enterer, bridge, sandboxes: Vec::new(), made: 0 }
    }
}

impl Contender for Bare {
    fn attach(&mut self, index: u8) {
        self.made += 1;
        let netns = self.enterer.create().unwrap();
        let host_name: InterfaceName = format!("v{}", self.made).parse().unwrap();
        let eth0: InterfaceName = "eth0".parse().unwrap();
        let veth = VethSpec {
            host_name: host_name.clone(),
            host_mac: None,
            bridge: self.bridge,
            alias: "bench".to_owned(),
            mtu: None,
            peer_netns: netns.clone(),
            peer_name: eth0.clone(),
            peer_mac: MacAddr::local(u64::from(index) + 2),
        };
        let veth = self.conn.create_veth(&veth).unwrap();
        let inside = InsideSpec {
            link: veth.peer,
            name: eth0,
            addresses: vec![address(index + 2)],
            gateways: vec![address(1).address()],
            routes: Vec::new(),
            ipv6: Ipv6::Off,
        };
        configure_inside(&self.enterer, &netns, &inside).unwrap();
        self.sandboxes.push((host_name, netns));
    }

    fn detach(&mut self, _: u8) {
        let (host_name, netns) = self.sandboxes.pop().unwrap();
        let corpses = LinkGroup::new(77.try_into().unwrap());
        self.conn.cut(&host_name, corpses).unwrap();
        drop(netns);
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
        run("ip", &format!("-n s{index} addr add {} dev eth0", address(index + 2)));
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

fn address(last: u8) -> InterfaceAddr {
    InterfaceAddr::new(IpAddr::V4(Ipv4Addr::new(10, 89, 0, last)), 24).unwrap()
}
