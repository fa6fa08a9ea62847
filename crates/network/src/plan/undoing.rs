//! Taking back what was done, and what is left when that fails.

use std::fmt;

use super::{Step, Undo};
use crate::error::chain;
use crate::kernel::{Kernel, KernelError};

/// What was done to the kernel and has to be undone one day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    pub(super) undos: Vec<Undo>,
}

impl Applied {
    /// Several, to be undone together: first every link is cut, then the packet filter forgets in one transaction, and
    /// namespaces go last, for the kernel takes them away under the lock that the rest waits for.
    pub(crate) fn together(many: impl IntoIterator<Item = Self>) -> Self {
        let (mut cuts, mut facts, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        for undo in many.into_iter().flat_map(|applied| applied.undos) {
            match undo {
                Undo::CutVeth { .. } => cuts.push(undo),
                Undo::Withdraw { facts: of_one } => facts.extend(of_one),
                other => rest.push(other),
            }
        }
        // The last is undone first.
        Self { undos: rest.into_iter().chain([Undo::Withdraw { facts }]).chain(cuts).collect() }
    }

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
