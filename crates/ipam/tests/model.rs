//! Random operations on a pool, compared with a dumb model of it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use netloft_ipam::{
    Allocated, Allocation, Error, Gateway, Pool, PoolOptions, Released, Request, Rested, Tenant,
};
use netloft_types::{EndpointId, Subnet};
use proptest::prelude::*;

/// A pool as one would explain it: walk from the first address, one at a time; count seconds that passed.
#[derive(Clone)]
struct Model {
    subnet: Subnet,
    reserved: Vec<IpAddr>,
    rest: i64,
    remembered_max: usize,
    held: BTreeMap<IpAddr, (EndpointId, Tenant)>,
    /// When each rest ends, in seconds that passed; in the order in which they end.
    released: Vec<(i64, IpAddr, Tenant)>,
    passed: i64,
    now: i64,
}

impl Model {
    fn new(subnet: Subnet, options: &PoolOptions) -> Self {
        let mut reserved: Vec<IpAddr> = options.reserved.iter().copied().collect();
        let host_bits = if subnet.is_ipv4() { 32 } else { 128 } - subnet.prefix_len();
        if host_bits >= 2 {
            reserved.push(subnet.first());
            if subnet.is_ipv4() {
                reserved.push(subnet.last());
            }
        }
        let mut model = Self {
            subnet,
            reserved,
            rest: options.rest.as_secs().cast_signed(),
            remembered_max: options.remembered_max,
            held: BTreeMap::new(),
            released: Vec::new(),
            passed: 0,
            now: START,
        };
        match options.gateway {
            Gateway::First => {
                let first = model.free().next();
                model.reserved.extend(first);
            }
            Gateway::At(address) => model.reserved.push(address),
            Gateway::Absent => {}
        }
        model
    }

    /// The free addresses, lowest first.
    fn free(&self) -> impl Iterator<Item = IpAddr> {
        walk(self.subnet.first(), self.subnet.last()).filter(|address| {
            let is_released = self.released.iter().any(|(_, released, _)| released == address);
            !is_released && !self.held.contains_key(address) && !self.reserved.contains(address)
        })
    }

    fn pass_time(&mut self, step: i64) {
        self.passed += step.max(0);
        self.now += step;
        for _ in 0..2 {
            let is_over = self.released.first().is_some_and(|(due, ..)| *due <= self.passed);
            if is_over && self.released.len() > self.remembered_max {
                self.released.remove(0);
            }
        }
    }

    fn allocate(&mut self, owner: EndpointId, tenant: Tenant, request: Request) -> Option<(IpAddr, i64)> {
        let address = match request {
            Request::Any => {
                let own = self.released.iter().rev().find(|(.., of)| *of == tenant);
                let own = own.map(|(_, address, _)| *address);
                own.or_else(|| self.free().next()).or_else(|| Some(self.released.first()?.1))?
            }
            Request::Rested => {
                let mut trial = self.clone();
                let taken = trial.allocate(owner, tenant, Request::Any)?;
                if taken.1 > 0 {
                    return None;
                }
                taken.0
            }
            Request::Exact(address) => {
                let legal = self.subnet.contains(address) && !self.reserved.contains(&address);
                let rests = self.rest_left(address, tenant) > 0;
                (legal && !rests && !self.held.contains_key(&address)).then_some(address)?
            }
        };
        let left = self.rest_left(address, tenant);
        self.released.retain(|(_, released, _)| *released != address);
        self.held.insert(address, (owner, tenant));
        Some((address, left))
    }

    fn rest_left(&self, address: IpAddr, tenant: Tenant) -> i64 {
        let released = self.released.iter().find(|(_, released, _)| *released == address);
        let due = released.filter(|(.., of)| *of != tenant).map_or(0, |(due, ..)| *due);
        (due - self.passed).max(0)
    }

    fn release(&mut self, owner: EndpointId, address: IpAddr) -> bool {
        let Some((_, tenant)) = self.held.get(&address).copied().filter(|(holder, _)| *holder == owner)
        else {
            return false;
        };
        self.held.remove(&address);
        self.released.push((self.passed + self.rest, address, tenant));
        self.released.sort_unstable();
        true
    }

    fn nth_held(&self, index: prop::sample::Index) -> Option<(IpAddr, EndpointId, Tenant)> {
        let (address, (owner, tenant)) = self.held.iter().nth(index.index(64))?;
        Some((*address, *owner, *tenant))
    }

    fn hand_over(&mut self, owner: EndpointId, address: IpAddr, tenant: Tenant) -> bool {
        let held = self.held.get_mut(&address).filter(|(holder, _)| *holder == owner);
        held.map(|(_, of)| *of = tenant).is_some()
    }

    fn give_back(&mut self, owner: EndpointId, address: IpAddr) -> bool {
        let is_held = self.held.get(&address).is_some_and(|(holder, _)| *holder == owner);
        is_held && self.held.remove(&address).is_some()
    }

    /// What a restart does: the clock may have been set to anything meanwhile.
    fn restart(&mut self, step: i64) {
        for (due, ..) in &mut self.released {
            *due = self.passed + (*due - self.passed - step).min(self.rest);
        }
        self.released.sort_unstable();
        self.now += step;
    }

    /// What [`Pool::released`] lists, with times of day.
    fn listed(&self) -> Vec<Released> {
        let entry = |&(due, address, tenant): &(i64, IpAddr, Tenant)| {
            let rest_until = at(self.now + due - self.passed);
            Released { address, tenant, rest_until }
        };
        self.released.iter().map(entry).collect()
    }
}

/// A time of day to begin with, in seconds, from which no test steps back to 1970.
const START: i64 = 1_000_000_000;

fn at(secs: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(secs.unsigned_abs())
}

fn walk(from: IpAddr, to: IpAddr) -> impl Iterator<Item = IpAddr> {
    std::iter::successors(Some(from), move |&address| (address != to).then(|| next(address)))
}

fn next(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() + 1).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() + 1).into(),
    }
}

#[derive(Debug, Clone)]
enum Operation {
    Allocate(EndpointId, Tenant, Request),
    Release(EndpointId, IpAddr),
    /// Release the n-th held address, so that releases that hit are common.
    ReleaseHeld(prop::sample::Index),
    /// Hand the n-th held address over, as its owner or as somebody else.
    HandOver(prop::sample::Index, Option<EndpointId>, Tenant),
    /// Give the n-th held address back, as its owner or as somebody else.
    GiveBack(prop::sample::Index, Option<EndpointId>),
    /// Go on with a pool made of what this one lists.
    Restart,
}

/// Operations, each some seconds after the one before.
fn operations(subnet: Subnet) -> impl Strategy<Value = Vec<(i64, Operation)>> {
    let owner = || (0_u64..4).prop_map(EndpointId::from_number);
    let tenant = || (0_u64..5).prop_map(Tenant::from_number);
    let request = prop_oneof![3 => Just(Request::Any), 1 => Just(Request::Rested), 1 => near(subnet).prop_map(Request::Exact)];
    let operation = prop_oneof![
        14 => (owner(), tenant(), request)
            .prop_map(|(owner, tenant, request)| Operation::Allocate(owner, tenant, request)),
        2 => (owner(), near(subnet)).prop_map(|(owner, address)| Operation::Release(owner, address)),
        8 => any::<prop::sample::Index>().prop_map(Operation::ReleaseHeld),
        2 => (any::<prop::sample::Index>(), prop::option::weighted(0.2, owner()), tenant())
            .prop_map(|(index, owner, tenant)| Operation::HandOver(index, owner, tenant)),
        2 => (any::<prop::sample::Index>(), prop::option::weighted(0.2, owner()))
            .prop_map(|(index, owner)| Operation::GiveBack(index, owner)),
        1 => Just(Operation::Restart),
    ];
    let step = prop_oneof![10 => 0_i64..8, 2 => 20_i64..200, 1 => -2_000_000_i64..0, 1 => 0_i64..2_000_000];
    prop::collection::vec((step, operation), 1..120)
}

/// Addresses around both ends of a subnet, some of them outside.
fn near(subnet: Subnet) -> impl Strategy<Value = IpAddr> {
    (any::<bool>(), -20_i32..20).prop_map(move |(at_end, distance)| {
        let from = if at_end { subnet.last() } else { subnet.first() };
        match from {
            IpAddr::V4(address) => {
                let bits = address.to_bits().wrapping_add_signed(distance);
                Ipv4Addr::from_bits(bits).into()
            }
            IpAddr::V6(address) => {
                let bits = address.to_bits().wrapping_add_signed(distance.into());
                Ipv6Addr::from_bits(bits).into()
            }
        }
    })
}

const SUBNETS: [&str; 15] = [
    "10.0.0.0/8",
    "10.1.0.0/24",
    "10.1.2.192/26",
    "10.1.2.16/28",
    "10.1.2.4/30",
    "10.1.2.4/31",
    "10.1.2.5/32",
    "255.255.255.248/29",
    "::/0",
    "fd00::/64",
    "fd00::a0/123",
    "fd00::a4/126",
    "fd00::a4/127",
    "fd00::a5/128",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0/124",
];

fn pools() -> impl Strategy<Value = (Subnet, PoolOptions)> {
    let subnet = prop::sample::select(&SUBNETS[..]).prop_map(|text| text.parse::<Subnet>().unwrap());
    subnet.prop_flat_map(|subnet| {
        let inside = near(subnet).prop_map(
            move |address| {
                if subnet.contains(address) { address } else { subnet.first() }
            },
        );
        let gateway =
            prop_oneof![Just(Gateway::First), Just(Gateway::Absent), near(subnet).prop_map(Gateway::At),];
        let reserved = prop::collection::btree_set(inside, 0..4);
        let rest = prop_oneof![1 => Just(0), 4 => Just(130)].prop_map(Duration::from_secs);
        let remembered_max = prop::sample::select(vec![0, 3, 4_096]);
        let options = (gateway, reserved, rest, remembered_max);
        options.prop_map(move |(gateway, reserved, rest, remembered_max)| {
            (subnet, PoolOptions { gateway, reserved, rest, remembered_max })
        })
    })
}

fn check_run(
    subnet: Subnet,
    options: &PoolOptions,
    operations: Vec<(i64, Operation)>,
) -> Result<(), TestCaseError> {
    let mut pool = match Pool::new(subnet, options) {
        Ok(pool) => pool,
        Err(Error::NoRoom { .. }) => {
            let model = Model::new(subnet, options);
            prop_assert_eq!(model.free().next(), None);
            return Ok(());
        }
        Err(error) => {
            prop_assert!(matches!(options.gateway, Gateway::At(_)), "refused: {}", error);
            return Ok(());
        }
    };
    let mut model = Model::new(subnet, options);
    for (step, operation) in operations {
        match operation {
            Operation::Restart => {
                model.restart(step);
                pool = restored(&pool, options, at(model.now));
            }
            Operation::Allocate(owner, tenant, request) => {
                model.pass_time(step);
                check_allocate(&mut pool, &mut model, owner, tenant, request)?;
            }
            Operation::Release(owner, address) => {
                model.pass_time(step);
                let released = pool.release(owner, address, at(model.now));
                prop_assert_eq!(released.is_some(), model.release(owner, address));
            }
            Operation::ReleaseHeld(index) => {
                if let Some((address, owner, tenant)) = model.nth_held(index) {
                    model.pass_time(step);
                    let rest_until = at(model.now + model.rest);
                    let released = pool.release(owner, address, at(model.now));
                    prop_assert_eq!(released, Some(Released { address, tenant, rest_until }));
                    prop_assert!(model.release(owner, address));
                }
            }
            Operation::HandOver(index, other, tenant) => {
                if let Some((address, holder, _)) = model.nth_held(index) {
                    let owner = other.unwrap_or(holder);
                    let is_done = pool.hand_over(owner, address, tenant);
                    prop_assert_eq!(is_done, model.hand_over(owner, address, tenant));
                }
            }
            Operation::GiveBack(index, other) => {
                if let Some((address, holder, _)) = model.nth_held(index) {
                    let owner = other.unwrap_or(holder);
                    prop_assert_eq!(pool.give_back(owner, address), model.give_back(owner, address));
                }
            }
        }
        let held = model.held.iter();
        let held: Vec<Allocation> =
            held.map(|(&address, &(owner, tenant))| Allocation { address, owner, tenant }).collect();
        prop_assert_eq!(pool.allocations().collect::<Vec<_>>(), held);
        prop_assert_eq!(pool.released().collect::<Vec<_>>(), model.listed());
        for tenant in (0..5).map(Tenant::from_number) {
            let last = model.released.iter().rev().find(|(.., of)| *of == tenant);
            prop_assert_eq!(pool.kept_for(tenant), last.map(|(_, address, _)| *address));
        }
    }
    Ok(())
}

fn check_allocate(
    pool: &mut Pool,
    model: &mut Model,
    owner: EndpointId,
    tenant: Tenant,
    request: Request,
) -> Result<(), TestCaseError> {
    let held = model.held.clone();
    let was_any_left = model.free().next().is_some()
        || model.released.iter().any(|(_, address, _)| model.rest_left(*address, tenant) == 0);
    let answer = pool.allocate(owner, tenant, request, at(model.now));
    let refused_for = match request {
        Request::Exact(address) => model.rest_left(address, tenant),
        Request::Any | Request::Rested => 0,
    };
    let expected = model.allocate(owner, tenant, request).map(|(address, left)| {
        let by = Duration::from_secs(left.unsigned_abs());
        let rested = if by.is_zero() { Rested::Fully } else { Rested::CutShort { by } };
        Allocated { address, rested }
    });
    prop_assert_eq!(answer.as_ref().ok().copied(), expected);
    match answer {
        Ok(Allocated { address, rested }) => {
            prop_assert!(pool.subnet().contains(address) && !held.contains_key(&address));
            prop_assert!(rested == Rested::Fully || (request == Request::Any && !was_any_left));
        }
        Err(Error::Exhausted { .. }) if request == Request::Rested => prop_assert!(!was_any_left),
        Err(Error::Exhausted { .. }) => prop_assert_eq!(pool.free(), 0),
        Err(Error::Taken { address, owner }) => {
            prop_assert_eq!(held.get(&address).map(|(owner, _)| *owner), Some(owner));
        }
        Err(Error::Resting { left, .. }) => {
            prop_assert_eq!(left, Duration::from_secs(refused_for.unsigned_abs()));
        }
        Err(Error::OutOfRange { address, .. }) => prop_assert!(!pool.subnet().contains(address)),
        Err(Error::Reserved { address, .. }) => prop_assert!(model.reserved.contains(&address)),
        Err(other) => prop_assert!(false, "{}", other),
    }
    Ok(())
}

/// The pool that somebody has who remembered what this one listed.
fn restored(pool: &Pool, options: &PoolOptions, now: SystemTime) -> Pool {
    let mut restored = Pool::new(pool.subnet(), options).unwrap();
    pool.released().for_each(|released| restored.restore_released(released, now).unwrap());
    pool.allocations().for_each(|held| restored.restore(held).unwrap());
    restored
}

proptest! {
    #[test]
    fn a_pool_answers_as_its_model(
        ((subnet, options), operations) in pools().prop_flat_map(|(subnet, options)| {
            (Just((subnet, options)), operations(subnet))
        }),
    ) {
        check_run(subnet, &options, operations)?;
    }
}
