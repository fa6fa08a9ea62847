//! The place of one test: a directory, our programs in it, and the question whether they left anything.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use netloft_client::{AgentClient, Client, Target};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use serde_json::Value;
use tempfile::TempDir;

use crate::eyes::From;
use crate::programs::{bin_dir, ours, python, source_dir, tool};
use crate::running::{Finished, PATIENCE, Running};
use crate::traces::{Traces, adopt_orphans};

/// Prints what a test has measured or seen, on lines of its own, for whoever reads its output.
#[expect(clippy::print_stdout, reason = "it is part of the report of the tests")]
pub fn tell(what: impl std::fmt::Display) {
    println!("\n    {what}");
}

/// Raises the loopback: the world of the harness begins with every link down.
///
/// # Panics
///
/// If this process must not.
pub fn raise_loopback() {
    let mut up = Command::new(tool("ip"));
    up.args(["link", "set", "lo", "up"]);
    Running::spawn(up).wait().success();
}

/// The place of one test: a directory for the files of the test, and one for those of our programs, which must be
/// as empty in the end as it was in the beginning.
pub struct Lab {
    directory: TempDir,
    before: Traces,
}

impl Lab {
    /// Looks at the world before anything happens in it.
    ///
    /// # Panics
    ///
    /// If there is no place, or a tool is missing.
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Self {
        adopt_orphans();
        raise_loopback();
        let prefix = format!("netloft-e2e-{}-", std::process::id());
        let directory =
            tempfile::Builder::new().prefix(&prefix).tempdir().expect("there is a place for files");
        for part in ["own", "run"] {
            std::fs::create_dir(directory.path().join(part)).expect("the directory is ours");
        }
        let before = Traces::now(&directory.path().join("run"));
        Self { directory, before }
    }

    /// A path where our programs put what they make.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("run").join(name)
    }

    /// Writes a file of the test's own.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join("own").join(name);
        std::fs::write(&path, text).expect("the directory is ours");
        path
    }

    /// What there is now.
    pub fn traces(&self) -> Traces {
        Traces::now(&self.path(""))
    }

    /// A Python program of the tests.
    pub fn python(&self, script: &str) -> Command {
        let mut command = python();
        command.arg(source_dir().join("tests/e2e/python").join(script));
        self.equip(command, "own")
    }

    /// Gives a command an environment in which our programs find each other, and temporary files have a place.
    fn equip(&self, mut command: Command, part: &str) -> Command {
        let inherited = |name| std::env::var_os(name).unwrap_or_default();
        let own = [bin_dir().to_owned()].into_iter();
        let path = own.chain(std::env::split_paths(&inherited("PATH")).collect::<Vec<_>>());
        command
            .env("PATH", std::env::join_paths(path).expect("no directory has a colon in its name"))
            .env("LD_LIBRARY_PATH", inherited("LD_LIBRARY_PATH"))
            .env("HOME", self.directory.path().join(part))
            .env("TMPDIR", self.directory.path().join(part))
            .env("NETLOFT_AGENT", self.agent_target().to_string());
        command
    }

    /// One of our programs with arguments.
    pub fn ours<A: AsRef<OsStr>>(&self, name: &str, arguments: &[A]) -> Command {
        let mut command = Command::new(ours(name));
        command.env_clear().args(arguments);
        self.equip(command, "run")
    }

    /// Runs `netloft` to its end.
    pub fn netloft<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Finished {
        Running::spawn(self.ours("netloft", arguments)).wait()
    }

    /// Runs `netloft --json` to its end; what it answered.
    ///
    /// # Panics
    ///
    /// If it fails, or its answer is not JSON.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let text = self.netloft(&[&["--json"], arguments].concat()).success();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?} answered {text:?}: {error}"))
    }

    /// Starts `netloft` and lets it run.
    pub fn spawn<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Running {
        Running::spawn(self.ours("netloft", arguments))
    }

    /// Starts an agent, and waits until it listens. Unless it is told where to, it remembers nothing.
    pub fn agent(&self, arguments: &[&str]) -> Agent {
        let (socket, netns_dir) = (self.path("netloftd.sock"), self.path("netns"));
        let mut command = self.ours("netloftd", arguments);
        command.arg("--socket").arg(&socket).arg("--netns-dir").arg(&netns_dir);
        if !arguments.contains(&"--state-dir") {
            command.args(["--state-dir", "none"]);
        }
        let mut process = Running::spawn(command);
        process.line("listening on");
        Agent { process, netns_dir }
    }

    /// Starts a registry that remembers nothing on a TCP address, and waits until it listens; port 0 takes a free one.
    pub fn registry(&self, address: &str) -> RegistryServer {
        self.start_registry(&["--listen", address, "--store", "memory"])
    }

    /// Starts a registry that keeps what it knows in a directory, on a free port, and waits until it listens.
    ///
    /// # Panics
    ///
    /// If the name of the directory is no text.
    pub fn registry_in(&self, directory: &Path) -> RegistryServer {
        let directory = directory.to_str().expect("the names of tests are text");
        self.start_registry(&["--listen", "127.0.0.1:0", "--data-dir", directory])
    }

    fn start_registry(&self, arguments: &[&str]) -> RegistryServer {
        let arguments = [arguments, &["--unix", "none"]].concat();
        let mut process = Running::spawn(self.ours("registry-server", &arguments));
        let line = process.line("listening on ");
        let address = line.strip_prefix("listening on ").and_then(|text| text.parse().ok());
        RegistryServer { process, address: address.expect("it tells where it listens") }
    }

    /// Where the agent of this test listens.
    pub fn agent_target(&self) -> Target {
        Target::unix(self.path("netloftd.sock"))
    }

    /// A client of the agent. Must be called within a tokio runtime.
    pub fn agent_client(&self) -> AgentClient {
        AgentClient::connect(self.agent_target())
    }

    /// A client of the registry that the agent embeds. Must be called within a tokio runtime.
    pub fn registry_client(&self) -> Client {
        Client::connect(self.agent_target().into())
    }

    /// Takes away what an agent leaves that is killed: the mounts of its namespaces, and its links.
    ///
    /// # Panics
    ///
    /// If the links cannot be listed.
    pub fn sweep(&self) {
        for entry in std::fs::read_dir(self.path("netns")).into_iter().flatten().flatten() {
            let _ = nix::mount::umount2(&entry.path(), nix::mount::MntFlags::MNT_DETACH);
            let _ = std::fs::remove_file(entry.path());
        }
        let _ = std::fs::remove_file(self.path("netloftd.sock"));
        for link in From::Host.ip(&["link"]) {
            let is_ours = link["ifalias"].as_str().is_some_and(|alias| alias.starts_with("netloft:"));
            if let (true, Some(name)) = (is_ours, link["ifname"].as_str()) {
                // Fails for what its namespace takes with it meanwhile.
                let _ = Command::new(tool("ip")).args(["link", "delete", name]).output();
            }
        }
    }

    /// Ends the test: fails if anything is there that was not there before. Everything started must have ended.
    ///
    /// # Panics
    ///
    /// If anything is left.
    pub fn finish(self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            reap_orphans();
            // The directory of an agent outlives it, like /run/netloft; what is in it does not.
            let _ = std::fs::remove_dir(self.path("netns"));
            let now = self.traces();
            if now == self.before {
                return;
            }
            assert!(Instant::now() < deadline, "left behind: {now:#?}\nbefore: {:#?}", self.before);
            // A namespace goes, and its links with it, some time after the last process in it.
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Waits for adopted processes that have ended.
fn reap_orphans() {
    while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status != WaitStatus::StillAlive) {}
}

impl Drop for Lab {
    /// After a failure takes away what the programs left, so that the next test does not fail of it.
    fn drop(&mut self) {
        if thread::panicking() {
            self.sweep();
        }
    }
}

/// A running `netloftd`.
pub struct Agent {
    /// The process.
    pub process: Running,
    /// Where it names the namespaces of sandboxes.
    pub netns_dir: PathBuf,
}

impl Agent {
    /// Asks it to end, and fails unless it ends well.
    ///
    /// # Panics
    ///
    /// If it does not end well.
    pub fn stop(self) {
        self.process.stop().success();
    }

    /// Kills it, which leaves its links and mounts.
    pub fn kill(self) {
        self.process.kill();
    }
}

/// A running `registry-server`.
pub struct RegistryServer {
    /// The process.
    pub process: Running,
    /// Where it listens.
    pub address: SocketAddr,
}

impl RegistryServer {
    /// Its target, as a flag takes it.
    pub fn target(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client of it. Must be called within a tokio runtime.
    ///
    /// # Panics
    ///
    /// Never: an address is a target.
    pub fn client(&self) -> Client {
        Client::connect(self.target().parse().expect("an address is a target"))
    }

    /// Asks it to end, and fails unless it ends well.
    pub fn stop(self) {
        self.process.stop().success();
    }
}
