//! Who somebody is.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use netloft_types::Invalid;
use netloft_types::limits::NAME_LEN_MAX;
use serde::{Deserialize, Serialize};

/// Who speaks, as the operator knows them. Sessions belong to one, quotas count for one, the audit log names one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// Whoever has a certificate of this name.
    Spiffe(SpiffeId),
    /// Whoever has a token of this name.
    Token(TokenName),
    /// A process of this user on the server's own host, over its unix socket.
    Unix(u32),
}

/// Prints `spiffe://DOMAIN/PATH`, `token:NAME` or `unix:UID`.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spiffe(id) => write!(f, "{id}"),
            Self::Token(name) => write!(f, "token:{name}"),
            Self::Unix(uid) => write!(f, "unix:{uid}"),
        }
    }
}

/// Gives a type that wraps checked text its printers.
macro_rules! checked_text {
    ($name:ident) => {
        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0.as_ref().to_owned()
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
    };
}

/// The longest SPIFFE id (SPIFFE-ID, section 2.3).
const SPIFFE_ID_LEN_MAX: usize = 2_048;
/// The longest trust domain (the same section).
const TRUST_DOMAIN_LEN_MAX: usize = 255;

/// The name of a workload, as a certificate tells it: `spiffe://TRUST-DOMAIN/PATH` (SPIFFE-ID, section 2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SpiffeId(Arc<str>);

checked_text!(SpiffeId);

impl FromStr for SpiffeId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rule = "must be spiffe://TRUST-DOMAIN/PATH";
        let well_formed = text.len() <= SPIFFE_ID_LEN_MAX
            && text.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/')).is_some_and(
                |(domain, path)| is_trust_domain(domain) && path.split('/').all(is_path_segment),
            );
        if well_formed { Ok(Self(text.into())) } else { Err(Invalid::new("SPIFFE id", text, rule)) }
    }
}

fn is_trust_domain(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    (1..=TRUST_DOMAIN_LEN_MAX).contains(&text.len()) && text.bytes().all(legal)
}

fn is_path_segment(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    !matches!(text, "" | "." | "..") && text.bytes().all(legal)
}

/// Which workloads are meant: one by its SPIFFE id, or all below a path (`spiffe://prod.example/agents/*`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SpiffePattern(Arc<str>);

checked_text!(SpiffePattern);

impl SpiffePattern {
    /// Whether it means `id`.
    pub fn matches(&self, id: &SpiffeId) -> bool {
        match self.0.strip_suffix('*') {
            None => self.as_str() == id.as_str(),
            Some(below) => id.as_str().len() > below.len() && id.as_str().starts_with(below),
        }
    }

    /// Whether it means one and no other.
    pub(crate) fn is_exact(&self) -> bool {
        !self.0.ends_with('*')
    }
}

impl FromStr for SpiffePattern {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // What is below a path is well-formed if something is.
        let example = text.strip_suffix("/*").map_or_else(|| text.to_owned(), |path| format!("{path}/x"));
        match example.parse::<SpiffeId>() {
            Ok(_) => Ok(Self(text.into())),
            Err(_) => {
                Err(Invalid::new("SPIFFE id", text, "must be spiffe://TRUST-DOMAIN/PATH, or end with '/*'"))
            }
        }
    }
}

/// The name of a token, by which it is listed and revoked: 1 to 63 bytes of `a-z`, `0-9` and `-`, with no `-` at either
/// end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TokenName(Arc<str>);

checked_text!(TokenName);

impl FromStr for TokenName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let well_formed = (1..=NAME_LEN_MAX).contains(&text.len())
            && text.bytes().all(legal)
            && !text.starts_with('-')
            && !text.ends_with('-');
        let rule = "must be 1 to 63 characters of a-z, 0-9 and '-', with no '-' at either end";
        if well_formed { Ok(Self(text.into())) } else { Err(Invalid::new("token name", text, rule)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_spiffe_ids_are_identities() {
        for good in ["spiffe://prod.example/billing", "spiffe://a/b/C_d.e-1"] {
            assert_eq!(good.parse::<SpiffeId>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "spiffe://",
            "spiffe://prod.example",
            "spiffe://prod.example/",
            "spiffe:///billing",
            "spiffe://Prod.example/billing",
            "spiffe://prod.example:1/billing",
            "spiffe://user@prod.example/billing",
            "spiffe://prod.example/a//b",
            "spiffe://prod.example/a/../b",
            "spiffe://prod.example/a?b",
            "spiffe://prod.example/a*",
            "https://prod.example/billing",
            "SPIFFE://prod.example/billing",
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pattern_means_one_or_what_is_below_a_path() {
        let id = |text: &str| text.parse::<SpiffeId>().unwrap();
        let one: SpiffePattern = "spiffe://p/agent".parse().unwrap();
        assert!(one.matches(&id("spiffe://p/agent")) && !one.matches(&id("spiffe://p/agent/1")));
        let below: SpiffePattern = "spiffe://p/agent/*".parse().unwrap();
        assert!(below.matches(&id("spiffe://p/agent/1")) && below.matches(&id("spiffe://p/agent/1/2")));
        assert!(!below.matches(&id("spiffe://p/agent")) && !below.matches(&id("spiffe://p/agents/1")));
        for bad in ["spiffe://p*", "spiffe://*/a", "*", "spiffe://p/a*", "spiffe://p/*/b"] {
            assert!(bad.parse::<SpiffePattern>().is_err(), "{bad}");
        }
    }
}
