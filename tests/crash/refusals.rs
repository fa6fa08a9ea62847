//! Every call of every operation, refused once.

use netloft_client::Error;
use netloft_tests::tell;

use crate::doom::{Doom, Thread};
use crate::operation::{Operation, Thing, Verb};
use crate::report::{self, Row};
use crate::startup::{leave_half_done, take_over};
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

pub(crate) fn what_the_kernel_or_the_disk_refuses_once_is_not_done_or_done_wholly() {
    let mut world = World::busy();
    let (green, published) = (Thing::network("green", true), Thing::published());
    for (name, verb, thing) in [
        ("network create", Verb::Make, &green),
        ("network remove", Verb::Take, &green),
        ("attach, published, limited", Verb::Make, &published),
        ("detach, published, limited", Verb::Take, &published),
    ] {
        let operation = Operation { name, verb, thing: thing.clone() };
        for thread in [Thread::Network, Thread::Enterer] {
            refuse_everywhere(&mut world, &operation, thread);
        }
    }
    world.finish();
}

fn refuse_everywhere(world: &mut World, operation: &Operation, thread: Thread) {
    let mut row = Row {
        operation: format!("{}, refused", operation.name),
        thread: thread.to_string(),
        ..Row::default()
    };
    operation.prepare(world);
    world.refresh();
    for (syscall, errors) in REFUSALS {
        for errno in errors {
            let mut nth = 1;
            while refuse(world, operation, thread, &Doom::error(syscall, nth, errno), &mut row) {
                nth += 1;
            }
            if nth > 1 {
                row.kinds.push((format!("{syscall}={errno}"), nth - 1));
                // What is acknowledged is on disk, whatever the disk refused before.
                let before = world.listing();
                world.kill();
                world.start();
                world.check(&before);
            }
        }
    }
    if row.points > 0 {
        tell(format_args!("{}, {thread}: {} refusals", row.operation, row.points));
        report::add(row);
    }
}

/// Does an operation with one call refused. Tells whether it came to that.
fn refuse(world: &mut World, operation: &Operation, thread: Thread, doom: &Doom, row: &mut Row) -> bool {
    operation.prepare(world);
    assert!(world.outlives_its_tidying());
    let before = world.listing();
    let concerns = operation.provoke(world);
    let watched = world.watch(thread, std::slice::from_ref(doom));
    let outcome = operation.act(world, concerns.as_ref());
    // If it was not refused yet, it may be when it tidies up.
    assert!(watched.so_far().has_failed() || world.outlives_its_tidying(), "{doom}: the agent ended");
    let was_refused = watched.release().has_failed();
    let now = world.listing();
    let wrong = operation.judge(world, &before, &now, outcome.is_ok());
    assert!(wrong.is_empty(), "{}, {doom}: {wrong:#?}", operation.name);
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
        Ok(()) => row.done += usize::from(was_refused),
    }
    row.points += usize::from(was_refused);
    row.silence = row.silence.max(world.check_traffic());
    let now = world.listing();
    let differences = world.audit(&now);
    assert!(differences.is_empty(), "{}, after {doom}: {differences:#?}", operation.name);
    assert_eq!(world.findings(), Vec::<String>::new(), "{}, after {doom}", operation.name);
    was_refused
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
    let mut row =
        Row { operation: "takeover, refused".into(), thread: Thread::Main.to_string(), ..Row::default() };
    for (syscall, errors) in REFUSALS.iter().filter(|(syscall, _)| *syscall != "openat") {
        let mut nth = 1;
        while refuse_takeover(&mut world, &Doom::error(syscall, nth, errors[0]), &mut row) {
            nth += 1;
        }
        if nth > 1 {
            row.kinds.push((format!("{syscall}={}", errors[0]), nth - 1));
        }
        world.check(&stays);
    }
    tell(format_args!("{} refusals", row.points));
    report::add(row);
    world.finish();
}

/// Starts an agent that is refused a call: it copes, or ends with an error; the next one takes over in any case.
fn refuse_takeover(world: &mut World, doom: &Doom, row: &mut Row) -> bool {
    leave_half_done(world);
    let start = take_over(world, std::slice::from_ref(doom));
    let was_refused = start.calls.has_failed();
    assert!(start.listens || start.finished.stderr.contains("netloftd: "), "{doom}: {:?}", start.finished);
    world.start();
    row.points += usize::from(was_refused);
    row.done += usize::from(was_refused && start.listens);
    row.silence = row.silence.max(world.check_traffic());
    was_refused
}
