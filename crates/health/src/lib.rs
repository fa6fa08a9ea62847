//! Decides from the results of checks whether instances work, and doubts itself before it doubts them.
//!
//! A [`Monitor`] is told what is registered, says when to probe what, is told how that went, and says what has to change
//! in the registry. It does none of that itself: it has no clock, no socket and no task. Time is an argument, counted
//! from an origin that the caller chose, and chance is drawn from a seed. So a test can drive it through years, and
//! stop it in the middle.
//!
//! ```
//! use std::time::Duration;
//!
//! use netloft_health::{Action, Monitor, MonitorOptions, Observation};
//! use netloft_types::{Check, Checks, Health, Instance, Lifecycle, Revision, Update};
//!
//! let address = "10.0.0.2".parse().unwrap();
//! let bare = Instance::new("api-1".parse()?, "api".parse()?, address, "8080".parse()?);
//! let said = Instance { lifecycle: Lifecycle::Starting, checks: Checks::from(Check::tcp()), ..bare };
//! let instance = said.registered_over(None).into();
//!
//! let mut now = Duration::ZERO;
//! let mut monitor = Monitor::new(MonitorOptions::default(), now, 7);
//! monitor.apply(now, &[Update::Put { at: Revision::new(1), instance }]);
//! let becomes = loop {
//!     match monitor.poll(now) {
//!         None => now = monitor.next_due().expect("there is an instance with a check"),
//!         Some(Action::Probe(probe)) => {
//!             assert_eq!(probe.target, "10.0.0.2:8080".parse().unwrap());
//!             monitor.finished(now, probe.ticket, Observation::pass("connected"));
//!         }
//!         Some(Action::Amend(amendment)) => break amendment.becomes.unwrap(),
//!         Some(_) => {}
//!     }
//! };
//! assert_eq!((becomes.health, becomes.lifecycle), (Health::Passing, Lifecycle::Ready));
//! # Ok::<(), netloft_types::Invalid>(())
//! ```
//!
//! Four things keep it from throwing out what works:
//!
//! - thresholds, and damping of what changes to and fro: a [`Tracker`] for each check;
//! - a clock that stands still while the observer does ([`AwakeClock`]), and no belief in failures seen across such a
//!   gap;
//! - patience that grows while the observer is short of processor time ([`Awareness`], after Lifeguard,
//!   arXiv 1707.00788);
//! - a threshold of panic: when most of a service seems to fail at once, what was there before stays
//!   ([`PanicOptions`]).

mod awareness;
mod clock;
mod monitor;
mod observation;
mod targets;
mod tracker;

pub use awareness::Awareness;
pub use clock::{AwakeClock, BEAT, STEP_MAX};
pub use monitor::{
    Action, Amendment, Cause, HeartbeatError, Monitor, MonitorOptions, PanicOptions, Probe, Setback, Stats,
};
pub use observation::{Observation, Outcome};
pub use targets::{Refusal, Targets};
pub use tracker::Tracker;
