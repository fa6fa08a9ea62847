//! A simulated fleet of servers and its clients: what strategies do for their callers, ours and others'.
//!
//! `cargo run --release -p netloft-sim-fleet` prints all tables. A run is decided by its seed alone: no threads, no
//! clock, no waiting.
//!
//! ```
//! use netloft_balance::Builtin;
//! use netloft_sim_fleet::{Player, Scenario, play, plain, score::quantile};
//!
//! let scenario = Scenario { seconds: 10.0, ..Scenario::new("ten alike", vec![plain(1.0); 10], 0.7) };
//! let p99 = |player: Player| quantile(&play(&scenario, &player, 1).latencies, 0.99);
//! assert!(p99(Player::Ours(Builtin::Adaptive)) < p99(Player::Ours(Builtin::Random)));
//! ```

mod client;
pub mod disruption;
pub mod drawn;
mod ejecting;
mod fleet;
mod oracle;
mod ours;
mod peers;
mod player;
mod queue;
pub mod scenarios;
pub mod score;
mod world;

pub use fleet::{NOTICE, REFUSAL, Scenario, Server, TIMEOUT, Trouble, WARM_UP, Work, plain};
pub use peers::Peer;
pub use player::Player;
pub use world::{Seen, play};
