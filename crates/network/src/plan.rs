//! What is to be done to the kernel, as values; and carrying it out so that it happens wholly or not at all.
//!
//! A [`Plan`] is a list of [`Step`]s. Each step names its own [`Undo`]. [`Plan::apply`] hands the steps to a
//! [`Kernel`] one after another; if one fails, everything that was done *and whatever the failing step may have
//! half done* is taken back in reverse order. Detaching an endpoint is the same code as unwinding a failed attachment,
//! and equally well tested: [`Plan::applied`]. A plan is a function of what is in the journal, so that holds for what an
//! earlier process made, too.

mod step;
mod undo;

use std::fmt;

pub use self::step::{Inside, Macvlan, Step, Veth, WayBack};
pub use self::undo::Undo;
use crate::error::chain;
use crate::kernel::{Kernel, KernelError};

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
        for (index, step) in self.0.iter().enumerate() {
            if let Err(error) = kernel.apply(step) {
                let undos = self.0[..=index].iter().filter_map(Step::undo).collect();
                let left = Applied { undos }.undo(kernel).err();
                return Err(Box::new(Failure { step: step.clone(), error, left }));
            }
        }
        Ok(())
    }
}

/// What was done to the kernel and has to be undone one day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
