//! Who reaches whom, and who does not.

use std::slice::from_ref;

use netloft_nft::{Bridge, Fact};
use netloft_types::Family;

use super::world::{World, ask, call, carries, connect, listen, listen_udp, run, settle, succeeds};
use crate::support::set;

pub(crate) fn sandboxes_reach_the_world_behind_the_address_of_the_host_and_their_siblings_in_their_own() {
    let (world, first, second) = World::blue();
    settle(&world, &first);
    let outside = listen(&world.lan, 80);
    let caller = |to| call(&first.netns, to, &outside).unwrap().to_string();
    assert_eq!(caller("192.0.2.2:80"), "192.0.2.1");
    assert_eq!(caller("[2001:db8::2]:80"), "2001:db8::1");
    let sibling = listen(&second.netns, 80);
    for (to, from) in second.addresses.iter().zip(first.addresses) {
        let to = std::net::SocketAddr::new(*to, 80).to_string();
        assert_eq!(call(&first.netns, &to, &sibling).unwrap(), from);
    }
}

pub(crate) fn nobody_reaches_a_sandbox_but_the_host_its_siblings_and_callers_of_its_published_ports() {
    let (mut world, first, _) = World::blue();
    world.bridge("green", 90, true);
    let green = world.sandbox("green", 90, 2);
    world.establish();
    settle(&world, &first);
    let listener = listen(&first.netns, 80);
    let host = world.host.netns.clone();
    let targets = ["10.89.0.2:80", "[fd00:89::2]:80"];
    for to in targets {
        assert!(call(&host, to, &listener).is_ok(), "{to}");
        assert!(call(&world.lan, to, &listener).is_err(), "{to}");
        assert!(call(&green.netns, to, &listener).is_err(), "{to}");
    }
    // Nor the gateway of another network, from where it would be forwarded.
    for gateway in ["10.89.0.1", "fd00:89::1"] {
        assert!(!succeeds(&green.netns, &format!("ping -q -c 1 -W 1 {gateway}")));
        assert!(!succeeds(&world.lan, &format!("ping -q -c 1 -W 1 {gateway}")));
    }
    // A published port is for everybody, and the answer finds its way back.
    world.publish("8080:80", first.addresses[0]);
    assert_eq!(call(&green.netns, "192.0.2.1:8080", &listener).unwrap().to_string(), "10.89.0.1");
    // The counter-proof.
    world.firewall.remove().unwrap();
    assert!(call(&world.lan, targets[0], &listener).is_ok());
    assert!(call(&green.netns, targets[0], &listener).is_ok());
}

pub(crate) fn a_network_without_egress_reaches_nothing_outside_and_its_published_ports_answer() {
    let mut world = World::new();
    world.bridge("blue", 89, false);
    let first = world.sandbox("blue", 89, 2);
    world.establish();
    world.publish("8080:80", first.addresses[0]);
    let (outside, inside) = (listen(&world.lan, 80), listen(&first.netns, 80));
    let refused = call(&first.netns, "192.0.2.2:80", &outside).unwrap_err();
    assert_ne!(refused.kind(), std::io::ErrorKind::TimedOut, "it is told so at once");
    assert_eq!(call(&world.lan, "192.0.2.1:8080", &inside).unwrap().to_string(), "192.0.2.2");
}

pub(crate) fn a_sandbox_may_ask_the_host_for_names_and_for_nothing_else() {
    let (mut world, first, _) = World::blue();
    settle(&world, &first);
    let host = world.host.netns.clone();
    let (service, names, names_udp) = (listen(&host, 80), listen(&host, 53), listen_udp(&host, 53));
    for (at, outside) in [("10.89.0.1", "192.0.2.1"), ("[fd00:89::1]", "[2001:db8::1]")] {
        let refused = call(&first.netns, &format!("{at}:80"), &service).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{at}");
        assert!(call(&first.netns, &format!("{at}:53"), &names).is_ok(), "{at}");
        assert!(ask(&first.netns, &format!("{at}:53"), &names_udp).is_ok(), "{at}");
        assert!(call(&first.netns, &format!("{outside}:53"), &names).is_err(), "{outside}");
    }
    assert!(succeeds(&first.netns, "ping -q -c 1 -W 1 10.89.0.1"));

    let blue = world.facts.iter().find_map(|fact| match fact {
        Fact::Bridge(bridge) => Some(bridge.clone()),
        _ => None,
    });
    let closed = blue.unwrap();
    let open = Bridge { host_access: true, ..closed.clone() };
    world.firewall.change(&[Fact::Bridge(open)], &[Fact::Bridge(closed)]).unwrap();
    assert!(call(&first.netns, "10.89.0.1:80", &service).is_ok());
}

pub(crate) fn a_guarded_port_sends_nothing_in_the_name_of_others() {
    let (mut world, first, second) = World::blue();
    run(&first.netns, "ip address add 10.89.0.99/24 dev eth0");
    run(&first.netns, "ip address add fd00:89::99/64 dev eth0 nodad");
    let ping = |from, to| succeeds(&first.netns, &format!("ping -q -c 1 -W 1 -I {from} {to}"));
    assert!(ping("10.89.0.2", "10.89.0.3") && ping("fd00:89::2", "fd00:89::3"));
    assert!(!ping("10.89.0.99", "10.89.0.3") && !ping("fd00:89::99", "fd00:89::3"));
    run(&first.netns, "ip link set eth0 address 02:00:00:00:00:99");
    assert!(!ping("10.89.0.2", "10.89.0.3") && !ping("fd00:89::2", "fd00:89::3"));
    // The counter-proof; what the sibling has learnt of the old Ethernet address is out of date, and what was asked in vain
    // is asked again only after a second.
    world.firewall.change(&[], from_ref(&first.guard)).unwrap();
    for sandbox in [&first, &second] {
        run(&sandbox.netns, "ip neigh flush all");
    }
    // The port itself is guarded, too: it gets no frame for an address that the bridge does not know.
    let Fact::Guard(guard) = &first.guard else { panic!("{:?} is no guard", first.guard) };
    run(&world.host.netns, &format!("bridge link set dev {} flood on", guard.port));
    assert!(ping("10.89.0.99", "10.89.0.3") && ping("10.89.0.2", "10.89.0.3"));
}

pub(crate) fn connections_live_on_while_the_tables_are_made_again() {
    let (mut world, first, second) = World::blue();
    world.publish("8080:80", first.addresses[0]);
    let inside = listen(&first.netns, 80);
    let outside = listen(&world.lan, 81);
    let mut connections = vec![
        connect(&world.lan, "192.0.2.1:8080", &inside).unwrap(),
        connect(&world.host.netns, "127.0.0.1:8080", &inside).unwrap(),
        connect(&second.netns, "10.89.0.2:80", &inside).unwrap(),
        connect(&second.netns, "192.0.2.2:81", &outside).unwrap(),
    ];
    for _ in 0..3 {
        world.establish();
        for (near, far, caller) in &mut connections {
            assert!(carries((near, far)), "{caller}");
        }
    }
    // Another process takes over what this one leaves.
    world.reopen();
    world.establish();
    for (near, far, caller) in &mut connections {
        assert!(carries((near, far)), "{caller}");
    }
}

pub(crate) fn a_host_closed_to_strangers_forwards_for_nobody_else_and_lets_their_bridges_be() {
    let (mut world, first, _) = World::blue();
    let host = world.host.netns.clone();
    // A bridge of somebody else with two of their sandboxes, in another subnet.
    run(&host, "ip link add theirs type bridge");
    run(&host, "ip address add 10.70.0.1/24 dev theirs");
    run(&host, "ip link set theirs up");
    let theirs = [2, 3].map(|number| {
        let netns = netloft_netns::Netns::create().unwrap();
        let place = netns.path().display().to_string();
        run(&host, &format!("ip link add their{number} type veth peer name eth0 netns {place}"));
        run(&host, &format!("ip link set their{number} master theirs up"));
        run(&netns, &format!("ip address add 10.70.0.{number}/24 dev eth0"));
        run(&netns, "ip link set eth0 up");
        run(&netns, "ip route add default via 10.70.0.1");
        netns
    });
    set(&host, "bridge/bridge-nf-call-iptables", "1");
    let (sibling, outside) = (listen(&theirs[1], 80), listen(&world.lan, 80));
    let routed = || call(&theirs[0], "192.0.2.2:80", &outside);
    assert!(routed().is_ok(), "the host forwards");

    world.facts.insert(Fact::ClosedToStrangers(Family::V4));
    world.establish();
    assert!(routed().is_err());
    assert!(call(&theirs[0], "10.70.0.3:80", &sibling).is_ok());
    assert!(call(&first.netns, "192.0.2.2:80", &outside).is_ok(), "ours go on");
    world.firewall.change(&[], &[Fact::ClosedToStrangers(Family::V4)]).unwrap();
    assert!(routed().is_ok());
}

pub(crate) fn one_sandbox_cannot_use_up_the_table_of_connections() {
    let (world, first, second) = World::blue();
    let max = usize::try_from(netloft_nft::CONNECTIONS_PER_ADDRESS_MAX).unwrap();
    let flood = || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        for port in 1..=u16::try_from(max + 2000).unwrap() {
            // The neighbour refuses, which the next send is told.
            let _ = socket.send_to(b"x", ("192.0.2.2", port));
        }
    };
    // Without an answer, nothing is refused.
    run(&world.lan, "ip address flush dev lan1 scope global");
    run(&world.host.netns, "ip neigh replace 192.0.2.2 lladdr 02:00:00:00:00:77 dev lan0");
    first.netns.run(flood).unwrap();
    let count: usize = run(&world.host.netns, "conntrack -C").trim().parse().unwrap();
    assert!((max..max + 100).contains(&count), "{count}");
    let sibling = listen(&second.netns, 80);
    assert!(call(&first.netns, "10.89.0.3:80", &sibling).is_err());
    let host = listen(&world.host.netns, 53);
    assert!(call(&second.netns, "10.89.0.1:53", &host).is_ok());
}
