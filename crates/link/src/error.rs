//! What can go wrong with a link.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use netloft_netns::NetnsId;
use nix::libc;

use crate::LinkIndex;

/// An operation on a link failed.
///
/// The kernel's number is always within reach: [`Error::raw_os_error`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The namespace of a sandbox could not be made.
    #[error("cannot make a sandbox")]
    CreateSandbox {
        /// Why.
        source: netloft_netns::Error,
    },
    /// The namespace could not be entered to open a socket there.
    #[error("cannot reach the network namespace")]
    Enter {
        /// Why.
        source: netloft_netns::Error,
    },
    /// The socket could not be opened in the namespace.
    #[error("cannot open a socket in {netns}")]
    Open {
        /// The namespace.
        netns: NetnsId,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A request failed.
    #[error(transparent)]
    Request(#[from] netloft_netlink::Error),
    /// The kernel acknowledged a new link, but does not show it.
    #[error("the new link {name} is not there")]
    Vanished {
        /// Its name.
        name: String,
    },
    /// A kernel setting could not be read or written.
    #[error("cannot {operation} {path}")]
    Setting {
        /// What we were doing.
        operation: &'static str,
        /// The file of the setting.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A setting of a sandbox lies outside of what belongs to it.
    #[error("sysctl {key:?} is not one of the network")]
    ForbiddenSysctl {
        /// Its key.
        key: String,
    },
    /// A macvlan link cannot have this parent.
    #[error("{name} cannot be the parent of a macvlan link: {fault}")]
    UnusableParent {
        /// The name of the parent.
        name: String,
        /// What is wrong with it.
        fault: ParentFault,
    },
    /// Neighbours could not be told of an address.
    #[error("cannot announce {address} on link {link}")]
    Announce {
        /// The address.
        address: IpAddr,
        /// By which link.
        link: LinkIndex,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A watch on a namespace broke off.
    #[error("cannot hear what happens to links and routes")]
    Watch {
        /// What the socket said.
        source: io::Error,
    },
}

/// What keeps a link from being the parent of macvlan links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParentFault {
    /// There is none of that name.
    Missing,
    /// It carries no Ethernet, as the loopback interface.
    NotEthernet,
    /// It is a port of a bridge or of something like one, which takes all its packets.
    BridgePort,
    /// It is down, and no link of it can be up.
    Down,
}

impl fmt::Display for ParentFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "there is no such interface",
            Self::NotEthernet => "it is no Ethernet interface",
            Self::BridgePort => "it is a bridge's port",
            Self::Down => "it is down",
        })
    }
}

impl Error {
    /// The kernel's error number, if the kernel was asked.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::CreateSandbox { source } | Self::Enter { source } => source.raw_os_error(),
            Self::Request(error) => error.raw_os_error(),
            Self::Open { source, .. }
            | Self::Setting { source, .. }
            | Self::Announce { source, .. }
            | Self::Watch { source } => source.raw_os_error(),
            Self::Vanished { .. } | Self::ForbiddenSysctl { .. } | Self::UnusableParent { .. } => None,
        }
    }

    /// Whether the link, address, route or rule is there already.
    pub fn is_exists(&self) -> bool {
        self.is_errno(libc::EEXIST)
    }

    /// Whether the link, address, route, rule or setting is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::UnusableParent { fault: ParentFault::Missing, .. })
            || [libc::ENODEV, libc::ENOENT, libc::ESRCH, libc::EADDRNOTAVAIL]
                .into_iter()
                .any(|errno| self.is_errno(errno))
    }

    /// Whether privilege over the namespace is missing.
    pub fn is_permission_denied(&self) -> bool {
        match self {
            Self::CreateSandbox { source } | Self::Enter { source } => source.is_permission_denied(),
            _ => self.is_errno(libc::EPERM) || self.is_errno(libc::EACCES),
        }
    }

    /// Whether the bridge takes no more ports: the kernel's limit is 1,023 (`BR_MAX_PORTS`).
    pub fn is_bridge_full(&self) -> bool {
        self.is_errno(libc::EXFULL)
    }

    /// Whether the same call may succeed if made again.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Request(error) if error.is_retryable())
            || self.is_errno(libc::ENOMEM)
            || self.is_errno(libc::ENOBUFS)
    }

    fn is_errno(&self, errno: i32) -> bool {
        self.raw_os_error() == Some(errno)
    }
}
