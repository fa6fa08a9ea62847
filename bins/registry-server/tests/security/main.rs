//! Attacks on a registry, against the real process: each shown to work where nothing is guarded, and not to work where
//! something is.
//!
//! The names begin with the number of the attack in docs/guide/security.md.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod addresses;
mod audit;
mod certificates;
mod ground;
mod http2;
mod quotas;
mod replay;
mod sessions;
mod sight;
mod tokens;
