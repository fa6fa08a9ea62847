//! Strategies that choose an instance from a snapshot, and learn from how calls went.
//!
//! A [`Snapshot`] is the set of instances at a revision, built whole from the updates of a watch. A [`Roster`]
//! is a snapshot with the weight of each instance and what is measured of it, which outlives the snapshot. A
//! [`Strategy`] builds a [`Picker`] from it: immutable, shared by every thread, and replaced whole when the
//! set changes. What changes from pick to pick is the [`Caller`], which each thread keeps to itself. So a pick
//! takes no lock and allocates nothing. A [`Call`] counts as in flight from its begin to its end, and its end
//! says how long it took and how it went.
//!
//! ```
//! use netloft_balance::{Builtin, Caller, Context, Outcome, Roster, Snapshot, Strategy};
//! use netloft_types::{Instance, Revision, Update};
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! // Two instances of `api`, as a watch announces them.
//! let instance = |id: &str| -> Result<_, netloft_types::Invalid> {
//!     let address = std::net::Ipv4Addr::new(10, 0, 0, 2).into();
//!     let instance = Instance::new(id.parse()?, "api".parse()?, address, "80".parse()?);
//!     Ok(Update::Put { at: Revision::new(2), instance: Arc::new(instance) })
//! };
//! let snapshot = Snapshot::default().apply(&[instance("api-1")?, instance("api-2")?]);
//!
//! // The crate has no clock: the time is told to it.
//! let now = Duration::from_secs(100);
//! let picker = Builtin::default().picker(Roster::new(snapshot, now));
//! let mut caller = Caller::seeded(7);
//! let context = Context::at(now);
//! let first = picker.pick(&mut caller, &context).expect("the snapshot has instances");
//!
//! // It refuses the connection: say so, and try another one.
//! picker.roster().begin(first, now).end(now, Outcome::Failure);
//! let second = picker.pick_untried(&mut caller, &context, &[first]).expect("there is another");
//! assert_ne!(first, second);
//! let call = picker.roster().begin(second, now);
//! assert_eq!(picker.roster().stats()[second].in_flight(), 1);
//! call.end(now + Duration::from_millis(12), Outcome::Success);
//!
//! // What was learned goes over to the next snapshot. The one that failed is avoided for a while.
//! let snapshot = picker.roster().snapshot().apply(&[instance("api-3")?]);
//! let picker = Builtin::default().picker(picker.roster().follow(snapshot, now));
//! assert!((0..100).all(|_| picker.pick(&mut caller, &context) != Some(first)));
//! # Ok::<(), netloft_types::Invalid>(())
//! ```

mod adaptive;
mod adviser;
mod builtin;
mod call;
mod caller;
mod compose;
mod context;
mod least_request;
mod list;
mod load;
mod maglev;
mod number;
mod options;
mod random;
mod ring_hash;
mod roster;
mod round_robin;
mod sampler;
mod snapshot;
mod stats;
mod strategy;
mod weighted;

pub use adviser::{Adviser, AdviserOptions};
pub use builtin::Builtin;
pub use call::{Call, Outcome};
pub use caller::Caller;
pub use compose::{
    Cause, Composed, Composer, Composition, HealthOptions, LoadOptions, LocalityOptions, OutlierOptions,
    Reason, SlowStartOptions, SubsetOptions, Verdict,
};
pub use context::{Context, Key};
pub use list::{List, ListIter};
pub use options::{LeastRequest, Maglev, RingHash};
pub use roster::Roster;
pub use snapshot::Snapshot;
pub use stats::Stats;
pub use strategy::{Picker, Strategy};
