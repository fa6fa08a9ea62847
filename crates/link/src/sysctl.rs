//! Settings of a namespace that netlink does not reach. All functions act on that of the calling thread.

use std::fs;
use std::io;
use std::path::Path;

use crate::Error;

/// Switches IPv6 off on every link there is and will be: the kernel copies `all` to `default`.
pub(crate) fn disable_ipv6() -> Result<(), Error> {
    write("all", "disable_ipv6", "1")
}

/// Switches IPv6 back on on every link there is and will be.
pub(crate) fn enable_ipv6() -> Result<(), Error> {
    write("all", "disable_ipv6", "0")
}

/// Switches IPv6 off on one link.
pub(crate) fn disable_ipv6_on(link: &str) -> Result<(), Error> {
    write(link, "disable_ipv6", "1")
}

/// Has a link take neither addresses nor routes from router advertisements.
pub(crate) fn refuse_router_advertisements(link: &str) -> Result<(), Error> {
    write(link, "accept_ra", "0")
}

fn write(link: &str, key: &str, value: &str) -> Result<(), Error> {
    let path = Path::new("/proc/sys/net/ipv6/conf").join(link).join(key);
    match fs::write(&path, value) {
        // A kernel without IPv6 has nothing to switch off.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(Error::Setting { path, source }),
        Ok(()) => Ok(()),
    }
}
