//! The seam between what is decided and what is done.

mod linux;

use std::path::PathBuf;

use netloft_netns::Netns;
use netloft_types::{SandboxName, Subnet};

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

    /// Deletes the links that were cut, all in one act.
    fn reap(&mut self) -> Result<(), KernelError>;

    /// Makes one piece of what attachments can use later, and tells whether more could be made. Called while nobody
    /// waits. A kernel that needs nothing made ahead leaves this out.
    ///
    /// # Errors
    ///
    /// If nothing was made; attachments succeed without it.
    fn stock_up(&mut self) -> Result<bool, KernelError> {
        Ok(false)
    }

    /// The subnets that the host has addresses in or routes to. Default routes do not count, nor do the two halves
    /// that virtual private networks put over them: they claim no address in particular.
    fn subnets_in_use(&mut self) -> Result<Vec<Subnet>, KernelError>;

    /// The namespace of a sandbox that was made and not undone since.
    fn sandbox(&self, sandbox: &SandboxName) -> Result<SandboxNetns, KernelError>;
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
            _ => false,
        }
    }

    /// Whether a name is taken by something that is not ours.
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Netns(error) => error.is_exists(),
            Self::Link(error) => error.is_exists(),
            Self::Exists { .. } => true,
            Self::Missing { .. } | Self::Planned { .. } => false,
        }
    }
}
