//! The process: what it says, what it serves, how it ends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Lines, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use netloft_client::{Client, RegisterOptions};
use netloft_types::{Instance, Query};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

// Stopping blocks its thread, and the clients must be able to hang up meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn it_says_where_it_listens_serves_there_and_ends_well_when_asked() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("registry.sock");
        let mut server =
            Server::start(&["--listen", "127.0.0.1:0", "--unix", socket.to_str().unwrap()], None);
        let tcp = server.next_address();
        assert!(tcp.starts_with("127.0.0.1:") && !tcp.ends_with(":0"), "{tcp}");
        assert_eq!(server.next_address(), format!("unix://{}", socket.display()));

        let over_tcp = Client::connect(format!("http://{tcp}").parse().unwrap());
        let over_unix = Client::connect(format!("unix://{}", socket.display()).parse().unwrap());
        let _registration = over_tcp.register(instance(), RegisterOptions::default()).await.unwrap();
        let found = over_unix.resolve(&Query::service("api".parse().unwrap())).await.unwrap();
        assert_eq!(*found.instances[0], instance());

        let (code, log) = server.stop(signal);
        assert_eq!(code, Some(0), "{log}");
        assert!(!socket.exists());
    }
}

#[test]
fn a_flag_counts_more_than_the_environment_and_the_environment_more_than_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("registry.toml");
    let file = "listen = \"127.0.0.3:0\"\nunix = \"none\"";
    std::fs::write(&config, file).unwrap();
    let config = config.to_str().unwrap();
    let environment = ("NETLOFT_REGISTRY_LISTEN", "127.0.0.2:0");
    let cases = [
        (vec!["--config", config], None, "127.0.0.3:"),
        (vec!["--config", config], Some(environment), "127.0.0.2:"),
        (vec!["--config", config, "--listen", "127.0.0.1:0"], Some(environment), "127.0.0.1:"),
    ];
    for (arguments, environment, expected) in cases {
        let mut server = Server::start(&arguments, environment);
        let address = server.next_address();
        assert!(address.starts_with(expected), "{address} is not {expected}");
        assert_eq!(server.stop(Signal::SIGTERM).0, Some(0));
    }
}

#[test]
fn what_cannot_be_meant_is_refused_with_code_2_and_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("registry.toml");
    std::fs::write(&config, "lisen = \"127.0.0.1:0\"").unwrap();
    let config = config.to_str().unwrap();
    let cases: [(&[&str], &[&str]); 5] = [
        (&["--config", config], &["unknown field `lisen`", config]),
        (&["--config", "/nowhere/at/all"], &["/nowhere/at/all"]),
        (&["--listen", "0.0.0.0:0"], &["0.0.0.0:0", "--insecure-allow-remote"]),
        (&["--listen", "localhost"], &["--listen"]),
        (&["--store", "paper"], &["--store", "memory"]),
    ];
    for (arguments, expected) in cases {
        let output = refused(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        for part in expected {
            assert!(text.contains(part), "{text} lacks {part}");
        }
    }
}

#[test]
fn what_cannot_be_done_fails_with_code_1_and_is_told_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let output = refused(&["--listen", "none", "--unix", file.to_str().unwrap()]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("registry-server: cannot listen on unix socket"), "{text}");
    assert!(Path::new(&file).is_file());
}

fn instance() -> Instance {
    let address = "10.0.0.2".parse().unwrap();
    Instance::new("api-1".parse().unwrap(), "api".parse().unwrap(), address, "80".parse().unwrap())
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_registry-server"));
    command.env_clear().args(arguments);
    command
}

/// Runs a server that must not start.
fn refused(arguments: &[&str]) -> Output {
    command(arguments).stdin(Stdio::null()).output().unwrap()
}

/// A running server, killed if the test fails before it is stopped.
struct Server {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Server {
    fn start(arguments: &[&str], environment: Option<(&str, &str)>) -> Self {
        let mut child = command(arguments)
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, stdout }
    }

    fn next_address(&mut self) -> String {
        let line = self.stdout.next().expect("it ended without a word").unwrap();
        line.strip_prefix("listening on ").expect("a ready line").to_owned()
    }

    /// Asks it to end; answers its exit code and its log.
    fn stop(mut self, signal: Signal) -> (Option<i32>, String) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(pid, signal).unwrap();
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
