//! A process that a test started: its output is kept, every wait has an end, and it ends with the test.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use netloft_netns::{EnterOptions, Netns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long anything may take that has no bound of its own: long enough for a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `probe` finds something, at most for [`PATIENCE`].
///
/// # Panics
///
/// If it does not.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until a condition holds, at most for [`PATIENCE`].
///
/// # Panics
///
/// If it does not.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(what, || holds().then_some(()));
}

/// Whether a process runs: not if it has ended and only waits to be noticed.
pub fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    // The state follows the name, which is in parentheses and may contain some (proc_pid_stat(5)).
    stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X'])))
}

/// Sends a signal to a process.
///
/// # Panics
///
/// If there is no such process.
pub fn signal(pid: u32, signal: Signal) {
    let number = i32::try_from(pid).expect("the kernel's process numbers fit");
    kill(Pid::from_raw(number), signal)
        .unwrap_or_else(|error| panic!("cannot send {signal} to {pid}: {error}"));
}

/// A running process. Dropping it kills it and waits for its end; if the test is failing, its output is shown.
///
/// It is killed by the kernel when the test program ends in any other way.
pub struct Running {
    name: String,
    /// Whether its end was waited for.
    has_ended: bool,
    child: Child,
    stdout: Output,
    stderr: Output,
}

/// How a process ended.
#[derive(Debug)]
pub struct Finished {
    /// What it was.
    pub name: String,
    /// Its end.
    pub status: ExitStatus,
    /// All it printed.
    pub stdout: String,
    /// All its complaints.
    pub stderr: String,
}

impl Running {
    /// Starts a command with an empty input.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::null());
        Self::spawn_as_is(command)
    }

    /// Starts a command that takes orders; see [`say`](Self::say).
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn spawn_listening(mut command: Command) -> Self {
        command.stdin(Stdio::piped());
        Self::spawn_as_is(command)
    }

    fn spawn_as_is(mut command: Command) -> Self {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let name = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let here = Netns::current().expect("every process is in a network namespace");
        EnterOptions::new(&here).kill_with_parent().apply(&mut command);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let stdout = Output::read(child.stdout.take().expect("it is piped"));
        let stderr = Output::read(child.stderr.take().expect("it is piped"));
        Self { name, has_ended: false, child, stdout, stderr }
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it complained so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits for a line of its output that contains `part`; answers the first.
    ///
    /// # Panics
    ///
    /// If none comes, or it ends before.
    pub fn line(&mut self, part: &str) -> String {
        let what = format!("{:?} from {}", part, self.name);
        eventually(&what, || {
            let has_ended = self.child.try_wait().is_ok_and(|status| status.is_some());
            let found = self.stdout.text().lines().find(|line| line.contains(part)).map(str::to_owned);
            assert!(found.is_some() || !has_ended || !self.stdout.is_read(), "{what}: it ended without");
            found
        })
    }

    /// Says a line to it.
    ///
    /// # Panics
    ///
    /// If it does not listen.
    pub fn say(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("it was started to listen");
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).expect("it listens");
    }

    /// Sends it a signal.
    pub fn signal(&self, number: Signal) {
        signal(self.pid(), number);
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// If it does not end, or if its output is held open by somebody it left behind.
    pub fn wait(mut self) -> Finished {
        let name = self.name.clone();
        let status =
            eventually(&format!("the end of {name}"), || self.child.try_wait().expect("it is our child"));
        until(&format!("the end of everything that {name} started"), || {
            self.stdout.is_read() && self.stderr.is_read()
        });
        self.has_ended = true;
        Finished { name, status, stdout: self.stdout(), stderr: self.stderr() }
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Panics
    ///
    /// As [`wait`](Self::wait).
    pub fn stop(self) -> Finished {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// Kills it (SIGKILL) and waits until it has ended.
    pub fn kill(mut self) {
        self.end();
    }

    #[expect(clippy::print_stderr, reason = "it is part of the report of a failure")]
    fn show(&self) {
        eprintln!("--- {} said:\n{}{}", self.name, self.stdout(), self.stderr());
    }

    fn end(&mut self) {
        // Either fails only if it has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
        if thread::panicking() && !self.has_ended {
            self.show();
        }
    }
}

impl Finished {
    /// Its exit code; none if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// What it printed.
    ///
    /// # Panics
    ///
    /// If it failed.
    #[track_caller]
    pub fn success(self) -> String {
        assert!(self.status.success(), "{}: {}\n{}{}", self.name, self.status, self.stdout, self.stderr);
        self.stdout
    }
}

/// A stream that a thread reads to its end.
struct Output {
    text: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Output {
    fn read(stream: impl Read + Send + 'static) -> Self {
        let text: Arc<Mutex<String>> = Arc::default();
        let shared = Arc::clone(&text);
        let reader = thread::spawn(move || {
            let mut lines = BufReader::new(stream);
            let mut line = Vec::new();
            while lines.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
                let line = std::mem::take(&mut line);
                shared
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push_str(&String::from_utf8_lossy(&line));
            }
        });
        Self { text, reader }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_read(&self) -> bool {
        self.reader.is_finished()
    }
}
