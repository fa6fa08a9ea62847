//! An agent that is killed while it takes over what another one left half done.

use std::fs;
use std::time::Duration;

use netloft_tests::running::{Finished, Running, eventually, is_running, signal};
use netloft_types::{AttachSpec, EndpointId, Lifetime};
use nix::sys::signal::Signal;
use tokio::time::sleep;

use crate::doom::{Calls, Doom, Made, Thread, doomed};
use crate::operation::{Operation, Thing, Verb};
use crate::report::{Point, Row};
use crate::world::{Listing, World};

/// What an agent says when it has taken over.
const LISTENS: &str = "listening on";

/// What is detached when the agent is killed, and what is attached.
const LEAVING: [&str; 3] = ["leaving-1", "leaving-2", "leaving-3"];
const COMING: &str = "coming";

pub(crate) fn a_killed_takeover_is_taken_over() {
    let mut world = World::busy();
    Operation { name: "", verb: Verb::Make, thing: Thing::published() }.act(&mut world, None).unwrap();
    let stays = world.listing();
    let mut row = Row::new("takeover of what was half done", Thread::Main);
    for made in &profile(&mut world) {
        row.enumerate(&made.syscall, made, |nth, row| {
            kill(&mut world, &stays, &[Doom::kill(&made.syscall, nth)], row)
        });
    }
    row.go_beyond(|dooms, row| kill(&mut world, &stays, dooms, row));
    row.complete();
    world.finish();
}

/// The calls that an agent makes that takes over.
pub(crate) fn profile(world: &mut World) -> Vec<Made> {
    let mut observe = || {
        leave_half_done(world);
        let start = take_over(world, &[]);
        assert!(start.listens, "{:?}", start.finished);
        world.start();
        start.calls.until(LISTENS).made()
    };
    Made::merge(&observe(), observe())
}

/// Kills an agent that takes over, if it makes the call. Tells whether it came to that; then everything was looked at.
fn kill(world: &mut World, stays: &Listing, dooms: &[Doom], row: &mut Row) -> Option<Point> {
    leave_half_done(world);
    let start = take_over(world, dooms);
    // `strace` ends by the signal that ended the agent.
    assert_eq!(start.finished.code(), None, "{dooms:?}: {:?}", start.finished);
    world.check_traffic();
    world.start();
    row.silence = row.silence.max(world.check_traffic());
    assert_eq!(world.listing(), *stays, "{dooms:?}");
    let differences = world.audit(stays);
    assert!(differences.is_empty(), "{dooms:?}: {differences:#?}");
    assert_eq!(world.findings(), Vec::<String>::new(), "{dooms:?}");
    let (kind, nth) = start.calls.last();
    (!start.listens).then_some(Point { kind, nth, is_done: false })
}

/// How an agent started under `strace`.
pub(crate) struct Start {
    /// Whether it came to listen. Then it was killed: what a signal to end does is another matter.
    pub(crate) listens: bool,
    pub(crate) finished: Finished,
    pub(crate) calls: Calls,
}

/// Starts an agent under `strace`.
pub(crate) fn take_over(world: &World, dooms: &[Doom]) -> Start {
    let log = world.log(Thread::Main);
    let process = Running::spawn(doomed(&world.command(), dooms, &log));
    let listens = eventually("it listens, or ends", || {
        let listens = process.stdout().contains(LISTENS);
        (listens || !is_running(process.pid())).then_some(listens)
    });
    if listens {
        // It may have made the call since, and died of it.
        let child = eventually("it is the child of strace", || match child_of(process.pid()) {
            None if is_running(process.pid()) => None,
            child => Some(child),
        });
        if let Some(child) = child {
            signal(child, Signal::SIGKILL);
        }
    }
    Start { listens, finished: process.wait(), calls: Calls::read(&log) }
}

/// The only child of a process, if the kernel comes to tell (`proc_pid_task_children(5)`: not always at once).
fn child_of(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.trim().parse().ok()
}

/// Kills the agent while it has one sandbox cut off that it detaches, one untouched that it is going to detach, and one
/// that it attaches, of which there is no more than a name.
pub(crate) fn leave_half_done(world: &mut World) {
    for name in LEAVING {
        Operation { name: "", verb: Verb::Make, thing: Thing::sandbox(name) }.act(world, None).unwrap();
    }
    world.refresh();
    let listing = world.listing();
    let ids = LEAVING.map(|name| listing.attachments[name].endpoint.id);
    let coming = AttachSpec::new("blue".parse().unwrap(), COMING.parse().unwrap());
    // While the first waits for the disk, the others come, and are carried out together.
    let dooms = [Doom::delay("fdatasync", 1, 300_000), Doom::kill("mount", 1)];
    let watched = world.watch(Thread::Network, &dooms);
    // What was cut is not deleted before the end: whether it is would be a race.
    let held = world.watch(Thread::Reaper, &[Doom::delay("sendto", 1, 1_000_000)]);
    let answers = world.ask(async |agent| {
        let detach = async |id: EndpointId, after| {
            sleep(Duration::from_millis(after)).await;
            agent.detach(id).await.is_ok()
        };
        let attach = async {
            sleep(Duration::from_millis(15)).await;
            agent.attach(&coming, None, Lifetime::UntilDetached).await.is_ok()
        };
        let others = async {
            while !watched.so_far().has_begun("fdatasync") {
                sleep(Duration::from_millis(1)).await;
            }
            tokio::join!(detach(ids[1], 0), attach, detach(ids[2], 30))
        };
        // Whether the first is answered is a race with the end of the agent.
        tokio::join!(detach(ids[0], 0), others).1
    });
    assert_eq!(answers, (false, false, false));
    world.ended();
    watched.release();
    held.release();
}
