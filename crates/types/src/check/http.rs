//! What an HTTP check asks, and what answers it takes.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::limits::{
    HOST_HEADER_LEN_MAX, HTTP_HEADER_NAME_LEN_MAX, HTTP_HEADER_VALUE_LEN_MAX, HTTP_HEADERS_MAX,
    HTTP_PATH_LEN_MAX,
};
use crate::name::text_type;
use crate::{Invalid, Port};

/// A request and the answers that count as success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCheck {
    /// Where, at the instance's address; its own port if absent.
    pub port: Option<Port>,
    /// What is asked for.
    pub path: HttpPath,
    /// How.
    pub method: HttpMethod,
    /// The `Host` header; the address and the port that are probed if absent.
    pub host: Option<HostHeader>,
    /// The answers that are a success. 429 (too many requests) that is not among them is a warning, as in Consul.
    pub expected: StatusRange,
    /// What else is sent.
    pub headers: HttpHeaders,
}

impl HttpCheck {
    /// A `GET` of `path` at the instance's own port that expects 200 to 299.
    pub fn get(path: HttpPath) -> Self {
        Self {
            port: None,
            path,
            method: HttpMethod::Get,
            host: None,
            expected: StatusRange::default(),
            headers: HttpHeaders::default(),
        }
    }
}

text_type! {
    /// The target of a request: `/`, then up to 255 visible ASCII characters other than `#`. It may have a query.
    HttpPath, check_path
}

fn check_path(text: &str) -> Result<(), Invalid> {
    let legal = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    if text.starts_with('/') && text.len() <= HTTP_PATH_LEN_MAX && text.bytes().all(legal) {
        Ok(())
    } else {
        let rule = "must begin with '/' and be at most 256 visible ASCII characters other than '#'";
        Err(Invalid::new("HTTP path", text, rule))
    }
}

text_type! {
    /// A host and perhaps a port, as in `api.example.org`: 1 to 255 letters, digits, `.`, `-`, `_`, `:`, `[` and `]`.
    HostHeader, check_host
}

fn check_host(text: &str) -> Result<(), Invalid> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if (1..=HOST_HEADER_LEN_MAX).contains(&text.len()) && text.bytes().all(legal) {
        Ok(())
    } else {
        let rule = "must be 1 to 255 letters, digits, '.', '-', '_', ':', '[' and ']'";
        Err(Invalid::new("host header", text, rule))
    }
}

/// How it is asked. Nothing that a server takes for an order: whoever registers an instance chooses it, and the
/// registry's machine is who asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HttpMethod {
    /// For the resource.
    #[default]
    Get,
    /// For its headers.
    Head,
    /// For what can be asked.
    Options,
}

impl HttpMethod {
    const NAMES: [(Self, &str); 3] = [(Self::Get, "GET"), (Self::Head, "HEAD"), (Self::Options, "OPTIONS")];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        Self::NAMES[self as usize].1
    }
}

impl FromStr for HttpMethod {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::NAMES.iter().find(|(_, name)| name.eq_ignore_ascii_case(text));
        let refused = || Invalid::new("HTTP method", text, "must be GET, HEAD or OPTIONS");
        found.map(|(method, _)| *method).ok_or_else(refused)
    }
}

/// Status codes from one to another, both included, of those from 200 to 599; 200 to 299 by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRange {
    first: u16,
    last: u16,
}

const STATUS_RULE: &str = "must be a code or a range of codes from 200 to 599, as in 200-299";

impl StatusRange {
    /// Makes a range of its ends.
    pub fn new(first: u32, last: u32) -> Result<Self, Invalid> {
        let refused = || Invalid::new("status range", format_args!("{first}-{last}"), STATUS_RULE);
        if !(200 <= first && first <= last && last <= 599) {
            return Err(refused());
        }
        let code = |number| u16::try_from(number).map_err(|_| refused());
        Ok(Self { first: code(first)?, last: code(last)? })
    }

    /// The lowest code.
    pub fn first(self) -> u16 {
        self.first
    }

    /// The highest code.
    pub fn last(self) -> u16 {
        self.last
    }

    /// Whether a code is in it.
    pub fn contains(self, code: u16) -> bool {
        (self.first..=self.last).contains(&code)
    }
}

impl Default for StatusRange {
    fn default() -> Self {
        Self { first: 200, last: 299 }
    }
}

impl FromStr for StatusRange {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || Invalid::new("status range", text, STATUS_RULE);
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let code = |text: &str| text.parse::<u32>().map_err(|_| refused());
        Self::new(code(first)?, code(last)?).map_err(|_| refused())
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Headers of a request: at most 4, each a name (1 to 64 letters, digits, `-` and `_`) and a value (at most 256 visible
/// ASCII characters and spaces). Those that say how a message is framed are not for users to set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpHeaders(BTreeMap<String, String>);

/// What frames a message or belongs to the connection (RFC 9110, section 7.6.1), and what has a field of its own.
const HEADERS_REFUSED: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl HttpHeaders {
    /// The headers in order of their names, which are in lower case.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl TryFrom<BTreeMap<String, String>> for HttpHeaders {
    type Error = Invalid;

    fn try_from(headers: BTreeMap<String, String>) -> Result<Self, Self::Error> {
        if headers.len() > HTTP_HEADERS_MAX {
            let count = format_args!("{} headers", headers.len());
            return Err(Invalid::new("HTTP headers", count, "must be at most 4"));
        }
        let mut legal = BTreeMap::new();
        for (name, value) in headers {
            check_header_name(&name)?;
            check_header_value(&value)?;
            if legal.insert(name.to_ascii_lowercase(), value).is_some() {
                return Err(Invalid::new("HTTP header", name, "must be there once"));
            }
        }
        Ok(Self(legal))
    }
}

fn check_header_name(name: &str) -> Result<(), Invalid> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !(1..=HTTP_HEADER_NAME_LEN_MAX).contains(&name.len()) || !name.bytes().all(legal) {
        return Err(Invalid::new("HTTP header", name, "must be 1 to 64 letters, digits, '-' and '_'"));
    }
    if HEADERS_REFUSED.iter().any(|refused| refused.eq_ignore_ascii_case(name)) {
        return Err(Invalid::new("HTTP header", name, "must not be about the connection or the message"));
    }
    Ok(())
}

fn check_header_value(value: &str) -> Result<(), Invalid> {
    let legal = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    if value.len() <= HTTP_HEADER_VALUE_LEN_MAX && value.bytes().all(legal) && value.trim() == value {
        Ok(())
    } else {
        let rule = "must be at most 256 visible ASCII characters and spaces, with no space at either end";
        Err(Invalid::new("HTTP header value", value, rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_can_be_smuggled_into_a_request() {
        let header = |name: &str, value: &str| {
            HttpHeaders::try_from(BTreeMap::from([(name.to_owned(), value.to_owned())]))
        };
        assert!(header("X-Token", "a b").is_ok());
        for (name, value) in [
            ("X-Token", "a\r\nHost: b"),
            ("X Token", "a"),
            ("X-Token:", "a"),
            ("", "a"),
            ("Host", "a"),
            ("Transfer-Encoding", "chunked"),
            ("content-length", "9"),
            ("X-Token", " a"),
        ] {
            assert!(header(name, value).is_err(), "{name}: {value}");
        }
        for path in ["", "health", "http://10.0.0.1/", "/a b", "/a\r\n", "/#a", "/é"] {
            assert!(path.parse::<HttpPath>().is_err(), "{path}");
        }
        for host in ["", "a b", "a/b", "a\r\nb", "a@b"] {
            assert!(host.parse::<HostHeader>().is_err(), "{host}");
        }
    }

    #[test]
    fn a_check_asks_and_never_orders() {
        assert_eq!("head".parse::<HttpMethod>().unwrap(), HttpMethod::Head);
        for order in ["POST", "PUT", "DELETE", "CONNECT", "get it"] {
            assert!(order.parse::<HttpMethod>().is_err(), "{order}");
        }
    }

    #[test]
    fn status_ranges_have_two_ends_in_order() {
        let range: StatusRange = "200-399".parse().unwrap();
        assert!(range.contains(200) && range.contains(399) && !range.contains(400));
        assert_eq!("204".parse::<StatusRange>().unwrap().to_string(), "204-204");
        for bad in ["", "199-299", "200-600", "300-200", "ok", "200-"] {
            assert!(bad.parse::<StatusRange>().is_err(), "{bad}");
        }
    }
}
