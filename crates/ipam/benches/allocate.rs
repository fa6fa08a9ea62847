//! What an allocation costs, whatever the load.
//!
//! In an almost full pool without rests against an ordered set of the free addresses: with a map of the owners,
//! which is the same work, and without, which forgets who holds what. Then what no such set does: a pool filled
//! from empty, one in which addresses rest, a full one, and the ports of a host with 10,000 claims.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant, SystemTime};

use criterion::{Criterion, criterion_group, criterion_main};
use netloft_ipam::{Allocated, Error, Gateway, Pool, PoolOptions, Ports, PortsOptions, Request, Tenant};
use netloft_types::{EndpointId, PublishSpec, Subnet};

const OWNER: EndpointId = EndpointId::from_number(1);
const NOW: SystemTime = SystemTime::UNIX_EPOCH;
/// Addresses to hand out in a /16 without a gateway.
const ROOM: u32 = (1 << 16) - 2;
/// Claims of ports that are there already.
const CLAIMS: u64 = 10_000;
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

/// A pool whose addresses do not rest and are not remembered.
fn restless() -> PoolOptions {
    PoolOptions { rest: Duration::ZERO, remembered_max: 0, ..resting() }
}

fn resting() -> PoolOptions {
    PoolOptions { gateway: Gateway::Absent, ..PoolOptions::default() }
}

fn pool(prefix_len: u8, options: &PoolOptions) -> Pool {
    let subnet = Subnet::new(address(0), prefix_len).expect("10.0.0.0 has no low bits");
    Pool::new(subnet, options).expect("the subnet is large enough")
}

fn allocate(pool: &mut Pool, tenant: u64) -> Result<Allocated, Error> {
    pool.allocate(OWNER, Tenant::from_number(tenant), Request::Any, NOW)
}

fn address(place: u32) -> IpAddr {
    Ipv4Addr::from_bits((10 << 24) + place).into()
}

fn allocate_and_release(criterion: &mut Criterion) {
    for prefix_len in [8, 16] {
        let len = 1_u32 << (32 - prefix_len);
        let mut group = criterion.benchmark_group(format!("/{prefix_len}, 99.99 % held"));

        let mut pool = almost_full_pool(prefix_len, len);
        let mut draw = Draw(7);
        group.bench_function("netloft", |bencher| {
            bencher.iter(|| {
                let taken = allocate(&mut pool, draw.0.into());
                pool.release(OWNER, address(1 + draw.below(len - 2)), NOW);
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
    let mut pool = pool(prefix_len, &restless());
    while allocate(&mut pool, 0).is_ok() {}
    for gap in gaps(len) {
        pool.release(OWNER, address(gap), NOW);
    }
    pool
}

/// Fills a /16 from empty to full, over and over, and times one quarter of it.
#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn fill(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("/16 filled from empty, one allocation in the");
    for (name, quarter) in [("first quarter", 0), ("last quarter", 3)] {
        let begin = quarter * (ROOM / 4);
        let mut start = pool(16, &resting());
        for tenant in 0..begin {
            allocate(&mut start, tenant.into()).expect("it is not full");
        }
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let mut spent = Duration::ZERO;
                let mut left = iterations;
                while left > 0 {
                    let batch = left.min((ROOM / 4).into());
                    let mut pool = start.clone();
                    let since = Instant::now();
                    for tenant in 0..batch {
                        black_box(allocate(&mut pool, u64::from(begin) + tenant)).expect("it is not full");
                    }
                    spent += since.elapsed();
                    left -= batch;
                }
                spent
            });
        });
    }
    group.finish();
}

/// Every address of a /16 is held, all are released, and then one is taken and released at a time.
fn rest(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("/16, 65,534 addresses rest, allocate and release");
    let mut rested = pool(16, &resting());
    for tenant in 0..ROOM {
        allocate(&mut rested, tenant.into()).expect("it is not full");
    }
    for place in 1..=ROOM {
        rested.release(OWNER, address(place), NOW);
    }
    for (name, tenants) in [("by others", ROOM.into()..u64::MAX), ("by who returns", 0..ROOM.into())] {
        let mut pool = rested.clone();
        let mut tenants = tenants.cycle().map(Tenant::from_number);
        let mut now = NOW;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                now += Duration::from_millis(1);
                let tenant = tenants.next().expect("it is a cycle");
                let taken = pool.allocate(OWNER, tenant, Request::Any, now).expect("all are released");
                black_box(pool.release(OWNER, taken.address, now))
            });
        });
    }
    group.finish();
}

fn exhausted(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("full, the answer that it is");
    for prefix_len in [8, 16] {
        let mut pool = pool(prefix_len, &resting());
        while allocate(&mut pool, 0).is_ok() {}
        group.bench_function(format!("/{prefix_len}"), |bencher| {
            bencher.iter(|| black_box(allocate(&mut pool, 1)).is_err());
        });
    }
    let mut ports = Ports::new(&PortsOptions::default());
    let spec = spec("80");
    while ports.claim(OWNER, spec, |_, _, _| false).is_ok() {}
    group.bench_function("ports", |bencher| {
        bencher.iter(|| black_box(ports.claim(OWNER, spec, |_, _, _| false)).is_err());
    });
    group.finish();
}

fn claim(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("10,000 claims of ports, claim and release");
    let mut ports = Ports::new(&PortsOptions::default());
    for number in 1..=CLAIMS {
        let spec = spec(&format!("{}:80", number * 6));
        ports.claim(EndpointId::from_number(number), spec, |_, _, _| false).expect("it is free");
    }
    let owner = EndpointId::from_number(CLAIMS + 1);
    for (name, text) in [
        ("a chosen port", "80"),
        ("ten chosen ports", "80-89"),
        ("a named port", "30001:80"),
        ("a named port at an address", "10.0.0.1:30001:80"),
    ] {
        let spec = spec(text);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                ports.claim(owner, spec, |_, _, _| false).expect("it is free");
                black_box(ports.release(owner))
            });
        });
    }
    group.finish();
}

fn spec(text: &str) -> PublishSpec {
    text.parse().expect("it is well-formed")
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

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = allocate_and_release, fill, rest, exhausted, claim
}
criterion_main!(benches);
