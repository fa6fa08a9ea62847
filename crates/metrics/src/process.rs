//! What the kernel says about this process, under the names that Prometheus has for it.

use std::fs;
use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Parts of a second in which the kernel counts processor time for user space; it is 100 on every Linux.
const TICKS: f64 = 100.0;
/// The fields of `/proc/self/stat` after the name, which may contain spaces (proc(5)): `utime` is the 14th of all.
const UTIME: usize = 14 - 3;

/// What is known about this process.
#[derive(Debug, Default)]
pub(crate) struct Process {
    resident: Gauge,
    files: Gauge,
    cpu: Counter<f64, AtomicU64>,
}

impl Process {
    /// `registry` must add no prefix of its own.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let process = Self::default();
        registry.register("process_resident_memory_bytes", "Memory in use", process.resident.clone());
        registry.register("process_open_fds", "Open file descriptors", process.files.clone());
        registry.register("process_cpu_seconds", "Processor time", process.cpu.clone());
        let start = Gauge::<f64, AtomicU64>::default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        start.set(now.as_secs_f64());
        registry.register("process_start_time_seconds", "When it started, in seconds since 1970", start);
        process
    }

    /// Looks again. What cannot be read stays as it was.
    pub(crate) fn refresh(&self) {
        if let Some(resident) = resident_bytes() {
            self.resident.set(resident);
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            self.files.set(i64::try_from(files.count()).unwrap_or(i64::MAX));
        }
        if let Some(seconds) = cpu_seconds() {
            self.cpu.inc_by((seconds - self.cpu.get()).max(0.0));
        }
    }
}

fn resident_bytes() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(UTIME);
    let (user, system): (f64, f64) = (times.next()?.parse().ok()?, times.next()?.parse().ok()?);
    Some((user + system) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_used_its_time() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
        assert!(cpu_seconds().is_some_and(|seconds| (0.0..3_600.0).contains(&seconds)));
    }
}
