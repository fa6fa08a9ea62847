//! Tells Prometheus how a registry does.
//!
//! [`Metrics`] wraps a store and the calls that are served from it, and counts what happens; what is a state and not an
//! event, such as how many instances there are, it looks up when it is asked. [`Metrics::router`] answers over HTTP:
//! `/metrics` in the text format of `OpenMetrics` (version 1.0), `/healthz` while the process answers at all, and `/readyz` while
//! its store takes changes.
//!
//! ```
//! # use std::sync::Arc;
//! # use netloft_metrics::Metrics;
//! # use netloft_registry::{MemoryStore, StoreOptions};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let store = Arc::new(MemoryStore::start(StoreOptions::default()));
//! let metrics = Metrics::of(store, "0.1.0");
//! let store = metrics.store(); // to be served in place of the one that was given
//! let metrics = metrics.build();
//! assert!(metrics.text().await.contains("netloft_registry_services 0"));
//! # drop(store);
//! # }
//! ```

mod calls;
mod loads;
mod metrics;
mod process;
mod store;

pub use self::calls::{CallLayer, ObservedCalls};
pub use self::loads::LoadCounts;
pub use self::metrics::{Metrics, MetricsBuilder};
