//! What the programs of peers leave behind when they are killed.
//!
//! A program is killed as it enters the first, second, third... of its system calls of a kind, by `strace`, until it gets
//! by without having made that many. `strace` counts for each thread. What the program has started itself lives on, as it
//! does when somebody kills the program. Then the runtime does what it does when it finds out: it detaches. What is there
//! then and was not there before is left for good.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::cni::{self, Cni};
use crate::contender::{Order, Place, Port};
use crate::field::Bench;
use crate::netavark::Netavark;
use netloft_tests::bench::peers::Peers;

/// The calls by which something becomes true outside of a program. `?` allows for those that a machine does not have.
const SYSCALLS: [&str; 14] = [
    "sendto",
    "sendmsg",
    "write",
    "pwrite64",
    "openat",
    "?rename",
    "renameat",
    "?renameat2",
    "?unlink",
    "unlinkat",
    "fsync",
    "clone",
    "?clone3",
    "?vfork",
];

/// Whose programs are killed, and what `--peers` calls them.
const VICTIMS: [(&str, &str); 3] =
    [("CNI chain", "cni"), ("netavark 2.1", "netavark-2.1"), ("netavark of Debian", "netavark-debian")];

/// How long the children of who was killed may take to end.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// The sandbox that stays attached throughout.
const KEPT: u16 = 2_900;

/// One run of a program, with its input.
pub(crate) struct Call {
    pub(crate) command: Command,
    pub(crate) input: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Attach,
    Detach,
}

/// Somebody whose programs are killed.
pub(crate) trait Victim {
    /// The programs of an attachment, in order; a detachment goes the other way.
    fn programs(&self) -> &'static [&'static str];
    fn call(&self, program: &'static str, verb: Verb, order: Order) -> Result<Call>;
    /// Takes note of what a program has answered to an attachment.
    fn note(&mut self, order: Order, answer: &[u8]) -> Result<()>;
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let mut out = io::stdout();
    writeln!(out, "\nkilled at each of its system calls, then told to detach: what is left")?;
    writeln!(
        out,
        "{:<20}{:<10}{:>12}{:>12}{:>12}  left behind",
        "", "killed in", "kill points", "unclean", "errors"
    )?;
    for (name, flag) in VICTIMS {
        for verb in [Verb::Attach, Verb::Detach] {
            if bench.arguments.admits_peer(flag) {
                let line = match enumerate(bench, flag, verb) {
                    Ok(report) => report.line(),
                    Err(error) => format!("  not run: {error:#}"),
                };
                writeln!(out, "{name:<20}{:<10}{line}", format!("{verb:?}").to_lowercase())?;
            }
        }
    }
    Ok(())
}

/// What a run over all kill points has shown.
#[derive(Debug, Default)]
struct Report {
    kill_points: u32,
    unclean: u32,
    /// How often the detachment afterwards said that it failed.
    errors: u32,
    left: Inventory,
}

impl Report {
    fn line(&self) -> String {
        let Self { kill_points, unclean, errors, left } = self;
        format!("{kill_points:>12}{unclean:>12}{errors:>12}  {}", left.text())
    }
}

fn enumerate(bench: &Bench, flag: &str, verb: Verb) -> Result<Report> {
    let place = bench.place(&format!("crash-{flag}-{verb:?}").to_lowercase())?;
    let mut victim: Box<dyn Victim> = match flag {
        "cni" => Box::new(Cni::new(&place)?),
        "netavark-debian" => Box::new(Netavark::new(&place, place.peers.debian("usr/lib/podman/netavark")?)),
        _ => Box::new(Netavark::new(&place, place.peers.built("netavark")?)),
    };
    let mut scene = Scene { place, next: 0, report: Report::default() };
    scene.all(&mut *victim, Verb::Attach, Order { slot: KEPT, port: Port::Published })?;
    let most = bench.effort(usize::MAX, 3);
    for program in victim.programs() {
        for syscall in SYSCALLS {
            let mut times = 1;
            while times <= most && scene.kill(&mut *victim, verb, &Death { program, syscall, times })? {
                times += 1;
            }
        }
    }
    Ok(scene.report)
}

/// When a program is to be killed.
struct Death {
    program: &'static str,
    syscall: &'static str,
    /// At which of these calls, from 1.
    times: usize,
}

struct Scene {
    place: Arc<Place>,
    next: u16,
    report: Report,
}

impl Scene {
    /// Kills a program in the midst of `verb`, detaches, and counts. Tells whether the program came to be killed.
    fn kill(&mut self, victim: &mut dyn Victim, verb: Verb, death: &Death) -> Result<bool> {
        self.next += 1;
        let order = Order { slot: self.next, port: Port::Published };
        ensure!(order.slot < KEPT, "more kill points than there are addresses for");
        let before = Inventory::take(&self.place)?;
        if verb == Verb::Detach {
            self.all(victim, Verb::Attach, order)?;
        }
        let is_killed = self.until_death(victim, verb, order, death)?;
        if is_killed {
            thread::sleep(LAST_WORDS);
        }
        let detached = self.all(victim, Verb::Detach, order);
        let left = Inventory::take(&self.place)?.beyond(&before);
        self.place.drop_sandbox(order)?;
        if is_killed {
            self.report.kill_points += 1;
            self.report.errors += u32::from(detached.is_err());
            self.report.unclean += u32::from(left != Inventory::default());
            self.report.left.add(&left);
        }
        Ok(is_killed)
    }

    /// Runs programs up to the one that is killed, or all, if it gets by.
    fn until_death(&self, victim: &mut dyn Victim, verb: Verb, order: Order, death: &Death) -> Result<bool> {
        for program in in_order(victim, verb) {
            let mut call = victim.call(program, verb, order)?;
            if program == death.program {
                call.command = doomed(&call.command, death, &self.place.peers);
            }
            let (status, answer) = self.run(call)?;
            if status.signal() == Some(9) {
                return Ok(true);
            }
            ensure!(status.success(), "{program} without being killed: {}", String::from_utf8_lossy(&answer));
            if verb == Verb::Attach {
                victim.note(order, &answer)?;
            }
        }
        Ok(false)
    }

    /// Runs all programs, going on past failures; the first of them is the answer.
    fn all(&self, victim: &mut dyn Victim, verb: Verb, order: Order) -> Result<()> {
        let mut outcome = Ok(());
        for program in in_order(victim, verb) {
            let (status, answer) = self.run(victim.call(program, verb, order)?)?;
            if !status.success() {
                outcome =
                    outcome.and(Err(anyhow::anyhow!("{program}: {}", String::from_utf8_lossy(&answer))));
            } else if verb == Verb::Attach {
                victim.note(order, &answer)?;
            }
        }
        outcome
    }

    /// Runs one program in the host.
    fn run(&self, Call { mut command, input }: Call) -> Result<(ExitStatus, Vec<u8>)> {
        // A file, not a pipe: a child that lives on would hold a pipe open.
        let output = self.place.directory.join("output");
        let file = fs::File::create(&output)?;
        command.stdin(Stdio::piped()).stderr(file.try_clone()?).stdout(file);
        let status = self.place.host.run(|| {
            let mut child = command.spawn()?;
            let _ = child.stdin.take().map(|mut stdin| stdin.write_all(&input));
            child.wait()
        })??;
        Ok((status, fs::read(&output)?))
    }
}

fn in_order(victim: &dyn Victim, verb: Verb) -> Vec<&'static str> {
    let mut programs = victim.programs().to_vec();
    if verb == Verb::Detach {
        programs.reverse();
    }
    programs
}

/// The same command under `strace`, which kills it. It lets go of children that become other programs.
fn doomed(command: &Command, death: &Death, peers: &Peers) -> Command {
    let Death { syscall, times, .. } = death;
    let mut strace = peers.command("strace");
    strace.args(["-f", "-b", "execve", "-o", "/dev/null", "-e"]);
    strace.arg(format!("trace={syscall}")).arg("-e");
    strace.arg(format!("inject={syscall}:signal=SIGKILL:when={times}"));
    strace.arg(command.get_program()).args(command.get_args());
    strace.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    strace
}

/// What there is of the kinds of things that an attachment makes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Inventory([usize; 5]);

impl Inventory {
    const KINDS: [&str; 5] = ["links", "rules", "chains", "elements", "address files"];

    fn take(place: &Place) -> Result<Self> {
        let listed = place.host.run(|| place.peers.tool("nft", "-j list ruleset"))??;
        let ruleset: Value = serde_json::from_slice(&listed).context("nft tells JSON")?;
        let objects = ruleset["nftables"].as_array().context("nft tells objects")?;
        let count = |kind: &str| objects.iter().filter(|object| object.get(kind).is_some()).count();
        let sets = objects.iter().filter_map(|object| object.get("set").or_else(|| object.get("map")));
        let elements = sets.filter_map(|set| Some(set["elem"].as_array()?.len())).sum();
        let files = addresses(&place.directory.join(cni::NETWORK));
        Ok(Self([place.count_links()?, count("rule"), count("chain"), elements, files]))
    }

    /// What is there in addition.
    fn beyond(&self, before: &Self) -> Self {
        Self(std::array::from_fn(|kind| self.0[kind].saturating_sub(before.0[kind])))
    }

    fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
    }

    fn text(&self) -> String {
        let some = self.0.iter().zip(Self::KINDS).filter(|(count, _)| **count > 0);
        let some: Vec<_> = some.map(|(count, kind)| format!("{count} {kind}")).collect();
        if some.is_empty() { "nothing".into() } else { some.join(", ") }
    }
}

/// How many addresses `host-local` has given: a file for each, by its name.
fn addresses(directory: &PathBuf) -> usize {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(|c: char| c.is_ascii_digit()))
        .count()
}
