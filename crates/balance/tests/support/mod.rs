//! Rosters to pick from.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use netloft_balance::{Roster, Snapshot};
use netloft_types::{Instance, Revision};

/// The instances of these numbers, all of weight 1.
pub fn snapshot(numbers: impl IntoIterator<Item = u32>) -> Snapshot {
    Snapshot::new(Revision::new(1), numbers.into_iter().map(instance))
}

/// Instances with these weights, of which nothing is known.
pub fn roster(weights: &[u32]) -> Roster {
    let numbers = 0..u32::try_from(weights.len()).unwrap();
    let mut weights = weights.iter();
    Roster::new(snapshot(numbers), Duration::ZERO).weighed(|_, _| *weights.next().unwrap())
}

fn instance(number: u32) -> Arc<Instance> {
    let address = Ipv4Addr::from_bits((10 << 24) + number).into();
    let id = format!("api-{number:05}").parse().unwrap();
    Arc::new(Instance::new(id, "api".parse().unwrap(), address, "80".parse().unwrap()))
}
