//! Every operation, killed at every call.

use std::fs;

use netloft_netns::Netns;

use crate::doom::{Doom, GROWTH, Made, Thread};
use crate::operation::{Operation, Thing, Verb};
use crate::report::{self, Point, Row};
use crate::world::{Listing, World};

pub(crate) fn a_network_is_created_wholly_or_not_at_all() {
    enumerate(World::busy(), Verb::Make, "network create", &Thing::network("green", true));
}

pub(crate) fn a_network_is_removed_wholly_or_not_at_all() {
    enumerate(World::busy(), Verb::Take, "network remove", &Thing::network("green", true));
}

pub(crate) fn the_first_network_is_created_wholly_or_not_at_all() {
    enumerate(first(), Verb::Make, "network create, the first", &Thing::network("green", false));
}

pub(crate) fn the_last_network_is_removed_wholly_or_not_at_all() {
    enumerate(first(), Verb::Take, "network remove, the last", &Thing::network("green", false));
}

pub(crate) fn a_sandbox_is_attached_wholly_or_not_at_all() {
    enumerate(World::busy(), Verb::Make, "attach", &Thing::sandbox("target"));
}

pub(crate) fn a_sandbox_is_attached_with_all_that_it_publishes_or_not_at_all() {
    enumerate(World::busy(), Verb::Make, "attach, published, limited", &Thing::published());
}

pub(crate) fn a_sandbox_is_attached_with_its_service_or_not_at_all() {
    let mut world = World::busy();
    let serving = Thing::serving("web");
    run(&mut world, &Operation { name: "attach, with a service", verb: Verb::Make, thing: serving.clone() });
    run(&mut world, &Operation { name: "start of its process", verb: Verb::Start, thing: serving });
    world.finish();
}

pub(crate) fn a_sandbox_is_detached_wholly_or_not_at_all() {
    enumerate(World::busy(), Verb::Take, "detach", &Thing::sandbox("target"));
}

pub(crate) fn a_sandbox_is_detached_with_all_that_it_publishes_or_not_at_all() {
    enumerate(World::busy(), Verb::Take, "detach, published, limited", &Thing::published());
}

pub(crate) fn a_namespace_of_somebody_else_is_attached_and_detached_wholly_or_not_at_all() {
    let mut world = World::busy();
    let home = Netns::create().unwrap();
    let links = || home.run(|| fs::read_to_string("/proc/thread-self/net/dev").unwrap()).unwrap();
    let empty = links().lines().count();
    let guest = Thing::guest("guest", &home);
    run(&mut world, &Operation { name: "attach, to another's", verb: Verb::Make, thing: guest.clone() });
    assert!(links().lines().count() > empty, "it was not attached there");
    let leave = Operation { name: "detach, from another's", verb: Verb::Take, thing: guest };
    run(&mut world, &leave);
    world.finish();
    assert_eq!(links().lines().count(), empty, "{}", links());
}

pub(crate) fn what_nobody_knows_is_taken_away_in_the_end() {
    enumerate(World::busy(), Verb::Sweep, "garbage collection", &Thing::sandbox("none"));
}

pub(crate) fn what_an_agent_leaves_is_taken_over_wherever_it_stopped() {
    enumerate(World::busy(), Verb::End, "end by SIGTERM", &Thing::sandbox("none"));
}

/// A host on which only what is enumerated is ever made; its rules are learned first.
fn first() -> World {
    let mut world = World::empty();
    let green = Operation { name: "", verb: Verb::Make, thing: Thing::network("green", false) };
    green.act(&mut world, None).unwrap();
    world.ground.learn_rules();
    green.prepare(&mut world);
    world
}

fn enumerate(mut world: World, verb: Verb, name: &'static str, thing: &Thing) {
    run(&mut world, &Operation { name, verb, thing: thing.clone() });
    world.finish();
}

fn run(world: &mut World, operation: &Operation) {
    for (thread, calls) in profile(world, operation) {
        let mut row = Row::new(operation.name, thread);
        for made in &calls {
            row.enumerate(&made.syscall, made, |nth, row| {
                let mut dooms = vec![Doom::kill(&made.syscall, nth)];
                // The file of the journal grows only now and then; the agent is to be killed in that once, too.
                if thread == Thread::Network && made.syscall != GROWTH && !row.has(GROWTH, 1) {
                    dooms.push(Doom::kill(GROWTH, 1));
                }
                kill(world, operation, thread, &dooms, row)
            });
        }
        row.go_beyond(|dooms, row| kill(world, operation, thread, dooms, row));
        row.complete();
    }
}

/// The calls that each thread makes in an operation, if it makes any.
pub(crate) fn profile(world: &mut World, operation: &Operation) -> Vec<(Thread, Vec<Made>)> {
    let (first, second) = (observe(world, operation), observe(world, operation));
    let both = Thread::WORKERS.into_iter().zip(first.into_iter().zip(second));
    let all: Vec<_> = both.map(|(thread, (first, second))| (thread, Made::merge(&first, second))).collect();
    let all: Vec<_> = all.into_iter().filter(|(_, made)| !made.is_empty()).collect();
    for thread in operation.threads() {
        let is_seen = all.iter().any(|(seen, _)| seen == thread);
        assert!(is_seen, "{}: {thread} was not seen to do anything", operation.name);
    }
    all
}

/// Does an operation as before every point; the calls that each thread makes.
fn observe(world: &mut World, operation: &Operation) -> [Vec<Made>; 3] {
    operation.prepare(world);
    world.kill();
    world.start();
    again(world, operation);
    operation.prepare(world);
    world.refresh();
    let concerns = operation.provoke(world, &world.listing());
    let watched = Thread::WORKERS.map(|thread| world.watch(thread, &[]));
    operation.act(world, concerns.as_ref()).unwrap();
    if operation.verb == Verb::End {
        world.ended().success();
        world.start();
    } else {
        assert!(world.outlives_its_tidying(), "the agent ended by itself");
    }
    watched.map(|watched| watched.release().made())
}

/// Does an operation with the agent to be killed in it, at whichever call comes first. Tells whether it came to that; then
/// everything was looked at.
fn kill(
    world: &mut World,
    operation: &Operation,
    thread: Thread,
    dooms: &[Doom],
    row: &mut Row,
) -> Option<Point> {
    operation.prepare(world);
    world.refresh();
    let before = world.listing();
    // What the one before left behind, if anything, would have shown itself to this agent.
    let differences = world.audit(&before);
    assert!(differences.is_empty(), "before {dooms:?}: {differences:#?}");
    let concerns = operation.provoke(world, &before);
    let watched = world.watch(thread, dooms);
    let answered = operation.act(world, concerns.as_ref());
    let is_killed = if operation.verb == Verb::End {
        world.ended().code().is_none()
    } else {
        let is_killed = !world.outlives_its_tidying();
        if is_killed {
            let ended = world.ended();
            assert_eq!(ended.code(), None, "{dooms:?}: {ended:?}");
        }
        is_killed
    };
    let calls = watched.release();
    if !is_killed {
        answered.unwrap_or_else(|error| panic!("{dooms:?}: {error}"));
        if operation.verb == Verb::End {
            world.start();
        }
        return None;
    }
    // While nobody is there: what there is goes on.
    world.check_traffic();
    world.start();
    let answered = answered.is_ok() && operation.verb != Verb::End;
    let is_done = inspect(world, operation, &before, answered, &format!("{dooms:?} of {thread}"), row);
    again(world, operation);
    let (kind, nth) = calls.last();
    Some(Point { kind, nth, is_done })
}

/// Looks at everything after a restart. Tells whether the operation was done.
fn inspect(
    world: &World,
    operation: &Operation,
    before: &Listing,
    answered: bool,
    when: &str,
    row: &mut Row,
) -> bool {
    let now = world.listing();
    let wrong = operation.judge(world, before, &now, answered);
    let differences = world.audit(&now);
    let findings = world.findings();
    row.silence = row.silence.max(world.check_traffic());
    row.lost += wrong.len() + differences.missing.len();
    row.leftovers += differences.leftovers.len() + findings.len();
    if row.lost + row.leftovers > 0 {
        report::add(row.clone());
        panic!("{}, {when}: {wrong:#?} {differences:#?} {findings:#?}", operation.name);
    }
    now != *before
}

/// It can be done again.
fn again(world: &mut World, operation: &Operation) {
    operation.prepare(world);
    let concerns = operation.provoke(world, &world.listing());
    if operation.verb != Verb::End {
        operation.act(world, concerns.as_ref()).unwrap();
    }
}
