//! Where the programs of others are, and what they need to run.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::programs::source_dir;
use anyhow::{Context as _, Result, bail, ensure};

/// What `tests/bench/setup` has brought. What the system has by itself counts as well.
pub struct Peers {
    root: PathBuf,
    /// What programs of Debian are below: the unpacked packages, then the system.
    debian: [PathBuf; 2],
}

impl Peers {
    /// Finds where they would be.
    pub fn find() -> Self {
        let target =
            env::var_os("CARGO_TARGET_DIR").map_or_else(|| source_dir().join("target"), PathBuf::from);
        let root = target.canonicalize().unwrap_or(target).join("bench-peers");
        Self { debian: [root.join("debian"), PathBuf::from("/")], root }
    }

    /// A file of a Debian package.
    ///
    /// # Errors
    ///
    /// What to do if it is not there: shown instead of the figures.
    pub fn debian(&self, path: &str) -> Result<PathBuf> {
        let found = self.debian.iter().map(|root| root.join(path)).find(|path| path.exists());
        found.with_context(|| format!("/{path} is not here: run tests/bench/setup"))
    }

    /// A file that was built from the crate registry.
    ///
    /// # Errors
    ///
    /// As for [`debian`](Self::debian).
    pub fn built(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join("bin").join(name);
        if path.exists() {
            return Ok(path);
        }
        let missing = fs::read_to_string(self.root.join("missing")).unwrap_or_default();
        match missing.lines().find(|line| line.starts_with(name)) {
            Some(reason) => bail!("{reason}"),
            None => bail!("{name} is not here: run tests/bench/setup"),
        }
    }

    /// A package of Debian that was unpacked, with its version.
    pub fn unpacked(&self, package: &str) -> Option<String> {
        let packages = fs::read_to_string(self.root.join("packages")).ok()?;
        packages.lines().find(|line| line.starts_with(package)).map(|line| line.replace('\t', " "))
    }

    /// A command that finds the tools and libraries that were brought.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(self.resolve(program.as_ref()));
        let library = format!("usr/lib/{}-linux-gnu", env::consts::ARCH);
        let [debian, _] = &self.debian;
        command
            .env("PATH", env::join_paths(self.path()).unwrap_or_default())
            .env("LD_LIBRARY_PATH", debian.join(&library));
        if debian.join(&library).join("xtables").exists() {
            command.env("XTABLES_LIBDIR", debian.join(&library).join("xtables"));
        }
        command
    }

    /// Runs a command and gives it its input; answers what it printed.
    ///
    /// # Errors
    ///
    /// If it cannot be started or fails, with all that it said.
    pub fn run(mut command: Command, input: &[u8]) -> Result<Vec<u8>> {
        let name = Path::new(command.get_program()).file_name().unwrap_or_default().to_owned();
        let name = name.to_string_lossy();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let mut stdin = child.stdin.take().context("it was piped")?;
        // Who does not read all of it says why by its exit code.
        let _ = std::io::Write::write_all(&mut stdin, input);
        drop(stdin);
        let output = child.wait_with_output()?;
        let said = [&output.stdout[..], &output.stderr].concat();
        ensure!(
            output.status.success(),
            "{name}: {}: {}",
            output.status,
            String::from_utf8_lossy(&said).trim()
        );
        Ok(output.stdout)
    }

    /// Runs a tool with arguments separated by spaces.
    ///
    /// # Errors
    ///
    /// As for [`run`](Self::run).
    pub fn tool(&self, name: &str, arguments: &str) -> Result<Vec<u8>> {
        let mut command = self.command(name);
        command.args(arguments.split(' '));
        Self::run(command, b"").with_context(|| format!("{name} {arguments}"))
    }

    /// The whole path, because what a command runs is looked up in the path of this process and not its own.
    fn resolve(&self, program: &Path) -> PathBuf {
        let named =
            || self.path().into_iter().map(|directory| directory.join(program)).find(|it| it.is_file());
        if program.is_absolute() { program.to_owned() } else { named().unwrap_or_else(|| program.to_owned()) }
    }

    fn path(&self) -> Vec<PathBuf> {
        let inherited = env::var_os("PATH").unwrap_or_default();
        let usual = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
        let brought = ["usr/sbin", "sbin", "usr/bin", "bin"].map(|part| self.debian[0].join(part));
        env::split_paths(&inherited).chain(usual).chain(brought).collect()
    }
}
