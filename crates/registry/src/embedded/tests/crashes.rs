//! Every point at which a process can die or a disk can fail, and everything that may be left then.
//!
//! A life is a process: it opens the store, carries out steps, and ends. It ends at each call of the disk in turn, in
//! each way there is; and after it the disk has lost what a disk may lose. The next life must find all that was
//! promised, of what was not promised all or nothing, in order, and must promise the same to the one after it.

use std::time::Duration;

use netloft_types::{Health, Patch};
use proptest::prelude::*;

use super::pretended::{Fault, Pretended, Sectors, Survival};
use super::world::{
    FAULTS, FEW_SURVIVALS, Life, START, Step, check, contents, inherited, live, open, open_session, register,
    session, survivals,
};
use crate::state::Contents;
use crate::{Command, Error, Limits, State};

/// A bit of everything, with an image or two in the middle.
pub(super) fn first_life() -> Vec<Step> {
    let id = |id: &str| id.parse().unwrap();
    let critical = Patch { health: Some(Health::Critical), ..Patch::default() };
    let steps = [
        (0, vec![open_session(1, Some(60)), open_session(2, None), open_session(3, Some(2))]),
        (0, vec![register(1, "a", "api"), register(2, "b", "api"), register(3, "c", "web")]),
        (1, vec![Command::Update { session: session(1), id: id("a"), patch: critical }]),
        (1, vec![register(9, "x", "api"), register(1, "d", "web"), register(1, "d", "web")]),
        (1, vec![Command::Deregister { session: session(1), id: id("d") }]),
        // The third session has ended.
        (5, vec![]),
        (5, vec![Command::CloseSession { session: session(2) }, open_session(4, Some(60))]),
        (5, vec![register(4, "e", "api"), Command::RenewSession { session: session(4) }]),
        (6, vec![register(1, "a", "web"), open_session(5, None), register(5, "f", "web")]),
        (6, vec![register(4, "g", "api")]),
    ];
    let step = |(seconds, commands)| Step { at: Duration::from_secs(seconds), commands };
    steps.into_iter().map(step).collect()
}

/// What a client does after a restart: it says the same again, and something new.
fn second_life() -> Vec<Step> {
    let at = Duration::from_secs(1);
    vec![
        Step {
            at,
            commands: vec![open_session(1, Some(60)), register(1, "a", "web"), register(1, "h", "api")],
        },
        Step { at, commands: vec![Command::RenewSession { session: session(1) }] },
        Step { at, commands: vec![Command::CloseSession { session: session(4) }] },
    ]
}

fn nothing_yet() -> Vec<Contents> {
    vec![State::new(START, Limits::default()).contents()]
}

/// How much was tried, so that a test can tell that it tested something.
#[derive(Debug, Default)]
struct Tried {
    ends: usize,
    /// Not all that was under way survived.
    lost: usize,
    /// Something survived that was not promised.
    survived: usize,
    images: usize,
}

/// Has a life end at a call, and checks everything that may be left then.
fn end_at(call: usize, fault: Fault, image_delay: usize, tried: &mut Tried) -> (Pretended, Life) {
    let disk = Pretended::default();
    disk.plan([(call, fault)]);
    let life = live(&disk, &first_life(), image_delay);
    let legacy = life.legacy(&nothing_yet());
    for survival in survivals(&disk) {
        check(&disk.after(survival), &legacy, &life.published);
        tried.ends += 1;
    }
    tried.images += life.images;
    let found = |survival| contents(&open(&disk.after(survival)).unwrap());
    let everything = life.held.last().map(inherited);
    let promised = life.held.get(life.promised).map(inherited);
    tried.lost += usize::from(Some(found(FEW_SURVIVALS[1])) != everything);
    tried.survived += usize::from(promised.is_some() && Some(found(FEW_SURVIVALS[2])) != promised);
    (disk, life)
}

fn calls_of_first_life(image_delay: usize) -> usize {
    let disk = Pretended::default();
    let life = live(&disk, &first_life(), image_delay);
    assert!(life.images >= 2, "{life:#?}");
    assert_eq!(life.promised, first_life().len());
    disk.calls()
}

#[test]
fn whatever_call_a_process_ends_at_the_next_one_finds_what_was_promised() {
    let mut tried = Tried::default();
    for image_delay in 0..3 {
        for call in 1..=calls_of_first_life(image_delay) {
            for fault in FAULTS {
                end_at(call, fault, image_delay, &mut tried);
            }
        }
    }
    assert!(tried.ends > 5_000 && tried.lost > 10 && tried.survived > 10 && tried.images > 100, "{tried:?}");
}

#[test]
fn so_does_the_one_after_it_whatever_call_that_one_ends_at() {
    let mut ends = 0;
    for call in 1..=calls_of_first_life(1) {
        let (disk, first) = end_at(call, Fault::Die, 1, &mut Tried::default());
        let legacy = first.legacy(&nothing_yet());
        for survival in FEW_SURVIVALS {
            let disk = disk.after(survival);
            let whole = disk.after(Survival::Killed);
            whole.plan([]);
            live(&whole, &second_life(), 0);
            for call in 1..=whole.calls() {
                // To be out of room is to fail, for a life that ends soon after.
                for fault in &FAULTS[..3] {
                    let disk = disk.after(Survival::Killed);
                    disk.plan([(call, *fault)]);
                    let second = live(&disk, &second_life(), 0);
                    let legacy = second.legacy(&legacy);
                    let published = [&first.published[..], &second.published].concat();
                    for survival in FEW_SURVIVALS {
                        check(&disk.after(survival), &legacy, &published);
                        ends += 1;
                    }
                }
            }
        }
    }
    assert!(ends > 10_000, "{ends}");
}

#[test]
fn a_failed_disk_refuses_changes_and_serves_what_it_had() {
    let mut refused = 0;
    for call in 1..=calls_of_first_life(0) {
        let disk = Pretended::default();
        disk.plan([(call, Fault::Fail(std::io::ErrorKind::Other))]);
        let life = live(&disk, &first_life(), 0);
        let first_refusal =
            life.answers.iter().position(|answer| answer.as_ref().is_err_and(Error::is_unavailable));
        let Some(first_refusal) = first_refusal else { continue };
        refused += 1;
        for answer in &life.answers[first_refusal..] {
            let error = answer.as_ref().unwrap_err();
            assert!(error.is_unavailable(), "after a failure: {error}");
        }
        // What readers see is exactly what was promised.
        let seen = life.published.last().unwrap();
        let promised = &life.held[life.promised];
        let instances: Vec<_> = promised.instances.iter().map(|(_, one)| one.clone()).collect();
        assert_eq!(seen, &(promised.revision, instances));
    }
    assert!(refused > 10, "{refused}");
}

#[test]
fn sessions_without_a_time_to_live_end_with_the_process_however_many_they_are() {
    let disk = Pretended::default();
    let at = Duration::ZERO;
    let steps: Vec<_> = (1..=100)
        .map(|number| {
            let kept = open_session(1_000 + number, Some(60));
            let commands =
                vec![open_session(number, None), register(number, &format!("i{number}"), "api"), kept];
            Step { at, commands }
        })
        .collect();
    let life = live(&disk, &steps, 0);
    let left = inherited(life.held.last().unwrap());
    assert_eq!((left.sessions.len(), left.instances.len()), (100, 0));
    check(&disk.after(Survival::Killed), &[left], &life.published);
}

fn commands() -> impl Strategy<Value = Command> {
    let owner = || 0..4_u128;
    let id = || prop::sample::select(vec!["a", "b", "c", "d", "e"]);
    let ttl = prop::sample::select(vec![None, Some(2), Some(60)]);
    let service = prop::sample::select(vec!["api", "web"]);
    prop_oneof![
        2 => (owner(), ttl).prop_map(|(owner, ttl)| open_session(owner, ttl)),
        1 => owner().prop_map(|owner| Command::CloseSession { session: session(owner) }),
        1 => owner().prop_map(|owner| Command::RenewSession { session: session(owner) }),
        6 => (owner(), id(), service).prop_map(|(owner, id, service)| register(owner, id, service)),
        2 => (owner(), id()).prop_map(|(owner, id)| {
            Command::Deregister { session: session(owner), id: id.parse().unwrap() }
        }),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..900_u64, prop::collection::vec(commands(), 0..4));
    prop::collection::vec(step, 1..40).prop_map(|steps| {
        let mut at = Duration::ZERO;
        let step = |(pause_ms, commands)| {
            at += Duration::from_millis(pause_ms);
            Step { at, commands }
        };
        steps.into_iter().map(step).collect()
    })
}

fn a_survival() -> impl Strategy<Value = Survival> {
    let cut = (any::<u32>(), any::<u64>());
    let cut = cut.prop_map(|(names, seed)| Survival::PowerCut { names, sectors: Sectors::Random(seed) });
    prop_oneof![1 => Just(Survival::Killed), 3 => cut]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_in_several_lives_nothing_promised_is_lost(
        lives in prop::collection::vec(
            (steps(), 0..120_usize, prop::sample::select(FAULTS.to_vec()), 0..4_usize, a_survival()),
            1..5,
        ),
    ) {
        let mut disk = Pretended::default();
        let mut legacy = nothing_yet();
        let mut published = Vec::new();
        for (steps, call, fault, image_delay, survival) in lives {
            disk.plan([(call, fault)]);
            let life = live(&disk, &steps, image_delay);
            legacy = life.legacy(&legacy);
            published.extend(life.published);
            disk = disk.after(survival);
            check(&disk.after(Survival::Killed), &legacy, &published);
        }
    }
}
