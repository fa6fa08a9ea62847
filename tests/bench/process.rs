//! Daemons: ours and those of others.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use netloft_netns::{EnterOptions, Netns};

/// How long a daemon may take to be there.
const PATIENCE: Duration = Duration::from_mins(1);

/// A daemon in a host. Dropping it kills it; so does the end of the bench.
pub(crate) struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts a daemon, whose complaints go to a file. Must be called on the main thread, with which it ends.
    pub(crate) fn start(mut command: Command, host: &Netns, log: &Path) -> Result<Self> {
        let name =
            Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        EnterOptions::new(host).kill_with_parent().apply(&mut command);
        let log = File::create(log)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, child })
    }

    /// Waits until it prints a line with `part`; what it prints later is read and forgotten.
    pub(crate) fn says(&mut self, part: &str) -> Result<()> {
        let mut lines = BufReader::new(self.child.stdout.take().context("it is piped")?);
        let mut line = String::new();
        while !line.contains(part) {
            line.clear();
            if lines.read_line(&mut line)? == 0 {
                bail!("{} ended instead of saying {part:?}", self.name);
            }
        }
        thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Ok(())
    }

    /// Waits until something holds that it brings about.
    pub(crate) fn brings(&mut self, what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{}: {status} before {what}", self.name);
            }
            if Instant::now() > deadline {
                bail!("{}: no {what} within {PATIENCE:?}", self.name);
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process that it started, if it is one that enters namespaces for another.
    pub(crate) fn child(&self) -> Result<u32> {
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let child =
            children.split_whitespace().next().with_context(|| format!("{} has no child", self.name))?;
        Ok(child.parse()?)
    }
}

/// How much memory a process has resident, in MiB.
pub(crate) fn resident_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    Ok(kib.context("the kernel tells it")?.trim().parse::<f64>()? / 1024.0)
}

impl Drop for Process {
    fn drop(&mut self) {
        // Either fails only if it has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
