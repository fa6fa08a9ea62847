//! Networks, sandboxes and endpoints, with the eyes of other programs: `ip`, `ping`, `curl`.

use std::collections::BTreeSet;
use std::fs;
use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::pin::pin;
use std::process::{Command, Stdio};
use std::task::Poll;
use std::thread;

use netloft_link::Conn;
use netloft_netns::{EnterOptions, Enterer, Netns, NetnsDir};
use netloft_network::kernel::LinuxKernel;
use netloft_network::testing::{Fault, Faults, Faulty};
use netloft_network::{Attached, Error, Host, HostOptions};
use netloft_types::{AttachSpec, Driver, InterfaceAddr, NetworkSpec, Segment};
use serde_json::Value;

use crate::support::{TempDir, bridge_spec, count, eventually, ip, output};

pub(crate) const DUAL_STACK: [&str; 2] = ["10.89.0.0/24", "fd00:89::/64"];

pub(crate) fn three_sandboxes_and_the_host_reach_each_other() {
    block_on(async {
        let (netns, host) = open(None);
        let spec = NetworkSpec { host_access: true, ..network("blue", &DUAL_STACK) };
        let blue = host.create_network(spec).await.unwrap();
        let mut places = vec![(netns, blue.segments.iter().map(Segment::gateway).collect::<Vec<_>>())];
        for name in ["a", "b", "c"] {
            let attached = host.attach(attach("blue", name)).await.unwrap();
            places.push((attached.netns.clone(), addresses(&attached)));
        }
        for (index, (from, _)) in places.iter().enumerate() {
            let others = places.iter().enumerate().filter(|(other, _)| *other != index);
            for (to, address) in others.flat_map(|(_, (to, held))| held.iter().map(move |it| (to, *it))) {
                assert!(is_reached(from, address), "{from:?} does not reach {address}");
                assert_eq!(fetch(from, to, address), "hello\n", "{from:?} to {address}");
            }
        }
        host.close().await.unwrap();
    });
}

pub(crate) fn another_program_sees_what_the_endpoint_tells() {
    block_on(async {
        let (netns, host) = open(None);
        let spec = NetworkSpec { mtu: Some("1400".parse().unwrap()), ..network("blue", &DUAL_STACK) };
        let blue = host.create_network(spec).await.unwrap();
        let attached = host.attach(attach("blue", "api")).await.unwrap();

        let Driver::Bridge { bridge: name, mac } = &blue.driver else { panic!("{blue:?} is no bridge") };
        let bridge = &ip(&netns, &["link", "show", name.as_str()])[0];
        assert_eq!(bridge["ifalias"], "netloft:blue");
        assert_eq!(bridge["address"], mac.to_string());
        let outer = &ip(&netns, &["link", "show", host_link(&attached)])[0];
        assert_eq!(outer["ifalias"], format!("netloft:blue/{}", attached.endpoint.id));
        assert_eq!(outer["master"], "nl-blue");

        let inner = &ip(&attached.netns, &["address", "show", "eth0"])[0];
        assert_eq!(inner["address"], attached.endpoint.mac.to_string());
        assert_eq!([&inner["mtu"], &outer["mtu"], &bridge["mtu"]], [1400, 1400, 1400]);
        assert_eq!(global_addresses(inner), ["10.89.0.2/24", "fd00:89::2/64"]);
        let held: Vec<String> = attached.endpoint.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(held, global_addresses(inner));
        assert_eq!(ip(&attached.netns, &["route", "show", "default"])[0]["gateway"], "10.89.0.1");
        assert_eq!(ip(&attached.netns, &["-6", "route", "show", "default"])[0]["gateway"], "fd00:89::1");
        host.close().await.unwrap();
    });
}

pub(crate) fn another_process_can_open_a_sandbox_by_its_path() {
    block_on(async {
        let directory = TempDir::new("network-path");
        for netns_dir in [None, Some(directory.0.as_path())] {
            let (_netns, host) = open(netns_dir);
            host.create_network(network("blue", &DUAL_STACK)).await.unwrap();
            let attached = host.attach(attach("blue", "api")).await.unwrap();
            let enter = format!("--net={}", attached.netns_path.display());
            let seen = Command::new("nsenter").args([&enter, "ip", "-o", "link", "show", "eth0"]).output();
            let seen = String::from_utf8(seen.unwrap().stdout).unwrap();
            assert!(seen.contains(&attached.endpoint.mac.to_string()), "{seen}");
            host.close().await.unwrap();
        }
    });
}

pub(crate) fn a_detached_sandbox_is_cut_off_at_once_though_somebody_has_it_open() {
    block_on(async {
        let (netns, host) = open(None);
        host.create_network(network("blue", &DUAL_STACK)).await.unwrap();
        let kept = host.attach(attach("blue", "a")).await.unwrap();
        let sibling = host.attach(attach("blue", "b")).await.unwrap();
        assert!(is_reached(&kept.netns, addresses(&sibling)[0]));
        host.detach(kept.endpoint.id).await.unwrap();
        assert!(!is_reached(&kept.netns, addresses(&sibling)[0]));
        assert!(!is_reached(&netns, addresses(&kept)[0]));
        let gone = |name: &str| !link_names(&netns).contains(name);
        eventually("its link is deleted", || gone(host_link(&kept)));
        host.close().await.unwrap();
    });
}

pub(crate) fn an_address_that_goes_to_another_sandbox_answers_at_once() {
    block_on(async {
        let (netns, host) = open(None);
        host.create_network(network("blue", &["10.89.0.0/30"])).await.unwrap();
        for name in ["a", "b", "c"] {
            let attached = host.attach(attach("blue", name)).await.unwrap();
            assert!(is_reached(&netns, addresses(&attached)[0]), "{name}");
            host.detach(attached.endpoint.id).await.unwrap();
        }
        host.close().await.unwrap();
    });
}

pub(crate) fn a_subnet_that_the_host_uses_is_refused() {
    block_on(async {
        let (netns, host) = open(None);
        let mut conn = Conn::open(&Enterer::new().unwrap(), &netns).unwrap();
        conn.create_bridge(&bridge_spec("lan0", &["10.80.0.1/24"])).unwrap();
        let before = link_names(&netns);
        let error = host.create_network(network("blue", &["10.80.0.128/25"])).await.unwrap_err();
        assert!(matches!(error, Error::SubnetInUse { .. }), "{error:?}");
        assert_eq!(link_names(&netns), before);
        let carved = host.create_network(network("blue", &[])).await.unwrap();
        assert_eq!(carved.segments[0].to_string(), "10.80.1.0/24 via 10.80.1.1");
        host.close().await.unwrap();
        assert_eq!(link_names(&netns), before);
    });
}

pub(crate) fn what_others_made_is_refused_and_left_alone() {
    block_on(async {
        let directory = TempDir::new("network-conflict");
        let (netns, host) = open(Some(&directory.0));
        let names = NetnsDir::open(&directory.0).unwrap();
        let theirs = names.create(&"theirs".parse().unwrap()).unwrap();
        let mut conn = Conn::open(&Enterer::new().unwrap(), &netns).unwrap();
        conn.create_bridge(&bridge_spec("nl-red", &[])).unwrap();
        host.create_network(network("blue", &DUAL_STACK)).await.unwrap();
        let before = link_names(&netns);

        let bridge_taken = host.create_network(network("red", &[])).await.unwrap_err();
        assert!(bridge_taken.is_conflict(), "{bridge_taken:?}");
        let sandbox_taken = host.attach(attach("blue", "theirs")).await.unwrap_err();
        assert!(sandbox_taken.is_conflict(), "{sandbox_taken:?}");
        let spec = AttachSpec { interface: Some("lo".parse().unwrap()), ..attach("blue", "api") };
        let interface_taken = host.attach(spec).await.unwrap_err();
        assert!(interface_taken.is_conflict(), "{interface_taken:?}");

        assert_eq!(link_names(&netns), before);
        assert_eq!(names.list().unwrap(), BTreeSet::from(["theirs".parse().unwrap()]));
        assert_eq!(names.find(&"theirs".parse().unwrap()).unwrap(), theirs);
        host.close().await.unwrap();
        assert!(link_names(&netns).contains("nl-red"));
        names.delete(&"theirs".parse().unwrap()).unwrap();
    });
}

pub(crate) fn after_a_failure_at_any_step_nothing_is_left() {
    let directory = TempDir::new("network-failure");
    let mounts = mounts();
    // Two steps of a network, four of an endpoint, and finding the sandbox.
    for fail_at in 0..7 {
        for fault in [Fault::Before(fail_at), Fault::After(fail_at)] {
            block_on(async {
                let netns = Netns::create().unwrap();
                let host = open_failing(&netns, &directory.0, fault);
                let (before, rules) = (link_names(&netns), rules(&netns));
                let created = host.create_network(network("blue", &DUAL_STACK)).await;
                let attached = host.attach(attach("blue", "api")).await;
                assert!(created.is_err() || attached.is_err(), "call {fail_at} did not fail");
                assert_eq!(host.endpoints().await.unwrap(), [], "call {fail_at}");
                assert_eq!(count(directory.0.to_str().unwrap()), 0, "call {fail_at}");
                assert_eq!(self::mounts(), mounts, "call {fail_at}");
                if created.is_ok() {
                    host.remove_network(&"blue".parse().unwrap()).await.unwrap();
                }
                assert_eq!(self::rules(&netns), rules, "call {fail_at}");
                eventually("its links are gone", || link_names(&netns) == before);
                host.close().await.unwrap();
            });
        }
    }
}

pub(crate) fn a_thousand_attachments_leave_nothing() {
    let directory = TempDir::new("network-thousand");
    eventually("the threads of earlier tests are gone", || count("/proc/self/task") == 1);
    let before = (mounts(), count("/proc/self/fd"));
    block_on(async {
        let (netns, host) = open(Some(&directory.0));
        let links = link_names(&netns);
        host.create_network(network("blue", &DUAL_STACK)).await.unwrap();
        for round in 0..1_000 {
            let attached = host.attach(attach("blue", &format!("s{}", round % 7))).await.unwrap();
            host.detach(attached.endpoint.id).await.unwrap();
        }
        host.close().await.unwrap();
        eventually("the links are gone", || link_names(&netns) == links);
    });
    assert_eq!(count(directory.0.to_str().unwrap()), 0);
    eventually("its threads are gone", || count("/proc/self/task") == 1);
    assert_eq!((mounts(), count("/proc/self/fd")), before);
}

pub(crate) fn no_sandbox_gets_the_namespace_of_another() {
    block_on(async {
        let (netns, host) = open(None);
        let before = link_names(&netns);
        host.create_network(network("blue", &DUAL_STACK)).await.unwrap();
        // Held, so that the kernel cannot use a number again.
        let mut held = Vec::new();
        for round in 0..24_u64 {
            // Now from stock, now not, in rows of one to twenty-four.
            if round.is_power_of_two() {
                thread::sleep(std::time::Duration::from_millis(round * 5));
            }
            let attached = host.attach(attach("blue", &format!("s{round}"))).await.unwrap();
            assert_eq!(ip(&attached.netns, &["link"]).len(), 2, "lo and eth0");
            held.push(attached.netns);
            if round % 3 == 0 {
                host.detach(attached.endpoint.id).await.unwrap();
            }
        }
        let different: BTreeSet<_> = held.iter().map(Netns::id).collect();
        assert_eq!(different.len(), held.len());
        host.close().await.unwrap();
        eventually("the links are gone", || link_names(&netns) == before);
    });
}

pub(crate) fn attachments_dropped_at_any_moment_leave_nothing() {
    let directory = TempDir::new("network-dropped");
    block_on(async {
        let (netns, host) = open(Some(&directory.0));
        let before = link_names(&netns);
        host.create_network(network("blue", &DUAL_STACK)).await.unwrap();
        for round in 0..100_u32 {
            let mut future = pin!(host.attach(attach("blue", &format!("s{round}"))));
            let first = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
            if let Poll::Ready(taken) = first {
                host.detach(taken.unwrap().endpoint.id).await.unwrap();
            }
            // Anything from at once to after the answer: an attachment takes about a millisecond.
            thread::sleep(std::time::Duration::from_micros(u64::from(round) * 30));
        }
        host.networks().await.unwrap();
        assert_eq!(host.endpoints().await.unwrap(), []);
        assert_eq!(count(directory.0.to_str().unwrap()), 0);
        host.close().await.unwrap();
        eventually("the links are gone", || link_names(&netns) == before);
    });
}

fn open_failing(netns: &Netns, netns_dir: &Path, fault: Fault) -> Host {
    let faults = Faults::default();
    faults.plan(fault);
    let kernel = LinuxKernel::open(netns.clone(), Some(netns_dir)).unwrap();
    Host::open_over(Box::new(Faulty::new(kernel, faults)), HostOptions::default()).unwrap()
}

fn host_link(attached: &Attached) -> &str {
    attached.endpoint.host_link.as_ref().unwrap().as_str()
}

pub(crate) fn open(netns_dir: Option<&Path>) -> (Netns, Host) {
    let netns = Netns::create().unwrap();
    let options = HostOptions {
        netns: Some(netns.clone()),
        netns_dir: netns_dir.map(Path::to_owned),
        ..HostOptions::default()
    };
    (netns, Host::open(options).unwrap())
}

pub(crate) fn network(name: &str, subnets: &[&str]) -> NetworkSpec {
    let segment = |text: &&str| Segment::new(text.parse().unwrap()).unwrap();
    NetworkSpec { segments: subnets.iter().map(segment).collect(), ..NetworkSpec::new(name.parse().unwrap()) }
}

pub(crate) fn attach(network: &str, sandbox: &str) -> AttachSpec {
    AttachSpec::new(network.parse().unwrap(), sandbox.parse().unwrap())
}

pub(crate) fn addresses(attached: &Attached) -> Vec<IpAddr> {
    attached.endpoint.addresses.iter().copied().map(InterfaceAddr::address).collect()
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(future)
}

pub(crate) fn is_reached(from: &Netns, to: IpAddr) -> bool {
    let mut command = Command::new("ping");
    command.args(["-n", "-q", "-c", "1", "-W", "1"]).arg(to.to_string());
    EnterOptions::new(from).apply(command.stdout(Stdio::null()).stderr(Stdio::null()));
    command.status().unwrap().success()
}

/// What `curl` gets in one namespace from a server of one answer in another.
fn fetch(from: &Netns, to: &Netns, address: IpAddr) -> String {
    let listener = to.run(|| TcpListener::bind(SocketAddr::new(address, 0)).unwrap()).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello\n").unwrap();
    });
    let body = output(from, "curl", &["--silent", "--globoff", "--max-time", "5", "--noproxy", "*", &url]);
    server.join().unwrap();
    body
}

fn link_names(netns: &Netns) -> BTreeSet<String> {
    let links = ip(netns, &["link"]);
    links.iter().map(|link| link["ifname"].as_str().unwrap().to_owned()).collect()
}

fn global_addresses(link: &Value) -> Vec<String> {
    let held = link["addr_info"].as_array().unwrap().iter();
    let global = held.filter(|it| it["scope"] == "global");
    global.map(|it| format!("{}/{}", it["local"].as_str().unwrap(), it["prefixlen"])).collect()
}

pub(crate) fn rules(netns: &Netns) -> [Vec<Value>; 2] {
    [ip(netns, &["rule"]), ip(netns, &["-6", "rule"])]
}

fn mounts() -> usize {
    fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count()
}
