//! Allocate and release in an almost full pool, against an ordered set of the free addresses: with a map of
//! the owners, which is the same work, and without, which forgets who holds what.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use netloft_ipam::{Gateway, Pool, PoolOptions, Request};
use netloft_types::{EndpointId, Subnet};

const OWNER: EndpointId = EndpointId::from_number(1);
/// One address in this many is free: 99.99 % are held.
const HELD_PER_GAP: u32 = 10_000;

/// A small generator, the same for both sides (Marsaglia's xorshift, 32 bits).
struct Draw(u32);

impl Draw {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 % bound
    }
}

fn address(place: u32) -> IpAddr {
    Ipv4Addr::from_bits((10 << 24) + place).into()
}

fn allocate_and_release(criterion: &mut Criterion) {
    for prefix_len in [8, 16] {
        let len = 1_u32 << (32 - prefix_len);
        let mut group = criterion.benchmark_group(format!("/{prefix_len}, 99.99 % held"));
        group.warm_up_time(Duration::from_millis(500));
        group.measurement_time(Duration::from_secs(2));

        let mut pool = almost_full_pool(prefix_len, len);
        let mut draw = Draw(7);
        group.bench_function("netloft", |bencher| {
            bencher.iter(|| {
                let taken = pool.allocate(OWNER, Request::Any);
                pool.release(OWNER, address(1 + draw.below(len - 2)));
                black_box(taken)
            });
        });

        let mut rival = Rival::almost_full(len);
        let mut draw = Draw(7);
        group.bench_function("BTreeSet of the free, BTreeMap of owners", |bencher| {
            bencher.iter(|| {
                let taken = rival.allocate();
                rival.owners.extend(taken.map(|taken| (taken, OWNER)));
                let released = 1 + draw.below(len - 2);
                if rival.owners.remove(&released).is_some() {
                    rival.free.insert(released);
                }
                black_box(taken)
            });
        });

        let mut rival = Rival::almost_full(len);
        let mut draw = Draw(7);
        group.bench_function("BTreeSet of the free, no owners", |bencher| {
            bencher.iter(|| {
                let taken = rival.allocate();
                rival.free.insert(1 + draw.below(len - 2));
                black_box(taken)
            });
        });
        group.finish();
    }
}

fn almost_full_pool(prefix_len: u8, len: u32) -> Pool {
    let subnet = Subnet::new(address(0), prefix_len).expect("10.0.0.0 has no low bits");
    let options = PoolOptions { gateway: Gateway::Absent, ..PoolOptions::default() };
    let mut pool = Pool::new(subnet, &options).expect("the subnet is large enough");
    while pool.allocate(OWNER, Request::Any).is_ok() {}
    for gap in gaps(len) {
        pool.release(OWNER, address(gap));
    }
    pool
}

/// What the standard library offers.
struct Rival {
    free: BTreeSet<u32>,
    owners: BTreeMap<u32, EndpointId>,
    cursor: u32,
}

impl Rival {
    fn almost_full(len: u32) -> Self {
        let free: BTreeSet<u32> = gaps(len).collect();
        let held = (1..len - 1).filter(|place| !free.contains(place));
        Self { owners: held.map(|place| (place, OWNER)).collect(), free, cursor: 0 }
    }

    fn allocate(&mut self) -> Option<u32> {
        let ahead = self.free.range(self.cursor..).next().copied();
        let taken = ahead.or_else(|| self.free.first().copied())?;
        self.free.remove(&taken);
        self.cursor = taken + 1;
        Some(taken)
    }
}

/// Random places, some of which may repeat.
fn gaps(len: u32) -> impl Iterator<Item = u32> {
    let mut draw = Draw(3);
    (0..(len / HELD_PER_GAP).max(1)).map(move |_| 1 + draw.below(len - 2))
}

criterion_group!(benches, allocate_and_release);
criterion_main!(benches);
