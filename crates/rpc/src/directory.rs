//! Where the programs of a user put things unless they are told otherwise.

use std::path::PathBuf;

/// The directory of this user's sockets: `/run/netloft` for root, `netloft` in `$XDG_RUNTIME_DIR` for others. None if
/// that is not set: anywhere else somebody could be there before us.
pub fn run_directory() -> Option<PathBuf> {
    let directory = if nix::unistd::geteuid().is_root() {
        PathBuf::from("/run")
    } else {
        PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty())?)
    };
    Some(directory.join("netloft"))
}

/// The directory of what this user's programs keep: `/var/lib/netloft` for root; for others `netloft` in
/// `$XDG_STATE_HOME`, or in `.local/state` of the home directory. None if neither is set.
pub fn state_directory() -> Option<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/netloft"));
    }
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let states = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")))?;
    Some(states.join("netloft"))
}
