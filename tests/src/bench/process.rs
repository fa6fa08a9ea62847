//! Daemons: ours and those of others.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use netloft_netns::{EnterOptions, Netns};

/// How long a daemon may take to be there.
const PATIENCE: Duration = Duration::from_mins(1);

/// A daemon in a host. Dropping it kills it; so does the end of the bench.
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts a daemon, whose complaints go to a file. Must be called on the main thread, with which it ends.
    ///
    /// # Errors
    ///
    /// If there is no such program.
    pub fn start(mut command: Command, host: &Netns, log_path: &Path) -> Result<Self> {
        let name =
            Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        EnterOptions::new(host).kill_with_parent().apply(&mut command);
        let log = File::create(log_path)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, log: log_path.to_owned(), child })
    }

    /// Waits until it prints a line with `part`; what it prints later is read and forgotten.
    ///
    /// # Errors
    ///
    /// If it ends before.
    pub fn says(&mut self, part: &str) -> Result<()> {
        let mut lines = BufReader::new(self.child.stdout.take().context("it is piped")?);
        let mut line = String::new();
        while !line.contains(part) {
            line.clear();
            if lines.read_line(&mut line)? == 0 {
                bail!("{} ended instead of saying {part:?}: {}", self.name, self.complaint());
            }
        }
        thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Ok(())
    }

    /// Waits until something holds that it brings about.
    ///
    /// # Errors
    ///
    /// If it ends before, or it takes too long.
    pub fn brings(&mut self, what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{}: {status} before {what}: {}", self.name, self.complaint());
            }
            if Instant::now() > deadline {
                bail!("{}: no {what} within {PATIENCE:?}", self.name);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it, and waits until it is gone.
    pub fn kill(&mut self) {
        // Either fails only if it has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// What it said of why it ended: its first error, or else its last words.
    fn complaint(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let mut lines = log.lines().filter(|line| !line.is_empty());
        let error = lines.clone().find(|line| line.to_lowercase().contains("error"));
        error.or_else(|| lines.next_back()).unwrap_or_default().to_owned()
    }

    /// The process that it started, if it is one that enters namespaces for another.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn child(&self) -> Result<u32> {
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let child =
            children.split_whitespace().next().with_context(|| format!("{} has no child", self.name))?;
        Ok(child.parse()?)
    }
}

/// How much memory a process has resident, in MiB.
///
/// # Errors
///
/// If there is no such process.
pub fn resident_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    Ok(kib.context("the kernel tells it")?.trim().parse::<f64>()? / 1024.0)
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
