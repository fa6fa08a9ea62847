//! Sandboxes on several networks, resting addresses, published ports, forwarding and macvlan; over the fake kernel.

use netloft_types::{AttachSpec, DefaultRoute, DriverSpec, NetworkSpec};

use super::tests::{attach, attach_to, detach, held, network, segment, start};
use super::*;
use crate::testing::Fault;

#[test]
fn a_sandbox_is_dropped_with_its_last_endpoint_and_leaves_by_the_first_network() {
    let (kernel, mut state) = start();
    for name in ["blue", "green"] {
        state.create_network(&network(name)).unwrap();
    }
    let first = attach_to(&mut state, attach("blue", "api")).unwrap().endpoint;
    let second = attach_to(&mut state, attach("green", "api")).unwrap().endpoint;
    assert_eq!((first.interface.as_str(), second.interface.as_str()), ("eth0", "eth1"));
    let metric = |state: &State, id: EndpointId| state.endpoints[&id].record.metric;
    assert_eq!((metric(&state, first.id), metric(&state, second.id)), (None, Some(1124)));
    detach(&mut state, first.id).unwrap();
    assert!(kernel.has_sandbox("api"), "its second network still needs it");
    let third = AttachSpec { default_route: DefaultRoute::Never, ..attach("blue", "api") };
    let third = attach_to(&mut state, third).unwrap().endpoint;
    assert_eq!((third.interface.as_str(), third.gateways.len()), ("eth0", 0));
    detach(&mut state, second.id).unwrap();
    detach(&mut state, third.id).unwrap();
    assert!(!kernel.has_sandbox("api"));
}

#[test]
fn a_sandbox_gets_its_address_back_and_nobody_else_does_before_it_has_rested() {
    let (kernel, mut state) = start();
    let tiny = NetworkSpec { segments: vec![segment("10.1.0.0/29")], ..network("blue") };
    state.create_network(&tiny).unwrap();
    let address = |state: &mut State, name| {
        let endpoint = attach_to(state, attach("blue", name)).unwrap().endpoint;
        (endpoint.addresses[0].to_string(), endpoint.id)
    };
    let (first, id) = address(&mut state, "api");
    detach(&mut state, id).unwrap();
    for name in ["b", "c", "d", "e"] {
        assert_ne!(address(&mut state, name).0, first, "{name}");
    }
    let (again, id) = address(&mut state, "api");
    assert_eq!(again, first);
    detach(&mut state, id).unwrap();
    assert_eq!(kernel.forgotten(), [] as [IpAddr; 0]);
    assert_eq!(address(&mut state, "f").0, first, "no other is left");
    assert_eq!(kernel.forgotten(), ["10.1.0.2".parse::<IpAddr>().unwrap()]);
}

#[test]
fn ports_are_published_once_and_to_the_host_alone_where_its_firewall_denies() {
    let (kernel, mut state) = start();
    state.policy.respect_firewall = true;
    kernel.plant_listener("81".parse().unwrap());
    state.create_network(&network("blue")).unwrap();
    let publish = |sandbox: &str, port: &str| AttachSpec {
        publish: vec![port.parse().unwrap()],
        ..attach("blue", sandbox)
    };
    let endpoint = attach_to(&mut state, publish("api", "80:8080")).unwrap().endpoint;
    assert_eq!(endpoint.ports[0].to_string(), "80:8080/tcp");
    for (port, reason) in [("80:1", "80"), ("81:1", "81"), ("[fd00::1]:82:1", "family")] {
        let error = chain(&attach_to(&mut state, publish("web", port)).unwrap_err());
        assert!(error.contains(reason), "{error}");
        assert_eq!(held(&state), [1, 1, 1, 1]);
    }
    let facts = kernel.facts();
    assert_eq!(facts.iter().filter(|fact| matches!(fact, Fact::Publication(_))).count(), 1);
    detach(&mut state, endpoint.id).unwrap();
    kernel.plant_default_deny();
    let endpoint = attach_to(&mut state, publish("api", "80:8080")).unwrap().endpoint;
    assert_eq!(endpoint.ports[0].to_string(), "127.0.0.1:80:8080/tcp");
}

#[test]
fn the_host_forwards_while_a_network_leads_out_and_no_longer() {
    let (kernel, mut state) = start();
    let internal = NetworkSpec { internal: true, ..network("inside") };
    state.create_network(&internal).unwrap();
    assert_eq!(kernel.forwards().len(), 0);
    state.create_network(&network("blue")).unwrap();
    state.create_network(&network("green")).unwrap();
    assert_eq!(kernel.forwards(), [Family::V4].into());
    for name in ["blue", "green"] {
        assert_eq!(kernel.forwards().len(), 1);
        state.remove_network(&name.parse().unwrap()).unwrap();
    }
    assert_eq!(kernel.forwards().len(), 0);
}

#[test]
fn a_host_that_forwards_of_its_own_accord_goes_on() {
    let (mut kernel, mut state) = start();
    Kernel::forward(&mut kernel, Family::V4, true).unwrap();
    state.create_network(&network("blue")).unwrap();
    state.remove_network(&"blue".parse().unwrap()).unwrap();
    assert_eq!(kernel.forwards(), [Family::V4].into());
}

#[test]
fn a_macvlan_network_needs_a_subnet_and_cannot_publish() {
    let (kernel, mut state) = start();
    kernel.plant_link("eth7".parse().unwrap(), MacAddr::local(7));
    let driver = DriverSpec::Macvlan { parent: "eth7".parse().unwrap() };
    let bare = NetworkSpec { driver: driver.clone(), ..network("lan") };
    assert!(state.create_network(&bare).unwrap_err().to_string().contains("needs a subnet"));
    let lan = NetworkSpec { segments: vec![segment("192.168.7.0/24")], ..bare };
    state.create_network(&lan).unwrap();
    let publish = AttachSpec { publish: vec!["80".parse().unwrap()], ..attach("lan", "api") };
    assert!(attach_to(&mut state, publish).unwrap_err().is_invalid());
    let endpoint = attach_to(&mut state, attach("lan", "api")).unwrap().endpoint;
    assert_eq!(endpoint.host_link, None);
    detach(&mut state, endpoint.id).unwrap();
    assert!(!kernel.has_sandbox("api") && kernel.has_link("eth7"));
}

#[test]
fn what_is_asked_for_at_once_is_done_as_if_one_after_another() {
    let (kernel, mut state) = start();
    for name in ["blue", "green", "red"] {
        state.create_network(&network(name)).unwrap();
    }
    let join = |network, sandbox| Change::Attach(Box::new(attach(network, sandbox)), None);
    let attached = |outcome| match outcome {
        Outcome::Attached(attached) => attached.unwrap().endpoint.id,
        Outcome::Detached(outcome) => panic!("{outcome:?}"),
    };
    // A sandbox that is not there yet, on two networks.
    let both = state.carry_out(vec![join("blue", "web"), join("green", "web")]);
    let [blue, green] = <[_; 2]>::try_from(both).unwrap().map(attached);
    assert!(kernel.has_sandbox("web"));
    // It goes with its last endpoint, and comes again.
    let again = state.carry_out(vec![Change::Detach(blue), Change::Detach(green), join("red", "web")]);
    let last = attached(again.into_iter().next_back().unwrap());
    assert!(kernel.has_sandbox("web"));
    assert_eq!(state.endpoints().len(), 1);
    detach(&mut state, last).unwrap();
    assert!(!kernel.has_sandbox("web"), "it was left behind");
    // The first of two fails: the other makes what both need.
    kernel.fail(Fault::Before(kernel.calls()));
    let outcomes = state.carry_out(vec![join("blue", "web"), join("green", "web")]);
    let made: Vec<bool> = outcomes.iter().map(|it| matches!(it, Outcome::Attached(Ok(_)))).collect();
    assert_eq!((made, state.endpoints().len()), (vec![false, true], 1));
}
