//! Cases side by side, each in a process and a world of its own: for tests that wait more than they work.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Command, ExitCode, Output};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use netloft_netns::private::enter_private;
use netloft_netns::{EnterOptions, Netns};
use tempfile::TempDir;

use crate::harness::{self, Case};
use crate::programs::bin_dir;

/// Tells a process that runs one case where to leave its rows.
const ROWS: &str = "NETLOFT_TEST_ROWS";

/// Where the worlds keep files: in memory, for the disk of a machine that tests is busy, and a kill takes nothing from it.
const MEMORY: &str = "/dev/shm";

/// What cases tell beyond whether they failed.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    /// Writes to a file what this process has to tell.
    pub write: fn(&Path),
    /// Reads it back.
    pub read: fn(&Path),
    /// Prints all that was read.
    pub print: fn(),
}

impl Rows {
    /// Nothing.
    pub const NONE: Self = Self { write: |_| (), read: |_| (), print: || () };
}

/// Runs the cases that the arguments select, and prints as cargo does, and what they had to tell.
///
/// Those that come last in the list begin first.
///
/// # Panics
///
/// If there can be no private world.
pub fn run(cases: &[Case], tell: Rows) -> ExitCode {
    if let Some(rows) = env::var_os(ROWS) {
        let code = harness::run(cases);
        (tell.write)(Path::new(&rows));
        return code;
    }
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    if arguments.iter().any(|it| it == "--list") {
        return harness::run(cases);
    }
    // It takes privilege to have a process end with this one.
    enter_private().expect("there can be a private world");
    let names = selected(&arguments);
    let filtered_out = cases.len() - names.len();
    run_all(&names, filtered_out, tell).unwrap_or(ExitCode::FAILURE)
}

/// The names of the cases that the arguments select, as this program itself lists them.
fn selected(arguments: &[OsString]) -> Vec<String> {
    let listed =
        this_program().args(arguments).arg("--list").output().expect("this program can be started again");
    let text = String::from_utf8_lossy(&listed.stdout);
    text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

fn this_program() -> Command {
    Command::new(env::current_exe().expect("Linux tells every program where it is"))
}

fn run_all(names: &[String], filtered_out: usize, rows_of: Rows) -> io::Result<ExitCode> {
    let started = Instant::now();
    let hands = 2 * thread::available_parallelism().map_or(1, NonZeroUsize::get);
    writeln!(io::stdout(), "\nrunning {} tests, {hands} at a time", names.len())?;
    let place = TempDir::with_prefix_in("netloft-test-", MEMORY)?;
    let waiting: Mutex<VecDeque<usize>> = Mutex::new((0..names.len()).rev().collect());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let failed: Mutex<Vec<&str>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..hands {
            scope.spawn(|| {
                while let Some(index) = next() {
                    let name = &names[index];
                    let began = Instant::now();
                    let output = run_one(name, index, place.path());
                    tell(name, began, &output);
                    if !output.status.success() {
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push(name);
                    }
                }
            });
        }
    });
    for index in 0..names.len() {
        (rows_of.read)(&rows(place.path(), index));
    }
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    (rows_of.print)();
    sum_up(names.len(), &failed, filtered_out, started)
}

/// Runs one case in a process of its own.
fn run_one(name: &str, index: usize, place: &Path) -> Output {
    let mut command = this_program();
    command.args(["--exact", name]).env(ROWS, rows(place, index)).env("TMPDIR", place);
    command.env("NETLOFT_BIN_DIR", bin_dir());
    let here = Netns::current().expect("every process is in a network namespace");
    EnterOptions::new(&here).kill_with_parent().apply(&mut command);
    command.output().expect("this program can be started again")
}

fn rows(place: &Path, index: usize) -> std::path::PathBuf {
    place.join(format!("rows-{index}"))
}

/// Prints how a case ended; if badly, all that it said.
#[expect(clippy::print_stdout, reason = "it is the report of the tests")]
fn tell(name: &str, began: Instant, output: &Output) {
    let seconds = began.elapsed().as_secs_f64();
    if output.status.success() {
        println!("test {name} ... ok ({seconds:.0} s)");
    } else {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        println!("test {name} ... FAILED ({seconds:.0} s, {})\n{stdout}{stderr}", output.status);
    }
}

fn sum_up(count: usize, failed: &[&str], filtered_out: usize, started: Instant) -> io::Result<ExitCode> {
    let mut out = io::stdout();
    for name in failed {
        writeln!(out, "failed: {name}")?;
    }
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    writeln!(
        out,
        "test result: {verdict}. {} passed; {} failed; 0 ignored; 0 measured; {filtered_out} filtered out; \
         finished in {:.2}s\n",
        count - failed.len(),
        failed.len(),
        started.elapsed().as_secs_f64(),
    )?;
    // What the standard runner exits with.
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(101) })
}
