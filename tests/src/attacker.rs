//! What an attacker has who is root in a sandbox: frames that no honest kernel builds, and a wire to send them on.
//!
//! The functions that build a frame build one layer each and take the next as bytes, so that any of them can lie.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use netloft_netns::Netns;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::sockopt::{BindToDevice, RcvBuf, ReceiveTimeout};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvfrom, sendto, setsockopt, socket,
};
use nix::sys::time::TimeVal;

/// An Ethernet address, also one that no link may have, such as a multicast one.
pub type Mac = [u8; 6];

/// Everybody on the link.
pub const BROADCAST: Mac = [0xff; 6];

/// `ETH_P_IP`.
pub const IPV4: u16 = 0x0800;
/// `ETH_P_ARP`.
pub const ARP: u16 = 0x0806;
/// `ETH_P_IPV6`.
pub const IPV6: u16 = 0x86dd;
/// For experiments (IEEE 802, section 9.2.4): no kernel does anything with it.
pub const EXPERIMENTAL: u16 = 0x88b5;

/// Protocol numbers of IP (IANA, "Assigned Internet Protocol Numbers").
const ICMP: u8 = 1;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// What of a frame is kept when it arrives: more than any link of the tests carries.
const FRAME_LEN_MAX: usize = 4096;

/// How long something may take to arrive that was sent, which takes microseconds, on a machine that is busy.
const PATIENCE: TimeVal = TimeVal::new(5, 0);

/// `PACKET_OUTGOING` of packet(7): a frame that this side sent.
const OUTGOING: u8 = 4;

/// A packet socket on one link: sends any frame, and sees every frame that arrives, for whomever it is.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    link: LinkAddr,
}

impl Wire {
    /// Takes hold of a link, which is up and has an IPv4 address.
    ///
    /// # Panics
    ///
    /// If the kernel refuses.
    pub fn open(netns: &Netns, link: &str) -> Self {
        netns.run(|| Self::open_here(link)).expect("a namespace that is open can be entered")
    }

    fn open_here(link: &str) -> Self {
        let index = if_nametoindex(link).expect("the link is there") as usize;
        let (family, flags) = (AddressFamily::Packet, SockFlag::SOCK_CLOEXEC);
        let socket = socket(family, SockType::Raw, flags, SockProtocol::EthAll)
            .expect("whoever is root in a namespace may open packet sockets there");
        setsockopt(&socket, ReceiveTimeout, &PATIENCE).expect("every socket has a timeout");
        setsockopt(&socket, RcvBuf, &(1 << 22)).expect("the kernel takes less if it must");
        announce(link);
        let link = loop {
            let (_, seen) = receive(&socket);
            if seen.ifindex() == index {
                break seen;
            }
        };
        Self { socket, link }
    }

    /// Sends a frame.
    ///
    /// # Panics
    ///
    /// If the link is gone.
    pub fn send(&self, frame: &[u8]) {
        let sent = sendto(self.socket.as_raw_fd(), frame, &self.link, MsgFlags::empty());
        assert_eq!(sent, Ok(frame.len()), "the link takes every frame");
    }

    /// The frames that arrive before the first with these bytes in it. That one is taken, too.
    ///
    /// # Panics
    ///
    /// If that one does not arrive within five seconds.
    #[track_caller]
    pub fn frames_before(&self, mark: &[u8]) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        loop {
            let (frame, from) = receive(&self.socket);
            if from.ifindex() != self.link.ifindex() || from.pkttype() == OUTGOING {
                continue;
            }
            if contains(&frame, mark) {
                return frames;
            }
            frames.push(frame);
        }
    }
}

/// Sends a broadcast on a link. There is no safe way to write a link's address down, so a packet socket learns it from
/// a frame that it sees.
fn announce(link: &str) {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("there are free ports");
    setsockopt(&socket, BindToDevice, &link.into()).expect("the link is there");
    socket.set_broadcast(true).expect("it is a datagram socket");
    socket.send_to(b"hello", (Ipv4Addr::BROADCAST, 9)).expect("the link is up");
}

#[track_caller]
fn receive(socket: &OwnedFd) -> (Vec<u8>, LinkAddr) {
    let mut frame = vec![0; FRAME_LEN_MAX];
    let (len, from) = match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut frame) {
        Ok(received) => received,
        Err(error) => panic!("a frame that was waited for does not arrive: {error}"),
    };
    frame.truncate(len);
    (frame, from.expect("packet sockets tell the link"))
}

/// Whether the bytes of `part` stand somewhere in `whole`.
pub fn contains(whole: &[u8], part: &[u8]) -> bool {
    whole.windows(part.len()).any(|window| window == part)
}

/// A frame.
pub fn ethernet(to: Mac, from: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&to, &from, &ethertype.to_be_bytes()[..], payload].concat()
}

/// A frame with an 802.1Q tag put in: of a VLAN, or of none but a priority if that is 0.
pub fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(12);
    [addresses, &[0x81, 0x00], &vlan.to_be_bytes(), rest].concat()
}

/// What an ARP packet does (RFC 826).
#[derive(Debug, Clone, Copy)]
pub enum ArpKind {
    /// Asks who has the target's address.
    Request = 1,
    /// Says that the sender has its address.
    Reply = 2,
}

/// An ARP packet.
pub fn arp(kind: ArpKind, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, kind as u8];
    [&head, &sender.0[..], &sender.1.octets(), &target.0, &target.1.octets()].concat()
}

/// An IP packet with a datagram in it. Both addresses are of one family.
///
/// # Panics
///
/// If they are not, or it is too long.
pub fn datagram(from: SocketAddr, to: SocketAddr, data: &[u8]) -> Vec<u8> {
    let udp = udp(from, to, data);
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ipv4(from, to, UDP, &udp),
        (IpAddr::V6(from), IpAddr::V6(to)) => ipv6(from, to, UDP, &udp),
        _ => panic!("{from} and {to} are not of one family"),
    }
}

/// The same in two fragments, the second of which begins eight bytes after the first: with the data.
///
/// # Panics
///
/// If it is too long.
pub fn datagram_in_fragments(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), data: &[u8]) -> [Vec<u8>; 2] {
    let udp = udp(from.into(), to.into(), data);
    let (first, second) = udp.split_at(8);
    // More fragments follow; then an offset of eight bytes.
    [ipv4_part(from.0, to.0, UDP, 0x2000, first), ipv4_part(from.0, to.0, UDP, 1, second)]
}

/// An IPv6 packet with a datagram behind so many destination options of 250 bytes that nobody knows and that say they
/// may be skipped (RFC 8200, section 4.2).
///
/// # Panics
///
/// If the addresses are not of IPv6, or it is too long.
pub fn datagram_behind_options(from: SocketAddr, to: SocketAddr, count: usize, data: &[u8]) -> Vec<u8> {
    let (IpAddr::V6(source), IpAddr::V6(target)) = (from.ip(), to.ip()) else {
        panic!("{from} and {to} are not of IPv6")
    };
    ipv6(source, target, DESTINATION_OPTIONS, &behind_options(UDP, count, &udp(from, to, data)))
}

fn udp(from: SocketAddr, to: SocketAddr, data: &[u8]) -> Vec<u8> {
    let len = len16(8 + data.len());
    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    let mut datagram = [&ports, &len.to_be_bytes()[..], &[0, 0], data].concat();
    let checksum = checksum(&[&pseudo_header(from.ip(), to.ip(), UDP, len), &datagram]);
    datagram[6..8].copy_from_slice(&checksum.to_be_bytes());
    datagram
}

/// The four bytes that an answer to [`echo_request`] repeats.
pub fn echo_mark(number: u16) -> [u8; 4] {
    let [high, low] = number.to_be_bytes();
    // Behind them stands the sequence number: always 1.
    [high, low, 0, 1]
}

/// An IP packet that asks for an echo. Both addresses are of one family.
///
/// # Panics
///
/// If they are not.
pub fn echo_request(from: IpAddr, to: IpAddr, number: u16) -> Vec<u8> {
    let body = [&[0, 0, 0, 0], &echo_mark(number)[..], b"echo echo echo"].concat();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ipv4(from, to, ICMP, &icmp(8, body)),
        (IpAddr::V6(from), IpAddr::V6(to)) => ipv6(from, to, ICMPV6, &icmpv6(from, to, 128, body)),
        _ => panic!("{from} and {to} are not of one family"),
    }
}

/// A query of who listens to which multicast group, which makes its sender a multicast router (RFC 2236).
pub fn igmp_query(from: Ipv4Addr) -> Vec<u8> {
    ipv4(from, Ipv4Addr::new(224, 0, 0, 1), 2, &icmp(0x11, vec![0, 100, 0, 0, 0, 0, 0, 0]))
}

/// A router advertisement to all nodes: "I am your default router for half an hour" (RFC 4861, section 4.2).
pub fn router_advertisement(from: Ipv6Addr, mac: Mac) -> Vec<u8> {
    ipv6(from, ALL_NODES.0, ICMPV6, &router_advertisement_body(from, mac))
}

/// The same behind destination options; see [`datagram_behind_options`].
pub fn router_advertisement_behind_options(from: Ipv6Addr, mac: Mac, count: usize) -> Vec<u8> {
    let hidden = behind_options(ICMPV6, count, &router_advertisement_body(from, mac));
    ipv6(from, ALL_NODES.0, DESTINATION_OPTIONS, &hidden)
}

fn router_advertisement_body(from: Ipv6Addr, mac: Mac) -> Vec<u8> {
    let lifetime = 1800_u16.to_be_bytes();
    let head = [&[0; 4], &[64, 0][..], &lifetime, &[0; 8]].concat();
    icmpv6(from, ALL_NODES.0, 134, [&head[..], &[1, 1], &mac].concat())
}

/// A neighbour advertisement that was not asked for: "`address` is at `mac`, whatever you knew" (RFC 4861,
/// section 4.4).
pub fn neighbour_advertisement(from: Ipv6Addr, to: Ipv6Addr, address: Ipv6Addr, mac: Mac) -> Vec<u8> {
    let overrides = [0x20, 0, 0, 0];
    let body = [&[0; 4], &overrides, &address.octets()[..], &[2, 1], &mac].concat();
    ipv6(from, to, ICMPV6, &icmpv6(from, to, 136, body))
}

/// All nodes on the link, and the Ethernet address that goes with it (RFC 2464, section 7).
pub const ALL_NODES: (Ipv6Addr, Mac) = (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), [0x33, 0x33, 0, 0, 0, 1]);

/// The link-local address that a kernel gives a link (RFC 4291, appendix A).
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let (vendor, number) = mac.split_at(3);
    let mut octets = [0; 16];
    octets[..2].copy_from_slice(&[0xfe, 0x80]);
    octets[8..11].copy_from_slice(vendor);
    octets[8] ^= 2;
    octets[11..13].copy_from_slice(&[0xff, 0xfe]);
    octets[13..].copy_from_slice(number);
    octets.into()
}

const DESTINATION_OPTIONS: u8 = 60;

fn behind_options(next: u8, count: usize, payload: &[u8]) -> Vec<u8> {
    // Type 0x1e is for experiments and may be skipped (RFC 4727).
    let option = [&[0x1e, 248][..], &[0; 248]].concat();
    let mut options = option.repeat(count);
    // The header with its two bytes is a multiple of eight long; PadN fills it up.
    let gap = (8 - (options.len() + 2) % 8) % 8;
    if gap > 0 {
        // A gap of one byte would be another option; 250 bytes leave an even one.
        options
            .extend([&[1, u8::try_from(gap - 2).expect("a gap is small")][..], &vec![0; gap - 2]].concat());
    }
    let units = u8::try_from((options.len() + 2) / 8 - 1).expect("so many options fit a header");
    [&[next, units][..], &options, payload].concat()
}

fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_part(from, to, protocol, 0, payload)
}

fn ipv4_part(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, flags_and_offset: u16, payload: &[u8]) -> Vec<u8> {
    let len = len16(20 + payload.len());
    let mut header = [&[0x45, 0], &len.to_be_bytes()[..], &[0x4e, 0x4c]].concat();
    header.extend([&flags_and_offset.to_be_bytes()[..], &[64, protocol, 0, 0]].concat());
    header.extend([from.octets(), to.octets()].concat());
    let checksum = checksum(&[&header]);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    [&header, payload].concat()
}

fn ipv6(from: Ipv6Addr, to: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let len = len16(payload.len()).to_be_bytes();
    // What does not come with this hop limit was routed, which neighbours do not accept (RFC 4861, section 6.1).
    [&[0x60, 0, 0, 0], &len[..], &[next, 255], &from.octets(), &to.octets(), payload].concat()
}

/// An ICMP or IGMP message whose checksum covers just itself; its body begins with the four bytes that hold that.
fn icmp(kind: u8, mut body: Vec<u8>) -> Vec<u8> {
    body[0] = kind;
    let checksum = checksum(&[&body]);
    body[2..4].copy_from_slice(&checksum.to_be_bytes());
    body
}

fn icmpv6(from: Ipv6Addr, to: Ipv6Addr, kind: u8, mut body: Vec<u8>) -> Vec<u8> {
    body[0] = kind;
    let checksum = checksum(&[&pseudo_header(from.into(), to.into(), ICMPV6, len16(body.len())), &body]);
    body[2..4].copy_from_slice(&checksum.to_be_bytes());
    body
}

/// What a checksum covers besides the packet (RFC 768; RFC 8200, section 8.1). The two families differ only in zeros
/// and in the length of their addresses, which a sum does not see.
fn pseudo_header(from: IpAddr, to: IpAddr, protocol: u8, len: u16) -> Vec<u8> {
    let octets = |address| match address {
        IpAddr::V4(address) => Ipv4Addr::octets(&address).to_vec(),
        IpAddr::V6(address) => Ipv6Addr::octets(&address).to_vec(),
    };
    [&octets(from), &octets(to), &[0, protocol][..], &len.to_be_bytes()].concat()
}

/// The checksum of the internet (RFC 1071). Every part but the last has an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u32 =
        words.map(|word| u32::from(word[0]) << 8 | word.get(1).copied().map_or(0, u32::from)).sum();
    let folded = (sum >> 16) + (sum & 0xffff);
    let folded = (folded >> 16) + (folded & 0xffff);
    !u16::try_from(folded).expect("two folds leave sixteen bits")
}

fn len16(len: usize) -> u16 {
    u16::try_from(len).expect("a packet of the tests is short")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_rfc() {
        // RFC 1071, section 3: the sum is ddf2, and the checksum what makes it all ones.
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03], &[0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
        let header = ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), UDP, b"");
        assert_eq!(checksum(&[&header]), 0, "a header with its checksum sums up to zero");
    }

    #[test]
    fn options_fill_whole_units_of_eight_bytes() {
        for count in 1..=5 {
            let hidden = behind_options(UDP, count, b"payload");
            let len = (usize::from(hidden[1]) + 1) * 8;
            assert_eq!(&hidden[len..], b"payload", "{count}");
        }
    }
}
