//! Published ports.

use std::slice::from_ref;

use super::world::{World, ask, call, carries, connect, listen, listen_udp, publication, run, settle};
use crate::support::{ip, set};

pub(crate) fn published_ports_answer_everybody_and_see_who_calls() {
    let (mut world, first, second) = World::blue();
    for address in first.addresses {
        world.publish("8080:80", address);
    }
    settle(&world, &first);
    let listener = listen(&first.netns, 80);
    let host = world.host.netns.clone();
    for (from, at, caller) in [
        (&world.lan, "192.0.2.1", "192.0.2.2"),
        (&world.lan, "[2001:db8::1]", "2001:db8::2"),
        (&host, "192.0.2.1", "192.0.2.1"),
        (&host, "[2001:db8::1]", "2001:db8::1"),
        (&host, "10.89.0.1", "10.89.0.1"),
        (&host, "127.0.0.1", "10.89.0.1"),
        (&host, "127.8.9.10", "10.89.0.1"),
        (&second.netns, "192.0.2.1", "10.89.0.1"),
        (&second.netns, "10.89.0.1", "10.89.0.1"),
        (&second.netns, "[fd00:89::1]", "fd00:89::1"),
    ] {
        let seen = call(from, &format!("{at}:8080"), &listener);
        assert_eq!(seen.unwrap().to_string(), caller, "{at}");
    }
}

pub(crate) fn a_sandbox_reaches_its_own_published_ports() {
    let (mut world, first, _) = World::blue();
    for address in first.addresses {
        world.publish("8080:80", address);
    }
    settle(&world, &first);
    let listener = listen(&first.netns, 80);
    let host = world.host.netns.clone();
    // Where br_netfilter does not look at frames, the packet goes up to the host and down again.
    for key in ["bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"] {
        set(&host, key, "0");
    }
    let reaches_itself = || {
        for at in ["192.0.2.1", "[2001:db8::1]", "10.89.0.1"] {
            let caller = call(&first.netns, &format!("{at}:8080"), &listener).unwrap();
            assert!(["10.89.0.1", "fd00:89::1"].contains(&caller.to_string().as_str()), "{at}: {caller}");
        }
    };
    reaches_itself();
    // Where it does, the bridge itself has to give the frame back.
    for key in ["bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"] {
        set(&host, key, "1");
    }
    run(&host, "ip link set blue-2 type bridge_slave hairpin off");
    assert!(call(&first.netns, "192.0.2.1:8080", &listener).is_err());
    run(&host, "ip link set blue-2 type bridge_slave hairpin on");
    reaches_itself();
}

pub(crate) fn frames_for_many_do_not_come_back_from_a_hairpin_port() {
    let (mut world, first, _) = World::blue();
    let port = &ip(&world.host.netns, &["link", "show", "blue-2"])[0]["linkinfo"]["info_slave_data"];
    assert_eq!(port["hairpin"], true);
    let echoes = || {
        let before = received(&first.netns);
        let cry = || {
            let socket = std::net::UdpSocket::bind("10.89.0.2:0").unwrap();
            socket.set_broadcast(true).unwrap();
            for _ in 0..100 {
                socket.send_to(b"x", "10.89.0.255:9").unwrap();
            }
        };
        first.netns.run(cry).unwrap();
        received(&first.netns) - before
    };
    let few = echoes();
    assert!(few < 50, "{few}");
    world.facts.remove(&first.guard);
    world.establish();
    assert!(echoes() >= 100, "without a guard it hears itself");
}

/// How many packets the interface of a sandbox has received.
fn received(sandbox: &netloft_netns::Netns) -> u64 {
    ip(sandbox, &["-statistics", "link", "show", "eth0"])[0]["stats64"]["rx"]["packets"].as_u64().unwrap()
}

pub(crate) fn an_address_of_the_host_publishes_there_alone() {
    let (mut world, first, second) = World::blue();
    world.publish("192.0.2.1:8080:80", first.addresses[0]);
    world.publish("127.0.0.1:8081:80", first.addresses[0]);
    world.publish("[2001:db8::1]:8080:80", first.addresses[1]);
    // The particular comes before the general.
    world.publish("8080:81", second.addresses[0]);
    settle(&world, &first);
    let (listener, other) = (listen(&first.netns, 80), listen(&second.netns, 81));
    let host = world.host.netns.clone();
    assert!(call(&world.lan, "192.0.2.1:8080", &listener).is_ok());
    assert!(call(&world.lan, "[2001:db8::1]:8080", &listener).is_ok());
    assert!(call(&host, "10.89.0.1:8080", &other).is_ok());
    assert!(call(&host, "127.0.0.1:8081", &listener).is_ok());
    assert!(call(&world.lan, "192.0.2.1:8081", &listener).is_err());
    assert!(call(&host, "192.0.2.1:8081", &listener).is_err());
    assert!(call(&host, "[fd00:89::1]:8080", &listener).is_err());
}

pub(crate) fn a_port_published_at_loopback_is_not_reached_by_a_forged_packet() {
    let (mut world, first, _) = World::blue();
    world.publish("127.0.0.1:8080:80", first.addresses[0]);
    let listener = listen(&first.netns, 80);
    // A neighbour that sends packets for 127.0.0.1 to the host; as far as its own kernel goes.
    set(&world.lan, "ipv4/conf/lan1/route_localnet", "1");
    run(&world.lan, "ip route replace local 127.0.0.0/8 dev lo table 99");
    run(&world.lan, "ip route add 127.0.0.1/32 via 192.0.2.1 dev lan1 src 192.0.2.2");
    let forged = || call(&world.lan, "127.0.0.1:8080", &listener);
    assert!(forged().is_err());
    assert!(call(&world.host.netns, "127.0.0.1:8080", &listener).is_ok());
    // The counter-proof: without the rule the translation would let it through.
    run(&world.host.netns, "nft add table ip open");
    world.nft("add chain ip open pre { type nat hook prerouting priority -110 ; }");
    world.nft("add rule ip open pre ip daddr 127.0.0.1 tcp dport 8080 dnat to 10.89.0.2:80");
    assert!(forged().is_ok());
}

pub(crate) fn udp_ranges_and_shifted_ranges_are_published() {
    let (mut world, first, _) = World::blue();
    let [to4, to6] = first.addresses;
    world.publish("5000-5009/udp", to4);
    world.publish("5000-5009/udp", to6);
    world.publish("6000-6009:7000-7009", to4);
    settle(&world, &first);
    let udp = listen_udp(&first.netns, 5007);
    for at in ["192.0.2.1", "[2001:db8::1]"] {
        let caller = ask(&world.lan, &format!("{at}:5007"), &udp).unwrap();
        assert!(["192.0.2.2", "2001:db8::2"].contains(&caller.to_string().as_str()));
        assert!(ask(&world.lan, &format!("{at}:5010"), &udp).is_err());
    }
    let shifted = listen(&first.netns, 7009);
    assert!(call(&world.lan, "192.0.2.1:6009", &shifted).is_ok());
    assert!(call(&world.lan, "192.0.2.1:7009", &shifted).is_err());
}

pub(crate) fn sctp_is_published_as_the_others_are() {
    let (mut world, first, _) = World::blue();
    world.publish("132:3868/sctp", first.addresses[0]);
    let element = world.nft("get element inet netloft single4 { sctp . 132 }");
    assert!(element.contains("sctp . 132 : 10.89.0.2 . 3868"), "{element}");
}

pub(crate) fn a_deleted_publication_answers_nobody_new_and_the_next_one_another() {
    let (mut world, first, second) = World::blue();
    let old = world.publish("8080:80", first.addresses[0]);
    let listeners = [&first, &second].map(|sandbox| listen(&sandbox.netns, 80));
    assert!(call(&world.lan, "192.0.2.1:8080", &listeners[0]).is_ok());
    let (mut near, mut far, _) = connect(&world.lan, "192.0.2.1:8080", &listeners[0]).unwrap();

    let new = publication("8080:80", second.addresses[0]);
    world.firewall.change(from_ref(&new), &[old]).unwrap();
    assert!(call(&world.lan, "192.0.2.1:8080", &listeners[1]).is_ok());
    assert!(carries((&mut near, &mut far)), "what is connected stays");
    world.firewall.change(&[], &[new]).unwrap();
    assert!(call(&world.lan, "192.0.2.1:8080", &listeners[1]).is_err());
}
