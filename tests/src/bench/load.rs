//! What a server does under load: how much, how late, and at what price.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::time::ClockId;
use nix::unistd::Pid;

use super::samples::Samples;

/// In which the kernel counts processor time for programs: `USER_HZ`, the same on every machine of ours (proc(5)).
const TICK: Duration = Duration::from_millis(10);

/// Rounds of the same load on the same server.
#[derive(Debug, Default, Clone)]
pub struct Load(Vec<Round>);

/// One of them.
#[derive(Debug, Clone)]
pub struct Round {
    values: [f64; COLUMNS.len()],
    count: usize,
    written: u64,
    complaint: Option<String>,
}

/// What is known of a load, with the decimals that mean something. Of each, the median of the rounds is shown.
pub const COLUMNS: [(&str, usize); 6] = [
    ("ops/s", 0),
    ("p50 ms", 3),
    ("p99 ms", 3),
    // Processor time of the server for one operation: what other work on the machine disturbs least.
    ("server us", 1),
    ("client us", 1),
    // How many processors everybody else has used meanwhile.
    ("others", 2),
];
/// The columns that are compared, with what their ratio is called.
pub const COMPARED: [(usize, &str); 2] = [(0, "ops"), (3, "cpu")];

impl Load {
    /// The median of a column.
    pub fn median(&self, column: usize) -> Option<f64> {
        let mut values: Vec<_> = self.0.iter().map(|round| round.values[column]).collect();
        values.sort_unstable_by(f64::total_cmp);
        values.get(values.len().checked_sub(1)? / 2).copied()
    }

    /// The bytes of files on disks that the server changed in all rounds: of whole pages, and where the file system has
    /// pages of many sizes, of whole large ones. So 0 says something, and more than that only that it was not 0.
    #[expect(clippy::cast_precision_loss, reason = "no disk here has petabytes")]
    pub fn written(&self) -> f64 {
        self.0.iter().map(|round| round.written).sum::<u64>() as f64
    }

    /// What went wrong in the first round in which anything did.
    pub fn complaint(&self) -> Option<String> {
        self.0.iter().find_map(|round| round.complaint.clone())
    }
}

impl Extend<Round> for Load {
    fn extend<T: IntoIterator<Item = Round>>(&mut self, rounds: T) {
        self.0.extend(rounds);
    }
}

/// Measures what is spent from a moment on.
pub struct Meter {
    server: u32,
    start: Instant,
    before: Spent,
}

/// Processor time, and what went to a disk.
struct Spent {
    server: Duration,
    client: Duration,
    machine: Duration,
    written: u64,
}

impl Meter {
    /// Begins to measure a server, and this process as its client.
    ///
    /// # Errors
    ///
    /// If there is no such process.
    pub fn start(server: u32) -> Result<Self> {
        Ok(Self { server, start: Instant::now(), before: Spent::so_far(server)? })
    }

    /// What was done since, and at what price.
    ///
    /// # Errors
    ///
    /// If the server has ended.
    pub fn end(self, samples: &Samples) -> Result<Round> {
        let (now, before) = (Spent::so_far(self.server)?, &self.before);
        let wall = self.start.elapsed().as_secs_f64();
        let (server, client) =
            (now.server.saturating_sub(before.server), now.client.saturating_sub(before.client));
        let machine = now.machine.saturating_sub(before.machine);
        #[expect(clippy::cast_precision_loss, reason = "there are a few million")]
        let count = samples.count() as f64;
        let millis = |share| samples.quantile(share).unwrap_or_default().as_secs_f64() * 1e3;
        let micros = |time: Duration| time.as_secs_f64() * 1e6 / count.max(1.0);
        let others = machine.saturating_sub(server + client).as_secs_f64() / wall;
        let values = [count / wall, millis(0.5), millis(0.99), micros(server), micros(client), others];
        let written = now.written.saturating_sub(before.written);
        Ok(Round { values, count: samples.count(), written, complaint: samples.complaint() })
    }
}

impl Round {
    /// How many operations succeeded.
    pub fn count(&self) -> usize {
        self.count
    }
}

impl Spent {
    fn so_far(server: u32) -> Result<Self> {
        let client = processor_time(std::process::id())?;
        Ok(Self {
            server: processor_time(server)?,
            client,
            machine: of_machine()?,
            written: written(server)?,
        })
    }
}

/// The processor time that a process has used: of all its threads, those that have ended included, in the kernel and
/// outside.
///
/// # Errors
///
/// If there is no such process.
pub fn processor_time(pid: u32) -> Result<Duration> {
    // The files below /proc tell the same in steps of 10 ms.
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid.try_into()?))?;
    Ok(clock.now()?.into())
}

/// The bytes of the pages of files on disks that a process has changed (`write_bytes` of proc(5)).
fn written(pid: u32) -> Result<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
    let bytes = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(bytes.context("the kernel tells it")?.parse()?)
}

/// The processor time that all have used: user, nice, system, interrupts and what was stolen, but not idle and waiting.
fn of_machine() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let fields =
        stat.lines().next().context("the first line is of all processors")?.split_whitespace().skip(1);
    let used = fields.take(8).enumerate().filter(|(index, _)| !matches!(index, 3 | 4));
    used.map(|(_, field)| ticks(field)).sum()
}

fn ticks(field: &str) -> Result<Duration> {
    Ok(TICK * field.parse::<u32>()?)
}
