//! A pick by each strategy, against smooth weighted round robin as it is usually written.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use netloft_balance::{Builtin, Caller, Snapshot, Strategy};
use netloft_types::{Instance, Revision};

/// One lock around a scan of every instance (the algorithm of nginx).
struct Naive {
    /// The weight of each instance, and what it is owed.
    state: Mutex<Vec<(i64, i64)>>,
}

impl Naive {
    fn pick(&self) -> Option<usize> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let total: i64 = state.iter().map(|(weight, _)| weight).sum();
        for (weight, owed) in state.iter_mut() {
            *owed += *weight;
        }
        let (index, _) = state.iter().enumerate().max_by_key(|(_, (_, owed))| *owed)?;
        state[index].1 -= total;
        Some(index)
    }
}

fn pick(criterion: &mut Criterion) {
    for count in [3, 100, 10_000] {
        let snapshot = snapshot(count);
        let mut group = criterion.benchmark_group(format!("{count} instances"));
        group.warm_up_time(Duration::from_millis(300));
        group.measurement_time(Duration::from_secs(1));
        for strategy in [Builtin::RoundRobin, Builtin::Random, Builtin::Weighted] {
            let picker = strategy.picker(snapshot.clone());
            let mut caller = Caller::seeded(7);
            group.bench_function(strategy.to_string(), |bencher| {
                bencher.iter(|| black_box(picker.pick(&mut caller)));
            });
        }
        let weights = snapshot.instances().iter();
        let naive = Naive { state: Mutex::new(weights.map(|one| (one.weight.number().into(), 0)).collect()) };
        group.bench_function("naive weighted", |bencher| {
            bencher.iter(|| black_box(naive.pick()));
        });
        group.bench_function("build weighted", |bencher| {
            bencher.iter(|| black_box(Builtin::Weighted.picker(snapshot.clone())));
        });
        group.finish();
    }
}

/// Instances with the weights 1 to 7 in turn: laid out ahead up to 100 instances, by the golden ratio beyond.
fn snapshot(count: u32) -> Snapshot {
    let instances = (0..count).map(|number| {
        let mut instance = Instance::new(
            format!("api-{number}").parse().expect("a legal id"),
            "api".parse().expect("a legal name"),
            Ipv4Addr::from_bits((10 << 24) + number).into(),
            "80".parse().expect("a legal port"),
        );
        instance.weight = (number % 7 + 1).try_into().expect("a legal weight");
        Arc::new(instance)
    });
    Snapshot::new(Revision::new(1), instances)
}

criterion_group!(benches, pick);
criterion_main!(benches);
