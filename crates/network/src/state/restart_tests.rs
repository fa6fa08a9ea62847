//! Death at every call, and what the next process makes of it; over the fake kernel and a real journal.

use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use netloft_types::{AttachSpec, DefaultRoute, NetworkSpec, ReadyCount};

use super::ready_tests::fill;
use super::tests::{attach, attach_to, detach, dual_stack, held, network, policy};
use super::*;
use crate::journal::Journal;
use crate::testing::{FakeKernel, Fault};

#[test]
fn whatever_call_the_process_dies_at_the_next_one_has_what_was_acknowledged_and_nothing_else() {
    let calls = {
        let (directory, kernel) = fresh();
        drop(live(&kernel, directory.path(), &mut Told::default()));
        kernel.calls()
    };
    assert!(
        calls >= 50,
        "{calls} calls are not the whole life of two networks, four endpoints and two ready ones"
    );
    for call in 0..calls {
        // The kernel takes its time with what only the dead process held: the next one may still find it.
        for (fault, is_buried) in
            [(Fault::DieBefore(call), true), (Fault::DieAfter(call), true), (Fault::DieAfter(call), false)]
        {
            let (directory, kernel) = fresh();
            let mut told = Told::default();
            kernel.fail(fault);
            let died = panic::catch_unwind(AssertUnwindSafe(|| {
                drop(live(&kernel, directory.path(), &mut told));
            }));
            assert!(died.is_err(), "{fault:?} was not reached");
            if is_buried {
                kernel.bury_process();
            }
            check(&kernel, directory.path(), &told, &format!("{fault:?}"));
        }
    }
}

#[test]
fn whatever_call_taking_over_dies_at_the_next_one_takes_over() {
    let (directory, kernel) = fresh();
    let mut told = Told::default();
    let before_the_end = |state: &mut State| {
        let spec = publishing("late");
        attach_to(state, spec).unwrap();
    };
    // Dies in the middle of an attachment, so that there is something to clear up.
    let mut state = live(&kernel, directory.path(), &mut told);
    kernel.fail(Fault::DieAfter(kernel.calls() + 2));
    assert!(panic::catch_unwind(AssertUnwindSafe(|| before_the_end(&mut state))).is_err());
    drop(state);
    let mut deaths = 0;
    loop {
        kernel.fail(Fault::DieAfter(kernel.calls() + deaths));
        let opened = panic::catch_unwind(AssertUnwindSafe(|| open(&kernel, directory.path())));
        if opened.is_ok() {
            break;
        }
        deaths += 1;
    }
    kernel.mend();
    assert!(deaths > 10, "it died only {deaths} times");
    check(&kernel, directory.path(), &told, "after many deaths");
}

#[test]
fn after_the_machine_was_started_again_the_networks_are_there_and_the_endpoints_are_not() {
    let (directory, kernel) = fresh();
    let mut told = Told::default();
    let state = live(&kernel, directory.path(), &mut told);
    let networks = state.networks();
    drop(state);
    kernel.reboot();
    let mut state = open(&kernel, directory.path());
    assert_eq!(state.networks(), networks);
    assert_eq!(held(&state), [0, 0, 0, 0]);
    assert!(kernel.has_link("nl-blue") && kernel.forwards().contains(&Family::V4));
    let endpoint = attach_to(&mut state, attach("blue", "another")).unwrap().endpoint;
    for gone in &told.endpoints {
        assert_ne!(endpoint.addresses, gone.endpoint.addresses, "it has not rested");
    }
}

#[test]
fn an_endpoint_that_died_meanwhile_is_forgotten_and_its_neighbour_is_not() {
    let (directory, kernel) = fresh();
    let mut told = Told::default();
    drop(live(&kernel, directory.path(), &mut told));
    let [dead, alive] = &told.endpoints[..] else { panic!("two endpoints live at the end") };
    kernel.delete_link(dead.endpoint.host_link.as_ref().unwrap().as_str());
    let mut state = open(&kernel, directory.path());
    assert_eq!(ids(&state), [alive.endpoint.id]);
    assert!(!kernel.has_sandbox(dead.endpoint.sandbox.as_str()));
    assert_eq!(state.examine().unwrap(), []);
}

#[test]
fn what_says_it_is_ours_and_nobody_knows_is_found_and_taken_away() {
    let (directory, kernel) = fresh();
    let mut told = Told::default();
    drop(live(&kernel, directory.path(), &mut told));
    std::fs::remove_file(directory.path().join("network.redb")).unwrap();
    let (_, mut state) = {
        let other = tempfile::tempdir().unwrap();
        let state = State::new(Box::new(kernel.clone()), policy()).unwrap();
        (other, state)
    };
    let strays = state.collect_garbage(true).unwrap();
    assert!(strays.len() >= 6, "two bridges, two links, two sandboxes: {strays:?}");
    assert!(kernel.has_link("nl-blue"), "a dry run changed something");
    assert_eq!(state.collect_garbage(false).unwrap(), strays);
    assert_eq!(state.strays().unwrap(), []);
    assert!(!kernel.has_link("nl-blue") && kernel.has_link("eth7"));
}

#[test]
fn examining_finds_what_somebody_else_deleted_and_planted() {
    let (directory, kernel) = fresh();
    let mut told = Told::default();
    let mut state = live(&kernel, directory.path(), &mut told);
    assert_eq!(state.examine().unwrap(), []);
    kernel.delete_link("nl-green");
    kernel.plant_route("10.1.0.128/25".parse().unwrap());
    let problems: Vec<String> = state.examine().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("create bridge nl-green") && problems[1].contains("overlaps 10.1.0.128/25"));
}

#[test]
fn a_full_disk_refuses_attachments_and_lets_detach() {
    let (directory, kernel) = fresh();
    let mut told = Told::default();
    let mut state = live(&kernel, directory.path(), &mut told);
    let id = told.endpoints[0].endpoint.id;
    let before = held(&state);
    state.journal.as_mut().unwrap().fail_from_now_on(true);
    let late = AttachSpec { default_route: DefaultRoute::Never, ..publishing("late") };
    let error = attach_to(&mut state, late).unwrap_err();
    assert!(chain(&error).contains("journal"), "{}", chain(&error));
    assert_eq!(held(&state), before);
    assert!(!kernel.has_sandbox("late"));
    detach(&mut state, id).unwrap();
    state.journal.as_mut().unwrap().fail_from_now_on(false);
    attach_to(&mut state, publishing("late")).unwrap();
    drop(state);
    assert!(!ids(&open(&kernel, directory.path())).contains(&id));
}

#[test]
fn notes_come_back_after_a_restart() {
    let (directory, kernel) = fresh();
    let mut told = Told::default();
    let mut state = live(&kernel, directory.path(), &mut told);
    let id = told.endpoints[0].endpoint.id;
    state.annotate(id, "a note".to_owned()).unwrap();
    drop(state);
    let state = open(&kernel, directory.path());
    let noted = state.endpoints().into_iter().find(|it| it.endpoint.id == id).unwrap();
    assert_eq!(noted.note.as_deref(), Some("a note"));
}

/// What callers were told.
#[derive(Default)]
struct Told {
    networks: Vec<String>,
    /// A network that is being removed may be there or not.
    leaving_network: Option<String>,
    endpoints: Vec<Attached>,
    leaving: Option<EndpointId>,
}

/// The life of a host: two networks and three endpoints are made, one endpoint is detached, one network removed. The first
/// endpoint is made on the spot, the others were ready, and more are when it ends.
fn live(kernel: &FakeKernel, directory: &Path, told: &mut Told) -> State {
    let mut state = open(kernel, directory);
    let ready = ReadyCount::try_from(2).unwrap();
    for spec in [
        NetworkSpec { ready, ..dual_stack("blue") },
        network("green"),
        NetworkSpec { internal: true, ..network("gone") },
    ] {
        let network = state.create_network(&spec).unwrap();
        told.networks.push(network.name.to_string());
    }
    for name in ["api", "web", "gone"] {
        told.endpoints.push(attach_to(&mut state, publishing(name)).unwrap());
        fill(&mut state);
    }
    let gone = told.endpoints.pop().unwrap();
    told.leaving = Some(gone.endpoint.id);
    detach(&mut state, gone.endpoint.id).unwrap();
    told.leaving_network = told.networks.pop();
    state.remove_network(&"gone".parse().unwrap()).unwrap();
    state
}

/// Opens the host anew and compares it with what callers were told.
fn check(kernel: &FakeKernel, directory: &Path, told: &Told, when: &str) {
    let mut state = open(kernel, directory);
    for acknowledged in &told.endpoints {
        let found = state.endpoints().into_iter().find(|it| it.endpoint.id == acknowledged.endpoint.id);
        assert_eq!(found.as_ref(), Some(acknowledged), "{when}: an acknowledged endpoint is lost or changed");
    }
    let known: Vec<EndpointId> = told.endpoints.iter().map(|it| it.endpoint.id).chain(told.leaving).collect();
    // One that was made and whose caller died before it was told is as good as told: it was answered for.
    let unknown = ids(&state).into_iter().filter(|id| !known.contains(id)).count();
    assert_eq!(unknown, 0, "{when}: an endpoint that nobody was told of");
    let names: Vec<String> = state.networks().iter().map(|it| it.name.to_string()).collect();
    for acknowledged in &told.networks {
        assert!(names.contains(acknowledged), "{when}: network {acknowledged} is lost");
    }
    assert_eq!(state.examine().unwrap(), [], "{when}");
    state.close().unwrap();
    state.switch_off_if_unused();
    kernel.bury_process();
    kernel.delete_link("eth7");
    assert!(kernel.is_empty(), "{when}: {kernel:?}");
}

fn fresh() -> (tempfile::TempDir, FakeKernel) {
    let kernel = FakeKernel::new().unwrap();
    kernel.plant_link("eth7".parse().unwrap(), MacAddr::local(7));
    (tempfile::tempdir().unwrap(), kernel)
}

fn open(kernel: &FakeKernel, directory: &Path) -> State {
    let mut state = State::new(Box::new(kernel.clone()), policy()).unwrap();
    let (journal, contents) = Journal::open(directory).unwrap();
    state.take_over(journal, contents).unwrap();
    state
}

fn publishing(sandbox: &str) -> AttachSpec {
    AttachSpec { publish: vec!["80".parse().unwrap()], ..attach("blue", sandbox) }
}

fn ids(state: &State) -> Vec<EndpointId> {
    state.endpoints().iter().map(|it| it.endpoint.id).collect()
}
