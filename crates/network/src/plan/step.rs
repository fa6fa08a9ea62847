//! One change to the kernel, and everything that has to be known to make it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use netloft_link::{BridgeSpec, Ipv6, Prohibition};
use netloft_nft::Fact;
use netloft_types::{
    Bandwidth, EndpointId, InterfaceAddr, InterfaceName, MacAddr, Mtu, RouteSpec, SandboxName,
};

use super::Undo;
use crate::kernel::Stray;

/// One change to the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Makes the bridge of a network, with the gateways on it, up.
    CreateBridge(BridgeSpec),
    /// Keeps the host from forwarding what comes in by a bridge, for one family.
    ProhibitForwarding(Prohibition),
    /// Tells the packet filter what passes.
    Admit {
        /// What it is told.
        facts: Vec<Fact>,
    },
    /// Makes the network namespace of a sandbox.
    CreateNetns {
        /// The sandbox.
        sandbox: SandboxName,
    },
    /// Makes the network namespace of an endpoint whose sandbox is not known yet. Nobody else can find it, and it is gone
    /// with this process. Later steps of that endpoint are done in it, whatever sandbox they name, until
    /// [`Step::NameNetns`].
    CreateUnnamed {
        /// The endpoint.
        endpoint: EndpointId,
    },
    /// Gives the network namespace of an endpoint, made before its sandbox was known, the name of that sandbox.
    NameNetns {
        /// The endpoint.
        endpoint: EndpointId,
        /// The sandbox.
        sandbox: SandboxName,
    },
    /// Gives a network namespace that somebody else made the name of a sandbox.
    AdoptNetns {
        /// The sandbox.
        sandbox: SandboxName,
        /// Where the namespace is found.
        path: PathBuf,
    },
    /// Makes a veth pair in place: one end in a bridge, the other in a sandbox.
    CreateVeth(Veth),
    /// Makes a link in a sandbox that shares a link of the host.
    CreateMacvlan(Macvlan),
    /// Limits what an endpoint sends and receives.
    Limit {
        /// The host end of its link.
        host_link: InterfaceName,
        /// What is left.
        bandwidth: Bandwidth,
    },
    /// Brings the link in the sandbox up, with addresses and routes.
    ConfigureInside(Inside),
    /// Has a sandbox answer by the link that it was asked by, which is not the one that it leaves by.
    OpenWayBack(WayBack),
}

/// A veth pair that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Veth {
    /// Whose it is.
    pub endpoint: EndpointId,
    /// The name of the host end.
    pub host_link: InterfaceName,
    /// The Ethernet address of the host end: tells our link from another one of the same name.
    pub host_mac: MacAddr,
    /// The note on the host end: whose it is.
    pub alias: String,
    /// The bridge that the host end joins.
    pub bridge: InterfaceName,
    /// The sandbox that the other end is born in.
    pub sandbox: SandboxName,
    /// The name of the other end.
    pub interface: InterfaceName,
    /// The Ethernet address of the other end.
    pub mac: MacAddr,
    /// The MTU of both ends.
    pub mtu: Option<Mtu>,
    /// Whether anything on the network speaks IPv6.
    pub ipv6: Ipv6,
}

/// A link that is to be made in a sandbox and shares a link of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Macvlan {
    /// Whose it is.
    pub endpoint: EndpointId,
    /// The link of the host.
    pub parent: InterfaceName,
    /// The sandbox that it is born in.
    pub sandbox: SandboxName,
    /// Its name.
    pub interface: InterfaceName,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Its MTU.
    pub mtu: Option<Mtu>,
}

/// How an interface in a sandbox is to be configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inside {
    /// Whose it is.
    pub endpoint: EndpointId,
    /// The sandbox.
    pub sandbox: SandboxName,
    /// What the link is called in the sandbox.
    pub interface: InterfaceName,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// The bridge in which its other end is, if it has one.
    pub bridge: Option<InterfaceName>,
    /// Its addresses.
    pub addresses: Vec<InterfaceAddr>,
    /// Those of which the neighbours are told at once whose they are: they may remember another Ethernet address.
    pub announced: Vec<InterfaceAddr>,
    /// Whether the network speaks IPv6.
    pub ipv6: Ipv6,
    /// The next hops of its default routes.
    pub gateways: Vec<IpAddr>,
    /// The metric of the default routes.
    pub metric: Option<u32>,
    /// Further routes.
    pub routes: Vec<RouteSpec>,
    /// Settings below `net.`, and their values.
    pub sysctls: BTreeMap<String, String>,
}

/// By which gateway a sandbox answers whoever reached it at an address of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayBack {
    /// Whose it is.
    pub endpoint: EndpointId,
    /// The sandbox.
    pub sandbox: SandboxName,
    /// What the link is called in the sandbox.
    pub interface: InterfaceName,
    /// The gateway, by the address that was asked.
    pub gateways: BTreeMap<IpAddr, IpAddr>,
}

impl Step {
    /// What takes this step back; `None` if that happens with the undo of an earlier step.
    pub fn undo(&self) -> Option<Undo> {
        match self {
            Self::CreateBridge(spec) => Some(Undo::DeleteBridge { bridge: spec.name.clone(), mac: spec.mac }),
            Self::ProhibitForwarding(rule) => Some(Undo::PermitForwarding(rule.clone())),
            Self::Admit { facts } => Some(Undo::Withdraw { facts: facts.clone() }),
            Self::CreateNetns { sandbox }
            | Self::AdoptNetns { sandbox, .. }
            | Self::NameNetns { sandbox, .. } => Some(Undo::DropNetns { sandbox: sandbox.clone() }),
            Self::CreateUnnamed { endpoint } => Some(Undo::DropUnnamed { endpoint: *endpoint }),
            Self::CreateVeth(veth) => Some(Undo::CutVeth {
                endpoint: veth.endpoint,
                host_link: veth.host_link.clone(),
                host_mac: veth.host_mac,
            }),
            Self::CreateMacvlan(macvlan) => Some(Undo::DeleteMacvlan {
                endpoint: macvlan.endpoint,
                sandbox: macvlan.sandbox.clone(),
                interface: macvlan.interface.clone(),
                mac: macvlan.mac,
            }),
            Self::Limit { host_link, .. } => Some(Undo::Unlimit { host_link: host_link.clone() }),
            Self::ConfigureInside(_) => None,
            Self::OpenWayBack(way) => Some(Undo::CloseWayBack {
                sandbox: way.sandbox.clone(),
                addresses: way.gateways.keys().copied().collect(),
            }),
        }
    }
}

impl Step {
    /// What this step makes that says it is ours, if anything does.
    pub(crate) fn makes(&self) -> Option<Stray> {
        match self {
            Self::CreateBridge(spec) => Some(Stray::Link { name: spec.name.clone(), mac: spec.mac }),
            Self::CreateVeth(veth) => Some(Stray::Link { name: veth.host_link.clone(), mac: veth.host_mac }),
            Self::ProhibitForwarding(rule) => Some(Stray::Prohibition(rule.clone())),
            _ => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateBridge(spec) => write!(f, "create bridge {}", spec.name),
            Self::ProhibitForwarding(rule) => {
                write!(f, "prohibit forwarding {} from {}", rule.family, rule.link)
            }
            Self::Admit { .. } => write!(f, "tell the packet filter what passes"),
            Self::CreateNetns { sandbox } => {
                write!(f, "create the network namespace of sandbox {sandbox}")
            }
            Self::CreateUnnamed { endpoint } => {
                write!(f, "create a network namespace for endpoint {endpoint}")
            }
            Self::NameNetns { endpoint, sandbox } => {
                write!(f, "use the network namespace of endpoint {endpoint} for sandbox {sandbox}")
            }
            Self::AdoptNetns { sandbox, path } => {
                write!(f, "use the network namespace {} for sandbox {sandbox}", path.display())
            }
            Self::CreateVeth(veth) => {
                write!(f, "create link {} to {} in sandbox {}", veth.host_link, veth.interface, veth.sandbox)
            }
            Self::CreateMacvlan(it) => {
                write!(f, "create link {} on {} in sandbox {}", it.interface, it.parent, it.sandbox)
            }
            Self::Limit { host_link, .. } => write!(f, "limit the bandwidth of {host_link}"),
            Self::ConfigureInside(it) => write!(f, "configure {} in sandbox {}", it.interface, it.sandbox),
            Self::OpenWayBack(it) => {
                write!(f, "have sandbox {} answer by {} what comes in by it", it.sandbox, it.interface)
            }
        }
    }
}
