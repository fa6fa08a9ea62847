//! What is to be done to the kernel, as values; and carrying it out so that it happens wholly or not at all.
//!
//! A [`Plan`] is a list of [`Step`]s. Each step names its own [`Undo`]. [`Plan::apply`] hands the steps to a
//! [`Kernel`] one after another; if one fails, everything that was done *and whatever the failing step may have
//! half done* is taken back in reverse order. What was done is kept as [`Applied`], so detaching an endpoint is the
//! same code as unwinding a failed attachment, and equally well tested.

use std::fmt;
use std::net::IpAddr;

use netloft_link::{BridgeSpec, Ipv6, Prohibition};
use netloft_types::{InterfaceAddr, InterfaceName, MacAddr, Mtu, SandboxName};

use crate::error::chain;
use crate::kernel::{Kernel, KernelError};

/// One change to the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Makes the bridge of a network, with the gateways on it, up.
    CreateBridge(BridgeSpec),
    /// Keeps the host from forwarding what comes in by a bridge, for one family.
    ProhibitForwarding(Prohibition),
    /// Makes the network namespace of a sandbox.
    CreateNetns {
        /// The sandbox.
        sandbox: SandboxName,
    },
    /// Makes a veth pair in place: one end in a bridge, the other in a sandbox.
    CreateVeth(Veth),
    /// Brings the link in the sandbox up, with addresses and default routes.
    ConfigureInside {
        /// The sandbox.
        sandbox: SandboxName,
        /// The host end of the link, by which the kernel remembers the pair.
        host_link: InterfaceName,
        /// What the link is called in the sandbox.
        interface: InterfaceName,
        /// Its addresses.
        addresses: Vec<InterfaceAddr>,
        /// Whether the sandbox speaks IPv6.
        ipv6: Ipv6,
        /// The next hops of its default routes.
        gateways: Vec<IpAddr>,
    },
}

/// A veth pair that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Veth {
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
}

impl Step {
    /// What takes this step back; `None` if that happens with the undo of an earlier step.
    pub fn undo(&self) -> Option<Undo> {
        match self {
            Self::CreateBridge(spec) => Some(Undo::DeleteBridge { bridge: spec.name.clone(), mac: spec.mac }),
            Self::ProhibitForwarding(rule) => Some(Undo::PermitForwarding(rule.clone())),
            Self::CreateNetns { sandbox } => Some(Undo::DropNetns { sandbox: sandbox.clone() }),
            Self::CreateVeth(veth) => {
                Some(Undo::CutVeth { host_link: veth.host_link.clone(), host_mac: veth.host_mac })
            }
            Self::ConfigureInside { .. } => None,
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
            Self::CreateNetns { sandbox } => {
                write!(f, "create the network namespace of sandbox {sandbox}")
            }
            Self::CreateVeth(veth) => {
                write!(f, "create link {} to {} in sandbox {}", veth.host_link, veth.interface, veth.sandbox)
            }
            Self::ConfigureInside { sandbox, interface, .. } => {
                write!(f, "configure {interface} in sandbox {sandbox}")
            }
        }
    }
}

/// What takes a [`Step`] back. It concerns what that very step made and nothing else: links are told from
/// others of the same name by their Ethernet address, which they have from the moment they exist; rules by a
/// protocol number that only ours have.
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
    /// Lets go of the namespace of a sandbox, and removes its name.
    DropNetns {
        /// The sandbox.
        sandbox: SandboxName,
    },
    /// Cuts a link off: no packet passes it any more. The device itself goes with the sandbox's namespace
    /// or with the next [`Kernel::reap`], because deleting it alone costs the whole host some 20 ms.
    CutVeth {
        /// The name of the host end.
        host_link: InterfaceName,
        /// The Ethernet address of the host end.
        host_mac: MacAddr,
    },
}

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeleteBridge { bridge, .. } => write!(f, "delete bridge {bridge}"),
            Self::PermitForwarding(rule) => {
                write!(f, "delete the rule that prohibits forwarding {} from {}", rule.family, rule.link)
            }
            Self::DropNetns { sandbox } => {
                write!(f, "drop the network namespace of sandbox {sandbox}")
            }
            Self::CutVeth { host_link, .. } => write!(f, "cut link {host_link}"),
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

    /// Carries the plan out.
    ///
    /// # Errors
    ///
    /// The error of the first step that failed. Every step before it and the failing one itself are undone by
    /// then, in reverse order; what could not be undone is in [`Failure::left`].
    pub fn apply(self, kernel: &mut dyn Kernel) -> Result<Applied, Box<Failure>> {
        let mut applied = Applied::default();
        for step in self.0 {
            let outcome = kernel.apply(&step);
            applied.undos.extend(step.undo());
            if let Err(error) = outcome {
                let left = applied.undo(kernel).err();
                return Err(Box::new(Failure { step, error, left }));
            }
        }
        Ok(applied)
    }
}

/// What was done to the kernel and has to be undone one day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "what was done can only be undone through this"]
pub struct Applied {
    undos: Vec<Undo>,
}

impl Applied {
    /// Undoes everything, in reverse order, going on past errors.
    ///
    /// # Errors
    ///
    /// What failed, in the order it was tried, together with what therefore remains to be undone.
    pub fn undo(self, kernel: &mut dyn Kernel) -> Result<(), Leftover> {
        let mut failed = Vec::new();
        for undo in self.undos.into_iter().rev() {
            if let Err(error) = kernel.undo(&undo) {
                failed.push((undo, error));
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(Leftover { failed }) }
    }
}

/// A plan that failed. Its `Display` says which step, and what could not be undone; its source says why.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}{}", left_note(.left.as_ref()))]
pub struct Failure {
    /// The step that failed.
    pub step: Step,
    /// Why it failed.
    #[source]
    pub error: KernelError,
    /// What could not be undone; normally nothing.
    pub left: Option<Leftover>,
}

fn left_note(left: Option<&Leftover>) -> String {
    left.map(|left| format!("; besides, {left}")).unwrap_or_default()
}

/// What could not be undone, and why. Nothing is forgotten: [`Leftover::remaining`] can be tried again.
#[derive(Debug)]
pub struct Leftover {
    failed: Vec<(Undo, KernelError)>,
}

impl Leftover {
    /// What could not be undone, with the reason, in the order it was tried.
    pub fn failed(&self) -> impl Iterator<Item = (&Undo, &KernelError)> {
        self.failed.iter().map(|(undo, error)| (undo, error))
    }

    /// What remains to be undone.
    pub fn remaining(&self) -> Applied {
        let undos = self.failed.iter().rev().map(|(undo, _)| undo.clone());
        Applied { undos: undos.collect() }
    }
}

/// Lists every failure with its causes: they have no common source that a chain printer could follow.
impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (undo, error)) in self.failed.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}could not {undo}: {}", chain(error))?;
        }
        Ok(())
    }
}

impl std::error::Error for Leftover {}
