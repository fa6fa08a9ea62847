//! Random operations on a pool and on a space, each compared with a dumb model of it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netloft_ipam::{Allocation, Error, Gateway, Pool, PoolOptions, Request, Space};
use netloft_types::{EndpointId, NetworkName, Subnet};
use proptest::prelude::*;

/// A pool as one would explain it: walk from the cursor, one address at a time.
struct Model {
    subnet: Subnet,
    reserved: Vec<IpAddr>,
    held: BTreeMap<IpAddr, EndpointId>,
    cursor: IpAddr,
    released_last: Option<IpAddr>,
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
        let mut model =
            Self { subnet, reserved, held: BTreeMap::new(), cursor: subnet.first(), released_last: None };
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

    /// The free addresses in the order of a walk round the subnet.
    fn free(&self) -> impl Iterator<Item = IpAddr> {
        let last = self.subnet.last();
        let ahead = walk(self.cursor, last);
        let round = walk(self.subnet.first(), last).take_while(|&address| address != self.cursor);
        ahead
            .chain(round)
            .filter(|address| !self.held.contains_key(address) && !self.reserved.contains(address))
    }

    fn allocate(&mut self, owner: EndpointId, request: Request) -> Option<IpAddr> {
        let address = match request {
            Request::Any => {
                let rested = self.free().find(|&free| Some(free) != self.released_last);
                let address = rested.or_else(|| self.free().next())?;
                self.cursor = if address == self.subnet.last() { self.subnet.first() } else { next(address) };
                address
            }
            Request::Exact(address) => {
                let legal = self.subnet.contains(address) && !self.reserved.contains(&address);
                (legal && !self.held.contains_key(&address)).then_some(address)?
            }
        };
        self.held.insert(address, owner);
        Some(address)
    }

    fn release(&mut self, owner: EndpointId, address: IpAddr) -> bool {
        let is_held = self.held.get(&address) == Some(&owner);
        if is_held {
            self.held.remove(&address);
            self.released_last = Some(address);
        }
        is_held
    }
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
    AllocateAny(EndpointId),
    AllocateExact(EndpointId, IpAddr),
    Release(EndpointId, IpAddr),
    /// Release the n-th held address, so that releases that hit are common.
    ReleaseHeld(prop::sample::Index),
}

fn operations(subnet: Subnet) -> impl Strategy<Value = Vec<Operation>> {
    let owner = || (0_u64..4).prop_map(EndpointId::from_number);
    let operation = prop_oneof![
        5 => owner().prop_map(Operation::AllocateAny),
        2 => (owner(), near(subnet)).prop_map(|(owner, address)| Operation::AllocateExact(owner, address)),
        1 => (owner(), near(subnet)).prop_map(|(owner, address)| Operation::Release(owner, address)),
        3 => any::<prop::sample::Index>().prop_map(Operation::ReleaseHeld),
    ];
    prop::collection::vec(operation, 1..120)
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
        (gateway, reserved).prop_map(move |(gateway, reserved)| (subnet, PoolOptions { gateway, reserved }))
    })
}

fn check_run(subnet: Subnet, options: &PoolOptions, operations: Vec<Operation>) -> Result<(), TestCaseError> {
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
    for operation in operations {
        let (owner, request) = match operation {
            Operation::AllocateAny(owner) => (owner, Request::Any),
            Operation::AllocateExact(owner, address) => (owner, Request::Exact(address)),
            Operation::Release(owner, address) => {
                prop_assert_eq!(pool.release(owner, address), model.release(owner, address));
                continue;
            }
            Operation::ReleaseHeld(index) => {
                if let Some((&address, &owner)) = model.held.iter().nth(index.index(64)) {
                    prop_assert!(pool.release(owner, address) && model.release(owner, address));
                }
                continue;
            }
        };
        let held = model.held.clone();
        let answer = pool.allocate(owner, request);
        prop_assert_eq!(answer.as_ref().ok().copied(), model.allocate(owner, request));
        match answer {
            Ok(address) => prop_assert!(subnet.contains(address) && !held.contains_key(&address)),
            Err(Error::Exhausted { .. }) => prop_assert_eq!(pool.free(), 0),
            Err(Error::Taken { address, owner }) => {
                prop_assert_eq!(held.get(&address), Some(&owner));
            }
            Err(Error::OutOfRange { address, .. }) => prop_assert!(!subnet.contains(address)),
            Err(Error::Reserved { address, .. }) => {
                prop_assert!(model.reserved.contains(&address));
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
        let listed: BTreeMap<IpAddr, EndpointId> =
            pool.allocations().map(|Allocation { address, owner }| (address, owner)).collect();
        prop_assert_eq!(&listed, &model.held);
    }
    Ok(())
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

    #[test]
    fn a_space_never_overlaps_and_carves_the_lowest_that_fits(
        operations in prop::collection::vec((0_u8..3, 22_u8..=28, any::<prop::sample::Index>()), 1..60),
        foreign in prop::collection::vec((22_u8..=28, any::<prop::sample::Index>()), 0..4),
    ) {
        let range: Subnet = "10.0.0.0/22".parse().unwrap();
        let network: NetworkName = "blue".parse().unwrap();
        let foreign: Vec<Subnet> = foreign.iter().map(|(len, index)| nth(*len, *index)).collect();
        let mut space = Space::default();
        let mut model: Vec<Subnet> = Vec::new();
        for (kind, prefix_len, index) in operations {
            let subnet = nth(prefix_len, index);
            match kind {
                0 => {
                    let other = model.iter().find(|held| held.overlaps(&subnet));
                    match space.reserve(network.clone(), subnet) {
                        Ok(()) => {
                            prop_assert_eq!(other, None);
                            model.push(subnet);
                        }
                        Err(Error::Overlap { with, .. }) => {
                            prop_assert!(model.contains(&with) && with.overlaps(&subnet));
                        }
                        Err(error) => prop_assert!(false, "{}", error),
                    }
                }
                1 => {
                    let is_clear = |subnet: &Subnet| {
                        !model.iter().chain(&foreign).any(|other| other.overlaps(subnet))
                    };
                    let lowest = all(prefix_len).find(is_clear);
                    let carved = space.carve(network.clone(), &[range], prefix_len, &foreign);
                    prop_assert_eq!(carved.as_ref().ok().copied(), lowest);
                    model.extend(lowest);
                    let exhausted = carved.is_err_and(|error| error.is_exhausted());
                    prop_assert_eq!(exhausted, lowest.is_none());
                }
                _ => {
                    let held = model.iter().position(|held| *held == subnet);
                    prop_assert_eq!(space.release(&network, subnet), held.is_some());
                    held.map(|held| model.remove(held));
                }
            }
            model.sort();
            let listed: Vec<Subnet> = space.in_use().map(|(subnet, _)| subnet).collect();
            prop_assert_eq!(&listed, &model);
        }
    }
}

/// Every subnet of a prefix length in `10.0.0.0/22`, lowest first.
fn all(prefix_len: u8) -> impl Iterator<Item = Subnet> {
    (0..1_u32 << (prefix_len - 22)).map(move |number| {
        let first = Ipv4Addr::from_bits((10 << 24) + (number << (32 - prefix_len)));
        Subnet::new(first.into(), prefix_len).unwrap()
    })
}

fn nth(prefix_len: u8, index: prop::sample::Index) -> Subnet {
    let count = 1 << (prefix_len - 22);
    all(prefix_len).nth(index.index(count)).unwrap()
}
