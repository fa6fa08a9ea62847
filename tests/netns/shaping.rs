//! Bandwidth limits.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::thread;
use std::time::{Duration, Instant};

use netloft_link::{Ipv6, LinkGroup, Rate, ShapeSpec, Veth};
use netloft_netns::Netns;

use crate::support::{Host, inside_spec, ip, output};

const LIMIT_BITS: u64 = 20_000_000;

/// What passes at the limit in two seconds.
const VOLUME_BYTES: usize = 5_000_000;

/// Let through before the clock starts: what the burst and the buffers of the sockets swallow at once.
const SWALLOWED_BYTES: usize = 1_000_000;

pub(crate) fn limits_hold_in_both_directions_and_only_where_they_were_set() {
    let (mut host, sandboxes) = two_sandboxes();
    let (limited, veth) = &sandboxes[0];
    host.conn.shape(&spec(*veth, Some(rate()), Some(rate()))).unwrap();
    let (free, _) = &sandboxes[1];
    for (from, to, target) in [(&host.netns, limited, "10.89.0.2:0"), (limited, &host.netns, "10.89.0.1:0")] {
        let bits = throughput(from, to, target);
        let share = bits / 20e6;
        assert!((0.85..=1.15).contains(&share), "{bits:.0} bit/s to {target}");
    }
    for (from, to, target) in [(&host.netns, free, "10.89.0.3:0"), (free, &host.netns, "10.89.0.1:0")] {
        let bits = throughput(from, to, target);
        assert!(bits > 5.0 * 20e6, "{bits:.0} bit/s to {target}");
    }
}

pub(crate) fn a_limit_of_one_direction_leaves_the_other_free() {
    let (mut host, sandboxes) = two_sandboxes();
    let (sandbox, veth) = &sandboxes[0];
    host.conn.shape(&spec(*veth, None, Some(rate()))).unwrap();
    let out = throughput(sandbox, &host.netns, "10.89.0.1:0");
    let back = throughput(&host.netns, sandbox, "10.89.0.2:0");
    assert!(out < 1.15 * 20e6 && back > 5.0 * 20e6, "{out:.0} bit/s out, {back:.0} bit/s back");
}

pub(crate) fn a_limited_link_has_what_was_asked() {
    let (mut host, sandboxes) = two_sandboxes();
    let (_, veth) = sandboxes[0];
    let fast = Rate::from_bits_per_second(NonZeroU64::new(80_000_000_000).unwrap());
    host.conn.shape(&spec(veth, Some(rate()), Some(fast.burst(1_000_000.try_into().unwrap())))).unwrap();

    let told = output(&host.netns, "tc", &["qdisc", "show", "dev", "port2"]);
    assert!(told.contains("qdisc tbf 1: root"), "{told}");
    assert!(told.contains("rate 20Mbit burst 64Kb lat 50ms"), "{told}");
    assert!(told.contains("qdisc ingress ffff:"), "{told}");
    let told = output(&host.netns, "tc", &["qdisc", "show", "dev", "ifb2"]);
    assert!(told.contains("rate 80Gbit"), "{told}");
    let told = output(&host.netns, "tc", &["filter", "show", "dev", "port2", "ingress"]);
    assert!(told.contains("protocol all") && told.contains("Egress Redirect to device ifb2"), "{told}");

    let ifb = &ip(&host.netns, &["link", "show", "ifb2"])[0];
    assert_eq!(ifb["ifalias"], "netloft test ifb2");
    assert_eq!(ifb["inet6_addr_gen_mode"], "none");
    let refused = host.conn.shape(&spec(veth, Some(rate()), None)).unwrap_err();
    assert!(refused.is_exists(), "{refused:?}");
    assert_eq!(refused.to_string(), "cannot limit port2");
}

pub(crate) fn a_limit_goes_with_its_link_and_the_ifb_with_its_group() {
    let (mut host, sandboxes) = two_sandboxes();
    let corpses = LinkGroup::new(0x6e6c.try_into().unwrap());
    host.conn.shape(&spec(sandboxes[0].1, Some(rate()), Some(rate()))).unwrap();
    assert_eq!(host.names(), ["lo", "br0", "port2", "port3", "ifb2"]);
    for name in ["port2", "ifb2"] {
        host.conn.cut(&name.parse().unwrap(), corpses).unwrap();
    }
    host.conn.reap(corpses).unwrap();
    assert_eq!(host.names(), ["lo", "br0", "port3"]);
}

pub(crate) fn a_limit_that_fails_leaves_no_ifb_and_the_way_open() {
    let (mut host, sandboxes) = two_sandboxes();
    let (sandbox, veth) = &sandboxes[0];
    output(&host.netns, "tc", &["qdisc", "add", "dev", "port2", "ingress"]);
    let refused = host.conn.shape(&spec(*veth, None, Some(rate()))).unwrap_err();
    assert!(refused.is_exists(), "{refused:?}");
    assert_eq!(host.names(), ["lo", "br0", "port2", "port3"]);
    crate::support::assert_reaches(&host, sandbox, &host.netns, "10.89.0.1".parse().unwrap());
}

/// 10.89.0.2 behind `port2`, and 10.89.0.3 behind `port3`.
fn two_sandboxes() -> (Host, [(Netns, Veth); 2]) {
    let (mut host, bridge) = Host::with_bridge(&["10.89.0.1/24"]);
    let sandboxes = [2, 3].map(|number| {
        let (sandbox, veth) = host.sandbox(&format!("port{number}"), bridge);
        let address = format!("10.89.0.{number}/24");
        host.configure(&sandbox, &inside_spec(veth, &[&address], &[], Ipv6::Off)).unwrap();
        (sandbox, veth)
    });
    (host, sandboxes)
}

fn rate() -> Rate {
    Rate::from_bits_per_second(NonZeroU64::new(LIMIT_BITS).unwrap())
}

fn spec(veth: Veth, to_sandbox: Option<Rate>, from_sandbox: Option<Rate>) -> ShapeSpec {
    ShapeSpec {
        link: veth.host,
        name: "port2".parse().unwrap(),
        ifb: "ifb2".parse().unwrap(),
        alias: "netloft test ifb2".to_owned(),
        to_sandbox,
        from_sandbox,
    }
}

/// How many bits arrive in a second over one TCP connection.
pub(crate) fn throughput(from: &Netns, to: &Netns, target: &'static str) -> f64 {
    let listener = to.run(move || TcpListener::bind(target).unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let connect = move || TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap();
    let mut sender = from.run(connect).unwrap();
    let (mut receiver, _) = listener.accept().unwrap();
    let sending = thread::spawn(move || {
        let piece = [0; 16 * 1024];
        // Until the receiver has enough and closes.
        while sender.write_all(&piece).is_ok() {}
    });
    let mut buffer = vec![0; 64 * 1024];
    let mut take = |volume: usize| {
        let mut taken = 0;
        while taken < volume {
            let len = receiver.read(&mut buffer).unwrap();
            assert!(len > 0, "the sender gave up after {taken} bytes");
            taken += len;
        }
        taken
    };
    take(SWALLOWED_BYTES);
    let started = Instant::now();
    let taken = take(VOLUME_BYTES);
    let seconds = started.elapsed().as_secs_f64();
    drop(receiver);
    sending.join().unwrap();
    #[expect(clippy::cast_precision_loss, reason = "it is a few million")]
    let bits = taken as f64 * 8.0;
    bits / seconds
}
