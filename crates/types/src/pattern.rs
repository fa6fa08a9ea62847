//! A pattern: which services are meant, by name or by how their names begin.

use std::fmt;
use std::str::FromStr;

use crate::limits::NAME_LEN_MAX;
use crate::name::through_text;
use crate::{Invalid, ServiceName};

/// Which services are meant: one by its name (`api`), those whose names begin alike (`api-*`), or all (`*`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(into = "String", try_from = "String"))]
pub struct ServicePattern(Kind);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kind {
    Exact(ServiceName),
    /// What names begin with; all do with nothing.
    Prefix(String),
}

impl ServicePattern {
    /// All services.
    pub fn all() -> Self {
        Self(Kind::Prefix(String::new()))
    }

    /// Whether it means every service there can be.
    pub fn is_all(&self) -> bool {
        matches!(&self.0, Kind::Prefix(prefix) if prefix.is_empty())
    }

    /// Whether it means `service`.
    pub fn matches(&self, service: &ServiceName) -> bool {
        match &self.0 {
            Kind::Exact(name) => name == service,
            Kind::Prefix(prefix) => service.as_str().starts_with(prefix.as_str()),
        }
    }
}

impl FromStr for ServicePattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rule = "must be a service name, the beginning of one with a '*' after it, or '*'";
        let refused = || Invalid::new("service pattern", text, rule);
        let Some(prefix) = text.strip_suffix('*') else {
            return text.parse().map(|name| Self(Kind::Exact(name))).map_err(|_| refused());
        };
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let begins_a_name =
            prefix.len() < NAME_LEN_MAX && prefix.bytes().all(legal) && !prefix.starts_with('-');
        begins_a_name.then(|| Self(Kind::Prefix(prefix.to_owned()))).ok_or_else(refused)
    }
}

impl fmt::Display for ServicePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Exact(name) => write!(f, "{name}"),
            Kind::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

through_text!(ServicePattern);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_exactly_what_it_says() {
        let cases = [
            ("api", ["api"].as_slice(), ["api-1", "ap", "web"].as_slice()),
            ("api-*", &["api-1", "api-x-y"], &["api", "apis", "web-api-1"]),
            ("api*", &["api", "api-1", "apis"], &["ap", "web"]),
            ("*", &["api", "web"], &[]),
        ];
        for (text, meant, not_meant) in cases {
            let pattern: ServicePattern = text.parse().unwrap();
            assert_eq!(pattern.to_string(), text);
            let matches = |name: &&str| pattern.matches(&name.parse().unwrap());
            assert!(meant.iter().all(matches), "{text}");
            assert!(!not_meant.iter().any(matches), "{text}");
        }
    }

    #[test]
    fn what_no_service_could_be_called_is_refused() {
        for bad in ["", "**", "a*b", "*-api", "-*", "Api*", "a.b", "api ", "api-"] {
            assert!(bad.parse::<ServicePattern>().is_err(), "{bad}");
        }
    }
}
