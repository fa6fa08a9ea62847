//! What it takes to administer networks.

use std::fs;
use std::io;

use crate::{Error, Netns, sys};

/// Bits of `CapEff` in `proc_pid_status(5)`: `CAP_NET_ADMIN` and `CAP_SYS_ADMIN` of `linux/capability.h`.
const CAP_NET_ADMIN: u64 = 1 << 12;
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// Succeeds if this process may administer the network of its namespace and make new namespaces.
///
/// That takes `CAP_NET_ADMIN` and `CAP_SYS_ADMIN`, effective, in the user namespace that owns the network
/// namespace (or one above it).
///
/// # Errors
///
/// [`Error::Unprivileged`] says what is missing.
pub fn require_privilege() -> Result<(), Error> {
    let failed = |source| Error::ReadPrivilege { source };
    let status = fs::read_to_string("/proc/thread-self/status").map_err(failed)?;
    let effective =
        effective_capabilities(&status).ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))?;
    let lack = if effective & CAP_NET_ADMIN == 0 {
        "CAP_NET_ADMIN is missing"
    } else if effective & CAP_SYS_ADMIN == 0 {
        "CAP_SYS_ADMIN is missing"
    } else if !sys::is_owned_here(Netns::current()?).map_err(failed)? {
        "the network namespace belongs to a user namespace above this one"
    } else {
        return Ok(());
    };
    Err(Error::Unprivileged { lack })
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let digits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(digits.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_their_own_line() {
        let status = "Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t0000000000201000\nCapBnd:\tffff\n";
        assert_eq!(effective_capabilities(status), Some(CAP_NET_ADMIN | CAP_SYS_ADMIN));
        assert_eq!(effective_capabilities("Name:\tx\n"), None);
    }
}
