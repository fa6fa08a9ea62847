//! The tables: whose they are, what is in them, and what others do to them.

use std::collections::BTreeSet;
use std::fs;
use std::slice::from_ref;

use netloft_nft::{Connections, Difference, Fact, Firewall, Traffic};
use netloft_types::Family;

use super::world::{World, call, listen, publication, run, succeeds};
use crate::support::{Host, TempDir, eventually};

pub(crate) fn nobody_else_changes_the_tables_while_their_owner_lives() {
    let (mut world, ..) = World::blue();
    assert!(world.firewall.is_owner());
    let before = world.nft("list table inet netloft");
    let host = world.host.netns.clone();
    world.nft("flush ruleset");
    for attempt in [
        "delete table inet netloft",
        "flush table bridge netloft",
        "flush chain inet netloft forward",
        "flush set inet netloft bridges",
        "add rule inet netloft input accept",
        "add element inet netloft bridges { lan0 }",
    ] {
        assert!(!succeeds(&host, &format!("nft {attempt}")), "{attempt}");
    }
    let mut other = Firewall::open(&world.host.enterer, &host).unwrap();
    let refused = other.establish(&BTreeSet::new()).unwrap_err();
    assert!(refused.is_conflict() && !refused.is_permission_denied(), "{refused}");
    assert_eq!(world.nft("list table inet netloft"), before);
    assert!(!world.firewall.is_disturbed().unwrap());
}

pub(crate) fn tables_outlive_their_owner_and_have_another_one_then() {
    let (mut world, first, _) = World::blue();
    world.publish("8080:80", first.addresses[0]);
    let facts = world.facts.clone();
    world.reopen();
    let listener = listen(&first.netns, 80);
    assert!(call(&world.lan, "192.0.2.1:8080", &listener).is_ok());
    assert!(!world.firewall.is_owner());
    assert_eq!(world.firewall.audit(&world.host.enterer, &facts).unwrap(), []);
    world.establish();
    assert!(world.firewall.is_owner());
    world.nft("flush ruleset");
    assert_eq!(world.firewall.audit(&world.host.enterer, &facts).unwrap(), []);
    world.firewall.remove().unwrap();
    world.firewall.remove().unwrap();
    assert_eq!(world.nft("list ruleset"), "");
}

pub(crate) fn to_establish_the_same_again_changes_nothing() {
    let (mut world, first, _) = World::blue();
    world.publish("8080:80", first.addresses[0]);
    let before = world.nft("-s list ruleset");
    world.establish();
    assert_eq!(world.nft("-s list ruleset"), before);
}

pub(crate) fn a_thousand_publications_are_a_thousand_elements_and_no_rule() {
    let (mut world, first, _) = World::blue();
    let rules = world.rules();
    assert!(rules > 50, "{rules}");
    let all: Vec<Fact> = (1..=1000).map(|port| publication(&port.to_string(), first.addresses[0])).collect();
    world.firewall.change(&all, &[]).unwrap();
    assert_eq!(world.rules(), rules);
    let count =
        |world: &World, map| world.nft(&format!("list map inet netloft {map}")).matches("10.89.0.2").count();
    assert_eq!(count(&world, "single4"), 1000);
    world.firewall.change(&[], &all[..999]).unwrap();
    assert_eq!(count(&world, "single4"), 1);

    // A range is one element, however long.
    world.firewall.change(&[publication("1-65535/udp", first.addresses[0])], &[]).unwrap();
    assert_eq!(count(&world, "range4"), 1);
}

pub(crate) fn what_is_there_may_be_put_and_what_is_not_deleted() {
    let (mut world, first, second) = World::blue();
    let ours = publication("8080:80", first.addresses[0]);
    let range = publication("5000-5009", first.addresses[0]);
    let theirs = publication("8080:80", second.addresses[0]);
    let before = world.nft("-s list ruleset");
    let (firewall, every) = (&mut world.firewall, [&[ours.clone(), range], &*guards(&world.facts)].concat());
    for _ in 0..2 {
        firewall.change(&every, &[]).unwrap();
    }
    let refused = firewall.change(from_ref(&theirs), &[]).unwrap_err();
    assert!(refused.is_conflict(), "{refused}");
    assert_eq!(refused.to_string(), format!("cannot put {theirs}"));
    // What has its place is another fact, and stays.
    firewall.change(&[], &[theirs.clone(), Fact::ClosedToStrangers(Family::V6)]).unwrap();
    let mut facts = world.facts.clone();
    facts.extend(every.clone());
    assert_eq!(firewall.audit(&world.host.enterer, &facts).unwrap(), []);
    for _ in 0..2 {
        firewall.change(&[], &every[..2]).unwrap();
    }
    assert_eq!(world.nft("-s list ruleset"), before);

    let both = BTreeSet::from([ours, theirs]);
    assert!(world.firewall.establish(&both).unwrap_err().is_conflict());
    assert_eq!(world.nft("-s list ruleset"), before, "a refused change changes nothing");
}

pub(crate) fn adjacent_subnets_come_and_go_one_by_one() {
    let mut world = World::new();
    let bridges = [89, 90, 91].map(|number| Fact::Bridge(world.bridge(&format!("b{number}"), number, true)));
    world.establish();
    world.firewall.change(&[], &bridges[1..2]).unwrap();
    world.facts.remove(&bridges[1]);
    assert_eq!(world.firewall.audit(&world.host.enterer, &world.facts).unwrap(), []);
    world.firewall.change(&bridges, &bridges[..1]).unwrap();
    world.facts.extend(bridges);
    assert_eq!(world.firewall.audit(&world.host.enterer, &world.facts).unwrap(), []);
}

pub(crate) fn tables_of_others_are_untouched() {
    let (mut world, first, _) = World::blue();
    world.nft("add table inet theirs");
    world.nft("add chain inet theirs input { type filter hook input priority 0 ; policy accept ; }");
    world.nft("add rule inet theirs input tcp dport 22 accept");
    world.nft("add table ip netloft");
    world.nft("add set ip netloft bridges { type ipv4_addr ; elements = { 192.0.2.7 } ; }");
    let theirs = |world: &World| [world.nft("list table inet theirs"), world.nft("list table ip netloft")];
    let before = theirs(&world);
    world.establish();
    world.publish("8080:80", first.addresses[0]);
    assert_eq!(theirs(&world), before);
    assert_eq!(world.firewall.audit(&world.host.enterer, &world.facts).unwrap(), []);
    world.firewall.remove().unwrap();
    assert_eq!(theirs(&world), before);
    assert!(!world.nft("list tables").contains("inet netloft"));
}

pub(crate) fn an_audit_tells_what_somebody_altered() {
    let (mut world, first, _) = World::blue();
    let published = world.publish("8080:80", first.addresses[0]);
    // Without its owner a table is anybody's.
    world.reopen();
    let handle = world.nft("-a list chain inet netloft raw");
    let handle = handle.lines().find(|line| line.contains("127.0.0.0/8")).unwrap();
    let handle = handle.rsplit(' ').next().unwrap().to_owned();
    for alteration in [
        format!("delete rule inet netloft raw handle {handle}"),
        "add rule inet netloft input counter accept".to_owned(),
        "add chain inet netloft extra".to_owned(),
        "delete element inet netloft single4 { tcp . 8080 }".to_owned(),
        "add element inet netloft host_access { blue }".to_owned(),
        "add element inet netloft homes4 { lan0 . 10.89.0.0/24 }".to_owned(),
    ] {
        world.nft(&alteration);
    }
    let found = world.firewall.audit(&world.host.enterer, &world.facts).unwrap();
    let altered = |chain: &str| Difference::Altered { object: format!("chain inet netloft {chain}") };
    let unexpected = |set: &str, element: &str| Difference::Unexpected {
        set: format!("set inet netloft {set}"),
        element: element.to_owned(),
    };
    let expected = [
        altered("input"),
        altered("raw"),
        Difference::Strange { object: "chain inet netloft extra".to_owned() },
        Difference::Missing { fact: published },
        unexpected("host_access", "blue"),
        unexpected("homes4", "lan0 . 10.89.0.0"),
    ];
    assert_eq!(found, expected);
    world.nft("delete table bridge netloft");
    let found = world.firewall.audit(&world.host.enterer, &world.facts).unwrap();
    let table = "table bridge netloft".to_owned();
    assert!(found.contains(&Difference::Absent { object: table }), "{found:?}");
    assert!(found.contains(&Difference::Missing { fact: first.guard }));
    world.establish();
    assert_eq!(world.firewall.audit(&world.host.enterer, &world.facts).unwrap(), []);
}

pub(crate) fn a_disturbance_of_tables_without_an_owner_is_noticed_and_mended() {
    let (mut world, first, _) = World::blue();
    world.firewall = Firewall::open_unowned(&world.host.enterer, &world.host.netns).unwrap();
    world.establish();
    assert!(!world.firewall.is_owner());
    world.publish("8080:80", first.addresses[0]);
    world.nft("add table inet theirs");
    assert!(!world.firewall.is_disturbed().unwrap(), "neither what we do nor what is theirs disturbs");

    for disturbance in [
        "flush ruleset",
        "delete table bridge netloft",
        "flush chain inet netloft raw",
        "delete element inet netloft bridges { blue }",
    ] {
        world.nft(disturbance);
        let firewall = &mut world.firewall;
        eventually(disturbance, || firewall.is_disturbed().unwrap());
        assert!(world.firewall.is_disturbed().unwrap(), "until it is mended");
        world.establish();
        assert!(!world.firewall.is_disturbed().unwrap());
        assert_eq!(world.firewall.audit(&world.host.enterer, &world.facts).unwrap(), []);
    }
}

pub(crate) fn a_flood_of_events_does_not_disturb_an_owner() {
    let (mut world, ..) = World::blue();
    world.nft("add table inet theirs");
    world.nft("add set inet theirs many { type inet_service ; }");
    flood(&world);
    for _ in 0..100 {
        assert!(!world.firewall.is_disturbed().unwrap());
    }
    // Events were lost: without an owner that may have been ours.
    world.firewall = Firewall::open_unowned(&world.host.enterer, &world.host.netns).unwrap();
    world.establish();
    flood(&world);
    assert!(world.firewall.is_disturbed().unwrap());
}

/// Changes a set of somebody else's so often that nobody is told of all.
fn flood(world: &World) {
    let directory = TempDir::new("flood");
    let file = directory.0.join("rules");
    let ports: Vec<String> = (1..=2000).map(|port| port.to_string()).collect();
    let add = ports.iter().map(|port| format!("add element inet theirs many {{ {port} }}\n"));
    std::fs::write(&file, add.collect::<String>() + "flush set inet theirs many\n").unwrap();
    for _ in 0..5 {
        world.nft(&format!("-f {}", file.display()));
    }
}

pub(crate) fn default_denies_of_others_are_told() {
    let (mut world, ..) = World::blue();
    assert_eq!(world.firewall.policies().unwrap(), []);
    world.nft("add table ip filter");
    world.nft("add chain ip filter FORWARD { type filter hook forward priority 0 ; policy drop ; }");
    world.nft("add chain ip filter OUTPUT { type filter hook output priority 0 ; policy drop ; }");
    world.nft("add chain ip filter INPUT { type filter hook input priority 0 ; policy accept ; }");
    let [deny] = &world.firewall.policies().unwrap()[..] else { panic!("one of them") };
    assert_eq!((deny.of, deny.family, deny.chain.as_str()), (Traffic::Forwarded, "ip", "FORWARD"));
}

pub(crate) fn a_change_without_tables_says_that_they_are_not_there() {
    let host = Host::new();
    let mut firewall = Firewall::open(&host.enterer, &host.netns).unwrap();
    let fact = publication("80", "10.89.0.2".parse().unwrap());
    assert!(firewall.change(&[fact], &[]).unwrap_err().is_not_found());
    assert_eq!(run(&host.netns, "nft list ruleset"), "");
}

pub(crate) fn flushing_connections_of_an_address_takes_those_and_no_others() {
    flush_among(&[]);
}

/// Of so many that the kernel is asked for those of an address.
pub(crate) fn flushing_connections_among_many_takes_those_and_no_others() {
    let many = (0..16_400).map(|number: u16| {
        let [high, low] = number.to_be_bytes();
        format!("-s 198.18.{high}.{low} -d 192.0.2.9 -p udp --sport 1 --dport 2")
    });
    flush_among(&many.collect::<Vec<_>>());
}

fn flush_among(others: &[String]) {
    let host = Host::new();
    let mut connections = Connections::open(&host.enterer, &host.netns).unwrap();
    assert_eq!(connections.forget(&["10.89.0.2".parse().unwrap()]).unwrap(), 0);
    let all = [
        "-s 10.89.0.2 -d 192.0.2.2 -p tcp --sport 1 --dport 2 --state ESTABLISHED",
        "-s 192.0.2.2 -d 10.89.0.2 -p udp --sport 3 --dport 4",
        "-s 192.0.2.2 -d 192.0.2.1 -r 10.89.0.2 -q 192.0.2.2 -p udp --sport 5 --dport 6 --reply-port-src 80",
        "-s 10.89.0.3 -d 192.0.2.2 -r 192.0.2.2 -q 10.89.0.2 -p udp --sport 7 --dport 8 --reply-port-src 8 --reply-port-dst 7",
        "-s 10.89.0.3 -d 192.0.2.2 -p tcp --sport 1 --dport 2 --state ESTABLISHED",
        "-s 10.89.0.20 -d 192.0.2.2 -p tcp --sport 1 --dport 2 --state ESTABLISHED",
        "-s fd00:89::2 -d 2001:db8::2 -p udp --sport 1 --dport 2",
        "-s fd00:89::3 -d 2001:db8::2 -p udp --sport 1 --dport 2",
    ];
    let entries = all.into_iter().chain(others.iter().map(String::as_str));
    let file = tempfile::NamedTempFile::new().unwrap();
    let lines: Vec<_> = entries.map(|entry| format!("-A -t 600 {entry}\n")).collect();
    fs::write(file.path(), lines.concat()).unwrap();
    run(&host.netns, &format!("conntrack -R {}", file.path().display()));
    let count = || run(&host.netns, "conntrack -C").trim().parse::<usize>().unwrap() - others.len();
    assert_eq!(count(), all.len());
    let addresses = ["10.89.0.2", "fd00:89::2"].map(|text| text.parse().unwrap());
    assert_eq!(connections.forget(&addresses).unwrap(), 5);
    assert_eq!(connections.forget(&addresses).unwrap(), 0);
    let left = run(&host.netns, "conntrack -L") + &run(&host.netns, "conntrack -L -f ipv6");
    assert_eq!(count(), 3, "{left}");
    assert!(!left.contains("10.89.0.2 ") && !left.contains("fd00:89::2 "), "{left}");
    for address in ["10.89.0.3 ", "10.89.0.20 ", "fd00:89::3 "] {
        assert!(left.contains(address), "{left}");
    }
}

fn guards(facts: &BTreeSet<Fact>) -> Vec<Fact> {
    facts.iter().filter(|fact| matches!(fact, Fact::Guard(_))).cloned().collect()
}
