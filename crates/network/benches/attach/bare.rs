//! The floor: the system calls that have to be made, on one thread, over sockets that are open already.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, socket,
};

use crate::Contender;

/// Of `linux/rtnetlink.h`, `linux/netlink.h` and `linux/if_link.h`.
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const REQUEST_ACK: u16 = 0x5;
const CREATE_EXCL: u16 = 0x600;
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

/// In a namespace without other links, as here, the second link has this index.
const SECOND: u32 = 2;

pub(crate) struct Bare {
    home: File,
    host: OwnedFd,
    /// Made before the clock runs, if they are to be; none otherwise.
    ready: Vec<Place>,
    is_ready_before: bool,
    places: Vec<(u32, Place)>,
    made: u32,
}

struct Place {
    netns: File,
    socket: OwnedFd,
}

impl Bare {
    /// With namespaces made as they are needed, or before the clock runs.
    pub(crate) fn new(is_ready_before: bool) -> Self {
        let home = current();
        enter_new();
        let host = open();
        let bridge = nested(INFO_KIND, b"bridge\0");
        let bridge = [link(0, true), text(IFLA_IFNAME, "br0"), nested(IFLA_LINKINFO, &bridge)].concat();
        let address = address(SECOND, 1);
        talk(
            &host,
            &[message(RTM_NEWLINK, CREATE_EXCL, &bridge), message(RTM_NEWADDR, CREATE_EXCL, &address)],
        );
        fs::write("/proc/sys/net/ipv6/conf/br0/disable_ipv6", "1").unwrap();
        enter(&home);
        Self { home, host, ready: Vec::new(), is_ready_before, places: Vec::new(), made: 0 }
    }

    fn make_place(&self) -> Place {
        enter_new();
        let place = Place { netns: current(), socket: open() };
        fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
        enter(&self.home);
        place
    }
}

impl Contender for Bare {
    fn prepare(&mut self, batch: u8) {
        if self.is_ready_before {
            self.ready = (0..batch).map(|_| self.make_place()).collect();
        }
    }

    fn attach(&mut self, index: u8) {
        let place = self.ready.pop().unwrap_or_else(|| self.make_place());
        self.made += 1;
        let one_queue = [number(IFLA_NUM_TX_QUEUES, 1), number(IFLA_NUM_RX_QUEUES, 1)].concat();
        let netns = number(IFLA_NET_NS_FD, place.netns.as_raw_fd().try_into().unwrap());
        let peer = [link(0, false), text(IFLA_IFNAME, "eth0"), netns, one_queue.clone()].concat();
        let info = [nested(INFO_KIND, b"veth\0"), nested(INFO_DATA, &nested(VETH_INFO_PEER, &peer))].concat();
        let name = text(IFLA_IFNAME, &format!("v{}", self.made));
        let master = number(IFLA_MASTER, SECOND);
        let pair = [link(0, true), name, master, one_queue, nested(IFLA_LINKINFO, &info)].concat();
        talk(&self.host, &[message(RTM_NEWLINK, CREATE_EXCL, &pair)]);

        // AF_INET, RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST: the default route.
        let route = [2, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0].to_vec();
        let route = [route, nested(RTA_GATEWAY, &[10, 89, 0, 1]), number(RTA_OIF, SECOND)].concat();
        let requests = [
            message(RTM_NEWLINK, 0, &link(1, true)),
            message(RTM_NEWLINK, 0, &link(SECOND, true)),
            message(RTM_NEWADDR, CREATE_EXCL, &address(SECOND, index + 2)),
            message(RTM_NEWROUTE, CREATE_EXCL, &route),
        ];
        talk(&place.socket, &requests);
        self.places.push((self.made, place));
    }

    fn detach(&mut self, _: u8) {
        let (made, place) = self.places.pop().unwrap();
        let name = text(IFLA_IFNAME, &format!("v{made}"));
        let cut = [link_down(), name, number(IFLA_MASTER, 0), number(IFLA_GROUP, 77)].concat();
        talk(&self.host, &[message(RTM_NEWLINK, 0, &cut)]);
        drop(place);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "on the only thread of the bench that is ever looked at, and back"
)]
fn enter(netns: &File) {
    setns(netns, CloneFlags::CLONE_NEWNET).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "as above")]
fn enter_new() {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
}

fn current() -> File {
    File::open("/proc/thread-self/ns/net").unwrap()
}

fn open() -> OwnedFd {
    let (family, protocol) = (AddressFamily::Netlink, SockProtocol::NetlinkRoute);
    let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0)).unwrap();
    socket
}

/// Sends the messages in one datagram and reads as many acknowledgements, none of which may be a refusal.
fn talk(socket: &OwnedFd, messages: &[Vec<u8>]) {
    let kernel = NetlinkAddr::new(0, 0);
    sendto(socket.as_raw_fd(), &messages.concat(), &kernel, MsgFlags::empty()).unwrap();
    let mut buffer = [0; 1024];
    for _ in messages {
        recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap();
        assert_eq!(buffer[16..20], [0; 4], "the kernel refused");
    }
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(16 + body.len()).unwrap();
    let mut message = len.to_ne_bytes().to_vec();
    message.extend([kind.to_ne_bytes(), (REQUEST_ACK | flags).to_ne_bytes()].concat());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// The header of a message about a link: with or without `IFF_UP`, or not speaking of it.
fn link(index: u32, is_up: bool) -> Vec<u8> {
    let up = u32::from(is_up).to_ne_bytes();
    [[0; 4], index.to_ne_bytes(), up, up].concat()
}

fn link_down() -> Vec<u8> {
    [[0; 4], [0; 4], [0; 4], 1_u32.to_ne_bytes()].concat()
}

/// The address 10.89.0.`last`/24.
fn address(index: u32, last: u8) -> Vec<u8> {
    let address = [10, 89, 0, last];
    let header = [[2, 24, 0, 0], index.to_ne_bytes()].concat();
    [header, nested(IFA_LOCAL, &address), nested(IFA_ADDRESS, &address)].concat()
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    nested(kind, &value.to_ne_bytes())
}

fn text(kind: u16, value: &str) -> Vec<u8> {
    nested(kind, &[value.as_bytes(), &[0]].concat())
}

/// An attribute, padded to four bytes.
fn nested(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + value.len()).unwrap();
    let mut attribute = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}
