//! A server to test.

use std::io::{BufRead as _, BufReader, Lines, Read as _};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use netloft_types::Instance;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// For a server that is to leave nothing behind.
pub(crate) const MEMORY: (&str, &str) = ("NETLOFT_REGISTRY_STORE", "memory");

pub(crate) fn instance(id: &str) -> Instance {
    let address = "10.0.0.2".parse().unwrap();
    Instance::new(id.parse().unwrap(), "api".parse().unwrap(), address, "80".parse().unwrap())
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_registry-server"));
    command.env_clear().args(arguments);
    command
}

/// Runs a server that must not start.
pub(crate) fn refused(arguments: &[&str]) -> Output {
    command(arguments).stdin(Stdio::null()).output().unwrap()
}

/// A running server, killed if the test fails before it is stopped.
pub(crate) struct Server {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Server {
    pub(crate) fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = command(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, stdout }
    }

    pub(crate) fn next_address(&mut self) -> String {
        let line = self.stdout.next().expect("it ended without a word").unwrap();
        line.strip_prefix("listening on ").expect("a ready line").to_owned()
    }

    /// Where it answers Prometheus; told after all addresses.
    pub(crate) fn next_metrics(&mut self) -> String {
        let line = self.stdout.next().expect("it ended without a word").unwrap();
        let url = line.strip_prefix("metrics on http://").expect("a line about metrics");
        url.strip_suffix("/metrics").expect("the path of Prometheus").to_owned()
    }

    /// Kills it, in the middle of whatever it does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Asks it to end; answers its exit code and its log.
    pub(crate) fn stop(mut self, signal: Signal) -> (Option<i32>, String) {
        self.signal(signal);
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(std::time::Instant::now() < deadline, "it did not end");
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (status.code(), log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
