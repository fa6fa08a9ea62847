//! The machine: what the bench needs of it, and what a reader of the figures wants to know of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use anyhow::{Context as _, Result};
use nix::mount::{MsFlags, mount};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::statfs::statfs;

use super::peers::Peers;

/// Makes a place for sockets and names of namespaces that is seen by nobody else, and room for
/// thousands of them.
///
/// # Errors
///
/// If the process is not in a private world.
pub fn prepare() -> Result<()> {
    let (no_flags, no_data) = (MsFlags::empty(), None::<&str>);
    mount(Some("tmpfs"), "/run", Some("tmpfs"), no_flags, no_data).context("cannot mount /run")?;
    fs::create_dir_all("/run/netns")?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

/// The head of a report on peers of these versions, whose files are in a directory.
pub fn describe(files: &Path, versions: &[String]) -> String {
    let cpus = available_parallelism().map_or(0, std::num::NonZero::get);
    format!(
        "kernel   {}\ncpu      {cpus} x {}\nmemory   {}\ndisk     {}\nload     {}\npeers    {}\n\
         The last columns are ratios to ours: above 1, it takes or is so many times as much.",
        read("/proc/sys/kernel/osrelease"),
        field("/proc/cpuinfo", "model name"),
        field("/proc/meminfo", "MemTotal"),
        filesystem(files),
        read("/proc/loadavg"),
        versions.join("; "),
    )
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn field(path: &str, name: &str) -> String {
    let text = read(path);
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
    value.map_or_else(|| "unknown".into(), |(_, value)| value.trim().to_owned())
}

/// By number, as in `linux/magic.h`: the kinds that state is usually kept on.
fn filesystem(path: &Path) -> String {
    match statfs(path).map(|it| it.filesystem_type().0) {
        Ok(0xef53) => "ext4".into(),
        Ok(0x5846_5342) => "xfs".into(),
        Ok(0x9123_683e) => "btrfs".into(),
        Ok(0x0102_1994) => "tmpfs: no disk".into(),
        Ok(0x794c_7630) => "overlay".into(),
        Ok(magic) => format!("of type {magic:#x}"),
        Err(error) => error.to_string(),
    }
}

/// How a program calls its version; none if it is not here.
pub fn version(peers: &Peers, program: Result<PathBuf>, flag: &str) -> Option<String> {
    let mut command = peers.command(program.ok()?);
    command.arg(flag);
    let said = Peers::run(command, b"").ok()?;
    Some(String::from_utf8_lossy(&said).lines().next()?.trim().to_owned())
}
