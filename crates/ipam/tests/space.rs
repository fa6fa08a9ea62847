//! What a space promises, by example.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use netloft_ipam::{Error, Overlap, Space, ula};
use netloft_types::{NetworkName, Subnet};

#[test]
fn overlap_is_refused_and_names_the_other() {
    let mut space = Space::default();
    space.reserve(name("blue"), subnet("10.89.0.0/16")).unwrap();
    for asked in ["10.89.7.0/24", "10.88.0.0/15", "10.89.0.0/16", "10.0.0.0/8"] {
        let error = space.reserve(name("red"), subnet(asked)).unwrap_err();
        assert!(error.is_conflict(), "{error}");
        assert_eq!(
            error.to_string(),
            format!("subnet {asked} overlaps 10.89.0.0/16 of network blue: choose another")
        );
    }
    space.reserve(name("red"), subnet("10.90.0.0/16")).unwrap();
    space.reserve(name("red"), subnet("::/0")).unwrap();
    let listed: Vec<String> = space.in_use().map(|(subnet, owner)| format!("{subnet} {owner}")).collect();
    assert_eq!(listed, ["10.89.0.0/16 blue", "10.90.0.0/16 red", "::/0 red"]);
}

#[test]
fn carve_goes_through_the_ranges_in_order_and_round_foreign_routes() {
    let mut space = Space::default();
    let ranges = [subnet("10.89.0.0/23"), subnet("172.20.0.0/24")];
    let foreign = [subnet("10.89.0.128/25")];
    let mut carve = || space.carve(name("blue"), &ranges, 24, &foreign);
    assert_eq!(carve().unwrap(), subnet("10.89.1.0/24"));
    assert_eq!(carve().unwrap(), subnet("172.20.0.0/24"));
    let error = carve().unwrap_err();
    assert!(error.is_exhausted(), "{error}");
    assert!(error.to_string().contains("10.89.0.0/23, 172.20.0.0/24"), "{error}");
}

#[test]
fn a_default_route_leaves_everything_to_carve() {
    let foreign = ["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "::/0"].map(subnet);
    let mut space = Space::default();
    let carved = space.carve(name("blue"), &[subnet("10.0.0.0/8")], 24, &foreign);
    assert_eq!(carved.unwrap(), subnet("10.0.0.0/24"));
    let carved = space.carve(name("blue"), &[subnet("fd00::/8")], 64, &foreign);
    assert_eq!(carved.unwrap(), subnet("fd00::/64"));
}

#[test]
fn prefix_that_fits_no_range_is_refused() {
    let mut space = Space::default();
    for (ranges, prefix_len) in
        [(vec![], 24), (vec![subnet("10.0.0.0/16")], 15), (vec![subnet("10.0.0.0/16")], 33)]
    {
        let error = space.carve(name("blue"), &ranges, prefix_len, &[]).unwrap_err();
        assert!(matches!(error, Error::PrefixMisfit { .. }), "{error}");
    }
}

#[test]
fn the_ends_of_the_address_range_can_be_carved() {
    let mut space = Space::default();
    for (range, prefix_len) in [("255.255.255.254/31", 32), ("ffff::/16", 17), ("::/0", 1)] {
        let ranges = [subnet(range)];
        let mut space = Space::default();
        let low = space.carve(name("a"), &ranges, prefix_len, &[]).unwrap();
        let high = space.carve(name("a"), &ranges, prefix_len, &[]).unwrap();
        assert_eq!((low.first(), high.last()), (ranges[0].first(), ranges[0].last()));
        assert!(space.carve(name("a"), &ranges, prefix_len, &[]).is_err());
    }
    let whole = space.carve(name("a"), &[subnet("::/0")], 0, &[]).unwrap();
    assert_eq!(whole, subnet("::/0"));
}

#[test]
fn only_its_network_can_release_a_subnet_and_only_whole() {
    let mut space = Space::default();
    space.reserve(name("blue"), subnet("10.89.0.0/16")).unwrap();
    assert!(!space.release(&name("red"), subnet("10.89.0.0/16")));
    assert!(!space.release(&name("blue"), subnet("10.89.0.0/24")));
    assert!(space.release(&name("blue"), subnet("10.89.0.0/16")));
    assert!(!space.release(&name("blue"), subnet("10.89.0.0/16")), "twice");
    space.reserve(name("red"), subnet("10.89.0.0/24")).unwrap();
}

#[test]
fn an_ula_site_has_its_40_bits_and_is_carved_round_foreign_routes() {
    let site = ula(u64::MAX);
    assert_eq!(site, subnet("fdff:ffff:ffff::/48"));
    assert_eq!(ula(1 << 40), ula(0), "the other bits do not matter");
    let mut space = Space::default();
    let foreign = [subnet("fdff:ffff:ffff::/64"), subnet("fdff:ffff:ffff:2::/63")];
    let mut carve = || space.carve(name("blue"), &[site], 64, &foreign);
    assert_eq!(carve().unwrap(), subnet("fdff:ffff:ffff:1::/64"));
    assert_eq!(carve().unwrap(), subnet("fdff:ffff:ffff:4::/64"));
}

#[test]
fn a_route_that_came_later_is_named_with_every_subnet_it_overlaps() {
    let mut space = Space::default();
    for (owner, used) in [
        ("blue", "10.89.0.0/24"),
        ("red", "10.89.1.0/24"),
        ("green", "10.90.0.0/16"),
        ("blue", "fd00:89::/64"),
    ] {
        space.reserve(name(owner), subnet(used)).unwrap();
    }
    let routes =
        ["10.89.0.0/16", "10.90.7.0/24", "fd00::/16", "192.168.0.0/24", "0.0.0.0/0", "::/1"].map(subnet);
    let told: Vec<String> = space
        .overlaps(&routes)
        .map(|Overlap { subnet, owner, route }| format!("{route} {subnet} {owner}"))
        .collect();
    assert_eq!(
        told,
        [
            "10.89.0.0/16 10.89.1.0/24 red",
            "10.89.0.0/16 10.89.0.0/24 blue",
            "10.90.7.0/24 10.90.0.0/16 green",
            "fd00::/16 fd00:89::/64 blue",
        ]
    );
}

fn name(text: &str) -> NetworkName {
    text.parse().unwrap()
}

fn subnet(text: &str) -> Subnet {
    text.parse().unwrap()
}
