//! Bearer tokens: the secret that its bearer has, and the record that the server keeps.

use std::fmt;
use std::str::FromStr;

use netloft_types::{Invalid, Subnet};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use crate::{Addresses, Grants, Scope, TokenName};

/// What a token begins with, so that whoever scans files for secrets finds it.
pub const TOKEN_PREFIX: &str = "nl_";

const SECRET_LEN: usize = 32;

/// A token, as its bearer has it: `nl_` and 64 hexadecimal digits, 256 random bits. It prints itself by `Display` and not
/// by `Debug`.
#[derive(Clone)]
pub struct Token([u8; SECRET_LEN]);

impl Token {
    /// Makes a token of 32 bytes; the caller brings the randomness.
    pub fn from_bytes(bytes: [u8; SECRET_LEN]) -> Self {
        Self(bytes)
    }

    /// What the server keeps of it.
    ///
    /// A plain hash, without salt and not slow: those are against guessing what people choose. Of 256 random bits there is
    /// nothing to guess.
    pub fn hash(&self) -> TokenHash {
        let mut hash = [0; SECRET_LEN];
        hash.copy_from_slice(digest(&SHA256, &self.0).as_ref());
        TokenHash(hash)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{TOKEN_PREFIX}{}", hex(&self.0))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl FromStr for Token {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.strip_prefix(TOKEN_PREFIX).and_then(unhex);
        // The value is not repeated: it may be nearly right.
        bytes.map(Self).ok_or_else(|| Invalid::new("token", "...", "must be nl_ and 64 hexadecimal digits"))
    }
}

/// SHA-256 of a token, as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TokenHash([u8; SECRET_LEN]);

impl TokenHash {
    /// Whether the two are the same, in a time that does not tell where they differ.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(&other.0).into()
    }

    /// A part of it by which records are found. It is public as far as timing goes: who knows it knows nothing of the
    /// token.
    pub(crate) fn index(&self) -> u64 {
        self.0[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenHash({}..)", &hex(&self.0)[..8])
    }
}

impl From<TokenHash> for String {
    fn from(hash: TokenHash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for TokenHash {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let refused = || Invalid::new("token hash", &text, "must be 64 hexadecimal digits");
        unhex(&text).map(Self).ok_or_else(refused)
    }
}

/// What a server knows of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRecord {
    /// Its name. Two may have one name while the one takes the place of the other.
    pub name: TokenName,
    /// What it is known by.
    pub hash: TokenHash,
    /// What its bearer may do.
    pub scopes: Vec<Scope>,
    /// Where its bearer may register instances; at the address it speaks from, if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Subnet>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// From when on it counts for nothing, in seconds since 1970; never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
}

impl TokenRecord {
    pub(crate) fn grants(&self) -> Grants {
        Grants::new(self.scopes.clone(), Addresses::within(self.addresses.clone()))
    }
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// One spelling only: lower case.
fn unhex(text: &str) -> Option<[u8; SECRET_LEN]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; SECRET_LEN];
    if text.len() != 2 * SECRET_LEN {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_prints_what_it_parses_and_debug_tells_nothing() {
        let token = Token::from_bytes(std::array::from_fn(|n| u8::try_from(n * 7).unwrap()));
        let text = token.to_string();
        assert!(text.starts_with("nl_00070e") && text.len() == 67, "{text}");
        assert_eq!(text.parse::<Token>().unwrap().hash(), token.hash());
        assert_eq!(format!("{token:?}"), "Token(..)");
        for bad in ["", "nl_", &text[1..], &text[..66], &text.to_uppercase(), &format!("{text}0")] {
            let error = bad.parse::<Token>().unwrap_err().to_string();
            assert!(!error.contains("070e"), "{error}");
        }
    }

    #[test]
    fn the_hash_is_sha_256() {
        // FIPS 180-2 has no example of 32 bytes; this one is coreutils' sha256sum of 32 zeros.
        let hash = Token::from_bytes([0; 32]).hash().to_string();
        assert_eq!(hash, "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925");
    }
}
