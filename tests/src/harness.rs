//! A test runner for tests that need a world of their own.
//!
//! The standard one starts threads before any test runs, and a process with threads can no longer enter a
//! user namespace. This one first makes the process private, which takes no privilege and leaves nothing
//! behind, and then runs the tests one after another on the main thread. A test is a function that panics to
//! fail; its name is its path. From a `main.rs` with `harness = false`:
//!
//! ```no_run
//! use netloft_tests::harness::{case, run};
//!
//! fn a_new_world_has_one_link() {}
//!
//! fn main() -> std::process::ExitCode {
//!     run(&[case(a_new_world_has_one_link)])
//! }
//! ```
//!
//! Of the arguments of the standard runner it understands name filters, `--exact`, `--skip`, `--list`,
//! `--ignored` (there are none), and accepts the rest.

use std::any::type_name;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// A named test.
pub struct Case {
    name: &'static str,
    body: Box<dyn Fn()>,
}

/// Makes a test of a function, named by its path without the crate.
pub fn case<F: Fn() + 'static>(body: F) -> Case {
    let path = type_name::<F>();
    Case { name: path.split_once("::").map_or(path, |(_, name)| name), body: Box::new(body) }
}

/// Runs the tests that the arguments of the process select, in a private world, and prints as cargo does.
///
/// Fails if a test fails or if there can be no private world: a test is never skipped because of where it runs.
pub fn run(cases: &[Case]) -> ExitCode {
    let selection = Selection::parse(std::env::args().skip(1));
    let selected: Vec<_> = cases.iter().filter(|it| selection.admits(it.name)).collect();
    let outcome = if selection.list {
        list(&selected).map(|()| ExitCode::SUCCESS)
    } else {
        run_all(&selected, cases.len() - selected.len())
    };
    outcome.unwrap_or(ExitCode::FAILURE)
}

fn list(selected: &[&Case]) -> io::Result<()> {
    let mut out = io::stdout();
    selected.iter().try_for_each(|case| writeln!(out, "{}: test", case.name))
}

fn run_all(selected: &[&Case], filtered_out: usize) -> io::Result<ExitCode> {
    let mut out = io::stdout();
    if let Err(error) = netloft_netns::private::enter_private() {
        let error = anyhow::Error::from(error);
        writeln!(out, "test result: FAILED. no private world to test in: {error:#}")?;
        return Ok(ExitCode::FAILURE);
    }
    let started = Instant::now();
    writeln!(out, "\nrunning {} tests", selected.len())?;
    let mut failed = Vec::new();
    for case in selected {
        // Before the body runs, so that a test that hangs is known by name.
        write!(out, "test {} ... ", case.name)?;
        out.flush()?;
        if catch_unwind(AssertUnwindSafe(&case.body)).is_ok() {
            writeln!(out, "ok")?;
        } else {
            writeln!(out, "FAILED")?;
            failed.push(case.name);
        }
    }
    for name in &failed {
        writeln!(out, "failed: {name}")?;
    }
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    writeln!(
        out,
        "\ntest result: {verdict}. {} passed; {} failed; 0 ignored; 0 measured; {filtered_out} filtered out; \
         finished in {:.2}s\n",
        selected.len() - failed.len(),
        failed.len(),
        started.elapsed().as_secs_f64(),
    )?;
    Ok(if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        // What the standard runner exits with.
        ExitCode::from(101)
    })
}

#[derive(Default)]
struct Selection {
    filters: Vec<String>,
    skipped: Vec<String>,
    exact: bool,
    list: bool,
    ignored: bool,
}

impl Selection {
    fn parse(arguments: impl Iterator<Item = String>) -> Self {
        let mut selection = Self::default();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--exact" => selection.exact = true,
                "--list" => selection.list = true,
                "--ignored" => selection.ignored = true,
                "--skip" => selection.skipped.extend(arguments.next()),
                "--test-threads" | "--format" | "--color" | "--logfile" => {
                    arguments.next();
                }
                flag if flag.starts_with('-') => {}
                _ => selection.filters.push(argument),
            }
        }
        selection
    }

    fn admits(&self, name: &str) -> bool {
        let matches = |pattern: &String| {
            if self.exact { name == pattern } else { name.contains(pattern.as_str()) }
        };
        !self.ignored
            && (self.filters.is_empty() || self.filters.iter().any(matches))
            && !self.skipped.iter().any(matches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(arguments: &[&str]) -> Vec<&'static str> {
        let arguments = arguments.iter().map(|&argument| argument.to_owned());
        let selection = Selection::parse(arguments);
        let names = ["links::bridge_is_up", "links::bridge", "named::name_is_kept"];
        names.into_iter().filter(|name| selection.admits(name)).collect()
    }

    #[test]
    fn arguments_select_as_those_of_the_standard_runner() {
        assert_eq!(admitted(&["--nocapture", "--test-threads", "1"]).len(), 3);
        assert_eq!(admitted(&["bridge"]).len(), 2);
        assert_eq!(admitted(&["--exact", "links::bridge"]), ["links::bridge"]);
        assert_eq!(admitted(&["links", "--skip", "is_up"]), ["links::bridge"]);
        assert!(admitted(&["--ignored"]).is_empty());
    }

    #[test]
    fn a_case_is_named_by_the_path_of_its_function() {
        assert_eq!(
            case(a_case_is_named_by_the_path_of_its_function).name,
            "harness::tests::a_case_is_named_by_the_path_of_its_function"
        );
    }
}
