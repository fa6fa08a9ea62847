//! Settings of a namespace that netlink does not reach. All functions act on that of the calling thread.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use netloft_types::{Family, Invalid, PortRange};

use crate::{Error, Switch};

/// A setting of the network, such as `net.ipv4.tcp_keepalive_time`, and what it is to be.
///
/// Only what is under `net`: that, and nothing else under `/proc/sys`, belongs to the namespace it is written in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl {
    path: PathBuf,
    value: String,
}

impl Sysctl {
    /// Makes a setting. In `key`, as in sysctl(8), either dots separate the parts, or slashes, between which dots are
    /// letters like others (`net/ipv4/conf/eth0.7/forwarding`).
    ///
    /// # Errors
    ///
    /// [`Error::ForbiddenSysctl`] if the key is not one of the network.
    pub fn new(key: &str, value: &str) -> Result<Self, Error> {
        let separator = if key.contains('/') { '/' } else { '.' };
        let mut parts = key.split(separator);
        let is_of_network = parts.next() == Some("net") && parts.clone().count() >= 2;
        if is_of_network && parts.all(is_part) {
            let path = key.split(separator).fold(PathBuf::from("/proc/sys"), |path, part| path.join(part));
            Ok(Self { path, value: value.to_owned() })
        } else {
            Err(Error::ForbiddenSysctl { key: key.to_owned() })
        }
    }

    pub(crate) fn apply(&self) -> Result<(), Error> {
        write(&self.path, &self.value)
    }
}

/// Whether it names a file or directory in the one before it.
fn is_part(part: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:@".contains(&byte);
    !["", ".", ".."].contains(&part) && part.bytes().all(is_letter)
}

/// Switches IPv6 off on every link there is and will be: the kernel copies `all` to `default`.
pub(crate) fn disable_ipv6() -> Result<(), Error> {
    disable_ipv6_on("all")
}

/// Switches IPv6 back on on every link there is and will be.
pub(crate) fn enable_ipv6() -> Result<(), Error> {
    enable_ipv6_on("all")
}

/// Switches IPv6 off on one link.
pub(crate) fn disable_ipv6_on(link: &str) -> Result<(), Error> {
    write_if_ipv6(link, "disable_ipv6", "1")
}

/// Switches IPv6 back on on one link.
pub(crate) fn enable_ipv6_on(link: &str) -> Result<(), Error> {
    write_if_ipv6(link, "disable_ipv6", "0")
}

/// Has a link take neither addresses nor routes from router advertisements.
pub(crate) fn refuse_router_advertisements(link: &str) -> Result<(), Error> {
    write_if_ipv6(link, "accept_ra", "0")
}

/// Has a link that takes addresses and routes from router advertisements go on to do so on a host that forwards.
pub(crate) fn keep_router_advertisements(link: &str) -> Result<(), Error> {
    const UNLESS_FORWARDING: &str = "1";
    const ALWAYS: &str = "2";
    if read(&ipv6_setting(link, "accept_ra"))? == UNLESS_FORWARDING {
        write_if_ipv6(link, "accept_ra", ALWAYS)?;
    }
    Ok(())
}

/// The links on which IPv6 has settings: all, if the kernel speaks it.
pub(crate) fn ipv6_links() -> Result<Vec<String>, Error> {
    let path = Path::new(IPV6_LINKS);
    let failed = |source| Error::Setting { operation: "list", path: path.to_owned(), source };
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    let links =
        names.filter(|name| !name.as_ref().is_ok_and(|name| ["all", "default"].contains(&name.as_str())));
    links.collect::<Result<_, _>>().map_err(failed)
}

/// Whether the namespace forwards packets of a family.
pub(crate) fn forwarding(family: Family) -> Result<Switch, Error> {
    let is_on = read(forwarding_setting(family))? != "0";
    Ok(if is_on { Switch::On } else { Switch::Off })
}

/// Has the namespace forward packets of a family, or no more.
pub(crate) fn set_forwarding(family: Family, switch: Switch) -> Result<(), Error> {
    write(forwarding_setting(family), switch.digit())
}

/// Has the kernel route packets from and to 127.0.0.0/8 by a link, or no more.
pub(crate) fn set_route_localnet(link: &str, switch: Switch) -> Result<(), Error> {
    let path = Path::new("/proc/sys/net/ipv4/conf").join(link).join("route_localnet");
    write(&path, switch.digit())
}

/// The ports that the kernel gives to nobody by itself.
pub(crate) fn reserved_ports() -> Result<Vec<PortRange>, Error> {
    let path = Path::new("/proc/sys/net/ipv4/ip_local_reserved_ports");
    let text = read(path)?;
    let ranges = text.split(',').filter(|range| !range.is_empty());
    // Port 0 can be reserved, but is none.
    let ranges = ranges.filter(|range| *range != "0").map(|range| match range.strip_prefix("0-") {
        Some(last) => format!("1-{last}"),
        None => range.to_owned(),
    });
    ranges.map(|range| range.parse().map_err(|source| unreadable(path, source))).collect()
}

/// The ports that the kernel gives to whoever asks for any.
pub(crate) fn ephemeral_ports() -> Result<PortRange, Error> {
    let path = Path::new("/proc/sys/net/ipv4/ip_local_port_range");
    let ports = read(path)?.split_whitespace().collect::<Vec<_>>().join("-");
    ports.parse().map_err(|source| unreadable(path, source))
}

const IPV6_LINKS: &str = "/proc/sys/net/ipv6/conf";

fn ipv6_setting(link: &str, key: &str) -> PathBuf {
    Path::new(IPV6_LINKS).join(link).join(key)
}

fn forwarding_setting(family: Family) -> &'static Path {
    Path::new(match family {
        Family::V4 => "/proc/sys/net/ipv4/ip_forward",
        Family::V6 => "/proc/sys/net/ipv6/conf/all/forwarding",
    })
}

/// Writes a setting of IPv6, unless the kernel does not speak it: then there is nothing to switch off.
fn write_if_ipv6(link: &str, key: &str, value: &str) -> Result<(), Error> {
    match write(&ipv6_setting(link, key), value) {
        Err(error) if error.is_not_found() => Ok(()),
        answer => answer,
    }
}

fn write(path: &Path, value: &str) -> Result<(), Error> {
    fs::write(path, value).map_err(|source| Error::Setting {
        operation: "write",
        path: path.to_owned(),
        source,
    })
}

fn read(path: &Path) -> Result<String, Error> {
    let text = fs::read_to_string(path).map_err(|source| Error::Setting {
        operation: "read",
        path: path.to_owned(),
        source,
    })?;
    Ok(text.trim().to_owned())
}

fn unreadable(path: &Path, source: Invalid) -> Error {
    let source = io::Error::new(io::ErrorKind::InvalidData, source);
    Error::Setting { operation: "understand", path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_the_network_is_a_path_below_net() {
        for (key, path) in [
            ("net.ipv4.tcp_keepalive_time", "/proc/sys/net/ipv4/tcp_keepalive_time"),
            ("net.core.somaxconn", "/proc/sys/net/core/somaxconn"),
            ("net/ipv4/conf/eth0.7/forwarding", "/proc/sys/net/ipv4/conf/eth0.7/forwarding"),
        ] {
            assert_eq!(Sysctl::new(key, "1").unwrap().path, Path::new(path));
        }
    }

    #[test]
    fn every_other_key_is_refused_by_name() {
        for key in [
            "",
            "net",
            "net.core",
            "kernel.core_pattern",
            "kernel.net.x.y",
            "net..core.somaxconn",
            "net.core.",
            "net/../kernel/core_pattern",
            "net/./core/somaxconn",
            "/net/core/somaxconn",
            "net/core//somaxconn",
            "net.core.some max",
            "net.core.x\n",
            "net.core.x\0",
            "Net.core.somaxconn",
            "net.ipv4.ä",
        ] {
            let refused = Sysctl::new(key, "1").unwrap_err();
            assert_eq!(refused.to_string(), format!("sysctl {key:?} is not one of the network"), "{key}");
        }
    }
}
