//! An agent that is killed while it takes over what another one left half done.

use std::fs;
use std::time::Duration;

use netloft_tests::running::{Finished, Running, eventually, is_running, signal};
use netloft_tests::tell;
use netloft_types::{AttachSpec, EndpointId, Lifetime};
use nix::sys::signal::Signal;
use tokio::time::sleep;

use crate::doom::{Calls, Doom, Thread, doomed};
use crate::operation::{Operation, Thing, Verb};
use crate::report::{self, Row};
use crate::world::{Listing, World};

/// What is detached when the agent is killed, and what is attached.
const LEAVING: [&str; 3] = ["leaving-1", "leaving-2", "leaving-3"];
const COMING: &str = "coming";

pub(crate) fn a_killed_takeover_is_taken_over() {
    let mut world = World::busy();
    Operation { name: "", verb: Verb::Make, thing: Thing::published() }.act(&mut world, None).unwrap();
    let stays = world.listing();
    let mut row = Row {
        operation: "takeover of what was half done".into(),
        thread: Thread::Main.to_string(),
        ..Row::default()
    };
    leave_half_done(&mut world);
    let start = take_over(&world, &[]);
    assert!(start.listens, "{:?}", start.finished);
    world.start();
    for (kind, expected) in start.calls.kinds() {
        let mut nth = 1;
        while kill(&mut world, &stays, &Doom::kill(&kind, nth), &mut row) {
            nth += 1;
        }
        assert!(nth + 2 > expected, "{expected} calls of {kind} were made, and it was killed at {nth} only");
        if nth > 1 {
            row.kinds.push((kind, nth - 1));
        }
    }
    tell(format_args!("{} kill points", row.points));
    report::add(row);
    world.finish();
}

/// Kills an agent that takes over, if it makes the call. Tells whether it came to that; then everything was looked at.
fn kill(world: &mut World, stays: &Listing, doom: &Doom, row: &mut Row) -> bool {
    leave_half_done(world);
    let survived = take_over(world, std::slice::from_ref(doom)).listens;
    world.check_traffic();
    world.start();
    row.silence = row.silence.max(world.check_traffic());
    row.points += usize::from(!survived);
    assert_eq!(world.listing(), *stays, "{doom}");
    let differences = world.audit(stays);
    assert!(differences.is_empty(), "{doom}: {differences:#?}");
    assert_eq!(world.findings(), Vec::<String>::new(), "{doom}");
    !survived
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
    let log = world.log();
    let process = Running::spawn(doomed(&world.command(), dooms, &log));
    let listens = eventually("it listens, or ends", || {
        let listens = process.stdout().contains("listening on");
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
    let dooms = [Doom::delay("fdatasync", 1, 120_000), Doom::kill("mount", 1)];
    let watched = world.watch(Thread::Network, &dooms);
    let answers = world.ask(async |agent| {
        let detach = async |id: EndpointId, after| {
            sleep(Duration::from_millis(after)).await;
            agent.detach(id).await.is_ok()
        };
        let attach = async {
            sleep(Duration::from_millis(50)).await;
            agent.attach(&coming, None, Lifetime::UntilDetached).await.is_ok()
        };
        tokio::join!(detach(ids[0], 0), detach(ids[1], 25), attach, detach(ids[2], 75))
    });
    assert_eq!(answers, (true, false, false, false));
    world.ended();
    watched.release();
}
