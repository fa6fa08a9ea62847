//! What a pool promises, by example.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::net::IpAddr;

use netloft_ipam::{Error, Gateway, Pool, PoolOptions, Request, Reservation};
use netloft_types::EndpointId;

const OWNER: EndpointId = EndpointId::from_number(1);
const OTHER: EndpointId = EndpointId::from_number(2);

#[test]
fn a_16_fills_to_the_last_address_and_no_address_comes_twice() {
    let mut pool = pool("10.89.0.0/16");
    let mut seen = BTreeSet::new();
    for _ in 0..65_533 {
        let address = pool.allocate(OWNER, Request::Any).unwrap();
        assert!(seen.insert(address), "{address} came twice");
    }
    assert_eq!(pool.free(), 0);
    let error = pool.allocate(OWNER, Request::Any).unwrap_err();
    assert!(error.is_exhausted(), "{error}");
    for reserved in ["10.89.0.0", "10.89.0.1", "10.89.255.255"] {
        assert!(!seen.contains(&ip(reserved)), "{reserved}");
    }
    assert!(pool.release(OWNER, ip("10.89.7.7")));
    assert_eq!(pool.allocate(OTHER, Request::Any).unwrap(), ip("10.89.7.7"), "the only free one");
}

#[test]
fn released_address_is_not_reused_at_once() {
    let mut pool = pool("10.0.0.0/29");
    for _ in 0..20 {
        let address = pool.allocate(OWNER, Request::Any).unwrap();
        assert!(pool.release(OWNER, address));
        let next = pool.allocate(OWNER, Request::Any).unwrap();
        assert_ne!(address, next);
        assert!(pool.release(OWNER, next));
    }
}

#[test]
fn released_address_waits_for_the_cursor_to_come_round() {
    let mut pool = pool("10.0.0.0/28");
    let first = pool.allocate(OWNER, Request::Any).unwrap();
    assert!(pool.release(OWNER, first));
    let lap: Vec<IpAddr> = (0..13).map(|_| pool.allocate(OWNER, Request::Any).unwrap()).collect();
    assert_eq!(lap.iter().position(|address| *address == first), Some(12));
}

#[test]
fn address_released_right_before_the_cursor_is_passed_over() {
    let mut pool = pool("10.0.0.0/29");
    pool.allocate(OWNER, Request::Exact(ip("10.0.0.2"))).unwrap();
    assert!(pool.release(OWNER, ip("10.0.0.2")));
    assert_eq!(pool.allocate(OTHER, Request::Any).unwrap(), ip("10.0.0.3"));
}

#[test]
fn release_of_what_is_not_held_changes_nothing() {
    let mut pool = pool("10.0.0.0/29");
    let address = pool.allocate(OWNER, Request::Any).unwrap();
    assert!(!pool.release(OTHER, address), "held by another");
    assert!(!pool.release(OWNER, ip("10.0.0.1")), "the gateway");
    assert!(!pool.release(OWNER, ip("10.0.0.6")), "free");
    assert!(!pool.release(OWNER, ip("fd00::1")), "outside");
    assert_eq!((pool.owner(address), pool.free()), (Some(OWNER), 4));
    assert!(pool.release(OWNER, address));
    assert!(!pool.release(OWNER, address), "twice");
}

#[test]
fn point_to_point_subnets_reserve_nothing_of_their_own() {
    let without = PoolOptions { gateway: Gateway::Absent, ..PoolOptions::default() };
    for (subnet, first, free) in [
        ("10.0.0.4/31", "10.0.0.4", 2),
        ("10.0.0.4/32", "10.0.0.4", 1),
        ("fd00::4/127", "fd00::4", 2),
        ("fd00::4/128", "fd00::4", 1),
        ("10.0.0.4/30", "10.0.0.5", 2),
        ("fd00::4/126", "fd00::5", 3),
    ] {
        let mut pool = Pool::new(subnet.parse().unwrap(), &without).unwrap();
        assert_eq!(pool.free(), free, "{subnet}");
        assert_eq!(pool.allocate(OWNER, Request::Any).unwrap(), ip(first), "{subnet}");
    }
    assert_eq!(pool("10.0.0.4/31").gateway(), Some(ip("10.0.0.4")));
    let error = Pool::new("10.0.0.4/32".parse().unwrap(), &PoolOptions::default()).unwrap_err();
    assert!(matches!(error, Error::NoRoom { .. }), "{error}");
}

#[test]
fn what_is_reserved_is_refused_with_the_reason() {
    let options =
        PoolOptions { gateway: Gateway::At(ip("10.0.0.6")), reserved: BTreeSet::from([ip("10.0.0.1")]) };
    let mut pool = Pool::new("10.0.0.0/29".parse().unwrap(), &options).unwrap();
    for (address, expected) in [
        ("10.0.0.0", Reservation::Network),
        ("10.0.0.1", Reservation::Configured),
        ("10.0.0.6", Reservation::Gateway),
        ("10.0.0.7", Reservation::Broadcast),
    ] {
        match pool.allocate(OWNER, Request::Exact(ip(address))) {
            Err(Error::Reserved { reservation, .. }) => assert_eq!(reservation, expected),
            other => panic!("{address}: {other:?}"),
        }
    }
    assert_eq!(pool.free(), 4);
    assert_eq!(pool.allocate(OWNER, Request::Any).unwrap(), ip("10.0.0.2"));
}

#[test]
fn a_gateway_that_cannot_be_is_refused() {
    for (gateway, expected) in [
        ("10.0.0.0", "address 10.0.0.0 is the network address of subnet 10.0.0.0/29: choose another"),
        ("10.0.0.9", "address 10.0.0.9 is outside subnet 10.0.0.0/29: choose one from 10.0.0.0 to 10.0.0.7"),
    ] {
        let options = PoolOptions { gateway: Gateway::At(ip(gateway)), ..PoolOptions::default() };
        let error = Pool::new("10.0.0.0/29".parse().unwrap(), &options).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn an_ipv4_8_is_the_widest_pool_and_ipv6_has_no_widest() {
    let error = Pool::new("10.0.0.0/7".parse().unwrap(), &PoolOptions::default()).unwrap_err();
    assert!(matches!(error, Error::TooWide { .. }), "{error}");
    assert_eq!(pool("10.0.0.0/8").free(), (1 << 24) - 3);
    assert_eq!(pool("::/0").free(), u128::MAX - 1);
    assert_eq!(pool("fd00::/64").free(), (1 << 64) - 2);
}

#[test]
fn ipv6_places_far_apart_cost_no_search() {
    let mut pool = pool("fd00::/8");
    let far = ip("fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    pool.allocate(OWNER, Request::Exact(far)).unwrap();
    assert_eq!(pool.allocate(OTHER, Request::Any).unwrap(), ip("fd00::2"));
    let held: Vec<IpAddr> = pool.allocations().map(|held| held.address).collect();
    assert_eq!(held, [ip("fd00::2"), far]);
}

fn pool(subnet: &str) -> Pool {
    Pool::new(subnet.parse().unwrap(), &PoolOptions::default()).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
