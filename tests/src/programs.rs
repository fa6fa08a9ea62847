//! Where programs are: ours, fresh from the build, and those of others that look at what ours did.
//!
//! A program that is missing fails the test. It is never skipped: a test that did not run has shown nothing.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};

/// The directory of this workspace, or of its copy if the tests were copied away: `NETLOFT_SOURCE_DIR`.
pub fn source_dir() -> PathBuf {
    let built_in = || Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    env::var_os("NETLOFT_SOURCE_DIR").map_or_else(built_in, PathBuf::from)
}

/// The directory of our programs: `NETLOFT_BIN_DIR`; if that is not set, they are built first, once.
///
/// # Panics
///
/// If they cannot be built.
pub fn bin_dir() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| env::var_os("NETLOFT_BIN_DIR").map_or_else(build, PathBuf::from))
}

fn build() -> PathBuf {
    let build = ["build", "--quiet", "--locked", "--workspace", "--bins"];
    let status = Command::new(env!("CARGO")).args(build).current_dir(source_dir()).status();
    assert!(status.is_ok_and(|status| status.success()), "the programs to test cannot be built");
    // This program is target/PROFILE/deps/NAME.
    let this = env::current_exe().expect("Linux tells every program where it is");
    this.ancestors().nth(3).expect("cargo runs tests three levels below target").join("debug")
}

/// One of our programs.
pub fn ours(name: &str) -> PathBuf {
    bin_dir().join(name)
}

/// Builds a package as it is shipped, unless `NETLOFT_BIN_DIR` says where its programs are.
///
/// # Errors
///
/// If it cannot be built.
pub fn build_release(package: &str) -> Result<()> {
    if env::var_os("NETLOFT_BIN_DIR").is_some() {
        return Ok(());
    }
    let build = ["build", "--quiet", "--locked", "--release", "--package", package];
    let status = Command::new(env!("CARGO")).args(build).current_dir(source_dir()).status()?;
    ensure!(status.success(), "{package} cannot be built");
    Ok(())
}

/// One of our programs as it is shipped: from `NETLOFT_BIN_DIR`, or where [`build_release`] has put it. For benches.
///
/// # Errors
///
/// If this program is not where cargo puts benches.
pub fn released(name: &str) -> Result<PathBuf> {
    if let Some(directory) = env::var_os("NETLOFT_BIN_DIR") {
        return Ok(PathBuf::from(directory).join(name));
    }
    // This program is target/release/deps/NAME.
    let this = env::current_exe()?;
    Ok(this.ancestors().nth(2).context("cargo runs benches below target")?.join(name))
}

/// A program of somebody else, found on the path.
///
/// # Panics
///
/// If there is none.
pub fn tool(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut candidates = env::split_paths(&path).map(|directory| directory.join(name));
    let found = candidates.find(|candidate| candidate.is_file());
    found.unwrap_or_else(|| {
        panic!("there is no `{name}` here: run tests/run, which brings what the tests need")
    })
}

/// The server of etcd: on the path, or where tests/setup unpacks it.
///
/// # Panics
///
/// If there is none.
pub fn etcd() -> PathBuf {
    let unpacked = source_dir().join("target/test-tools/usr/bin/etcd");
    if unpacked.is_file() { unpacked } else { tool("etcd") }
}

/// A Python interpreter, with the modules of grpcio on its path: `NETLOFT_TEST_PYTHON` and
/// `NETLOFT_TEST_PYTHONPATH`.
///
/// # Panics
///
/// If they are not set.
pub fn python() -> Command {
    let setting = |name| {
        env::var_os(name).unwrap_or_else(|| {
            panic!("{name} is not set: run tests/run, which brings what the tests need and says where it is")
        })
    };
    let mut command = Command::new(setting("NETLOFT_TEST_PYTHON"));
    command.env("PYTHONPATH", setting("NETLOFT_TEST_PYTHONPATH"));
    // Compiled modules would be left beside the sources, which may belong to somebody else.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}
