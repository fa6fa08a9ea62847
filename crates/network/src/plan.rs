//! What is to be done to the kernel, as values; and carrying it out so that it happens wholly or not at all.
//!
//! A [`Plan`] is a list of [`Step`]s. Each step names its own [`Undo`]. [`Plan::apply`] hands the steps to a
//! [`Kernel`] one after another; if one fails, everything that was done *and whatever the failing step may have
//! half done* is taken back in reverse order. Detaching an endpoint is the same code as unwinding a failed attachment,
//! and equally well tested: [`Plan::applied`]. A plan is a function of what is in the journal, so that holds for what an
//! earlier process made, too.

mod undoing;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use netloft_link::{BridgeSpec, Ipv6, Prohibition};
use netloft_nft::Fact;
use netloft_types::{
    Bandwidth, EndpointId, InterfaceAddr, InterfaceName, MacAddr, Mtu, RouteSpec, SandboxName,
};

pub use self::undoing::{Applied, Failure, Leftover};
use crate::kernel::{Kernel, Stray};

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
        }
    }
}

/// What takes a [`Step`] back. It concerns what that very step made and nothing else: links are told from
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
    /// or with the next [`Kernel::reap`], because deleting it alone costs the whole host some 20 ms.
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
        }
    }
}

/// Steps to be carried out in order, wholly or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan(Vec<Step>);

impl Plan {
    /// A plan of these steps.
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self(steps.into_iter().collect())
    }

    /// The steps, in order.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// This plan, and then another.
    pub(crate) fn then(mut self, later: Self) -> Self {
        self.0.extend(later.0);
        self
    }

    /// What takes all of it back, however far it came.
    pub fn applied(&self) -> Applied {
        Applied { undos: self.0.iter().filter_map(Step::undo).collect() }
    }

    /// Carries the plan out.
    ///
    /// # Errors
    ///
    /// The error of the first step that failed. Every step before it and the failing one itself are undone by
    /// then, in reverse order; what could not be undone is in [`Failure::left`].
    pub fn apply(&self, kernel: &mut dyn Kernel) -> Result<(), Box<Failure>> {
        self.apply_from(0, kernel)
    }

    /// Carries out the steps from `first` on; those before it were carried out already.
    ///
    /// # Errors
    ///
    /// As [`Plan::apply`]: all of it is undone, with what was carried out already.
    pub(crate) fn apply_from(&self, first: usize, kernel: &mut dyn Kernel) -> Result<(), Box<Failure>> {
        for (index, step) in self.0.iter().enumerate().skip(first) {
            if let Err(error) = kernel.apply(step) {
                let undos = self.0[..=index].iter().filter_map(Step::undo).collect();
                let left = Applied { undos }.undo(kernel).err();
                return Err(Box::new(Failure { step: step.clone(), error, left }));
            }
        }
        Ok(())
    }
}
