//! Macvlan links: a sandbox on the network of one of the host's interfaces, without a bridge.

use std::os::fd::{AsFd, AsRawFd};

use netloft_netns::Netns;
use netloft_types::InterfaceName;
use rtnetlink::LinkMacVlan;
use rtnetlink::packet_route::link::{LinkMessage, MacVlanMode};

use crate::conn::vanished;
use crate::request::Request;
use crate::{Conn, Error, Link, LinkIndex, MacvlanSpec, ParentFault};

impl Conn {
    /// Makes a macvlan link in the namespace in which `inside` acts; its parent is a link of this connection's.
    ///
    /// The link is born there, in one message, and down: [`Conn::configure_inside`] sets it up. It is in bridge mode,
    /// so it reaches the other macvlan links of its parent and whatever the parent is plugged into, but not the host,
    /// which is not on the parent's network by a macvlan link.
    ///
    /// It has no end at the host. It goes with its namespace; [`Conn::delete_link`], or [`Conn::cut`] and later
    /// [`Conn::reap`], take it away earlier, called on `inside` or on another connection to that namespace.
    ///
    /// # Errors
    ///
    /// [`Error::UnusableParent`] says what is wrong with the parent; `is_exists()` if the name is taken. Whatever
    /// fails, no link is left behind.
    pub fn create_macvlan(&mut self, inside: &mut Self, spec: &MacvlanSpec) -> Result<LinkIndex, Error> {
        let parent = self.usable_parent(&spec.parent)?;
        let link = message(spec, parent, inside.netns());
        self.session.batch([Request::create_link("create macvlan link", spec.name.as_str(), link)])?;
        match inside.link(&spec.name) {
            Ok(Some(made)) => Ok(made.index),
            Ok(None) => Err(vanished(&spec.name)),
            Err(error) => Err(inside.undo(&spec.name, error)),
        }
    }

    fn usable_parent(&mut self, name: &InterfaceName) -> Result<LinkIndex, Error> {
        let unusable = |fault| Error::UnusableParent { name: name.to_string(), fault };
        let parent = self.link(name)?.ok_or_else(|| unusable(ParentFault::Missing))?;
        fault(&parent).map_or(Ok(parent.index), |fault| Err(unusable(fault)))
    }
}

/// What keeps a link from being a parent. Of these the kernel would only say that it is busy or invalid, or nothing
/// until the new link is to be set up.
fn fault(parent: &Link) -> Option<ParentFault> {
    if parent.mac.is_none() {
        Some(ParentFault::NotEthernet)
    } else if parent.master.is_some() {
        Some(ParentFault::BridgePort)
    } else if !parent.is_up {
        Some(ParentFault::Down)
    } else {
        None
    }
}

fn message(spec: &MacvlanSpec, parent: LinkIndex, netns: &Netns) -> LinkMessage {
    let link = LinkMacVlan::new(spec.name.as_str(), parent.number(), MacVlanMode::Bridge)
        .address(spec.mac.bytes().to_vec())
        .setns_by_fd(netns.as_fd().as_raw_fd());
    match spec.mtu {
        Some(mtu) => link.mtu(mtu),
        None => link,
    }
    .build()
}
