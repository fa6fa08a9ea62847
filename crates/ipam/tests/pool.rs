//! What a pool promises, by example.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use netloft_ipam::{
    Allocated, Allocation, Error, Gateway, Pool, PoolOptions, Released, Request, Reservation, Rested, Tenant,
};
use netloft_types::EndpointId;

const OWNER: EndpointId = EndpointId::from_number(1);
const OTHER: EndpointId = EndpointId::from_number(2);
const WEB: Tenant = Tenant::from_number(11);
const BACKUP: Tenant = Tenant::from_number(12);
const REST: Duration = Duration::from_secs(130);

#[test]
fn a_16_fills_to_the_last_address_and_no_address_comes_twice() {
    let mut pool = pool("10.89.0.0/16");
    let mut seen = BTreeSet::new();
    for _ in 0..65_533 {
        let address = any(&mut pool, WEB, 0).unwrap().address;
        assert!(seen.insert(address), "{address} came twice");
    }
    assert_eq!(pool.free(), 0);
    let error = any(&mut pool, WEB, 0).unwrap_err();
    assert!(error.is_exhausted() && !error.is_conflict() && !error.is_retryable(), "{error}");
    for reserved in ["10.89.0.0", "10.89.0.1", "10.89.255.255"] {
        assert!(!seen.contains(&ip(reserved)), "{reserved}");
    }
}

#[test]
fn released_address_is_not_reused_at_once() {
    let mut pool = pool("10.0.0.0/29");
    for now in 0..20 {
        let first = any(&mut pool, WEB, now).unwrap().address;
        pool.release(OWNER, first, at(now)).unwrap();
        let next = any(&mut pool, BACKUP, now).unwrap().address;
        assert_ne!(first, next);
        pool.release(OWNER, next, at(now)).unwrap();
    }
}

#[test]
fn released_address_goes_to_another_only_after_all_that_are_free_and_those_released_before() {
    let mut pool = pool("10.0.0.0/29");
    for (address, now) in [("10.0.0.3", 1_000), ("10.0.0.2", 1_001)] {
        exact(&mut pool, WEB, address, now).unwrap();
        pool.release(OWNER, ip(address), at(now)).unwrap();
    }
    let lap: Vec<String> =
        (0..5).map(|_| any(&mut pool, BACKUP, 2_000).unwrap().address.to_string()).collect();
    assert_eq!(lap, ["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.3", "10.0.0.2"]);
}

#[test]
fn resting_address_is_refused_to_others_and_given_to_its_tenant_until_its_rest_is_over() {
    let mut pool = pool("10.0.0.0/24");
    let address = any(&mut pool, WEB, 0).unwrap().address;
    let released = pool.release(OWNER, address, at(10)).unwrap();
    assert_eq!(released, Released { address, tenant: WEB, rest_until: at(10) + REST });

    let error = exact(&mut pool, BACKUP, "10.0.0.2", 100).unwrap_err();
    assert_eq!(error, Error::Resting { address, left: Duration::from_secs(40) });
    assert!(error.is_conflict() && error.is_retryable() && !error.is_exhausted());
    let text = error.to_string();
    assert!(text.contains("10.0.0.2") && text.contains("40 s"), "{text}");
    assert_eq!(any(&mut pool.clone(), WEB, 100).unwrap(), Allocated { address, rested: Rested::Fully });
    assert!(exact(&mut pool.clone(), WEB, "10.0.0.2", 100).is_ok(), "its own by name");

    assert!(exact(&mut pool, BACKUP, "10.0.0.2", 139).is_err(), "a second early");
    assert!(exact(&mut pool, BACKUP, "10.0.0.2", 140).is_ok());
    assert_eq!(any(&mut pool, WEB, 141).unwrap().address, ip("10.0.0.3"), "its own is held by another");
}

#[test]
fn tenant_gets_its_last_address_again_long_after_the_rest() {
    let mut pool = pool("10.0.0.0/24");
    for address in ["10.0.0.77", "10.0.0.66"] {
        exact(&mut pool, WEB, address, 0).unwrap();
    }
    pool.release(OWNER, ip("10.0.0.66"), at(1)).unwrap();
    pool.release(OWNER, ip("10.0.0.77"), at(2)).unwrap();
    assert_eq!(any(&mut pool, BACKUP, 9_000).unwrap().address, ip("10.0.0.2"));
    assert_eq!(any(&mut pool, WEB, 9_000).unwrap().address, ip("10.0.0.77"));
    assert_eq!(any(&mut pool, WEB, 9_000).unwrap().address, ip("10.0.0.66"));
}

#[test]
fn rest_is_cut_short_only_when_nothing_else_is_left_and_the_answer_says_so() {
    let mut pool = pool("10.0.0.0/29");
    let held: Vec<IpAddr> = (0..5).map(|_| any(&mut pool, WEB, 0).unwrap().address).collect();
    for (address, now) in [(held[3], 10), (held[1], 20)] {
        pool.release(OWNER, address, at(now)).unwrap();
    }
    let by = Duration::from_secs(110);
    let cut = any(&mut pool, BACKUP, 30).unwrap();
    assert_eq!(cut, Allocated { address: held[3], rested: Rested::CutShort { by } });
    let rested = any(&mut pool, BACKUP, 150).unwrap();
    assert_eq!(rested, Allocated { address: held[1], rested: Rested::Fully });
    assert!(any(&mut pool, WEB, 150).unwrap_err().is_exhausted());
}

#[test]
fn whoever_can_do_without_is_refused_before_a_rest_is_cut_short() {
    let mut pool = pool("10.0.0.0/29");
    let rested = |pool: &mut Pool, now| pool.allocate(OTHER, BACKUP, Request::Rested, at(now));
    let held: Vec<IpAddr> = (0..4).map(|_| any(&mut pool, WEB, 0).unwrap().address).collect();
    assert_eq!(rested(&mut pool, 0).unwrap().address, ip("10.0.0.6"));
    pool.release(OWNER, held[1], at(10)).unwrap();
    assert!(rested(&mut pool, 139).unwrap_err().is_exhausted());
    assert_eq!(pool.owner(held[1]), None);
    assert_eq!(rested(&mut pool, 140).unwrap(), Allocated { address: held[1], rested: Rested::Fully });
}

#[test]
fn an_address_that_was_handed_over_is_kept_for_its_new_tenant() {
    let mut pool = pool("10.0.0.0/24");
    let address = any(&mut pool, WEB, 0).unwrap().address;
    assert!(!pool.hand_over(OTHER, address, BACKUP), "somebody else holds it");
    assert!(pool.hand_over(OWNER, address, BACKUP));
    assert_eq!(pool.owner(address), Some(OWNER));
    assert_eq!(pool.release(OWNER, address, at(1)).unwrap().tenant, BACKUP);
    assert_eq!((pool.kept_for(WEB), pool.kept_for(BACKUP)), (None, Some(address)));
    assert_eq!(any(&mut pool, BACKUP, 2).unwrap().address, address);
}

#[test]
fn an_address_that_nobody_used_is_free_at_once() {
    let mut pool = pool("10.0.0.0/24");
    let address = any(&mut pool, WEB, 0).unwrap().address;
    assert!(!pool.give_back(OTHER, address), "somebody else holds it");
    assert!(pool.give_back(OWNER, address));
    assert!(!pool.give_back(OWNER, address), "twice");
    assert_eq!((pool.free(), pool.released().len(), pool.kept_for(WEB)), (253, 0, None));
    assert_eq!(exact(&mut pool, BACKUP, "10.0.0.2", 0).unwrap().rested, Rested::Fully);
}

#[test]
fn without_rest_a_released_address_can_be_had_by_name_at_once() {
    let options = PoolOptions { rest: Duration::ZERO, ..PoolOptions::default() };
    let mut pool = Pool::new("10.0.0.0/29".parse().unwrap(), &options).unwrap();
    let address = any(&mut pool, WEB, 0).unwrap().address;
    pool.release(OWNER, address, at(0)).unwrap();
    assert_eq!(
        exact(&mut pool, BACKUP, "10.0.0.2", 0).unwrap(),
        Allocated { address, rested: Rested::Fully }
    );
}

#[test]
fn a_clock_set_back_makes_no_address_rest_longer_than_it_was_to() {
    let mut pool = pool("10.0.0.0/24");
    let address = any(&mut pool, WEB, 1_000_000).unwrap().address;
    pool.release(OWNER, address, at(1_000_000)).unwrap();
    assert!(exact(&mut pool, BACKUP, "10.0.0.2", 100).is_err());
    let told: Vec<Released> = pool.released().collect();
    assert_eq!(told, [Released { address, tenant: WEB, rest_until: at(100) + REST }], "by the new clock");
    assert!(exact(&mut pool, BACKUP, "10.0.0.2", 229).is_err());
    assert!(exact(&mut pool, BACKUP, "10.0.0.2", 230).is_ok());
}

#[test]
fn a_rest_outlives_a_restart_and_is_bounded_there() {
    let remembered = [("10.0.0.5", 1_100, 100), ("10.0.0.6", 900, 0), ("10.0.0.7", 9_999_999, 130)];
    for (address, rest_until, expected) in remembered {
        let mut pool = pool("10.0.0.0/24");
        let released = Released { address: ip(address), tenant: WEB, rest_until: at(rest_until) };
        pool.restore_released(released, at(1_000)).unwrap();
        assert_eq!(any(&mut pool.clone(), WEB, 1_000).unwrap().address, ip(address));
        let end = 1_000 + expected;
        if expected > 0 {
            assert!(exact(&mut pool, BACKUP, address, end - 1).is_err(), "{address}");
        }
        assert!(exact(&mut pool, BACKUP, address, end).is_ok(), "{address}");
    }
}

#[test]
fn an_address_restored_twice_is_kept_for_the_last_tenant_alone() {
    let mut pool = pool("10.0.0.0/29");
    let address = ip("10.0.0.5");
    let released = |tenant, secs| Released { address, tenant, rest_until: at(secs) };
    pool.restore_released(released(WEB, 50), at(0)).unwrap();
    pool.restore_released(released(BACKUP, 40), at(0)).unwrap();
    assert_eq!(pool.released().collect::<Vec<_>>(), [released(BACKUP, 40)]);
    assert_eq!(any(&mut pool, WEB, 0).unwrap().address, ip("10.0.0.2"));
    assert_eq!(any(&mut pool, BACKUP, 0).unwrap().address, address);
}

#[test]
fn what_is_held_is_restored_whoever_it_was_kept_for() {
    let mut pool = pool("10.0.0.0/29");
    let held = Allocation { address: ip("10.0.0.5"), owner: OWNER, tenant: WEB };
    let stale = Released { address: held.address, tenant: BACKUP, rest_until: at(100) };
    pool.restore_released(stale, at(0)).unwrap();
    pool.restore(held).unwrap();
    assert_eq!(pool.restore_released(stale, at(0)).unwrap_err(), taken(held));
    assert_eq!(pool.restore(held).unwrap_err(), taken(held));
    assert_eq!((pool.allocations().collect::<Vec<_>>(), pool.released().len()), (vec![held], 0));
    for bad in ["10.0.0.1", "10.0.0.8"] {
        assert!(pool.restore(Allocation { address: ip(bad), ..held }).is_err(), "{bad}");
    }
}

#[test]
fn more_than_are_remembered_are_forgotten_once_rested_oldest_first() {
    for subnet in ["10.0.0.0/16", "fd00::/64"] {
        let options = PoolOptions { remembered_max: 100, ..PoolOptions::default() };
        let mut pool = Pool::new(subnet.parse().unwrap(), &options).unwrap();
        let held: Vec<IpAddr> = (0..1_000)
            .map(|number| any(&mut pool, Tenant::from_number(number), 0).unwrap().address)
            .collect();
        for (&address, now) in held.iter().zip(0..) {
            pool.release(OWNER, address, at(now / 100)).unwrap();
        }
        assert_eq!(pool.released().len(), 1_000, "all rest");
        for _ in 0..450 {
            any(&mut pool, BACKUP, 9_000).unwrap();
        }
        let left: Vec<IpAddr> = pool.released().map(|released| released.address).collect();
        assert_eq!(left, held[900..], "{subnet}");
        assert_eq!(any(&mut pool, Tenant::from_number(950), 9_000).unwrap().address, held[950]);
    }
}

#[test]
fn a_16_can_rest_whole_and_goes_round_in_the_order_of_release() {
    let mut pool = pool("10.89.0.0/16");
    let all: Vec<IpAddr> = (0..65_533).map(|_| any(&mut pool, WEB, 0).unwrap().address).collect();
    for (&address, now) in all.iter().rev().zip(0..) {
        pool.release(OWNER, address, at(now / 1_000)).unwrap();
    }
    assert_eq!((pool.free(), pool.released().len()), (65_533, 65_533));
    let hurried = any(&mut pool, BACKUP, 66).unwrap();
    let last_thousand = &all[all.len() - 1_000..];
    assert!(last_thousand.contains(&hurried.address), "{hurried:?} was released first");
    assert_eq!(hurried.rested, Rested::CutShort { by: Duration::from_secs(64) });
}

#[test]
fn release_of_what_is_not_held_changes_nothing() {
    let mut pool = pool("10.0.0.0/29");
    let address = any(&mut pool, WEB, 0).unwrap().address;
    assert_eq!(pool.release(OTHER, address, at(0)), None, "held by another");
    assert_eq!(pool.release(OWNER, ip("10.0.0.1"), at(0)), None, "the gateway");
    assert_eq!(pool.release(OWNER, ip("10.0.0.6"), at(0)), None, "free");
    assert_eq!(pool.release(OWNER, ip("fd00::1"), at(0)), None, "outside");
    assert_eq!((pool.owner(address), pool.free()), (Some(OWNER), 4));
    assert!(pool.release(OWNER, address, at(0)).is_some());
    assert_eq!(pool.release(OWNER, address, at(0)), None, "twice");
    assert_eq!((pool.owner(address), pool.free()), (None, 5));
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
        assert_eq!(any(&mut pool, WEB, 0).unwrap().address, ip(first), "{subnet}");
    }
    assert_eq!(pool("10.0.0.4/31").gateway(), Some(ip("10.0.0.4")));
    let error = Pool::new("10.0.0.4/32".parse().unwrap(), &PoolOptions::default()).unwrap_err();
    assert!(matches!(error, Error::NoRoom { .. }), "{error}");
}

#[test]
fn what_is_reserved_is_refused_with_the_reason() {
    let options = PoolOptions {
        gateway: Gateway::At(ip("10.0.0.6")),
        reserved: BTreeSet::from([ip("10.0.0.1")]),
        ..PoolOptions::default()
    };
    let mut pool = Pool::new("10.0.0.0/29".parse().unwrap(), &options).unwrap();
    for (address, expected) in [
        ("10.0.0.0", Reservation::Network),
        ("10.0.0.1", Reservation::Configured),
        ("10.0.0.6", Reservation::Gateway),
        ("10.0.0.7", Reservation::Broadcast),
    ] {
        match exact(&mut pool, WEB, address, 0) {
            Err(Error::Reserved { reservation, .. }) => assert_eq!(reservation, expected),
            other => panic!("{address}: {other:?}"),
        }
    }
    assert_eq!(pool.free(), 4);
    assert_eq!(any(&mut pool, WEB, 0).unwrap().address, ip("10.0.0.2"));
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
    let far = "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    exact(&mut pool, WEB, far, 0).unwrap();
    assert_eq!(any(&mut pool, BACKUP, 0).unwrap().address, ip("fd00::2"));
    let held: Vec<IpAddr> = pool.allocations().map(|held| held.address).collect();
    assert_eq!(held, [ip("fd00::2"), ip(far)]);
}

fn pool(subnet: &str) -> Pool {
    Pool::new(subnet.parse().unwrap(), &PoolOptions::default()).unwrap()
}

fn any(pool: &mut Pool, tenant: Tenant, now: u64) -> Result<Allocated, Error> {
    pool.allocate(OWNER, tenant, Request::Any, at(now))
}

fn exact(pool: &mut Pool, tenant: Tenant, address: &str, now: u64) -> Result<Allocated, Error> {
    pool.allocate(OWNER, tenant, Request::Exact(ip(address)), at(now))
}

fn taken(held: Allocation) -> Error {
    Error::Taken { address: held.address, owner: held.owner }
}

/// A time of day, in seconds.
fn at(secs: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
