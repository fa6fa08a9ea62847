//! What can go wrong with a namespace.

use std::io;
use std::path::PathBuf;

use netloft_types::SandboxName;

use crate::NetnsId;

/// An operation on a namespace failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system is out of threads or memory.
    #[error("cannot start a thread to enter network namespaces")]
    StartThread {
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused a new namespace, or what it made cannot be opened.
    #[error("cannot create a network namespace")]
    Create {
        /// The kernel's answer: `EPERM` without `CAP_SYS_ADMIN`, `ENOSPC` at `user.max_net_namespaces`.
        source: io::Error,
    },
    /// The namespace just made is the one it was made from. Nothing may be configured in it.
    #[error("the new network namespace is {id}, from which it should differ")]
    NotIsolated {
        /// Both namespaces.
        id: NetnsId,
    },
    /// The file is not there or may not be read.
    #[error("cannot open network namespace {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The file is something else.
    #[error("{path} is not a network namespace")]
    NotNetns {
        /// The file.
        path: PathBuf,
    },
    /// The namespace exists, but not for us.
    #[error("cannot enter network namespace {id}")]
    Enter {
        /// The namespace.
        id: NetnsId,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The directory for names cannot be made, opened or read.
    #[error("cannot use {path} as a directory of named network namespaces")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Others own the directory for names or may write to it, so the names in it prove nothing.
    #[error("{path} must be owned by uid {uid} and writable by nobody else")]
    ForeignDirectory {
        /// The directory.
        path: PathBuf,
        /// Who must own it: the effective user of this process.
        uid: u32,
    },
    /// The name is taken, or the mount that keeps it failed.
    #[error("cannot name network namespace {id} {name:?}")]
    Bind {
        /// The namespace.
        id: NetnsId,
        /// Its name.
        name: SandboxName,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The name is still there.
    #[error("cannot delete the name {name:?} of a network namespace")]
    Delete {
        /// The name.
        name: SandboxName,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A process can leave its user namespace only while it has one thread.
    #[error("cannot enter a private world: the process already has {threads} threads")]
    MultiThreaded {
        /// How many.
        threads: usize,
    },
    /// The kernel refuses user namespaces to ordinary users.
    #[error("cannot enter a user namespace of our own ({remedy})")]
    UserNamespace {
        /// What an administrator can do about it.
        remedy: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A privileged process could not give itself namespaces of its own, or could not start again in them.
    #[error("cannot enter a private world: {step} failed")]
    Private {
        /// The step.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// This process may not administer the network of its namespace.
    #[error("no privilege to administer networks: {lack}")]
    Unprivileged {
        /// What is missing.
        lack: &'static str,
    },
    /// The privileges of this process cannot be read.
    #[error("cannot read the privileges of this process")]
    ReadPrivilege {
        /// The kernel's answer.
        source: io::Error,
    },
}

impl Error {
    /// The kernel's error number, if the kernel was asked.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.cause().and_then(io::Error::raw_os_error)
    }

    /// Whether the namespace or the name does not exist.
    pub fn is_not_found(&self) -> bool {
        self.has_kind(io::ErrorKind::NotFound)
    }

    /// Whether the name is taken.
    pub fn is_exists(&self) -> bool {
        self.has_kind(io::ErrorKind::AlreadyExists)
    }

    /// Whether privilege is missing.
    pub fn is_permission_denied(&self) -> bool {
        matches!(self, Self::Unprivileged { .. }) || self.has_kind(io::ErrorKind::PermissionDenied)
    }

    fn has_kind(&self, kind: io::ErrorKind) -> bool {
        self.cause().is_some_and(|cause| cause.kind() == kind)
    }

    fn cause(&self) -> Option<&io::Error> {
        match self {
            Self::StartThread { source }
            | Self::Create { source }
            | Self::Open { source, .. }
            | Self::Enter { source, .. }
            | Self::Directory { source, .. }
            | Self::Bind { source, .. }
            | Self::Delete { source, .. }
            | Self::UserNamespace { source, .. }
            | Self::Private { source, .. }
            | Self::ReadPrivilege { source } => Some(source),
            Self::NotIsolated { .. }
            | Self::NotNetns { .. }
            | Self::ForeignDirectory { .. }
            | Self::MultiThreaded { .. }
            | Self::Unprivileged { .. } => None,
        }
    }
}
