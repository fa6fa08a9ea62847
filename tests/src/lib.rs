//! The lab: hosts, sandboxes and links in namespaces of their own, and the tests that need them.
//!
//! [`harness`] puts a whole test program into a world of its own, without privilege. In that world a [`Lab`] is
//! the place of one test: it runs the real programs ([`running`]), looks at what they did with the eyes of other
//! programs ([`eyes`]), and knows in the end whether anything of theirs is left ([`Traces`]). [`attacker`] is for those
//! that mean harm, [`mod@bench`] for those that measure, [`mod@etcd`] a cluster that can be hurt, and [`linear`]
//! judges histories of what many did at once.

pub mod attacker;
pub mod bench;
pub mod disk;
pub mod etcd;
pub mod eyes;
pub mod harness;
mod lab;
pub mod linear;
pub mod programs;
pub mod running;
pub mod side_by_side;
mod traces;

pub use lab::{Agent, Lab, RegistryServer, raise_loopback, tell};
pub use traces::Traces;
