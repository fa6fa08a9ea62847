//! Announcements: frames by which a sandbox's neighbours learn that an address is at another MAC address now.
//!
//! The kernel would send them from inside (`arp_notify`, `ndisc_notify`) at the moment the sandbox's interface is set
//! up. That is too early: the bridge opens the port later, in a task of its own, and drops what came before. Hence they
//! come from the host's side of the bridge, which depends on nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use netloft_netns::Enterer;
use netloft_types::MacAddr;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use rtnetlink::packet_route::AddressFamily as RouteFamily;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};

use crate::conn::{accept_absence, open_in};
use crate::request::Request;
use crate::{Conn, Error, LinkIndex};

/// Of `linux/if_ether.h` and `linux/socket.h`, in the types in which addresses of links hold them.
const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;
const AF_PACKET: libc::sa_family_t = 17;

impl Conn {
    /// Tells everyone on the network of a link that `addresses` are at `mac` from now on: an ARP announcement
    /// (RFC 5227, section 3) or an unsolicited neighbour advertisement (RFC 4861, section 7.2.6) for each.
    ///
    /// For a sandbox on a bridge, the link is the bridge; for a macvlan link, that link itself, over a connection to
    /// its namespace. Whoever has one of the addresses in memory corrects it, this namespace included; nobody else
    /// remembers anything. The first announcement of a connection takes a visit to its namespace.
    ///
    /// Each costs what a broadcast costs: some 1.5 us for every port of the bridge. Where an address always goes with
    /// the same MAC address, nobody needs it.
    ///
    /// # Errors
    ///
    /// [`Error::Announce`] if the link is down.
    pub fn announce(
        &mut self,
        enterer: &Enterer,
        link: LinkIndex,
        mac: MacAddr,
        addresses: &[IpAddr],
    ) -> Result<(), Error> {
        for &address in addresses {
            let entry = format!("{address} on link {link}");
            let request =
                Request::change_neighbour("correct neighbour", &entry, neighbour(link, mac, address));
            accept_absence(self.session.batch([request]))?;
        }
        for &address in addresses {
            let (protocol, frame) = match address {
                IpAddr::V4(address) => (ETH_P_ARP, arp_announcement(mac, address)),
                IpAddr::V6(address) => (ETH_P_IPV6, neighbour_advertisement(mac, address)),
            };
            let sent = self.frame_socket(enterer)?.send(link, protocol, &frame);
            sent.map_err(|source| Error::Announce { address, link, source })?;
        }
        Ok(())
    }

    fn frame_socket(&mut self, enterer: &Enterer) -> Result<&FrameSocket, Error> {
        let socket = match self.frames.take() {
            Some(socket) => socket,
            None => open_in(enterer, self.netns(), FrameSocket::open)?,
        };
        Ok(self.frames.insert(socket))
    }
}

/// A socket that sends whole Ethernet frames and receives nothing.
pub(crate) struct FrameSocket(OwnedFd);

impl FrameSocket {
    /// Opens a socket in the namespace of the calling thread, where it stays.
    fn open() -> io::Result<Self> {
        // No protocol: one that has some is given a copy of every such frame of the host.
        Ok(Self(socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?))
    }

    #[expect(unsafe_code, reason = "no safe wrapper makes the address of a link (packet(7))")]
    fn send(&self, link: LinkIndex, protocol: u16, frame: &[u8]) -> io::Result<()> {
        let to = libc::sockaddr_ll {
            sll_family: AF_PACKET,
            sll_protocol: protocol.to_be(),
            sll_ifindex: link.number().cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let to_len = libc::socklen_t::try_from(size_of_val(&to)).expect("it is 20 bytes");
        let (socket, to) = (self.0.as_raw_fd(), (&raw const to).cast());
        // SAFETY: `frame` and `to` outlive the call, which reads them and keeps neither; the lengths are theirs.
        let sent = unsafe { libc::sendto(socket, frame.as_ptr().cast(), frame.len(), 0, to, to_len) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// What the kernel itself makes of an announcement: an entry that is there has a new MAC address, to be verified.
fn neighbour(link: LinkIndex, mac: MacAddr, address: IpAddr) -> NeighbourMessage {
    let mut entry = NeighbourMessage::default();
    entry.header.ifindex = link.number();
    entry.header.state = NeighbourState::Stale;
    let (family, destination) = match address {
        IpAddr::V4(address) => (RouteFamily::Inet, NeighbourAddress::Inet(address)),
        IpAddr::V6(address) => (RouteFamily::Inet6, NeighbourAddress::Inet6(address)),
    };
    entry.header.family = family;
    entry.attributes = vec![
        NeighbourAttribute::Destination(destination),
        NeighbourAttribute::LinkLayerAddress(mac.bytes().to_vec()),
    ];
    entry
}

/// An ARP request for an address by its owner (RFC 826, RFC 5227).
fn arp_announcement(mac: MacAddr, address: Ipv4Addr) -> Vec<u8> {
    const ETHERNET_IPV4_REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
    let (mac, address) = (mac.bytes(), address.octets());
    [&ethernet([0xff; 6], mac, ETH_P_ARP), &ETHERNET_IPV4_REQUEST[..], &mac, &address, &[0; 6], &address]
        .concat()
}

/// A neighbour advertisement to all nodes, from the address it is about (RFC 4861, section 4.4).
fn neighbour_advertisement(mac: MacAddr, address: Ipv6Addr) -> Vec<u8> {
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    const ADVERTISEMENT: u8 = 136;
    const OVERRIDE: u8 = 0x20;
    const TARGET_MAC: [u8; 2] = [2, 1];
    const LEN: u8 = 32;
    const ICMPV6: u8 = 58;
    const HOP_LIMIT: u8 = 255;
    let (source, destination) = (address.octets(), ALL_NODES.octets());
    let about = [&[OVERRIDE, 0, 0, 0], &source[..], &TARGET_MAC, &mac.bytes()].concat();
    let pseudo_header = [&source[..], &destination, &[0, 0, 0, LEN, 0, 0, 0, ICMPV6]].concat();
    let summed = [&pseudo_header[..], &[ADVERTISEMENT, 0, 0, 0], &about].concat();
    [
        &ethernet([0x33, 0x33, 0, 0, 0, 1], mac.bytes(), ETH_P_IPV6)[..],
        &[0x60, 0, 0, 0, 0, LEN, ICMPV6, HOP_LIMIT],
        &source,
        &destination,
        &[ADVERTISEMENT, 0],
        &checksum(&summed).to_be_bytes(),
        &about,
    ]
    .concat()
}

fn ethernet(to: [u8; 6], from: [u8; 6], protocol: u16) -> Vec<u8> {
    [&to[..], &from, &protocol.to_be_bytes()].concat()
}

/// The checksum of the Internet protocols (RFC 1071), over an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    !words.fold(0, |sum: u16, word| {
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arp_announcement_asks_for_the_address_of_its_sender() {
        let frame = arp_announcement("02:00:00:00:00:07".parse().unwrap(), Ipv4Addr::new(10, 89, 0, 7));
        assert_eq!(
            frame,
            [
                [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 7, 8, 6].as_slice(),
                &[0, 1, 8, 0, 6, 4, 0, 1],
                &[2, 0, 0, 0, 0, 7, 10, 89, 0, 7],
                &[0, 0, 0, 0, 0, 0, 10, 89, 0, 7],
            ]
            .concat()
        );
    }

    #[test]
    fn the_checksum_is_that_of_the_specification() {
        // The example of RFC 1071, section 3.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        // A packet with its checksum in it sums up to nothing.
        assert_eq!(checksum(&[0x00, 0x01, 0xff, 0xfe]), 0);
    }
}
