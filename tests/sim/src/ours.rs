//! Our strategies as clients of the fleet.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use netloft_balance::{
    Builtin, Call, Caller, Composer, Composition, Context, Outcome, Picker, Roster, Snapshot, Strategy as _,
};
use netloft_types::{Instance, Revision};

use crate::client::{Client, Ended};
use crate::queue::Queue;

/// A client that links the crate, as the client of the registry does.
#[derive(Debug)]
pub(crate) struct Ours {
    strategy: Builtin,
    composer: Composer,
    is_told_of_failures: bool,
    roster: Roster,
    picker: Box<dyn Picker>,
    due: Option<Duration>,
    /// The server of each instance of the snapshot.
    servers: Vec<usize>,
    calls: Vec<(usize, Call)>,
    caller: Caller,
}

impl Ours {
    pub(crate) fn new(strategy: Builtin, composition: Composition, seed: u64) -> Self {
        let roster = Roster::default();
        Self {
            is_told_of_failures: composition.outlier.is_some(),
            composer: Composer::new(composition),
            picker: strategy.picker(roster.clone()),
            strategy,
            roster,
            due: None,
            servers: Vec::new(),
            calls: Vec::new(),
            caller: Caller::seeded(seed),
        }
    }

    fn compose(&mut self, now: Duration) {
        let composed = self.composer.compose(&self.roster, now);
        self.due = composed.due;
        let before = self.picker.roster();
        let is_same =
            before.snapshot() == composed.roster.snapshot() && before.weights() == composed.roster.weights();
        if !is_same {
            self.picker = self.strategy.picker(composed.roster);
        }
    }
}

impl Client for Ours {
    fn follow(&mut self, weights: &[u32], now: f64) {
        self.servers = (0..weights.len()).filter(|server| weights[*server] > 0).collect();
        let now = Duration::from_secs_f64(now);
        self.roster = self.roster.follow(snapshot(&self.servers, weights), now);
        self.compose(now);
    }

    fn call(&mut self, number: usize, _servers: &[Queue], now: f64) -> Option<usize> {
        let now = Duration::from_secs_f64(now);
        if self.due.is_some_and(|due| due <= now) {
            self.compose(now);
        }
        let index = self.picker.pick(&mut self.caller, &Context::at(now))?;
        self.calls.push((number, self.picker.roster().begin(index, now)));
        Some(self.servers[index])
    }

    fn end(&mut self, ended: &Ended) {
        let place = self.calls.iter().position(|(number, _)| *number == ended.number);
        let (_, call) = self.calls.swap_remove(place.expect("every call that ends was begun"));
        let now = Duration::from_secs_f64(ended.now);
        call.end(now, if ended.is_success { Outcome::Success } else { Outcome::Failure });
        if self.is_told_of_failures && !ended.is_success {
            self.compose(now);
        }
    }
}

/// The snapshot of those servers, each with its weight in `weights`.
pub(crate) fn snapshot(servers: &[usize], weights: &[u32]) -> Snapshot {
    let instances = servers.iter().map(|server| {
        let number = u32::try_from(*server).expect("a fleet is small");
        let mut instance = Instance::new(
            format!("api-{number:05}").parse().expect("a legal id"),
            "api".parse().expect("a legal name"),
            Ipv4Addr::from_bits((10 << 24) + number).into(),
            "80".parse().expect("a legal port"),
        );
        instance.weight = weights[*server].try_into().expect("a legal weight");
        Arc::new(instance)
    });
    Snapshot::new(Revision::new(1), instances)
}
