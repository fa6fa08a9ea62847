//! Whether the tests find bugs: plants one after another, and demands that the tests named for it fail.
//!
//! ```sh
//! cargo run -p netloft-tests --bin mutants              # all of tests/mutants, which takes an hour
//! cargo run -p netloft-tests --bin mutants no-sync      # those whose name contains this
//! ```
//!
//! A bug is a patch in `tests/mutants`. Above it stand lines that say which promise it breaks, what it does, and the
//! arguments of `cargo test` for each test that must find it. Everything happens in a copy below `target/mutants`. First
//! all the tests are run without any bug, and must pass; a patch that does not apply, or does not compile, is an error.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use netloft_tests::programs::source_dir;

/// A test that does not end has found something, too.
const PATIENCE: Duration = Duration::from_mins(5);
/// What cargo ends with if a test failed, and not something else.
const TEST_FAILED: i32 = 101;

fn main() -> Result<ExitCode> {
    let filters: Vec<String> = std::env::args().skip(1).collect();
    let mut mutants = Mutant::all(&source_dir().join("tests/mutants"))?;
    mutants.retain(|mutant| filters.is_empty() || filters.iter().any(|part| mutant.name.contains(part)));
    ensure!(!mutants.is_empty(), "there is no such bug");
    let copy = Copy::make()?;
    let tests: BTreeSet<&str> = mutants.iter().flat_map(|it| it.tests.iter().map(String::as_str)).collect();
    for test in tests {
        let verdict = copy.run(test)?;
        ensure!(verdict == Verdict::Passed, "without any bug `cargo test -p {test}`: {verdict:?}");
        say(&format!("passes without any bug: {test}"))?;
    }
    let mut survivors = 0;
    for mutant in &mutants {
        survivors += mutant.plant_and_test(&copy)?;
    }
    say(&format!("{} bugs, {survivors} times one was not found", mutants.len()))?;
    Ok(if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A bug to be planted.
struct Mutant {
    name: String,
    path: PathBuf,
    promise: String,
    bug: String,
    /// Arguments of `cargo test -p`.
    tests: Vec<String>,
}

impl Mutant {
    fn all(directory: &Path) -> Result<Vec<Self>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(directory).context("there are no mutants")? {
            paths.push(entry?.path());
        }
        paths.sort();
        paths.into_iter().map(|path| Self::read(&path)).collect()
    }

    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)?;
        let head = text.split("\n\n").next().unwrap_or_default();
        let values = |key: &str| -> Vec<String> {
            let said = head.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
            said.map(str::to_owned).collect()
        };
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (promise, bug, tests) = (values("promise").concat(), values("bug").concat(), values("test"));
        ensure!(
            !promise.is_empty() && !bug.is_empty() && !tests.is_empty(),
            "{name} does not say what it is"
        );
        Ok(Self { name, path: path.to_owned(), promise, bug, tests })
    }

    /// Answers how many tests did not find it.
    fn plant_and_test(&self, copy: &Copy) -> Result<usize> {
        copy.patch(&self.path, &[]).with_context(|| format!("{} does not apply", self.name))?;
        let mut survived = 0;
        for test in &self.tests {
            let began = Instant::now();
            let verdict = copy.run(test)?;
            if let Verdict::NotBuilt(said) = &verdict {
                bail!("{} does not compile:\n{said}", self.name);
            }
            survived += usize::from(verdict == Verdict::Passed);
            let Self { name, promise, bug, .. } = self;
            let seconds = began.elapsed().as_secs();
            say(&format!("| {promise} | {name}: {bug} | `{test}` | {verdict:?} ({seconds} s) |"))?;
        }
        copy.patch(&self.path, &["--reverse"])?;
        Ok(survived)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed,
    DidNotEnd,
    NotBuilt(String),
}

/// A copy of the workspace, in which bugs are planted.
struct Copy {
    source: PathBuf,
    target: PathBuf,
}

impl Copy {
    fn make() -> Result<Self> {
        let from = source_dir();
        let place = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(target) => PathBuf::from(target).join("mutants"),
            None => from.join("target/mutants"),
        };
        let copy = Self { source: place.join("source"), target: place.join("target") };
        let listed = Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(&from)
            .output()
            .context("git is needed to tell what belongs to the workspace")?;
        let mut copied = BTreeSet::new();
        for name in String::from_utf8(listed.stdout)?.lines() {
            let (file, to) = (from.join(name), copy.source.join(name));
            // What was removed and not committed is still listed.
            if !file.is_file() {
                continue;
            }
            // Cargo builds anew what is newer than what was built. What an earlier run built may have a bug in it, so
            // nothing may become older here; and what stays the same need not be built again.
            if fs::read(&to).ok() != Some(fs::read(&file)?) {
                fs::create_dir_all(to.parent().context("a file is in a directory")?)?;
                fs::copy(&file, &to)?;
            }
            copied.insert(to);
        }
        remove_others(&copy.source, &copied)?;
        Ok(copy)
    }

    fn patch(&self, patch: &Path, arguments: &[&str]) -> Result<()> {
        let mut git = Command::new("git");
        // Not a repository, even if the directory above it is one.
        git.env("GIT_CEILING_DIRECTORIES", &self.source).env("GIT_DIR", "/nonexistent");
        let output = git.arg("apply").args(arguments).arg(patch).current_dir(&self.source).output()?;
        ensure!(output.status.success(), "git apply: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Runs a test with all that it runs.
    fn run(&self, test: &str) -> Result<Verdict> {
        let (build, mut run): (Vec<&str>, Vec<&str>) = match test.split_once(" -- ") {
            Some((build, run)) => (build.split(' ').collect(), run.split(' ').collect()),
            None => (test.split(' ').collect(), Vec::new()),
        };
        run.insert(0, "--");
        let bins = self.cargo(&["build", "-p", "netloft-registry-server"]).output()?;
        let tests = self.cargo(&["test", "--no-run", "-p"]).args(&build).output()?;
        for built in [bins, tests] {
            if !built.status.success() {
                return Ok(Verdict::NotBuilt(String::from_utf8_lossy(&built.stderr).into_owned()));
            }
        }
        let mut cargo = self.cargo(&["test", "--quiet", "-p"]);
        let mut running =
            cargo.args(&build).args(&run).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        wait(&mut running).with_context(|| format!("cargo test -p {test}"))
    }

    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(arguments).current_dir(&self.source);
        cargo.env("CARGO_TARGET_DIR", &self.target).env("NETLOFT_SOURCE_DIR", &self.source);
        cargo.env("NETLOFT_BIN_DIR", self.target.join("debug")).env("RUST_BACKTRACE", "0");
        // Enough for every bug here, and a fifth of the time.
        cargo.env("NETLOFT_SIM_SEEDS", "20");
        cargo
    }
}

/// Removes all files below a directory but these.
fn remove_others(directory: &Path, these: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_others(&entry.path(), these)?;
        } else if !these.contains(&entry.path()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Waits for the end of a test, and kills it if there is none.
fn wait(running: &mut Child) -> Result<Verdict> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match running.try_wait()?.map(|status| status.code()) {
            None => sleep(Duration::from_millis(50)),
            Some(Some(0)) => return Ok(Verdict::Passed),
            Some(Some(TEST_FAILED)) => return Ok(Verdict::Failed),
            Some(code) => bail!("it ended with {code:?}"),
        }
    }
    running.kill()?;
    running.wait()?;
    Ok(Verdict::DidNotEnd)
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
