//! The whole run leaves nothing: compared at its end with what was there at its beginning.

use std::path::PathBuf;
use std::sync::OnceLock;

use netloft_tests::{Lab, Traces};

static BEFORE: OnceLock<(Traces, Vec<PathBuf>)> = OnceLock::new();

pub(crate) fn the_world_begins_with_nothing_of_ours() {
    let lab = Lab::new();
    let (before, files) = BEFORE.get_or_init(|| (lab.traces(), directories_of_this_run()));
    assert!(before.links.iter().eq(["lo"]), "{:?}", before.links);
    assert!(before.processes.is_empty() && before.files.is_empty(), "{before:?}");
    assert_eq!(files.len(), 1, "the lab's own");
    lab.finish();
    assert!(directories_of_this_run().is_empty());
}

pub(crate) fn the_world_ends_with_nothing_of_ours() {
    let lab = Lab::new();
    // If this test was picked alone there is nothing to compare with, except what every world begins with.
    let (before, files) = BEFORE.get_or_init(|| (lab.traces(), directories_of_this_run()));
    assert!(before.links.iter().eq(["lo"]), "{:?}", before.links);
    assert_eq!(lab.traces(), *before);
    assert_eq!(directories_of_this_run().len(), files.len());
    lab.finish();
    assert!(directories_of_this_run().is_empty());
}

fn directories_of_this_run() -> Vec<PathBuf> {
    let own = format!("netloft-e2e-{}-", std::process::id());
    let entries = std::fs::read_dir(std::env::temp_dir()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(&own)).collect()
}
