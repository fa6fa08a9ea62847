//! No attack, but worse: an address that goes from one sandbox to another while somebody still means the first.
//!
//! A client sends a SYN to a published port, behind which nobody answers any more. The port is given to the right
//! service, the address to a wrong one, and the client's kernel sends its SYN again: to the address that connection
//! tracking remembers.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use netloft_netns::Netns;
use netloft_tests::attacker::Wire;
use netloft_tests::running::eventually;

use crate::ground::{Reach, Sandbox};
use crate::support::output;
use crate::world::{LAN_HOST, LAN_NEIGHBOUR, Layout, only_the_plain_ground_falls_to};

/// How long a client waits for a connection. Its kernel sends the SYN again after one second, two and three.
const CONNECT: Duration = Duration::from_secs(8);

/// How long for a banner after that.
const READ: Duration = Duration::from_secs(2);

pub(crate) fn a_connection_under_way_reaches_the_right_service_after_its_address_is_recycled() {
    only_the_plain_ground_falls_to(
        Layout::V4,
        &[("a SYN that is sent again", |world| {
            // A subnet with room for one, so that the address cannot rest.
            world.ground.create_network("tiny", &["10.92.0.0/30"], Reach::Outward);
            let old = world.ground.attach("tiny", "old", &["8082:80/tcp"]);
            fall_silent(&old);
            let gate = Wire::open(&old.netns, "eth0");
            let client = knock_by_tcp(&world.lan, SocketAddr::new(LAN_HOST[0], 8082));
            // The SYN: in its header of IP, one address follows the other.
            gate.frames_before(&header(LAN_NEIGHBOUR[0], old.addresses[0]));
            let wrong_address = old.addresses[0];
            world.ground.detach(&old);
            let wrong = world.ground.attach("tiny", "wrong", &[]);
            let right = world.ground.attach("green", "right", &["8082:80/tcp"]);
            assert_eq!(wrong.addresses[0], wrong_address, "there is no other");
            let banner = answer(client, &[(&right, "right"), (&wrong, "wrong")]);
            world.ground.detach(&wrong);
            world.ground.detach(&right);
            match &*banner {
                "right" => false,
                "wrong" => true,
                other => panic!("the client reaches neither service: {other:?}"),
            }
        })],
    );
}

pub(crate) fn an_address_rests_before_another_sandbox_gets_it() {
    only_the_plain_ground_falls_to(
        Layout::V4,
        &[("the next sandbox gets the address of the last", |world| {
            let old = world.ground.attach("blue", "old", &[]);
            world.ground.detach(&old);
            let next = world.ground.attach("blue", "next", &[]);
            world.ground.detach(&next);
            next.addresses == old.addresses
        })],
    );
}

/// What stands in every IPv4 packet from one address to another (RFC 791, section 3.1).
fn header(from: IpAddr, to: IpAddr) -> Vec<u8> {
    let octets = |address| match address {
        IpAddr::V4(address) => Ipv4Addr::octets(&address),
        IpAddr::V6(_) => panic!("{address} is not of IPv4"),
    };
    [octets(from), octets(to)].concat()
}

/// Makes a sandbox answer nothing, not even that nobody listens.
fn fall_silent(sandbox: &Sandbox) {
    output(&sandbox.netns, "ip", &["route", "replace", "blackhole", "default"]);
}

type Client = thread::JoinHandle<String>;

/// Begins to connect, and reads what the service says first.
fn knock_by_tcp(from: &Netns, to: SocketAddr) -> Client {
    let from = from.clone();
    thread::spawn(move || {
        let connected = from.run(|| TcpStream::connect_timeout(&to, CONNECT)).unwrap();
        let read = connected.and_then(|mut stream| {
            let mut banner = String::new();
            stream.set_read_timeout(Some(READ))?;
            stream.read_to_string(&mut banner)?;
            Ok(banner)
        });
        read.unwrap_or_else(|error| error.to_string())
    })
}

/// Lets each of these services answer with its banner, until the client has one; that.
fn answer(client: Client, services: &[(&Sandbox, &str)]) -> String {
    let listen = |netns: &Netns| {
        let listener = netns.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap()).unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    };
    let listening: Vec<_> =
        services.iter().map(|(sandbox, banner)| (listen(&sandbox.netns), banner)).collect();
    eventually("the client has an answer or gave up", || {
        for (listener, banner) in &listening {
            if let Ok((mut stream, _)) = listener.accept() {
                stream.write_all(banner.as_bytes()).unwrap();
            }
        }
        client.is_finished().then_some(())
    });
    client.join().unwrap()
}
