//! Every operation, killed at every call.

use netloft_tests::tell;

use crate::doom::{Doom, Thread};
use crate::operation::{Operation, Thing, Verb};
use crate::report::{self, Row};
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
    for thread in [Thread::Network, Thread::Enterer, Thread::Reaper] {
        let row = kill_everywhere(world, operation, thread);
        tell(format_args!("{}, {thread}: {} kill points, {:?}", row.operation, row.points, row.kinds));
        let is_clean = row.leftovers + row.lost == 0;
        if row.points > 0 || !is_clean {
            report::add(row);
        }
        assert!(is_clean, "see above");
    }
}

fn kill_everywhere(world: &mut World, operation: &Operation, thread: Thread) -> Row {
    let mut row = Row { operation: operation.name.to_owned(), thread: thread.to_string(), ..Row::default() };
    for (kind, count) in profile(world, operation, thread) {
        let dies = |nth: &usize| kill(world, operation, thread, &[Doom::kill(&kind, *nth)], &mut row);
        let killed = (1..=count).take_while(dies).count();
        if killed > 0 {
            row.kinds.push((kind, killed));
        }
    }
    // What it makes ahead of need comes a moment earlier or later, so that there may be one more than were counted.
    for beyond in 1.. {
        let dooms =
            row.kinds.iter().map(|(kind, count)| Doom::kill(kind, count + beyond)).collect::<Vec<_>>();
        if dooms.is_empty() || !kill(world, operation, thread, &dooms, &mut row) {
            break;
        }
        assert!(beyond < 3, "there are more calls than were counted");
    }
    row
}

/// The calls that a thread makes in an operation.
fn profile(world: &mut World, operation: &Operation, thread: Thread) -> Vec<(String, usize)> {
    operation.prepare(world);
    world.refresh();
    let concerns = operation.provoke(world);
    let watched = world.watch(thread, &[]);
    operation.act(world, concerns.as_ref()).unwrap();
    if operation.verb == Verb::End {
        world.ended().success();
        world.start();
    } else {
        assert!(world.outlives_its_tidying(), "the agent ended by itself");
    }
    watched.release().kinds()
}

/// Does an operation with the agent to be killed in it, at whichever call comes first. Tells whether it came to that; then
/// everything was looked at.
fn kill(world: &mut World, operation: &Operation, thread: Thread, dooms: &[Doom], row: &mut Row) -> bool {
    operation.prepare(world);
    world.refresh();
    let before = world.listing();
    // What the one before left behind, if anything, would have shown itself to this agent.
    world.check(&before);
    let concerns = operation.provoke(world);
    let watched = world.watch(thread, dooms);
    let answered = operation.act(world, concerns.as_ref());
    let is_killed = if operation.verb == Verb::End {
        world.ended().code().is_none()
    } else {
        let is_killed = !world.outlives_its_tidying();
        if is_killed {
            world.ended();
        }
        is_killed
    };
    watched.release();
    if !is_killed {
        answered.unwrap_or_else(|error| panic!("{dooms:?}: {error}"));
        if operation.verb == Verb::End {
            world.start();
        }
        return false;
    }
    row.points += 1;
    // While nobody is there: what there is goes on.
    world.check_traffic();
    world.start();
    let answered = answered.is_ok() && operation.verb != Verb::End;
    let done = inspect(world, operation, &before, answered, &format!("{dooms:?} of {thread}"), row);
    row.done += usize::from(done);
    again(world, operation);
    true
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
    let concerns = operation.provoke(world);
    if operation.verb != Verb::End {
        operation.act(world, concerns.as_ref()).unwrap();
    }
}
