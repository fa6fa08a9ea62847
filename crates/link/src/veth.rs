//! Veth pairs, plugged into a bridge by a guarded port.

use std::os::fd::{AsFd, AsRawFd};

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{
    InfoBridgePort, InfoData, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use crate::conn::{no_link_local_address, vanished};
use crate::request::Request;
use crate::{Conn, Error, LinkIndex, Veth, VethSpec};

impl Conn {
    /// Makes a veth pair in place, in two datagrams: nothing is moved or renamed.
    ///
    /// The peer is down, because the kernel refuses to raise it before its other end exists
    /// ([`Conn::configure_inside`] does). Both ends have one queue: to make the kernel count them is to wait for it
    /// (an RCU grace period). The host end makes no IPv6 address for itself, since a bridge port never uses one but
    /// would announce it to everyone.
    ///
    /// The host end is in its bridge, and up only once its port is guarded:
    ///
    /// - The bridge learns no address from it, and knows the peer's from the start: whatever a sandbox sends, it takes
    ///   no neighbour's frames and fills no table.
    /// - Frames to addresses that the bridge does not know are not copied to it: a sandbox sees no other's.
    /// - What comes from it may go back to it: where the bridge's frames pass the packet filter (`br_netfilter`), that is
    ///   how a sandbox reaches its own published port.
    /// - A spanning-tree message from it closes the port: a sandbox does not take part in the host's topology.
    ///
    /// Broadcast and multicast do reach it. ARP and IPv6 neighbour discovery live by them, programs find each other by
    /// IPv4 multicast, and the bridge does not snoop; to hold back one of them would keep nothing from a sandbox that
    /// asks for the other.
    ///
    /// # Errors
    ///
    /// `is_exists()` if either name is taken; `is_bridge_full()` if the bridge has 1,023 ports. Whatever
    /// fails, no pair is left behind.
    pub fn create_veth(&mut self, spec: &VethSpec) -> Result<Veth, Error> {
        let made = self.create_link("create veth pair", &spec.host_name, pair(spec))?;
        self.finish_veth(spec, made.index)
            .and_then(|()| made.peer.ok_or_else(|| vanished(&spec.host_name)))
            .map(|peer| Veth { host: made.index, peer })
            .map_err(|error| self.undo(&spec.host_name, error))
    }

    /// Has a bridge open a port now whose peer was set up, and carry packets itself if it is its first.
    ///
    /// By itself the kernel does so in a task of its own, some time later. Until then packets are dropped, and who sent
    /// the first one tries again after a second. To read a link has the kernel catch up with it (`rtnl_getlink`, since
    /// Linux 6.8).
    ///
    /// # Errors
    ///
    /// `is_not_found()` if one of the two is gone.
    pub fn open_port(&mut self, bridge: LinkIndex, port: LinkIndex) -> Result<(), Error> {
        // The port first: its opening is what brings the bridge up.
        let read = |link| Request::get_link_at("open port", &format!("{port} of bridge {bridge}"), link);
        self.session.batch([read(port), read(bridge)])?;
        Ok(())
    }

    fn finish_veth(&mut self, spec: &VethSpec, host: LinkIndex) -> Result<(), Error> {
        let name = spec.host_name.as_str();
        let address = format!("{} of {name}", spec.peer_mac);
        let requests = vec![
            Request::change_link("guard", name, guarded_port(spec, host)),
            Request::add_neighbour("pin address", &address, pinned_address(spec, host)),
        ];
        self.session.batch(requests)?;
        Ok(())
    }
}

fn pair(spec: &VethSpec) -> LinkMessage {
    let mut peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(spec.peer_name.as_str())
        .address(spec.peer_mac.bytes().to_vec())
        .setns_by_fd(spec.peer_netns.as_fd().as_raw_fd());
    let mut host =
        LinkMessageBuilder::<LinkVeth>::new(spec.host_name.as_str(), "").controller(spec.bridge.number());
    if let Some(mac) = spec.host_mac {
        host = host.address(mac.bytes().to_vec());
    }
    if let Some(mtu) = spec.mtu {
        host = host.mtu(mtu);
        peer = peer.mtu(mtu);
    }
    for queues in [LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)] {
        host = host.append_extra_attribute(queues.clone());
        peer = peer.append_extra_attribute(queues);
    }
    host.set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build()))).build()
}

/// One message guards the port and sets it up: the kernel takes the settings of the port first.
fn guarded_port(spec: &VethSpec, host: LinkIndex) -> LinkMessage {
    let port = vec![
        InfoBridgePort::Learning(false),
        InfoBridgePort::UnicastFlood(false),
        InfoBridgePort::Guard(true),
        InfoBridgePort::HairpinMode(true),
        InfoBridgePort::Isolated(spec.isolated),
    ];
    let info =
        vec![LinkInfo::PortKind(InfoPortKind::Bridge), LinkInfo::PortData(InfoPortData::BridgePort(port))];
    LinkUnspec::new_with_index(host.number())
        .alias(&spec.alias)
        .append_extra_attribute(no_link_local_address())
        .append_extra_attribute(LinkAttribute::LinkInfo(info))
        .up()
        .build()
}

/// The peer's address is at this port and nowhere else, even if it is seen at a port that others made and that learns
/// (sticky).
///
/// `NOARP` is what the bridge calls a static entry; a `PERMANENT` one would be an address of the host's own.
fn pinned_address(spec: &VethSpec, host: LinkIndex) -> NeighbourMessage {
    let mut entry = NeighbourMessage::default();
    entry.header.family = AddressFamily::Bridge;
    entry.header.ifindex = host.number();
    entry.header.state = NeighbourState::Noarp;
    entry.header.flags = NeighbourFlags::Controller | NeighbourFlags::Sticky;
    entry.attributes.push(NeighbourAttribute::LinkLayerAddress(spec.peer_mac.bytes().to_vec()));
    entry
}
