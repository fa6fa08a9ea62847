//! Registers, watches and balances over gRPC.
//!
//! A [`Client`] registers instances and keeps them registered ([`Registration`]), looks instances up, follows a
//! service ([`Discovery`]) and chooses an instance for each call ([`Balanced`]). The registry is not on the path
//! of those calls: when it is away, registrations are restored once it is back, and the last known instances go
//! on serving.
//!
//! ```
//! use std::time::Duration;
//!
//! use netloft_balance::Builtin;
//! use netloft_client::{Client, RegisterOptions};
//! use netloft_types::{Instance, Query, ServiceName};
//! # use netloft_registry::{MemoryStore, StoreOptions};
//! # use netloft_rpc::{Listener, ServerOptions, serve};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let listener = Listener::tcp("127.0.0.1:0".parse()?).await?;
//! # let registry = format!("http://{listener}");
//! # let store = std::sync::Arc::new(MemoryStore::start(StoreOptions::default()));
//! # tokio::spawn(serve(listener, store, ServerOptions::default(), std::future::pending()));
//! // Such as "http://127.0.0.1:7400" or "unix:///run/netloft/registry.sock"; with `Credentials`, "https://...".
//! let client = Client::connect(registry.parse()?);
//!
//! let service: ServiceName = "api".parse()?;
//! let instance = Instance::new("api-1".parse()?, service.clone(), "10.0.0.2".parse()?, "8080".parse()?);
//! let registration = client.register(instance, RegisterOptions::default()).await?;
//!
//! let api = client.balance(Query::service(service), Builtin::RoundRobin);
//! api.ready(Duration::from_secs(5)).await?;
//! let chosen = api.pick().expect("an instance is registered");
//! assert_eq!(chosen.id.as_str(), "api-1");
//!
//! registration.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! Of a registry of several servers a client takes all [`Targets`], and uses one at a time: `http://a:7400,http://b:7400`.
//!
//! Whoever does not want to carry the calls out themselves has a [`BalancedChannel`], which any client that tonic generates
//! takes, and a [`BalanceLayer`] for clients of HTTP.
//!
//! An [`AgentClient`] asks the host agent for networks and attachments.
//!
//! Every call is bounded by [`ClientOptions`]. All futures can be dropped; each says what happens then.

mod agent;
mod backoff;
mod balanced;
mod calls;
mod channel;
mod client;
mod connection;
mod credentials;
mod discovery;
mod error;
mod layer;
mod metrics;
mod orca;
mod registration;
mod session;
mod target;
mod turn;

pub use agent::{AgentClient, Finding};
pub use balanced::{Balanced, Candidates, Explanation, Pick};
pub use calls::{Examined, Resolved, ServiceSummary, Watch};
pub use channel::{
    BalancedChannel, BudgetOptions, ChannelOptions, Codes, ConnectAheadOptions, HedgeOptions, JudgedBody,
    Methods, Repeat, RetryOptions, TlsName, TlsOptions,
};
pub use client::{Client, ClientOptions};
pub use credentials::{Credentials, TlsIdentity, TokenSource};
pub use discovery::Discovery;
pub use error::{Error, Operation, Reason, Refusal};
pub use layer::{BalanceBody, BalanceError, BalanceLayer, BalanceService};
pub use metrics::{CallStats, Ended, LatencyHistogram, prometheus_text};
pub use registration::{RegisterOptions, Registration};
pub use target::{Target, Targets};
