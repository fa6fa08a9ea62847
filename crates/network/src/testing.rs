//! Kernels for tests of this crate and of those who build on it: one in memory, and any that fails when told to.

mod fake;
mod faults;

pub use self::fake::FakeKernel;
pub use self::faults::{Fault, Faults, Faulty};
