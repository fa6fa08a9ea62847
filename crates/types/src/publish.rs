//! Published ports: which ports of a sandbox answer at the host.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::name::through_text;
use crate::{Invalid, Port};

/// A transport protocol that has ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
pub enum Protocol {
    /// RFC 9293.
    #[default]
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 9260.
    Sctp,
}

impl Protocol {
    /// Its number in an IP header (IANA, "Assigned Internet Protocol Numbers").
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl FromStr for Protocol {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(Invalid::new("protocol", text, "must be tcp, udp or sctp")),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// One port or several in a row, such as `8080` or `8000-8099`. Never empty.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "String", try_from = "String"))]
pub struct PortRange {
    first: Port,
    last: Port,
}

impl PortRange {
    /// The ports from `first` to `last`, both included.
    ///
    /// # Errors
    ///
    /// If `last` comes before `first`.
    pub fn new(first: Port, last: Port) -> Result<Self, Invalid> {
        if first <= last {
            Ok(Self { first, last })
        } else {
            Err(Invalid::new("port range", format_args!("{first}-{last}"), "must not end before it begins"))
        }
    }

    /// The first port.
    pub const fn first(self) -> Port {
        self.first
    }

    /// The last port.
    pub const fn last(self) -> Port {
        self.last
    }

    /// How many ports: 1 to 65535.
    pub const fn count(self) -> u16 {
        self.last.number() - self.first.number() + 1
    }

    /// Whether the two share a port.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl From<Port> for PortRange {
    fn from(port: Port) -> Self {
        Self { first: port, last: port }
    }
}

impl FromStr for PortRange {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || {
            let rule =
                "must be a port, or two ports with '-' between them, as in 8000-8099; ports are 1 to 65535";
            Invalid::new("port range", text, rule)
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Self::new(first.parse().map_err(|_| malformed())?, last.parse().map_err(|_| malformed())?)
    }
}

through_text!(PortRange);

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl fmt::Debug for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Ports of a sandbox that are to answer at the host, written `[[ADDRESS:][HOST]:]PORTS[/PROTOCOL]`.
///
/// `PORTS` are those of the sandbox: one, or a range. `HOST` are as many at the host; if absent, free ones are chosen.
/// `ADDRESS` is an address of the host, an IPv6 one in brackets; if absent, all of them. The protocol is `tcp` if absent.
///
/// ```
/// use netloft_types::{Protocol, PublishSpec};
///
/// let spec: PublishSpec = "127.0.0.1:8080:80".parse()?;
/// assert_eq!(spec.host.unwrap().to_string(), "8080");
/// assert_eq!(spec.ports.to_string(), "80");
/// assert_eq!(spec.protocol, Protocol::Tcp);
///
/// let chosen: PublishSpec = "53/udp".parse()?;
/// assert!(chosen.host.is_none());
/// # Ok::<(), netloft_types::Invalid>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "String", try_from = "String"))]
pub struct PublishSpec {
    /// The protocol.
    pub protocol: Protocol,
    /// The address of the host at which they answer; all addresses of the host if absent.
    pub address: Option<IpAddr>,
    /// The ports at the host, as many as `ports`; free ones are chosen if absent.
    pub host: Option<PortRange>,
    /// The ports of the sandbox.
    pub ports: PortRange,
}

const PUBLISH_RULE: &str = "must be [[ADDRESS:][HOST]:]PORTS[/PROTOCOL], as in 80, 8080:80, 127.0.0.1:8080:80, [fd00::1]::80 or 5000-5009:6000-6009/udp";

impl FromStr for PublishSpec {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || Invalid::new("published port", text, PUBLISH_RULE);
        let (rest, protocol) = match text.split_once('/') {
            Some((rest, protocol)) => (rest, protocol.parse()?),
            None => (text, Protocol::default()),
        };
        let (before, ports) = match rest.rsplit_once(':') {
            Some((before, ports)) => (Some(before), ports),
            None => (None, rest),
        };
        let ports: PortRange = ports.parse().map_err(|_| malformed())?;
        let (address, host) = match before.map(|before| before.rsplit_once(':').ok_or(before)) {
            None => (None, None),
            Some(Err(host)) => (None, Some(host)),
            Some(Ok((address, host))) => (Some(address), Some(host).filter(|host| !host.is_empty())),
        };
        let address = address.map(|address| read_address(address).ok_or_else(malformed)).transpose()?;
        let host: Option<PortRange> = host.map(|host| host.parse().map_err(|_| malformed())).transpose()?;
        if host.is_some_and(|host| host.count() != ports.count()) {
            return Err(Invalid::new(
                "published port",
                text,
                "must have as many ports at the host as in the sandbox",
            ));
        }
        Ok(Self { protocol, address, host, ports })
    }
}

/// An IPv4 address, or an IPv6 one in brackets.
fn read_address(text: &str) -> Option<IpAddr> {
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    match bracketed {
        Some(inner) => inner.parse().ok().map(IpAddr::V6),
        None => text.parse().ok().map(IpAddr::V4),
    }
}

through_text!(PublishSpec);

impl fmt::Display for PublishSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            None => {}
        }
        match self.host {
            Some(host) => write!(f, "{host}:")?,
            None if self.address.is_some() => write!(f, ":")?,
            None => {}
        }
        write!(f, "{}/{}", self.ports, self.protocol)
    }
}

impl fmt::Debug for PublishSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Ports of a sandbox that answer at the host: a [`PublishSpec`] whose host ports are decided.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "PublishSpec", try_from = "PublishSpec"))]
pub struct PublishedPort {
    /// The protocol.
    pub protocol: Protocol,
    /// The address of the host at which they answer; all addresses of the host if absent.
    pub address: Option<IpAddr>,
    /// The ports at the host, as many as `ports`.
    pub host: PortRange,
    /// The ports of the sandbox.
    pub ports: PortRange,
}

impl From<PublishedPort> for PublishSpec {
    fn from(port: PublishedPort) -> Self {
        let PublishedPort { protocol, address, host, ports } = port;
        Self { protocol, address, host: Some(host), ports }
    }
}

impl TryFrom<PublishSpec> for PublishedPort {
    type Error = Invalid;

    fn try_from(spec: PublishSpec) -> Result<Self, Self::Error> {
        let PublishSpec { protocol, address, host, ports } = spec;
        let host =
            host.ok_or_else(|| Invalid::new("published port", spec, "must name the ports at the host"))?;
        Ok(Self { protocol, address, host, ports })
    }
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&PublishSpec::from(*self), f)
    }
}

impl fmt::Debug for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_reads_back_as_it_was_written() {
        for text in [
            "80/tcp",
            "8080:80/tcp",
            "127.0.0.1:8080:80/udp",
            "127.0.0.1::80/tcp",
            "[::1]:8080:80/sctp",
            "[fd00::1]::80/tcp",
            "5000-5009:6000-6009/udp",
            "5000-5009/tcp",
        ] {
            assert_eq!(text.parse::<PublishSpec>().unwrap().to_string(), text);
        }
        let short: PublishSpec = "8080:80".parse().unwrap();
        assert_eq!(short.to_string(), "8080:80/tcp");
    }

    #[test]
    fn what_cannot_be_published_is_refused() {
        for bad in [
            "",
            "0",
            "65536",
            "80/icmp",
            "80/",
            ":80",
            "a:80",
            "1:2:3",
            "::1:80:80",
            "[127.0.0.1]:80:80",
            "8000-8001:80",
            "90-80",
            "8080:80:",
            "1.2.3.4:80:80:80",
        ] {
            assert!(bad.parse::<PublishSpec>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_know_their_size_and_whether_they_meet() {
        let range = |text: &str| text.parse::<PortRange>().unwrap();
        assert_eq!((range("80").count(), range("1-65535").count()), (1, 65_535));
        assert!(range("80-90").overlaps(range("90-95")) && !range("80-89").overlaps(range("90")));
    }
}
