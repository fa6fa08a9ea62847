//! What ports promise, by example.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::net::IpAddr;

use netloft_ipam::{Error, Ports, PortsOptions};
use netloft_types::{EndpointId, Port, PortRange, Protocol, PublishSpec, PublishedPort};

const OWNER: EndpointId = EndpointId::from_number(1);
const OTHER: EndpointId = EndpointId::from_number(2);

#[test]
fn claims_conflict_where_protocol_port_and_address_meet_and_nowhere_else() {
    let meet = [
        ("80:80", "80:8080"),
        ("80:80", "127.0.0.1:80:80"),
        ("80:80", "0.0.0.0:80:80"),
        ("80:80", "[::]:80:80"),
        ("80:80", "[::1]:80:80"),
        ("0.0.0.0:80:80", "10.0.0.1:80:80"),
        ("[::]:80:80", "[fd00::1]:80:80"),
        ("10.0.0.1:80:80", "[::ffff:10.0.0.1]:80:80"),
        ("70-80:70-80", "80-90:80-90"),
        ("10.0.0.1:1-65535:1-65535", "443:443"),
    ];
    let apart = [
        ("80:80", "81:80"),
        ("80:80", "80:80/udp"),
        ("80:80/udp", "80:80/sctp"),
        ("0.0.0.0:80:80", "[::]:80:80"),
        ("0.0.0.0:80:80", "[::1]:80:80"),
        ("10.0.0.1:80:80", "[::]:80:80"),
        ("10.0.0.1:80:80", "10.0.0.2:80:80"),
        ("70-80:70-80", "81-90:81-90"),
    ];
    let cases = meet.map(|pair| (pair, true)).into_iter().chain(apart.map(|pair| (pair, false)));
    for ((one, two), conflict) in cases {
        for (first, second) in [(one, two), (two, one)] {
            let mut ports = Ports::new(&PortsOptions::default());
            let with = ports.claim(OWNER, spec(first), idle).unwrap();
            let answer = ports.claim(OTHER, spec(second), idle);
            if conflict {
                let asked = PublishedPort::try_from(spec(second)).unwrap();
                let error = answer.unwrap_err();
                assert!(error.is_conflict() && !error.is_retryable());
                assert_eq!(error, Error::PortTaken { asked, with, owner: OWNER }, "{second} after {first}");
                assert_eq!(ports.claims().collect::<Vec<_>>(), [(OWNER, with)], "nothing is claimed");
            } else {
                assert!(answer.is_ok(), "{second} after {first}: {answer:?}");
            }
        }
    }
}

#[test]
fn one_who_is_in_the_way_at_any_of_many_addresses_is_named() {
    let mut ports = Ports::new(&PortsOptions::default());
    for last in 1..=200_u64 {
        let spec = spec(&format!("10.0.0.{last}:{}:80", 1_000 + last));
        ports.claim(EndpointId::from_number(last), spec, idle).unwrap();
    }
    let error = ports.claim(OWNER, spec("1100-1110:1-11"), idle).unwrap_err();
    assert!(matches!(error, Error::PortTaken { with, owner, .. }
        if (100..=110).contains(&owner.number()) && with.host.overlaps(range("1100-1110"))));
    assert!(ports.claim(OWNER, spec("1201-1300:1-100"), idle).is_ok());
}

#[test]
fn every_port_can_be_claimed_and_then_the_answer_is_that_none_is_left() {
    let mut ports = Ports::new(&dynamic("1-65535"));
    let mut seen = BTreeSet::new();
    for number in 0..65_535 {
        let port = ports.claim(EndpointId::from_number(number), spec("80"), idle).unwrap();
        assert_eq!((port.host.count(), port.ports), (1, range("80")));
        assert!(seen.insert(port.host), "{} came twice", port.host);
    }
    let error = ports.claim(OWNER, spec("80"), |_, _, _| panic!("nothing to ask about")).unwrap_err();
    assert_eq!(error, Error::NoPorts { protocol: Protocol::Tcp, count: 1, range: range("1-65535") });
    assert!(error.is_exhausted() && !error.is_conflict());
    assert!(ports.claim(OWNER, spec("80/udp"), idle).is_ok(), "of another protocol");

    let freed = ports.release(EndpointId::from_number(7_777));
    assert_eq!(ports.claim(OWNER, spec("80"), idle).unwrap().host, freed[0].host, "the only free one");
    let claimed = ports.claims().filter(|(_, port)| port.protocol == Protocol::Tcp);
    assert_eq!(claimed.count(), 65_535);
}

#[test]
fn chosen_ports_follow_the_cursor_past_what_is_claimed_reserved_or_busy() {
    let reserved = BTreeSet::from([range("104-105"), range("105-106"), range("1-50")]);
    let mut ports = Ports::new(&PortsOptions { reserved, ..dynamic("100-109") });
    ports.claim(OTHER, spec("10.0.0.1:102:80"), idle).unwrap();
    let is_busy = |protocol: Protocol, address: Option<IpAddr>, port: Port| {
        assert_eq!((protocol, address), (Protocol::Tcp, Some("::1".parse().unwrap())));
        port.number() == 108
    };
    let choose = |ports: &mut Ports| {
        let port = ports.claim(OWNER, spec("[::1]::80"), is_busy)?;
        Ok(port.host.first().number())
    };
    let lap: Vec<u16> = (0..5).map(|_| choose(&mut ports).unwrap()).collect();
    assert_eq!(lap, [100, 101, 103, 107, 109]);
    assert!(choose(&mut ports).is_err_and(|error: Error| error.is_exhausted()));
    ports.release(OTHER);
    assert_eq!(choose(&mut ports).unwrap(), 102, "the cursor goes round");
    assert!(ports.claim(OTHER, spec("105:80"), idle).is_ok(), "reserved ones can be had by name");
}

#[test]
fn a_search_asks_about_each_port_once() {
    let mut ports = Ports::new(&dynamic("100-109"));
    for _ in 0..3 {
        ports.claim(OWNER, spec("80"), idle).unwrap();
    }
    ports.release(OWNER);
    let mut asked = Vec::new();
    let answer = ports.claim(OWNER, spec("80"), |_, _, port| {
        asked.push(port.number());
        true
    });
    assert!(answer.is_err_and(|error| error.is_exhausted()));
    assert_eq!(asked, [103, 104, 105, 106, 107, 108, 109, 100, 101, 102]);
}

#[test]
fn a_released_port_is_not_the_next_to_be_chosen() {
    let mut ports = Ports::new(&PortsOptions::default());
    let first = ports.claim(OWNER, spec("80"), idle).unwrap();
    assert_eq!(ports.release(OWNER), [first]);
    assert_ne!(ports.claim(OWNER, spec("80"), idle).unwrap().host, first.host);
}

#[test]
fn a_range_is_chosen_in_one_row_as_long_as_there_is_one() {
    let mut ports = Ports::new(&dynamic("100-120"));
    ports.claim(OTHER, spec("109:80"), idle).unwrap();
    let mut choose = |text| ports.claim(OWNER, spec(text), idle).map(|port| port.host.to_string());
    assert_eq!(choose("1-10").unwrap(), "110-119");
    assert_eq!(choose("1-9").unwrap(), "100-108");
    assert!(choose("1-2").is_err_and(|error| error.is_exhausted()));
    assert_eq!(choose("1").unwrap(), "120");
}

#[test]
fn named_ports_in_use_on_the_host_are_refused_by_their_number() {
    let mut ports = Ports::new(&PortsOptions::default());
    let error = ports.claim(OWNER, spec("8000-8009:80-89"), |_, _, port| port.number() > 8_004).unwrap_err();
    let port = Port::try_from(8_005).unwrap();
    assert_eq!(error, Error::PortBusy { protocol: Protocol::Tcp, address: None, port });
    assert!(error.is_conflict());
    assert_eq!(ports.claims().count(), 0);
}

#[test]
fn a_host_that_uses_every_port_itself_is_given_up_on_and_the_search_goes_on_later() {
    let mut ports = Ports::new(&dynamic("1-65535"));
    for count in [1, 10] {
        let wanted = PublishSpec { ports: range(&format!("1-{count}")), ..spec("80/udp") };
        let mut asked = Vec::new();
        let answer = ports.claim(OWNER, wanted, |_, _, port| {
            asked.push(port.number());
            port.number() % count == 0
        });
        let error = answer.unwrap_err();
        assert!(error.is_retryable() && !error.is_exhausted(), "{error}");
        assert!(asked.len() <= 1_024 + usize::from(count), "{} tries", asked.len());
        let next = ports.claim(OWNER, wanted, idle).unwrap();
        assert!(next.host.first().number() > *asked.last().unwrap());
    }
}

#[test]
fn release_takes_all_of_an_owner_and_nothing_else() {
    let mut ports = Ports::new(&PortsOptions::default());
    let theirs = ports.claim(OTHER, spec("127.0.0.1:80:80"), idle).unwrap();
    let ours = ["[::1]:80:80", "53/udp", "443:443"].map(|text| ports.claim(OWNER, spec(text), idle).unwrap());
    assert_eq!(ports.release(OWNER), ours);
    assert_eq!(ports.release(OWNER), []);
    assert_eq!(ports.claims().collect::<Vec<_>>(), [(OTHER, theirs)]);
    for port in ours {
        ports.restore(OWNER, port).unwrap();
    }
    assert!(ports.restore(OWNER, theirs).unwrap_err().is_conflict());
}

#[test]
fn ports_are_chosen_outside_the_ephemeral_range_by_default() {
    let dynamic = PortsOptions::default().dynamic;
    assert!(!dynamic.overlaps(range("32768-60999")) && dynamic.count() > 4_000);
}

fn dynamic(text: &str) -> PortsOptions {
    PortsOptions { dynamic: range(text), ..PortsOptions::default() }
}

fn idle(_: Protocol, _: Option<IpAddr>, _: Port) -> bool {
    false
}

fn spec(text: &str) -> PublishSpec {
    text.parse().unwrap()
}

fn range(text: &str) -> PortRange {
    text.parse().unwrap()
}
