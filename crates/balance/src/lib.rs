//! Strategies that choose an instance from a snapshot.
//!
//! A [`Snapshot`] is the set of instances at a revision, built whole from the updates of a watch. A
//! [`Strategy`] builds a [`Picker`] from it: immutable, shared by every thread, and replaced whole when the
//! set changes. What changes from pick to pick is the [`Caller`], which each thread keeps to itself. So a pick
//! takes no lock, allocates nothing and shares no cache line that anyone writes to.
//!
//! ```
//! use netloft_balance::{Builtin, Caller, Snapshot, Strategy};
//! use netloft_types::{Instance, Revision, Update};
//! use std::sync::Arc;
//!
//! // Two instances of `api`, as a watch announces them.
//! let instance = |id: &str| -> Result<_, netloft_types::Invalid> {
//!     let address = std::net::Ipv4Addr::new(10, 0, 0, 2).into();
//!     let instance = Instance::new(id.parse()?, "api".parse()?, address, "80".parse()?);
//!     Ok(Update::Put { at: Revision::new(2), instance: Arc::new(instance) })
//! };
//! let snapshot = Snapshot::default().apply(&[instance("api-1")?, instance("api-2")?]);
//!
//! let picker = "round-robin".parse::<Builtin>()?.picker(snapshot);
//! let mut caller = Caller::seeded(7);
//! let first = picker.pick(&mut caller).expect("the snapshot has instances");
//!
//! // It refuses the connection: try another one.
//! let second = picker.pick_untried(&mut caller, &[first]).expect("there is another");
//! assert_ne!(first, second);
//! assert_eq!(picker.pick_untried(&mut caller, &[first, second]), None);
//! assert_eq!(picker.snapshot().instances()[second].service.as_str(), "api");
//! # Ok::<(), netloft_types::Invalid>(())
//! ```

mod caller;
mod random;
mod round_robin;
mod snapshot;
mod strategy;
mod weighted;

pub use caller::Caller;
pub use snapshot::Snapshot;
pub use strategy::{Builtin, Picker, Strategy};
