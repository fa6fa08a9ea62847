//! The process, from the outside.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod embedded;
mod health;
mod metrics;
mod server;
mod serving;
