//! Refusals, and failure at every call, over the fake kernel.

use netloft_types::{AttachSpec, DriverSpec, NetworkSpec, Segment};

use super::*;
use crate::testing::{FakeKernel, Fault};

#[test]
fn without_subnets_a_network_gets_one_clear_of_the_host_and_of_other_networks() {
    let (kernel, mut state) = start();
    kernel.plant_route("10.89.0.0/24".parse().unwrap());
    kernel.plant_route("10.89.2.128/25".parse().unwrap());
    let subnets = ["blue", "green"].map(|name| {
        let network = state.create_network(&network(name)).unwrap();
        network.segments[0].to_string()
    });
    assert_eq!(subnets, ["10.89.1.0/24 via 10.89.1.1", "10.89.3.0/24 via 10.89.3.1"]);
}

#[test]
fn an_endpoint_has_an_address_and_a_gateway_in_every_segment() {
    let (_kernel, mut state) = start();
    state.create_network(&dual_stack("blue")).unwrap();
    let endpoint = attach_to(&mut state, attach("blue", "api")).unwrap().endpoint;
    let addresses = endpoint.addresses.iter().map(ToString::to_string);
    assert_eq!(addresses.collect::<Vec<_>>(), ["10.1.0.2/24", "fd00:1::2/64"]);
    let gateways = endpoint.gateways.iter().map(ToString::to_string);
    assert_eq!(gateways.collect::<Vec<_>>(), ["10.1.0.1", "fd00:1::1"]);
    assert_eq!(endpoint.host_link.unwrap().as_str(), format!("nl{}", &endpoint.id.to_string()[..12]));
}

#[test]
fn a_network_that_cannot_be_had_is_refused_with_the_reason() {
    let (kernel, mut state) = start();
    kernel.plant_link("eth7".parse().unwrap(), MacAddr::local(7));
    kernel.plant_route("10.7.0.0/16".parse().unwrap());
    state.create_network(&dual_stack("blue")).unwrap();
    let with = |name: &str, subnets: &[&str], bridge: Option<&str>| NetworkSpec {
        segments: subnets.iter().map(|text| segment(text)).collect(),
        driver: DriverSpec::Bridge { bridge: bridge.map(|name| name.parse().unwrap()) },
        ..network(name)
    };
    for (spec, reason) in [
        (network("blue"), "network blue exists"),
        (with("a", &[], Some("nl-blue")), "bridge nl-blue belongs to network blue"),
        (with("a", &[], Some("eth7")), "there is link eth7 already"),
        (with("a", &["10.2.0.0/24", "10.3.0.0/24"], None), "10.2.0.0/24 and 10.3.0.0/24 are of one family"),
        (with("a", &["10.7.9.0/24"], None), "10.7.9.0/24 overlaps 10.7.0.0/16"),
        (with("a", &["10.1.0.128/25"], None), "overlaps 10.1.0.0/24 of network blue"),
        (with("a", &["fd00:9::/64", "32.0.0.0/7"], None), "too wide"),
    ] {
        let error = chain(&state.create_network(&spec).unwrap_err());
        assert!(error.contains(reason), "{error}");
        assert_eq!(state.networks().len(), 1, "{reason}");
        assert_eq!(state.space.in_use().len(), 2, "{reason}");
    }
    assert!(kernel.has_link("eth7"), "a link of somebody else is gone");
}

#[test]
fn exhausted_default_pools_are_reported_as_such() {
    let (_kernel, mut state) = start();
    for index in 0..256 {
        state.create_network(&network(&format!("n{index}"))).unwrap();
    }
    let error = state.create_network(&network("late")).unwrap_err();
    assert!(error.is_exhausted() && !error.is_conflict(), "{}", chain(&error));
}

#[test]
fn an_attachment_that_cannot_be_had_is_refused_with_the_reason() {
    let (kernel, mut state) = start();
    kernel.plant_sandbox("theirs".parse().unwrap());
    state.create_network(&dual_stack("blue")).unwrap();
    let first = AttachSpec {
        addresses: vec!["10.1.0.9".parse().unwrap()],
        mac: Some("02:00:00:00:00:09".parse().unwrap()),
        ..attach("blue", "api")
    };
    attach_to(&mut state, first.clone()).unwrap();
    let with = |addresses: &[&str]| AttachSpec {
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        ..attach("blue", "web")
    };
    let same_mac = AttachSpec { mac: first.mac, ..attach("blue", "web") };
    let same_interface = AttachSpec { interface: Some("lo".parse().unwrap()), ..attach("blue", "web") };
    for (spec, reason) in [
        (attach("green", "web"), "there is no network green"),
        (attach("blue", "api"), "sandbox api is attached to network blue"),
        (attach("blue", "theirs"), "there is sandbox theirs already"),
        (same_interface, "interface lo is in the sandbox already"),
        (same_mac, "02:00:00:00:00:09 is held by endpoint"),
        (with(&["10.1.0.9"]), "10.1.0.9 is held by endpoint"),
        (with(&["10.1.0.1"]), "10.1.0.1 is the gateway"),
        (with(&["fd00:1::7", "10.1.0.9"]), "10.1.0.9 is held by endpoint"),
        (with(&["10.9.0.9"]), "in no subnet of network blue: choose one in 10.1.0.0/24, fd00:1::/64"),
        (with(&["10.1.0.3", "10.1.0.4"]), "10.1.0.3 and 10.1.0.4 are both in subnet 10.1.0.0/24"),
    ] {
        let error = chain(&attach_to(&mut state, spec).unwrap_err());
        assert!(error.contains(reason), "{error}");
        assert_eq!(held(&state), [2, 1, 1, 1], "{reason}");
    }
    assert!(kernel.has_sandbox("theirs"), "a sandbox of somebody else is gone");
}

#[test]
fn an_exhausted_subnet_is_reported_as_such_and_holds_nothing_for_the_refused() {
    let (_kernel, mut state) = start();
    let tiny =
        NetworkSpec { segments: vec![segment("fd00:1::/64"), segment("10.1.0.0/30")], ..network("blue") };
    state.create_network(&tiny).unwrap();
    attach_to(&mut state, attach("blue", "a")).unwrap();
    let error = attach_to(&mut state, attach("blue", "b")).unwrap_err();
    assert!(error.is_exhausted(), "{}", chain(&error));
    assert_eq!(held(&state), [2, 1, 1, 1]);
}

#[test]
fn a_network_in_use_is_not_removed_and_names_its_endpoints() {
    let (_kernel, mut state) = start();
    state.create_network(&network("blue")).unwrap();
    let id = attach_to(&mut state, attach("blue", "api")).unwrap().endpoint.id;
    let error = state.remove_network(&"blue".parse().unwrap()).unwrap_err();
    assert!(error.is_conflict() && error.to_string().contains(&id.to_string()), "{error}");
    detach(&mut state, id).unwrap();
    state.remove_network(&"blue".parse().unwrap()).unwrap();
    assert!(state.remove_network(&"blue".parse().unwrap()).unwrap_err().is_not_found());
}

#[test]
fn to_detach_twice_is_not_found() {
    let (_kernel, mut state) = start();
    state.create_network(&network("blue")).unwrap();
    let id = attach_to(&mut state, attach("blue", "api")).unwrap().endpoint.id;
    detach(&mut state, id).unwrap();
    assert!(detach(&mut state, id).unwrap_err().is_not_found());
}

#[test]
fn after_a_failure_at_any_call_of_an_attempt_nothing_is_left() {
    let calls = calls_of(|state| {
        state.create_network(&dual_stack("blue")).unwrap();
        attach_to(state, attach("blue", "api")).unwrap();
    });
    assert_eq!(
        calls, 11,
        "read, establish, bridge, admit, forward twice; netns, admit, veth, inside; find the sandbox"
    );
    for fault in faults(calls) {
        let (kernel, mut state) = start();
        kernel.fail(fault);
        let created = state.create_network(&dual_stack("blue"));
        if created.is_ok() {
            attach_to(&mut state, attach("blue", "api")).unwrap_err();
            assert_eq!(held(&state), [0, 0, 0, 0], "{fault:?}");
            assert!(!kernel.has_sandbox("api"), "{fault:?}");
            state.remove_network(&"blue".parse().unwrap()).unwrap();
        }
        assert!(kernel.is_empty(), "{fault:?}: {kernel:?}");
        assert_eq!(state.space.in_use().len(), 0, "{fault:?}");
        assert!(state.networks().is_empty() && state.debris.is_empty(), "{fault:?}");
    }
}

#[test]
fn after_a_failure_at_any_call_of_taking_away_a_second_try_leaves_nothing() {
    let whole_life = |state: &mut State| {
        state.create_network(&dual_stack("blue")).unwrap();
        let id = attach_to(state, attach("blue", "api")).unwrap().endpoint.id;
        let detached = detach(state, id);
        (id, detached, state.close())
    };
    let calls = calls_of(|state| whole_life(state).2.unwrap());
    for fault in faults(calls).filter(|fault| fault.call() > 10) {
        let (kernel, mut state) = start();
        kernel.fail(fault);
        let (id, detached, closed) = whole_life(&mut state);
        if detached.is_ok() {
            assert!(detach(&mut state, id).unwrap_err().is_not_found(), "{fault:?}");
        }
        if closed.is_err() {
            state.close().unwrap();
        }
        // Forwarding is switched off, and the packet filter taken away, without anybody waiting for it.
        state.switch_off_if_unused();
        assert!(kernel.is_empty() && state.is_closed(), "{fault:?}: {kernel:?}");
    }
}

#[test]
fn an_address_whose_link_could_not_be_cut_is_not_given_to_another() {
    let (kernel, mut state) = start();
    state.create_network(&network("blue")).unwrap();
    let id = attach_to(&mut state, attach("blue", "api")).unwrap().endpoint.id;
    kernel.fail(Fault::Before(kernel.calls()));
    let error = detach(&mut state, id).unwrap_err();
    assert!(chain(&error).contains("detach it again: could not cut link"), "{}", chain(&error));
    assert_eq!(held(&state), [1, 1, 1, 1]);
    detach(&mut state, id).unwrap();
    assert_eq!(held(&state), [0, 0, 0, 0]);
}

#[test]
fn what_could_not_be_unwound_keeps_its_claims_until_tidying_up_succeeds() {
    let (kernel, mut state) = start();
    state.create_network(&network("blue")).unwrap();
    let first = kernel.calls();
    kernel.fail(Fault::After(first + 2));
    kernel.fail(Fault::Before(first + 3));
    let error = attach_to(&mut state, attach("blue", "api")).unwrap_err();
    assert!(chain(&error).contains("besides, could not cut link"), "{}", chain(&error));
    assert_eq!(held(&state), [1, 1, 1, 0]);
    assert_eq!(state.tidy_after(), Some(QUIET));
    state.tidy_or_warn();
    assert_eq!(held(&state), [0, 0, 0, 0]);
    assert_eq!(state.tidy_after(), None);
    assert!(!kernel.has_sandbox("api"));
}

#[test]
fn stock_is_filled_before_tidying_up_and_failing_to_is_no_failure() {
    let (kernel, mut state) = start();
    let failure = Err(crate::kernel::KernelError::Planned { call: 0 });
    kernel.plan_stock([Ok(true), Ok(false), failure]);
    assert_eq!(state.patience(), None, "without a network nothing is made ahead");
    state.create_network(&network("blue")).unwrap();
    let id = attach_to(&mut state, attach("blue", "api")).unwrap().endpoint.id;
    detach(&mut state, id).unwrap();
    for patience in [Some(BREATH), Some(BREATH)] {
        assert_eq!(state.patience(), patience);
        state.use_quiet();
    }
    assert_eq!(state.patience(), None, "links are deleted at once, and nothing else is left to do");

    attach_to(&mut state, attach("blue", "api")).unwrap();
    state.use_quiet();
    assert_eq!(state.patience(), None, "not tried again before the next attachment");
}

#[test]
fn a_batch_is_carried_out_in_order_and_answered_one_by_one() {
    let (_kernel, mut state) = start();
    state.create_network(&network("blue")).unwrap();
    let id = attach_to(&mut state, attach("blue", "old")).unwrap().endpoint.id;
    let attach = |name| Change::Attach(Box::new(attach("blue", name)), None);
    let outcomes =
        state.carry_out(vec![attach("a"), Change::Detach(id), attach("a"), Change::Detach(id), attach("b")]);
    let is_ok = |outcome: Outcome| outcome.into_error().is_none();
    assert_eq!(outcomes.into_iter().map(is_ok).collect::<Vec<_>>(), [true, true, false, false, true]);
    assert_eq!(held(&state), [2, 2, 2, 2]);
}

pub(super) fn start() -> (FakeKernel, State) {
    let kernel = FakeKernel::new().unwrap();
    (kernel.clone(), State::new(Box::new(kernel), policy()).unwrap())
}

pub(super) fn policy() -> Policy {
    Policy {
        default_pools: vec!["10.89.0.0/16".parse().unwrap()],
        unique_local: netloft_ipam::ula(7),
        rest: Duration::from_secs(130),
        respect_firewall: false,
    }
}

pub(super) fn attach_to(state: &mut State, spec: AttachSpec) -> Result<Attached, Error> {
    match state.carry_out(vec![Change::Attach(Box::new(spec), None)]).remove(0) {
        Outcome::Attached(outcome) => outcome,
        Outcome::Detached(_) => unreachable!("an attachment was asked for"),
    }
}

pub(super) fn detach(state: &mut State, id: EndpointId) -> Result<(), Error> {
    match state.carry_out(vec![Change::Detach(id)]).remove(0) {
        Outcome::Detached(outcome) => outcome,
        Outcome::Attached(_) => unreachable!("a detachment was asked for"),
    }
}

fn calls_of<T>(scenario: impl FnOnce(&mut State) -> T) -> u64 {
    let (kernel, mut state) = start();
    scenario(&mut state);
    kernel.calls()
}

fn faults(calls: u64) -> impl Iterator<Item = Fault> {
    (0..calls).flat_map(|call| [Fault::Before(call), Fault::After(call)])
}

pub(super) fn network(name: &str) -> NetworkSpec {
    NetworkSpec::new(name.parse().unwrap())
}

pub(super) fn dual_stack(name: &str) -> NetworkSpec {
    NetworkSpec { segments: vec![segment("10.1.0.0/24"), segment("fd00:1::/64")], ..network(name) }
}

pub(super) fn segment(subnet: &str) -> Segment {
    Segment::new(subnet.parse().unwrap()).unwrap()
}

pub(super) fn attach(network: &str, sandbox: &str) -> AttachSpec {
    AttachSpec::new(network.parse().unwrap(), sandbox.parse().unwrap())
}

/// How many addresses, MAC addresses, sandbox names and endpoints are held.
pub(super) fn held(state: &State) -> [usize; 4] {
    let entries = || state.networks.values();
    let pools = entries().flat_map(|entry| &entry.pools);
    [
        pools.map(|pool| pool.allocations().count()).sum(),
        entries().map(|entry| entry.macs.len()).sum(),
        state.sandboxes.len(),
        state.endpoints.len(),
    ]
}
