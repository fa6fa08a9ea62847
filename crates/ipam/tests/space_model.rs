//! Random operations on a space, compared with a dumb model of it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::Ipv4Addr;

use netloft_ipam::{Error, Space};
use netloft_types::{NetworkName, Subnet};
use proptest::prelude::*;

proptest! {
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
            let mut overlaps: Vec<(Subnet, Subnet)> =
                space.overlaps(&foreign).map(|overlap| (overlap.route, overlap.subnet)).collect();
            let mut expected: Vec<(Subnet, Subnet)> = Vec::new();
            for &route in &foreign {
                let met = model.iter().filter(|subnet| subnet.overlaps(&route));
                expected.extend(met.map(|&subnet| (route, subnet)));
            }
            overlaps.sort();
            expected.sort();
            prop_assert_eq!(overlaps, expected);
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
