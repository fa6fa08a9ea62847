//! Decides who may do what in a registry.
//!
//! Values and rules only: no files, no sockets, no clock. An [`AccessList`] is made of a [`Policy`] and of [`Tokens`];
//! it turns a [`Credential`] into somebody [`Admitted`], whose [`Grants`] say what they may do. What nothing grants is
//! denied.
//!
//! ```
//! use netloft_access::{AccessList, Credential, Policy, Right, Token, TokenRecord, Tokens};
//!
//! let token = Token::from_bytes([7; 32]); // In earnest: 32 random bytes.
//! let record = TokenRecord {
//!     name: "ci".parse()?,
//!     hash: token.hash(),
//!     scopes: vec!["api-*:read,register".parse()?],
//!     addresses: Vec::new(),
//!     created: 0,
//!     expires: None,
//! };
//! let list = AccessList::new(Policy::default(), Tokens { records: vec![record] });
//!
//! let admitted = list.admit(&Credential::Token(token.hash()), 1).expect("the token is known");
//! assert_eq!(admitted.identity.to_string(), "token:ci");
//! assert!(admitted.grants.allow(Right::Read, &"api-1".parse()?));
//! assert!(!admitted.grants.allow(Right::Write, &"api-1".parse()?));
//! # Ok::<(), netloft_types::Invalid>(())
//! ```
//!
//! A [`SessionKey`] tells whose a session is, and an [`Account`] counts what an identity has against its [`Quota`].

mod addresses;
mod identity;
mod list;
mod quota;
mod scope;
mod session;
mod token;

pub use addresses::Addresses;
pub use identity::{Identity, SpiffeId, SpiffePattern, TokenName};
pub use list::{AccessList, Admitted, Credential, NotAdmitted, Policy, PolicyEntry, Tokens};
pub use quota::{Account, Exceeded, Quota, Rate};
pub use scope::{Grants, Right, Scope};
pub use session::SessionKey;
pub use token::{TOKEN_PREFIX, Token, TokenHash, TokenRecord};
