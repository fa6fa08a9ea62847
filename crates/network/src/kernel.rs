//! The seam between what is decided and what is done.

mod linux;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use netloft_link::Prohibition;
use netloft_netns::Netns;
use netloft_nft::Fact;
use netloft_types::{
    Family, InterfaceAddr, InterfaceName, MacAddr, Mtu, Port, PortRange, Protocol, SandboxName, Subnet,
};

pub use self::linux::LinuxKernel;
use crate::plan::{Step, Undo};

/// Carries out single steps: the real one is [`LinuxKernel`], the fake one [`FakeKernel`](crate::testing::FakeKernel).
///
/// Blocking, and used from one thread.
pub trait Kernel: Send {
    /// Carries out one step.
    ///
    /// # Errors
    ///
    /// If the step failed. It may be half done then: the caller undoes it in either case.
    fn apply(&mut self, step: &Step) -> Result<(), KernelError>;

    /// Takes back what a step made, wholly or by half. That there is nothing to take back is success, and what
    /// somebody else made is left alone.
    ///
    /// # Errors
    ///
    /// If it is still there. May be tried again.
    fn undo(&mut self, undo: &Undo) -> Result<(), KernelError>;

    /// Has the links that were cut deleted, all in one act, and the connections forgotten that addresses without an
    /// owner had. The kernel may do it a little later, and say so when that fails.
    ///
    /// # Errors
    ///
    /// If it was not done. May be tried again.
    fn reap(&mut self, released: &[IpAddr]) -> Result<(), KernelError>;

    /// Forgets every connection that these addresses have or had, before this returns.
    ///
    /// # Errors
    ///
    /// If some may be left.
    fn forget_connections(&mut self, addresses: &[IpAddr]) -> Result<(), KernelError>;

    /// Makes one piece of what attachments can use later, and tells whether more could be made. Called while nobody
    /// waits. A kernel that needs nothing made ahead leaves this out.
    ///
    /// # Errors
    ///
    /// If nothing was made; attachments succeed without it.
    fn stock_up(&mut self) -> Result<bool, KernelError> {
        Ok(false)
    }

    /// Everything there is that says it is ours.
    fn survey(&mut self) -> Result<Survey, KernelError>;

    /// Takes over what a step made before this process began, going by a survey; tells whether it is there and whole.
    ///
    /// # Errors
    ///
    /// If that cannot be told.
    fn adopt(&mut self, step: &Step, survey: &Survey) -> Result<bool, KernelError>;

    /// What of a step that was carried out is no more as it was made, in words, going by a survey; nothing if it is.
    /// Looks closer than [`Kernel::adopt`], and takes longer.
    ///
    /// # Errors
    ///
    /// If that cannot be told.
    fn differs(&mut self, _step: &Step, _survey: &Survey) -> Result<Option<String>, KernelError> {
        Ok(None)
    }

    /// Takes away something of ours that nobody knows.
    ///
    /// # Errors
    ///
    /// If it is still there.
    fn discard(&mut self, stray: &Stray) -> Result<(), KernelError>;

    /// Has the packet filter know exactly this, whatever it knew or has lost. What is let through in either state is
    /// let through meanwhile.
    ///
    /// # Errors
    ///
    /// If the packet filter is as it was.
    fn establish(&mut self, facts: &BTreeSet<Fact>) -> Result<(), KernelError>;

    /// Takes the packet filter away.
    ///
    /// # Errors
    ///
    /// If it is still there.
    fn dismantle(&mut self) -> Result<(), KernelError>;

    /// Whether somebody else has changed the packet filter since it was established.
    ///
    /// # Errors
    ///
    /// If that cannot be told.
    fn is_filter_disturbed(&mut self) -> Result<bool, KernelError>;

    /// What the packet filter says that it should not, and does not say that it should, one line each.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    fn audit(&mut self, facts: &BTreeSet<Fact>) -> Result<Vec<String>, KernelError>;

    /// Has the host forward packets of a family, or not.
    ///
    /// # Errors
    ///
    /// If it is as it was.
    fn forward(&mut self, family: Family, on: bool) -> Result<(), KernelError>;

    /// What has to be known of the host to make a network.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    fn host(&mut self) -> Result<HostFacts, KernelError>;

    /// Whether the host has a link of this name.
    ///
    /// # Errors
    ///
    /// If that cannot be told.
    fn is_link(&mut self, name: &InterfaceName) -> Result<bool, KernelError>;

    /// Ports that the administrator keeps from being chosen (`net.ipv4.ip_local_reserved_ports`).
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    fn reserved_ports(&mut self) -> Result<BTreeSet<PortRange>, KernelError>;

    /// The base chains of others that drop what comes in and nobody let in.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    fn default_deny(&mut self) -> Result<Vec<String>, KernelError>;

    /// Whether somebody on the host listens at a port, or holds it.
    fn is_port_busy(&mut self, protocol: Protocol, address: Option<IpAddr>, port: Port) -> bool;

    /// The namespace of a sandbox that was made and not undone since.
    fn sandbox(&self, sandbox: &SandboxName) -> Result<SandboxNetns, KernelError>;

    /// A watch on what others do to what is ours; none if nobody else can.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    fn watch(&mut self) -> Result<Option<Box<dyn Watch>>, KernelError> {
        Ok(None)
    }
}

/// Waits for what others do to what is ours. Blocking, and used from a thread of its own.
pub trait Watch: Send {
    /// Waits for the next thing, but no longer than this; `None` if nothing happened.
    fn next(&mut self, patience: Duration) -> Option<Incident>;
}

/// Something that others did, or may have done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Incident {
    /// The packet filter was changed.
    Filter,
    /// A link of the host is gone.
    LinkGone(InterfaceName),
    /// The host has a new route.
    Route(Subnet),
    /// So much happened that some of it is lost: look at everything.
    Overrun,
}

/// What there is that says it is ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Links, by name.
    pub links: Vec<FoundLink>,
    /// Sandboxes that have a name in the directory that is ours.
    pub sandboxes: BTreeSet<SandboxName>,
    /// Rules with our protocol number.
    pub prohibitions: Vec<Prohibition>,
}

/// A link that says it is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundLink {
    /// Its name.
    pub name: InterfaceName,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Its index.
    pub index: u32,
    /// The bridge it is in, by index.
    pub bridge: Option<u32>,
    /// The addresses on it.
    pub addresses: Vec<InterfaceAddr>,
    /// What it says.
    pub alias: String,
    /// Whether it was cut and waits to be deleted.
    pub is_cut: bool,
}

/// Something of ours that nobody knows: left by a crash, or by hand.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Stray {
    /// A link.
    Link {
        /// Its name.
        name: InterfaceName,
        /// Its Ethernet address.
        mac: MacAddr,
    },
    /// A sandbox.
    Sandbox(SandboxName),
    /// A rule that prohibits forwarding.
    Prohibition(Prohibition),
}

impl fmt::Display for Stray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link { name, mac } => write!(f, "link {name} ({mac})"),
            Self::Sandbox(name) => write!(f, "network namespace of sandbox {name}"),
            Self::Prohibition(rule) => {
                write!(f, "rule that prohibits forwarding {} from {}", rule.family, rule.link)
            }
        }
    }
}

/// What has to be known of the host to make a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// The subnets that the host has addresses in or routes to. Default routes do not count, nor do the two halves
    /// that virtual private networks put over them: they claim no address in particular.
    pub subnets: Vec<Subnet>,
    /// The MTU of the link by which the default route leaves.
    pub outgoing_mtu: Option<Mtu>,
    /// The addresses of the host.
    pub addresses: Vec<IpAddr>,
    /// The families that it forwards packets of.
    pub forwards: Vec<Family>,
}

/// The namespace of a sandbox.
#[derive(Debug, Clone)]
pub struct SandboxNetns {
    /// A handle to it, for this process. The namespace lives at least as long as the handle.
    pub handle: Netns,
    /// Where other processes can open it.
    pub path: PathBuf,
}

/// Why a [`Kernel`] did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// An operation on a network namespace failed.
    #[error(transparent)]
    Netns(#[from] netloft_netns::Error),
    /// An operation on links, addresses or routes failed.
    #[error(transparent)]
    Link(#[from] netloft_link::Error),
    /// An operation on the packet filter failed.
    #[error(transparent)]
    Filter(#[from] netloft_nft::Error),
    /// A thread that does the kernel work could not be started.
    #[error("cannot start a thread")]
    StartThread {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What others do cannot be watched.
    #[error("cannot watch the packet filter")]
    Watch {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A step refers to something that no earlier step made, or that is gone.
    #[error("there is no {object}")]
    Missing {
        /// What is missing.
        object: String,
    },
    /// A fake kernel has something of that name already.
    #[error("there is {object} already")]
    Exists {
        /// What is there.
        object: String,
    },
    /// A bridge of a fake kernel has no port left.
    #[error("bridge {bridge} is full")]
    Full {
        /// The bridge.
        bridge: InterfaceName,
    },
    /// A fake kernel failed as it was told to.
    #[error("call {call} fails as planned")]
    Planned {
        /// The number of the call, from 0.
        call: u64,
    },
}

impl KernelError {
    /// Whether this process may not do it.
    pub fn is_permission_denied(&self) -> bool {
        match self {
            Self::Netns(error) => error.is_permission_denied(),
            Self::Link(error) => error.is_permission_denied(),
            Self::Filter(error) => error.is_permission_denied(),
            _ => false,
        }
    }

    /// Whether the bridge has as many ports as a bridge can have, 1,023.
    pub fn is_exhausted(&self) -> bool {
        match self {
            Self::Link(error) => error.is_bridge_full(),
            Self::Full { .. } => true,
            _ => false,
        }
    }

    /// Whether a name is taken by something that is not ours.
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Netns(error) => error.is_exists(),
            Self::Link(error) => error.is_exists(),
            Self::Exists { .. } => true,
            Self::Filter(error) => error.is_conflict(),
            _ => false,
        }
    }
}
