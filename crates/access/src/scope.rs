//! What an identity may do, and to which services.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use netloft_types::{Invalid, ServiceName, ServicePattern};
use serde::{Deserialize, Serialize};

use crate::Addresses;

/// Something that can be done to a service. None of them includes another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// See that it is there: lookups and watches.
    Read,
    /// Register instances of it, and change and remove those of one's own.
    Register,
    /// Change instances of others: maintenance.
    Write,
}

impl Right {
    const ALL: [Self; 3] = [Self::Read, Self::Register, Self::Write];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Register => "register",
            Self::Write => "write",
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Rights to the services that a pattern means, written `api-*:read,register`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Scope {
    services: ServicePattern,
    /// In order, each once, at least one.
    rights: Vec<Right>,
}

impl Scope {
    /// Every right to every service.
    pub fn everything() -> Self {
        Self { services: ServicePattern::all(), rights: Right::ALL.into() }
    }

    fn allows(&self, right: Right, service: &ServiceName) -> bool {
        self.rights.contains(&right) && self.services.matches(service)
    }
}

impl FromStr for Scope {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused =
            || Invalid::new("scope", text, "must be PATTERN:RIGHT[,RIGHT...] with read, register, write");
        let (services, words) = text.split_once(':').ok_or_else(refused)?;
        let right = |word: &str| Right::ALL.into_iter().find(|right| right.as_str() == word);
        let mut rights = words.split(',').map(right).collect::<Option<Vec<_>>>().ok_or_else(refused)?;
        rights.sort_unstable();
        rights.dedup();
        Ok(Self { services: services.parse()?, rights })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rights: Vec<_> = self.rights.iter().map(|right| right.as_str()).collect();
        write!(f, "{}:{}", self.services, rights.join(","))
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.to_string()
    }
}

impl TryFrom<String> for Scope {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// Everything an identity may do. What no scope allows is denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants {
    scopes: Vec<Scope>,
    addresses: Addresses,
    /// What may be read, as queries take it; `None` for everything.
    readable: Option<Arc<[ServicePattern]>>,
}

impl Grants {
    /// What `scopes` allow, at `addresses`.
    pub fn new(scopes: Vec<Scope>, addresses: Addresses) -> Self {
        let read = scopes.iter().filter(|scope| scope.rights.contains(&Right::Read));
        let patterns: Arc<[_]> = read.map(|scope| scope.services.clone()).collect();
        let reads_all = patterns.iter().any(ServicePattern::is_all);
        Self { scopes, addresses, readable: (!reads_all).then_some(patterns) }
    }

    /// Everything, at every address: for who owns the server.
    pub fn everything() -> Self {
        Self::new(vec![Scope::everything()], Addresses::any())
    }

    /// Whether `right` is granted to `service`.
    pub fn allow(&self, right: Right, service: &ServiceName) -> bool {
        self.scopes.iter().any(|scope| scope.allows(right, service))
    }

    /// Whether `right` is granted to any service at all.
    pub fn allow_some(&self, right: Right) -> bool {
        self.scopes.iter().any(|scope| scope.rights.contains(&right))
    }

    /// The services that may be seen, for [`Query::within`](netloft_types::Query::within); `None` for all.
    pub fn readable(&self) -> Option<Arc<[ServicePattern]>> {
        self.readable.clone()
    }

    /// The addresses at which instances may be registered.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(scopes: &[&str]) -> Grants {
        Grants::new(scopes.iter().map(|scope| scope.parse().unwrap()).collect(), Addresses::default())
    }

    fn name(text: &str) -> ServiceName {
        text.parse().unwrap()
    }

    #[test]
    fn what_no_scope_allows_is_denied_and_no_right_includes_another() {
        let grants = grants(&["api-*:register", "web:read,write", "*:read"]);
        assert!(grants.allow(Right::Register, &name("api-1")) && grants.allow(Right::Read, &name("api-1")));
        assert!(!grants.allow(Right::Write, &name("api-1")) && !grants.allow(Right::Register, &name("web")));
        assert!(grants.allow(Right::Write, &name("web")) && !grants.allow(Right::Register, &name("api")));
        let nothing = self::grants(&[]);
        for right in Right::ALL {
            assert!(!nothing.allow(right, &name("api")) && !nothing.allow_some(right));
        }
        assert_eq!(nothing.readable().unwrap().len(), 0);
    }

    #[test]
    fn only_who_may_read_everything_is_not_filtered() {
        assert_eq!(
            grants(&["*:register,write", "api:read"]).readable().unwrap()[..],
            ["api".parse().unwrap()]
        );
        assert_eq!(grants(&["api:read", "*:read"]).readable(), None);
        assert_eq!(Grants::everything().readable(), None);
    }

    #[test]
    fn scopes_print_what_they_parse_in_one_order() {
        for (text, printed) in [("api-*:write,read,read", "api-*:read,write"), ("*:register", "*:register")] {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), printed);
        }
        for bad in ["", "api", "api:", "api:own", "api:read,", ":read", "a b:read", "api:read:write"] {
            assert!(bad.parse::<Scope>().is_err(), "{bad}");
        }
    }
}
