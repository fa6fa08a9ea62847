//! Every call of every operation, refused once.

use netloft_client::Error;

use crate::doom::{Calls, Doom, Made, Thread};
use crate::kills::profile;
use crate::operation::{Operation, Thing, Verb};
use crate::report::{Point, Row};
use crate::startup::{self, leave_half_done, take_over};
use crate::world::World;

/// What the kernel may answer to which call.
const REFUSALS: [(&str, &[&str]); 12] = [
    ("pwrite64", &["ENOSPC"]),
    ("fdatasync", &["EIO"]),
    ("ftruncate", &["ENOSPC"]),
    ("sendto", &["ENOBUFS", "EINTR"]),
    ("mount", &["EBUSY"]),
    ("umount2", &["EBUSY"]),
    ("openat", &["EMFILE"]),
    ("unlinkat", &["EBUSY"]),
    ("unshare", &["ENOSPC"]),
    ("setns", &["ENODEV"]),
    ("socket", &["EMFILE"]),
    ("mkdir", &["ENOSPC"]),
];

pub(crate) fn a_network_that_is_refused_something_once_is_not_created_or_wholly() {
    refuse("network create", Verb::Make, &Thing::network("green", true));
}

pub(crate) fn a_network_is_removed_though_something_was_refused_once() {
    refuse("network remove", Verb::Take, &Thing::network("green", true));
}

pub(crate) fn a_sandbox_that_is_refused_something_once_is_not_attached_or_wholly() {
    refuse("attach, published, limited", Verb::Make, &Thing::published());
}

pub(crate) fn a_sandbox_is_detached_though_something_was_refused_once() {
    refuse("detach, published, limited", Verb::Take, &Thing::published());
}

fn refuse(name: &'static str, verb: Verb, thing: &Thing) {
    let mut world = World::busy();
    let operation = Operation { name, verb, thing: thing.clone() };
    for (thread, calls) in profile(&mut world, &operation) {
        // What the reaper is refused it tries again after ten seconds.
        if thread != Thread::Reaper {
            refuse_everywhere(&mut world, &operation, thread, &calls);
        }
    }
    world.finish();
}

fn refuse_everywhere(world: &mut World, operation: &Operation, thread: Thread, calls: &[Made]) {
    let mut row = Row::new(format!("{}, refused", operation.name), thread);
    operation.prepare(world);
    world.refresh();
    for made in calls {
        let syscall = &made.syscall;
        let errors = REFUSALS.iter().find(|(refused, _)| refused == syscall).map_or(&[][..], |it| it.1);
        for errno in errors {
            let attempt = |nth, row: &mut Row| {
                refuse_once(world, operation, thread, &Doom::error(syscall, nth, errno), row)
            };
            row.enumerate_all(&format!("{syscall}={errno}"), made, attempt);
            // What is acknowledged is on disk, whatever the disk refused before.
            let before = world.listing();
            world.kill();
            world.start();
            world.check(&before);
        }
    }
    row.complete();
}

/// Does an operation with one call refused. Tells whether it came to that.
fn refuse_once(
    world: &mut World,
    operation: &Operation,
    thread: Thread,
    doom: &Doom,
    row: &mut Row,
) -> Option<Point> {
    operation.prepare(world);
    if thread == Thread::Network {
        // One that could not write does not try again for ten seconds: it would not come to its last calls.
        world.refresh();
    } else {
        assert!(world.outlives_its_tidying());
    }
    let before = world.listing();
    let concerns = operation.provoke(world, &before);
    let watched = world.watch(thread, std::slice::from_ref(doom));
    let outcome = operation.act(world, concerns.as_ref());
    // If it was not refused yet, it may be when it tidies up.
    assert!(watched.so_far().has_failed() || world.outlives_its_tidying(), "{doom}: the agent ended");
    let calls = watched.release();
    let was_refused = calls.has_failed();
    let now = world.listing();
    let wrong = operation.judge(world, &before, &now, outcome.is_ok());
    assert!(wrong.is_empty(), "{}, {doom}: {wrong:#?}", operation.name);
    let mut is_done = false;
    match outcome {
        Err(error) => {
            assert!(was_refused, "{}, {doom}: {error}", operation.name);
            check_text(&error, doom);
            if operation.verb == Verb::Make {
                assert_eq!(now, before, "{}, {doom}: it failed, and is there", operation.name);
            }
            // What could not be taken away is there until the next try.
            if operation.verb == Verb::Make {
                let differences = world.audit(&now);
                assert!(differences.is_empty(), "{}, {doom}: {error}: {differences:#?}", operation.name);
            }
            operation
                .act(world, concerns.as_ref())
                .unwrap_or_else(|error| panic!("{}, again after {doom}: {error}", operation.name));
        }
        Ok(()) => is_done = true,
    }
    row.silence = row.silence.max(world.check_traffic());
    let now = world.listing();
    let differences = world.audit(&now);
    assert!(differences.is_empty(), "{}, after {doom}: {differences:#?}", operation.name);
    assert_eq!(world.findings(), Vec::<String>::new(), "{}, after {doom}", operation.name);
    was_refused.then(|| refused(doom, &calls, is_done))
}

/// The call that was refused.
fn refused(doom: &Doom, calls: &Calls, is_done: bool) -> Point {
    let (syscall, nth) = calls.until_failure().last();
    Point { kind: format!("{syscall}{}", doom.fate.trim_start_matches("error")), nth, is_done }
}

/// An error says what could not be done, and what the kernel said.
fn check_text(error: &Error, doom: &Doom) {
    let text = chain(error);
    let words = [
        ("ENOSPC", "No space left"),
        ("EIO", "Input/output error"),
        ("ENOBUFS", "No buffer space"),
        ("EINTR", "Interrupted"),
        ("EBUSY", "busy"),
        ("EMFILE", "Too many open files"),
        ("ENODEV", "No such device"),
    ];
    let (_, words) = words.iter().find(|(errno, _)| doom.fate.ends_with(errno)).unwrap();
    assert!(text.contains(words), "{doom}: {text}");
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

pub(crate) fn a_takeover_that_is_refused_once_says_so_or_copes() {
    let mut world = World::busy();
    Operation { name: "", verb: Verb::Make, thing: Thing::published() }.act(&mut world, None).unwrap();
    let stays = world.listing();
    let mut row = Row::new("takeover, refused", Thread::Main);
    for made in startup::profile(&mut world).iter().filter(|made| made.syscall != "openat") {
        let errors = REFUSALS.iter().find(|(refused, _)| *refused == made.syscall);
        let Some(errno) = errors.map(|(_, errors)| errors[0]) else { continue };
        let attempt =
            |nth, row: &mut Row| refuse_takeover(&mut world, &Doom::error(&made.syscall, nth, errno), row);
        row.enumerate_all(&format!("{}={errno}", made.syscall), made, attempt);
        world.check(&stays);
    }
    row.complete();
    world.finish();
}

/// Starts an agent that is refused a call: it copes, or ends with an error; the next one takes over in any case.
fn refuse_takeover(world: &mut World, doom: &Doom, row: &mut Row) -> Option<Point> {
    leave_half_done(world);
    let start = take_over(world, std::slice::from_ref(doom));
    let was_refused = start.calls.has_failed();
    assert!(start.listens || start.finished.stderr.contains("netloftd: "), "{doom}: {:?}", start.finished);
    world.start();
    row.silence = row.silence.max(world.check_traffic());
    was_refused.then(|| refused(doom, &start.calls, start.listens))
}
