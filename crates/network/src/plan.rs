//! What is to be done to the kernel, as values; and carrying it out so that it happens wholly or not at all.
//!
//! A [`Plan`] is a list of [`Step`]s. Each step names its own [`Undo`]. [`Plan::apply`] hands the steps to a
//! [`Kernel`] one after another; if one fails, everything that was done *and whatever the failing step may have
//! half done* is taken back in reverse order. Detaching an endpoint is the same code as unwinding a failed attachment,
//! and equally well tested: [`Plan::applied`]. A plan is a function of what is in the journal, so that holds for what an
//! earlier process made, too.

mod step;
mod undo;
mod undoing;

pub use self::step::{Inside, Macvlan, Step, Veth, WayBack};
pub use self::undo::Undo;
pub use self::undoing::{Applied, Failure, Leftover};
use crate::kernel::Kernel;

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
