//! What a program can leave behind in the world of the tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::eyes::From;

/// What is there, to be compared with what was there before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traces {
    /// The links of the host.
    pub links: BTreeSet<String>,
    /// Where something is mounted.
    pub mounts: Vec<String>,
    /// What runs below this process, by number and name. A lab adopts what its programs leave running.
    pub processes: BTreeSet<(u32, String)>,
    /// What is in the directory of our programs.
    pub files: BTreeSet<PathBuf>,
}

impl Traces {
    /// What is there now, with the files in `directory`.
    ///
    /// # Panics
    ///
    /// If it cannot be read.
    pub fn now(directory: &Path) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("Linux tells what is mounted");
        // The fifth field is where (proc_pid_mountinfo(5)).
        let mounts = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(str::to_owned).collect();
        Self {
            links: From::Host.links().into_iter().collect(),
            mounts,
            processes: children(std::process::id()),
            files: files(directory),
        }
    }
}

/// Makes processes whose parent ends children of this one, so that none can escape being counted.
///
/// # Panics
///
/// If the kernel refuses, which it has no reason to.
pub(crate) fn adopt_orphans() {
    nix::sys::prctl::set_child_subreaper(true).expect("every process may adopt");
}

fn children(parent: u32) -> BTreeSet<(u32, String)> {
    let entries = fs::read_dir("/proc").expect("there is a /proc");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, child_of(parent, pid)?))).collect()
}

/// The name of process `pid`, if it runs and is a child of `parent`.
fn child_of(parent: u32, pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // As in "42 (name) S 1 ...": number, name, state, parent (proc_pid_stat(5)).
    let (before, after) = stat.rsplit_once(") ")?;
    let mut fields = after.split(' ');
    let (state, its_parent) = (fields.next()?, fields.next()?);
    let name = before.split_once('(')?.1;
    (its_parent == parent.to_string() && state != "Z").then(|| name.to_owned())
}

/// Everything below a directory.
fn files(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path.clone());
            }
            found.insert(path);
        }
    }
    found
}
