//! Load reports and advice, every legal one among them.

use std::time::Duration;

use netloft_types::{Advice, Ground, InstanceLoad, Seen, Utilization};
use proptest::prelude::*;

use super::instance_ids;

pub(crate) fn seen() -> impl Strategy<Value = Seen> {
    let calls = 0..=1_000_000_000_u64;
    let latency = (0..=1_000_000_000_000_000_u64).prop_map(Duration::from_micros);
    (calls.clone(), calls, latency, any::<u32>(), prop::option::of(utilizations())).prop_map(
        |(successes, failures, latency, in_flight, utilization)| Seen {
            successes,
            failures,
            latency,
            in_flight,
            utilization,
        },
    )
}

pub(crate) fn advice() -> impl Strategy<Value = Advice> {
    let grounds = prop_oneof![
        (0.0..1e12).prop_map(|times| Ground::Slow { times }),
        (0.0..=1.0).prop_map(|share| Ground::Failing { share }),
        Just(Ground::Recovering),
    ];
    (1..=100_u32, grounds).prop_map(|(percent, ground)| Advice::new(percent, ground).unwrap())
}

pub(crate) fn instance_loads() -> impl Strategy<Value = InstanceLoad> {
    let latency = prop::option::of(any::<u64>().prop_map(Duration::from_micros));
    let numbers = (any::<u32>(), 0.0..1e12, latency, 0.0..=1.0, any::<u32>());
    (instance_ids(), numbers, prop::option::of(utilizations()), prop::option::of(advice())).prop_map(
        |(instance, (reporters, calls_per_s, latency, failure_share, in_flight), utilization, advice)| {
            InstanceLoad {
                instance,
                reporters,
                calls_per_s,
                latency,
                failure_share,
                in_flight,
                utilization,
                advice,
            }
        },
    )
}

fn utilizations() -> impl Strategy<Value = Utilization> {
    (0.0..=1e12).prop_map(|number: f64| number.try_into().unwrap())
}
