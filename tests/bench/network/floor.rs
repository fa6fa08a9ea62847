//! The floor: the system calls that have to be made, on one thread, over sockets that are open already.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, setns, unshare};

use crate::contender::{Order, Place, Port, Worker};
use crate::netlink::{CREATE, MapChange, Socket, message, nested, number, port_element, text};
use netloft_tests::bench::peers::Peers;

/// Of `linux/rtnetlink.h` and `linux/if_link.h`.
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_GROUP: u16 = 27;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;

/// In a namespace without other links the second one has this index: the bridge, and `eth0` in a sandbox.
const SECOND: u32 = 2;

/// One table with a map of published ports and one rule that looks into it, from outside and from the host.
pub(crate) const TABLE: &str = "floor";
pub(crate) const MAP: &str = "ports";
const RULESET: &str = "table ip floor {
    map ports { type inet_service : ipv4_addr . inet_service; }
    chain in { type nat hook prerouting priority dstnat; fib daddr type local dnat ip to tcp dport map @ports; }
    chain out { type nat hook output priority -100; fib daddr type local dnat ip to tcp dport map @ports; }
}";

/// When the namespaces of sandboxes are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Namespaces {
    /// Before the clock runs.
    Ready,
    /// While it runs.
    Made,
}

/// What becomes of IPv6, of which a network of IPv4 has no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ipv6 {
    Off,
    /// As the kernel has it.
    On,
}

pub(crate) struct Floor {
    place: Arc<Place>,
    route: Socket,
    netfilter: Socket,
    namespaces: Namespaces,
    ipv6: Ipv6,
    ready: Vec<Sandbox>,
    attached: HashMap<Order, Sandbox>,
}

struct Sandbox {
    /// What the host end of its link is called: never as one that was cut and is not gone yet.
    host_link: String,
    netns: File,
    route: Socket,
}

impl Floor {
    pub(crate) fn workers(
        place: &Arc<Place>,
        count: usize,
        namespaces: Namespaces,
        ipv6: Ipv6,
    ) -> Result<Vec<Box<dyn Worker>>> {
        place.host.run(|| {
            if ipv6 == Ipv6::Off {
                fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?;
            }
            create_bridge(&Socket::route()?, "br0", [10, 89, 0, 1])?;
            load_ruleset(&place.peers)?;
            (0..count).map(|_| Ok(Box::new(Self::new(place, namespaces, ipv6)?) as Box<dyn Worker>)).collect()
        })?
    }

    /// In the host already.
    fn new(place: &Arc<Place>, namespaces: Namespaces, ipv6: Ipv6) -> Result<Self> {
        Ok(Self {
            place: Arc::clone(place),
            route: Socket::route()?,
            netfilter: Socket::netfilter()?,
            namespaces,
            ipv6,
            ready: Vec::new(),
            attached: HashMap::new(),
        })
    }

    fn make_sandbox(&self) -> Result<Sandbox> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        enter_new()?;
        let host_link = format!("v{}", MADE.fetch_add(1, Ordering::Relaxed));
        let netns = File::open("/proc/thread-self/ns/net")?;
        let sandbox = Sandbox { host_link, netns, route: Socket::route()? };
        if self.ipv6 == Ipv6::Off {
            fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")?;
        }
        setns_home(&self.place)?;
        Ok(sandbox)
    }

    /// One message: the pair, one end in its namespace under its final name, the other up and in the bridge.
    fn create_pair(&self, sandbox: &Sandbox) -> Result<()> {
        // Otherwise a link gets a queue for each CPU, and waits until all but one are gone again.
        let one_queue = [number(IFLA_NUM_TX_QUEUES, 1), number(IFLA_NUM_RX_QUEUES, 1)].concat();
        let netns = number(IFLA_NET_NS_FD, sandbox.netns.as_raw_fd().cast_unsigned());
        let peer = [link(0, Flag::Unsaid), text(IFLA_IFNAME, "eth0"), netns, one_queue.clone()].concat();
        let info = [nested(INFO_KIND, b"veth\0"), nested(INFO_DATA, &nested(VETH_INFO_PEER, &peer))].concat();
        let name = text(IFLA_IFNAME, &sandbox.host_link);
        let pair =
            [link(0, Flag::Up), name, number(IFLA_MASTER, SECOND), one_queue, nested(IFLA_LINKINFO, &info)];
        self.route.talk(&[message(RTM_NEWLINK, CREATE, &pair.concat())])
    }

    fn change_port(&self, change: MapChange, order: Order) -> Result<()> {
        let element = port_element(change, order.host_port(), order.address().octets(), 80);
        self.netfilter.change_map(change, TABLE, MAP, &[element])
    }
}

impl Worker for Floor {
    fn prepare(&mut self, orders: &[Order]) -> Result<()> {
        if self.namespaces == Namespaces::Ready {
            self.ready = orders.iter().map(|_| self.make_sandbox()).collect::<Result<_>>()?;
        }
        Ok(())
    }

    fn attach(&mut self, order: Order) -> Result<()> {
        let sandbox = self.ready.pop().map_or_else(|| self.make_sandbox(), Ok)?;
        self.create_pair(&sandbox)?;
        // AF_INET, RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST: the default route.
        let route = [2, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0].to_vec();
        let route = [route, nested(RTA_GATEWAY, &[10, 89, 0, 1]), number(RTA_OIF, SECOND)].concat();
        sandbox.route.talk(&[
            message(RTM_NEWLINK, 0, &link(1, Flag::Up)),
            message(RTM_NEWLINK, 0, &link(SECOND, Flag::Up)),
            message(RTM_NEWADDR, CREATE, &address(SECOND, order.address().octets())),
            message(RTM_NEWROUTE, CREATE, &route),
        ])?;
        if order.port == Port::Published {
            self.change_port(MapChange::Add, order)?;
        }
        self.attached.insert(order, sandbox);
        Ok(())
    }

    /// Cuts the link off and leaves the devices to the kernel, which removes them with their namespace.
    fn detach(&mut self, order: Order) -> Result<()> {
        let sandbox = self.attached.remove(&order).context("it is attached")?;
        if order.port == Port::Published {
            self.change_port(MapChange::Delete, order)?;
        }
        let name = text(IFLA_IFNAME, &sandbox.host_link);
        let cut = [link(0, Flag::Down), name, number(IFLA_MASTER, 0), number(IFLA_GROUP, 77)].concat();
        self.route.talk(&[message(RTM_NEWLINK, 0, &cut)])?;
        drop(sandbox);
        Ok(())
    }

    fn create_network(&mut self, number: u8) -> Result<()> {
        create_bridge(&self.route, &format!("n{number}"), [10, 200, number, 1])
    }

    fn remove_network(&mut self, number: u8) -> Result<()> {
        let name = text(IFLA_IFNAME, &format!("n{number}"));
        self.route.talk(&[message(RTM_DELLINK, 0, &[link(0, Flag::Unsaid), name].concat())])
    }

    fn finish(&mut self) -> Result<()> {
        self.ready.clear();
        Ok(())
    }
}

/// Makes a bridge that is up and has an address.
fn create_bridge(socket: &Socket, name: &str, gateway: [u8; 4]) -> Result<()> {
    let kind = nested(IFLA_LINKINFO, &nested(INFO_KIND, b"bridge\0"));
    let bridge = [link(0, Flag::Up), text(IFLA_IFNAME, name), kind].concat();
    socket.talk(&[message(RTM_NEWLINK, CREATE, &bridge)])?;
    let index = nix::net::if_::if_nametoindex(name)?;
    socket.talk(&[message(RTM_NEWADDR, CREATE, &address(index, gateway))])
}

/// Makes the table that ports are published in.
pub(crate) fn load_ruleset(peers: &Peers) -> Result<()> {
    let mut nft = peers.command("nft");
    nft.args(["-f", "-"]);
    Peers::run(nft, RULESET.as_bytes()).map(drop)
}

#[expect(clippy::disallowed_methods, reason = "on a thread that was made for it, and back: see below")]
fn enter_new() -> Result<()> {
    Ok(unshare(CloneFlags::CLONE_NEWNET)?)
}

#[expect(clippy::disallowed_methods, reason = "the floor has no second thread to wait for")]
fn setns_home(place: &Place) -> Result<()> {
    Ok(setns(&place.host, CloneFlags::CLONE_NEWNET)?)
}

/// What is said of `IFF_UP`.
#[derive(Clone, Copy)]
enum Flag {
    Unsaid,
    Up,
    Down,
}

/// The header of a message about a link.
fn link(index: u32, flag: Flag) -> Vec<u8> {
    let (flags, change) = match flag {
        Flag::Unsaid => (0_u32, 0_u32),
        Flag::Up => (1, 1),
        Flag::Down => (0, 1),
    };
    [[0; 4], index.to_ne_bytes(), flags.to_ne_bytes(), change.to_ne_bytes()].concat()
}

/// An address with a prefix of 16 bits.
fn address(index: u32, address: [u8; 4]) -> Vec<u8> {
    let header = [[2, 16, 0, 0], index.to_ne_bytes()].concat();
    [header, nested(IFA_LOCAL, &address), nested(IFA_ADDRESS, &address)].concat()
}
