//! What takes a step back.

use std::fmt;
use std::net::IpAddr;

use netloft_link::Prohibition;
use netloft_nft::Fact;
use netloft_types::{EndpointId, InterfaceName, MacAddr, SandboxName};

/// What takes a [`Step`](super::Step) back. It concerns what that very step made and nothing else: links are told from
/// others of the same name by their Ethernet address, which they have from the moment they exist; rules by a
/// protocol number that only ours have; what passes the packet filter, by the table that is ours alone.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Undo {
    /// Deletes a bridge.
    DeleteBridge {
        /// Its name.
        bridge: InterfaceName,
        /// Its Ethernet address.
        mac: MacAddr,
    },
    /// Deletes the rule that keeps the host from forwarding.
    PermitForwarding(Prohibition),
    /// Has the packet filter forget.
    Withdraw {
        /// What it was told.
        facts: Vec<Fact>,
    },
    /// Lets go of the namespace of a sandbox, and removes its name.
    DropNetns {
        /// The sandbox.
        sandbox: SandboxName,
    },
    /// Lets go of the namespace of an endpoint that no sandbox was given.
    DropUnnamed {
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// Cuts a link off: no packet passes it any more. The device itself goes with the sandbox's namespace
    /// or with the next [`Kernel::reap`](crate::kernel::Kernel::reap), because deleting it alone costs the whole host some 20 ms.
    CutVeth {
        /// Whose it was.
        endpoint: EndpointId,
        /// The name of the host end.
        host_link: InterfaceName,
        /// The Ethernet address of the host end.
        host_mac: MacAddr,
    },
    /// Deletes a link in a sandbox.
    DeleteMacvlan {
        /// Whose it was.
        endpoint: EndpointId,
        /// The sandbox.
        sandbox: SandboxName,
        /// Its name.
        interface: InterfaceName,
        /// Its Ethernet address.
        mac: MacAddr,
    },
    /// Takes away what limits an endpoint.
    Unlimit {
        /// The host end of its link.
        host_link: InterfaceName,
    },
    /// Has a sandbox answer by the link that it leaves by. The routes that the way back consists of go with its link.
    CloseWayBack {
        /// The sandbox.
        sandbox: SandboxName,
        /// The addresses that were asked.
        addresses: Vec<IpAddr>,
    },
}

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeleteBridge { bridge, .. } => write!(f, "delete bridge {bridge}"),
            Self::PermitForwarding(rule) => {
                write!(f, "delete the rule that prohibits forwarding {} from {}", rule.family, rule.link)
            }
            Self::Withdraw { .. } => write!(f, "have the packet filter forget"),
            Self::DropNetns { sandbox } => {
                write!(f, "drop the network namespace of sandbox {sandbox}")
            }
            Self::DropUnnamed { endpoint } => write!(f, "drop the network namespace of endpoint {endpoint}"),
            Self::CutVeth { host_link, .. } => write!(f, "cut link {host_link}"),
            Self::DeleteMacvlan { sandbox, interface, .. } => {
                write!(f, "delete link {interface} in sandbox {sandbox}")
            }
            Self::Unlimit { host_link } => write!(f, "take away the limits of {host_link}"),
            Self::CloseWayBack { sandbox, .. } => {
                write!(f, "delete the rules by which sandbox {sandbox} answers")
            }
        }
    }
}
