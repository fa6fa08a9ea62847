//! Instances as bytes: the layout that the embedded store writes, for stores of other crates.
//!
//! It is no interface for anybody else: it says nothing about its own version, which whoever keeps the bytes has to.

use netloft_types::Instance;

use crate::embedded::{Names, read_instance, write_instance};

/// The service names read so far, so that the instances of a service share one.
#[derive(Debug, Default)]
pub struct Reading(Names);

/// Bytes that are no instance, and what is wrong with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAnInstance(&'static str);

/// Appends an instance to `bytes`.
pub fn write(instance: &Instance, bytes: &mut Vec<u8>) {
    write_instance(instance, bytes);
}

impl Reading {
    /// Reads the instance that `bytes` are.
    ///
    /// # Errors
    ///
    /// If they are none, or more than one.
    pub fn read(&mut self, mut bytes: &[u8]) -> Result<Instance, NotAnInstance> {
        let instance =
            read_instance(&mut bytes, &mut self.0).map_err(|malformed| NotAnInstance(malformed.0))?;
        if bytes.is_empty() { Ok(instance) } else { Err(NotAnInstance("something follows the instance")) }
    }
}
