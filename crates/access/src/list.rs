//! Who is known, and what for.

use std::collections::BTreeMap;
use std::sync::Arc;

use netloft_types::Subnet;
use serde::{Deserialize, Serialize};

use crate::{Addresses, Grants, Identity, Scope, SpiffeId, SpiffePattern, TokenHash, TokenRecord};

/// What somebody proves who they are with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A certificate of this name that was verified.
    Certificate(SpiffeId),
    /// A token with this hash.
    Token(TokenHash),
    /// The user id that the kernel tells of a process of the server's own user, or of root.
    Owner(u32),
}

/// Somebody who is known, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Who it is.
    pub identity: Identity,
    /// What they may do.
    pub grants: Arc<Grants>,
    /// Until when, in seconds since 1970; `None` if nothing says.
    pub until: Option<u64>,
}

/// Why somebody is not admitted. The three are told apart in the audit log, and not to who is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAdmitted {
    /// No such token was made, or it was revoked.
    #[error("the token is not known")]
    UnknownToken,
    /// The token was made for a time that is over.
    #[error("the token has expired")]
    ExpiredToken,
    /// The certificate is in order, and the policy does not name it.
    #[error("the policy does not name the certificate's identity")]
    UnknownCertificate,
}

/// The policy of a server: what those may do who have certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    /// Who is known. Who is meant by several counts as the longest.
    #[serde(rename = "identity")]
    pub identities: Vec<PolicyEntry>,
}

/// What one identity, or those alike, may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PolicyEntry {
    /// Who is meant.
    pub id: SpiffePattern,
    /// What they may do.
    pub scopes: Vec<Scope>,
    /// Where they may register instances; at the address they speak from, if there are none.
    #[serde(default)]
    pub addresses: Vec<Subnet>,
}

/// The tokens of a server, as they are kept in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tokens {
    /// In the order in which they were made.
    #[serde(rename = "token")]
    pub records: Vec<TokenRecord>,
}

/// Everybody a server knows. Immutable: a change is a new one.
#[derive(Debug, Default)]
pub struct AccessList {
    /// With the exact ones first, then the longest.
    identities: Vec<(SpiffePattern, Arc<Grants>)>,
    /// By a part of their hash.
    tokens: BTreeMap<u64, Vec<(TokenRecord, Arc<Grants>)>>,
}

impl AccessList {
    /// Makes a list of what is in the files.
    pub fn new(policy: Policy, tokens: Tokens) -> Self {
        let entry = |entry: PolicyEntry| {
            (entry.id, Arc::new(Grants::new(entry.scopes, Addresses::within(entry.addresses))))
        };
        let mut identities: Vec<_> = policy.identities.into_iter().map(entry).collect();
        identities.sort_by_key(|(id, _)| (!id.is_exact(), std::cmp::Reverse(id.as_str().len())));
        let mut by_index: BTreeMap<u64, Vec<_>> = BTreeMap::new();
        for record in tokens.records {
            let grants = Arc::new(record.grants());
            by_index.entry(record.hash.index()).or_default().push((record, grants));
        }
        Self { identities, tokens: by_index }
    }

    /// Tells who has proved to be whom, at `now`, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// If the list does not know them, or does not any more.
    pub fn admit(&self, credential: &Credential, now: u64) -> Result<Admitted, NotAdmitted> {
        match credential {
            Credential::Owner(uid) => {
                let (identity, grants) = (Identity::Unix(*uid), Arc::new(Grants::everything()));
                Ok(Admitted { identity, grants, until: None })
            }
            Credential::Certificate(id) => {
                let found = self.identities.iter().find(|(pattern, _)| pattern.matches(id));
                let (_, grants) = found.ok_or(NotAdmitted::UnknownCertificate)?;
                Ok(Admitted {
                    identity: Identity::Spiffe(id.clone()),
                    grants: Arc::clone(grants),
                    until: None,
                })
            }
            Credential::Token(hash) => self.admit_token(hash, now),
        }
    }

    /// What an identity may do at `now`, however it would prove who it is; `None` if it is not known.
    pub fn grants(&self, identity: &Identity, now: u64) -> Option<Arc<Grants>> {
        match identity {
            Identity::Unix(uid) => {
                self.admit(&Credential::Owner(*uid), now).ok().map(|admitted| admitted.grants)
            }
            Identity::Spiffe(id) => {
                let admitted = self.admit(&Credential::Certificate(id.clone()), now);
                admitted.ok().map(|admitted| admitted.grants)
            }
            Identity::Token(name) => {
                let lives = |record: &TokenRecord| record.expires.is_none_or(|expires| expires > now);
                let named = self.tokens.values().flatten();
                let named = named.filter(|(record, _)| record.name == *name && lives(record));
                named.max_by_key(|(record, _)| record.created).map(|(_, grants)| Arc::clone(grants))
            }
        }
    }

    fn admit_token(&self, hash: &TokenHash, now: u64) -> Result<Admitted, NotAdmitted> {
        let candidates = self.tokens.get(&hash.index()).map(Vec::as_slice).unwrap_or_default();
        let found = candidates.iter().find(|(record, _)| record.hash.is(hash));
        let (record, grants) = found.ok_or(NotAdmitted::UnknownToken)?;
        if record.expires.is_some_and(|expires| expires <= now) {
            return Err(NotAdmitted::ExpiredToken);
        }
        Ok(Admitted {
            identity: Identity::Token(record.name.clone()),
            grants: Arc::clone(grants),
            until: record.expires,
        })
    }
}

#[cfg(test)]
mod tests {
    use netloft_types::ServiceName;

    use super::*;
    use crate::{Right, Token};

    const POLICY: &str = r#"
        [[identity]]
        id = "spiffe://prod.example/*"
        scopes = ["*:read"]

        [[identity]]
        id = "spiffe://prod.example/billing"
        scopes = ["billing-*:register"]
        addresses = ["10.1.0.0/16"]

        [[identity]]
        id = "spiffe://prod.example/agents/*"
        scopes = ["*:read,register"]
    "#;

    fn token(number: u8) -> Token {
        Token::from_bytes([number; 32])
    }

    fn list() -> AccessList {
        let record = |name: &str, number: u8, expires| TokenRecord {
            name: name.parse().unwrap(),
            hash: token(number).hash(),
            scopes: vec!["api:read".parse().unwrap()],
            addresses: Vec::new(),
            created: 0,
            expires,
        };
        let records = vec![record("ci", 1, None), record("ci", 2, Some(100)), record("old", 3, Some(10))];
        AccessList::new(toml::from_str(POLICY).unwrap(), Tokens { records })
    }

    #[test]
    fn who_is_meant_by_several_entries_counts_as_the_most_exact() {
        let list = list();
        let may = |id: &str, right| {
            let admitted = list.admit(&Credential::Certificate(id.parse().unwrap()), 0).unwrap();
            let service: ServiceName = "billing-1".parse().unwrap();
            admitted.grants.allow(right, &service)
        };
        assert!(may("spiffe://prod.example/web", Right::Read));
        assert!(!may("spiffe://prod.example/web", Right::Register));
        assert!(may("spiffe://prod.example/billing", Right::Register));
        assert!(!may("spiffe://prod.example/billing", Right::Read), "entries do not add up");
        assert!(may("spiffe://prod.example/agents/1", Right::Register));
        let stranger = Credential::Certificate("spiffe://other.example/web".parse().unwrap());
        assert_eq!(list.admit(&stranger, 0), Err(NotAdmitted::UnknownCertificate));
    }

    #[test]
    fn a_token_counts_until_it_expires_and_another_never_does() {
        let list = list();
        let admit = |number, now| list.admit(&Credential::Token(token(number).hash()), now);
        assert_eq!(admit(1, 1_000).unwrap().until, None);
        assert_eq!(admit(2, 99).unwrap().until, Some(100));
        assert_eq!(admit(2, 99).unwrap().identity, admit(1, 99).unwrap().identity);
        assert_eq!(admit(2, 100), Err(NotAdmitted::ExpiredToken));
        assert_eq!(admit(4, 0), Err(NotAdmitted::UnknownToken));
        let is_known = |name: &str, now| list.grants(&Identity::Token(name.parse().unwrap()), now).is_some();
        assert!(is_known("ci", 1_000) && is_known("old", 9) && !is_known("old", 10) && !is_known("new", 0));
    }

    #[test]
    fn the_file_of_tokens_holds_no_token_and_comes_back_as_it_was() {
        let records = vec![TokenRecord {
            name: "ci".parse().unwrap(),
            hash: token(1).hash(),
            scopes: vec!["api-*:read,register".parse().unwrap()],
            addresses: vec!["10.0.0.0/8".parse().unwrap()],
            created: 7,
            expires: Some(8),
        }];
        let tokens = Tokens { records };
        let text = toml::to_string(&tokens).unwrap();
        assert!(!text.contains(&token(1).to_string()[3..]), "{text}");
        assert_eq!(toml::from_str::<Tokens>(&text).unwrap(), tokens);
        assert!(toml::from_str::<Tokens>(&text.replace("scopes", "scope")).is_err());
    }
}
