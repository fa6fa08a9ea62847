//! Endpoints that are kept ready: who gets them, and that they are in nobody's way; over the fake kernel.

use netloft_types::{AttachSpec, Bandwidth, DefaultRoute, DriverSpec, NetworkSpec, ReadyCount};

use super::tests::{attach, attach_to, detach, dual_stack, held, network, segment, start};
use super::*;
use crate::journal::Journal;
use crate::kernel::Incident;
use crate::testing::{FakeKernel, Fault};

#[test]
fn whoever_asks_for_nothing_in_particular_gets_a_ready_endpoint_like_any_other() {
    for spec in [dual_stack("blue"), NetworkSpec { internal: true, ..dual_stack("blue") }] {
        let (_, mut plain) = start();
        plain.create_network(&spec).unwrap();
        let (kernel, mut state) = with_ready(&spec, 2);
        assert_eq!(held(&state), [4, 2, 0, 0]);
        assert_eq!(state.endpoints(), []);
        let asked = AttachSpec { publish: vec!["8080:80".parse().unwrap()], ..attach("blue", "api") };
        let before = kernel.calls();
        let given = attach_to(&mut state, asked.clone()).unwrap().endpoint;
        assert_eq!(kernel.calls() - before, 3, "its name, its port, a look at its namespace");
        assert_eq!(ready(&state), 1);
        let made = attach_to(&mut plain, asked).unwrap().endpoint;
        let alike = netloft_types::Endpoint { id: given.id, host_link: given.host_link.clone(), ..made };
        assert_eq!(given, alike);
        assert!(kernel.has_sandbox("api"));
        assert_eq!(state.examine().unwrap(), []);
        assert_eq!(held(&state), [4, 2, 1, 1]);

        detach(&mut state, given.id).unwrap();
        assert_eq!(attach_to(&mut state, attach("blue", "api")).unwrap().endpoint.addresses, given.addresses);
        close(&kernel, &mut state);
    }
}

#[test]
fn whoever_asks_for_what_is_settled_at_the_making_has_one_made() {
    let (kernel, mut state) = with_ready(&network("blue"), 1);
    state.create_network(&network("green")).unwrap();
    attach_to(&mut state, attach("green", "on-two")).unwrap();
    let id = attach_to(&mut state, attach("blue", "before")).unwrap().endpoint.id;
    detach(&mut state, id).unwrap();
    fill(&mut state);
    let asks = |name: &str| attach("blue", name);
    let bandwidth = Bandwidth { to_sandbox: Some("1M".parse().unwrap()), from_sandbox: None };
    let sysctls = BTreeMap::from([("net.ipv4.tcp_keepalive_time".to_owned(), "60".to_owned())]);
    for spec in [
        AttachSpec { interface: Some("eth1".parse().unwrap()), ..asks("a") },
        AttachSpec { addresses: vec!["10.89.0.77".parse().unwrap()], ..asks("b") },
        AttachSpec { mac: Some("02:00:00:00:00:09".parse().unwrap()), ..asks("c") },
        AttachSpec { bandwidth, ..asks("d") },
        AttachSpec { sysctls, ..asks("e") },
        AttachSpec { routes: vec!["198.51.100.0/24".parse().unwrap()], ..asks("f") },
        AttachSpec { default_route: DefaultRoute::Never, ..asks("g") },
        AttachSpec { netns: Some("/proc/self/ns/net".into()), ..asks("h") },
        asks("on-two"),
        asks("before"),
    ] {
        let name = spec.sandbox.clone();
        attach_to(&mut state, spec).unwrap();
        assert_eq!(ready(&state), 1, "{name}");
    }
    let interface = Some("eth0".parse().unwrap());
    attach_to(&mut state, AttachSpec { interface, ..asks("as-it-would-be-anyway") }).unwrap();
    assert_eq!(ready(&state), 0);
    attach_to(&mut state, asks("late")).unwrap();
    close(&kernel, &mut state);
}

#[test]
fn whoever_wants_the_address_of_a_ready_endpoint_or_its_mac_has_it() {
    let tiny = NetworkSpec { segments: vec![segment("10.1.0.0/29")], ..network("blue") };
    let (kernel, mut state) = with_ready(&tiny, 100);
    assert_eq!(ready(&state), 5, "the subnet has no more");
    let wanted = state.networks.values().next().unwrap().ready[3].addresses[0];
    let spec = AttachSpec { addresses: vec![wanted.address()], ..attach("blue", "a") };
    assert_eq!(attach_to(&mut state, spec).unwrap().endpoint.addresses, [wanted]);
    assert_eq!(ready(&state), 4);
    let wanted = state.networks.values().next().unwrap().ready[2].mac;
    let spec = AttachSpec { mac: Some(wanted), ..attach("blue", "b") };
    assert_eq!(attach_to(&mut state, spec).unwrap().endpoint.mac, wanted);
    assert_eq!(ready(&state), 2, "one for the address, one for the MAC address");
    close(&kernel, &mut state);
}

#[test]
fn nobody_is_refused_because_subnet_or_bridge_are_full_of_what_is_ready() {
    let tiny = NetworkSpec { segments: vec![segment("10.1.0.0/29")], ..network("blue") };
    for (ports_max, spec, room) in [(100, tiny, 5), (3, network("blue"), 3)] {
        let (kernel, mut state) = start();
        kernel.limit_ports(ports_max);
        state.create_network(&keeping(&spec, 100)).unwrap();
        fill(&mut state);
        assert_eq!(ready(&state), room);
        for number in 0..room {
            attach_to(&mut state, without_route(&format!("s{number}"))).unwrap();
        }
        assert_eq!((ready(&state), held(&state)), (0, [room; 4]));
        assert!(attach_to(&mut state, without_route("late")).unwrap_err().is_exhausted());
        close(&kernel, &mut state);
    }
}

#[test]
fn no_rest_is_cut_short_as_long_as_something_is_ready() {
    let tiny = NetworkSpec { segments: vec![segment("10.1.0.0/29")], ..network("blue") };
    let (kernel, mut state) = with_ready(&tiny, 2);
    let first = attach_to(&mut state, attach("blue", "first")).unwrap().endpoint;
    detach(&mut state, first.id).unwrap();
    for name in ["a", "b"] {
        attach_to(&mut state, attach("blue", name)).unwrap();
    }
    fill(&mut state);
    assert_eq!(ready(&state), 2, "all that nobody has, but what rests");
    for name in ["c", "d"] {
        let endpoint = attach_to(&mut state, without_route(name)).unwrap().endpoint;
        assert_ne!(endpoint.addresses, first.addresses);
    }
    assert_eq!(kernel.forgotten(), [] as [IpAddr; 0]);
    assert_eq!(ready(&state), 0);
    assert_eq!(attach_to(&mut state, attach("blue", "e")).unwrap().endpoint.addresses, first.addresses);
    assert_eq!(kernel.forgotten().len(), 1, "now it was");
}

#[test]
fn networks_are_filled_in_turn_and_those_that_cannot_be_are_let_alone_for_a_while() {
    let (kernel, mut state) = with_ready(&network("blue"), 3);
    let full = NetworkSpec { segments: vec![segment("10.1.0.0/30")], ..network("full") };
    for spec in [network("green"), full] {
        state.create_network(&keeping(&spec, 3)).unwrap();
    }
    state.is_stock_short = false;
    for name in ["a", "b"] {
        attach_to(&mut state, attach("blue", name)).unwrap();
    }
    let mut seen = Vec::new();
    while state.patience() == Some(BREATH) {
        state.use_quiet();
        seen.push(["blue", "full", "green"].map(|name| state.count_ready(&name.parse().unwrap()).unwrap()));
    }
    assert_eq!(seen[..3], [[1, 1, 0], [1, 1, 1], [2, 1, 1]]);
    assert_eq!(seen.last(), Some(&[3, 1, 3]));
    assert!(seen.len() <= 7, "{seen:?}");
    let patience = state.patience().unwrap();
    assert!(patience > SULK / 2 && patience <= SULK, "{patience:?}");

    // It is due at once when something of that network is detached.
    let calls = kernel.calls();
    let id = attach_to(&mut state, attach("full", "c")).unwrap().endpoint.id;
    assert!(state.patience().unwrap() > BREATH);
    detach(&mut state, id).unwrap();
    assert_eq!(state.patience(), Some(BREATH));
    state.use_quiet();
    assert_eq!(state.count_ready(&"full".parse().unwrap()).unwrap(), 0, "its only address rests");
    assert!(state.patience().unwrap() > BREATH);
    assert!(kernel.calls() - calls < 12, "nothing is tried in vain");
    close(&kernel, &mut state);
}

#[test]
fn after_a_failure_at_any_call_nothing_is_left_and_no_address_lost() {
    let whole = |state: &mut State| {
        fill(state);
        let spec = AttachSpec { publish: vec!["8080:80".parse().unwrap()], ..attach("blue", "api") };
        attach_to(state, spec).map(|attached| attached.endpoint.id)
    };
    let (kernel, mut state) = start();
    state.create_network(&keeping(&dual_stack("blue"), 2)).unwrap();
    let first = kernel.calls();
    whole(&mut state).unwrap();
    let calls = first..kernel.calls();
    assert!(calls.clone().count() >= 11, "two are made ready, one is used");
    for fault in calls.flat_map(|call| [Fault::Before(call), Fault::After(call)]) {
        let (kernel, mut state) = start();
        state.create_network(&keeping(&dual_stack("blue"), 2)).unwrap();
        kernel.fail(fault);
        let attached = whole(&mut state);
        let count = ready(&state);
        let each = count + usize::from(attached.is_ok());
        assert_eq!(held(&state), [2 * each, each, each - count, each - count], "{fault:?}");
        assert_eq!(state.examine().unwrap(), [], "{fault:?}");
        if let Ok(id) = attached {
            detach(&mut state, id).unwrap();
        }
        let again = attach_to(&mut state, attach("blue", "api")).unwrap().endpoint;
        assert!(again.addresses[0].address() <= "10.1.0.3".parse::<IpAddr>().unwrap(), "{fault:?}");
        close(&kernel, &mut state);
    }
}

#[test]
fn what_cannot_be_taken_apart_keeps_its_address_until_it_can() {
    let (kernel, mut state) = with_ready(&network("blue"), 1);
    let address = state.networks.values().next().unwrap().ready[0].addresses[0].address();
    // It is tried twice.
    kernel.fail(Fault::Before(kernel.calls()));
    kernel.fail(Fault::Before(kernel.calls() + 3));
    let wanted = AttachSpec { addresses: vec![address], ..attach("blue", "api") };
    assert!(attach_to(&mut state, wanted).unwrap_err().is_conflict());
    assert_eq!((ready(&state), held(&state)), (0, [1, 1, 0, 0]));
    state.tidy_or_warn();
    assert_eq!(held(&state), [0, 0, 0, 0]);
    close(&kernel, &mut state);
}

#[test]
fn a_ready_endpoint_whose_link_is_gone_is_given_to_nobody_and_nobody_is_told() {
    let (kernel, mut state) = with_ready(&network("blue"), 3);
    let mut losses = state.losses();
    let link_of = |state: &State, index: usize| {
        let entry = state.networks.values().next().unwrap();
        driver::of(&entry.record.network).host_link(entry.ready[index].id).unwrap()
    };
    let (one, other) = (link_of(&state, 0), link_of(&state, 1));
    state.handle(&Incident::LinkGone(one.clone()));
    assert_eq!(ready(&state), 3, "an earlier one of that name is");
    for link in [&one, &other] {
        kernel.delete_link(link.as_str());
    }
    state.handle(&Incident::LinkGone(one));
    assert_eq!(ready(&state), 2);
    assert_eq!(link_of(&state, 0), other);
    state.handle(&Incident::Overrun);
    assert_eq!(ready(&state), 1);
    let endpoint = attach_to(&mut state, attach("blue", "api")).unwrap().endpoint;
    assert!(kernel.has_link(endpoint.host_link.unwrap().as_str()));
    assert!(losses.try_recv().is_err());
    assert_eq!(state.examine().unwrap(), []);
    close(&kernel, &mut state);
}

#[test]
fn a_packet_filter_that_is_established_again_knows_what_is_ready() {
    let (kernel, mut state) = with_ready(&network("blue"), 2);
    let facts = kernel.facts();
    assert_eq!(facts.iter().filter(|fact| matches!(fact, Fact::Guard(_))).count(), 2);
    state.establish().unwrap();
    assert_eq!(kernel.facts(), facts);
    assert_eq!(state.examine().unwrap(), []);
    assert_eq!(state.collect_garbage(false).unwrap(), []);
}

#[test]
fn a_network_with_nothing_but_ready_endpoints_is_removed_and_they_with_it() {
    let (kernel, mut state) = with_ready(&network("blue"), 2);
    let id = attach_to(&mut state, attach("blue", "api")).unwrap().endpoint.id;
    let refused = state.remove_network(&"blue".parse().unwrap()).unwrap_err();
    assert!(matches!(&refused, Error::NetworkInUse { endpoints, .. } if *endpoints == [id]), "{refused}");
    assert_eq!(ready(&state), 1);
    detach(&mut state, id).unwrap();
    fill(&mut state);
    state.remove_network(&"blue".parse().unwrap()).unwrap();
    state.use_quiet();
    assert!(kernel.is_empty(), "{kernel:?}");
    assert_eq!(state.patience(), None);
}

#[test]
fn only_a_bridge_keeps_anything_ready() {
    let (kernel, mut state) = start();
    kernel.plant_link("eth7".parse().unwrap(), MacAddr::local(7));
    let driver = DriverSpec::Macvlan { parent: "eth7".parse().unwrap() };
    let lan = NetworkSpec { driver, segments: vec![segment("192.168.7.0/24")], ..network("lan") };
    assert!(state.create_network(&keeping(&lan, 1)).unwrap_err().is_invalid());
    state.create_network(&lan).unwrap();
}

#[test]
fn a_full_disk_gives_a_ready_endpoint_to_nobody_and_leaves_nothing_of_it() {
    let (directory, kernel) = (tempfile::tempdir().unwrap(), FakeKernel::new().unwrap());
    let mut state = open(&kernel, directory.path());
    state.create_network(&keeping(&network("blue"), 2)).unwrap();
    fill(&mut state);
    state.journal.as_mut().unwrap().fail_from_now_on(true);
    attach_to(&mut state, attach("blue", "api")).unwrap_err();
    state.journal.as_mut().unwrap().fail_from_now_on(false);
    assert_eq!((ready(&state), held(&state)), (1, [1, 1, 0, 0]));
    assert_eq!(state.examine().unwrap(), []);
    let endpoint = attach_to(&mut state, attach("blue", "api")).unwrap().endpoint;
    drop(state);
    kernel.bury_process();
    let state = open(&kernel, directory.path());
    assert_eq!(state.endpoints().into_iter().map(|it| it.endpoint).collect::<Vec<_>>(), [endpoint]);
}

#[test]
fn whoever_leaves_takes_what_is_ready_along_and_the_next_one_makes_it_anew() {
    let (directory, kernel) = (tempfile::tempdir().unwrap(), FakeKernel::new().unwrap());
    let mut state = open(&kernel, directory.path());
    state.create_network(&keeping(&network("blue"), 2)).unwrap();
    fill(&mut state);
    let given = attach_to(&mut state, attach("blue", "api")).unwrap();
    state.leave().unwrap();
    drop(state);
    let guards = kernel.facts().iter().filter(|fact| matches!(fact, Fact::Guard(_))).count();
    assert_eq!(guards, 1, "of what was given");
    let mut state = open(&kernel, directory.path());
    assert_eq!(state.endpoints(), [given]);
    fill(&mut state);
    assert_eq!(ready(&state), 2);
    close(&kernel, &mut state);
}

#[test]
fn a_journal_that_does_not_know_of_ready_endpoints_says_none() {
    let (_, mut state) = start();
    let created = state.create_network(&network("blue")).unwrap();
    let record = NetworkRecord { network: created, phase: Phase::Made };
    let mut row = serde_json::to_value(&record).unwrap();
    row["network"].as_object_mut().unwrap().remove("ready").unwrap();
    assert_eq!(serde_json::from_value::<NetworkRecord>(row).unwrap(), record);
}

/// A host with a network that keeps so many ready, which they are.
fn with_ready(spec: &NetworkSpec, count: u32) -> (FakeKernel, State) {
    let (kernel, mut state) = start();
    state.create_network(&keeping(spec, count)).unwrap();
    fill(&mut state);
    (kernel, state)
}

/// One who gets no ready endpoint.
fn without_route(sandbox: &str) -> AttachSpec {
    AttachSpec { default_route: DefaultRoute::Never, ..attach("blue", sandbox) }
}

fn keeping(spec: &NetworkSpec, count: u32) -> NetworkSpec {
    NetworkSpec { ready: ReadyCount::try_from(count).unwrap(), ..spec.clone() }
}

/// Lets the quiet pass in which something is made ahead.
pub(super) fn fill(state: &mut State) {
    while state.patience() == Some(BREATH) {
        state.use_quiet();
    }
}

fn ready(state: &State) -> usize {
    state.count_ready(&"blue".parse().unwrap()).unwrap()
}

fn open(kernel: &FakeKernel, directory: &std::path::Path) -> State {
    let mut state = State::new(Box::new(kernel.clone()), super::tests::policy()).unwrap();
    let (journal, contents) = Journal::open(directory).unwrap();
    state.take_over(journal, contents).unwrap();
    state
}

fn close(kernel: &FakeKernel, state: &mut State) {
    state.close().unwrap();
    state.switch_off_if_unused();
    assert!(kernel.is_empty(), "{kernel:?}");
}
