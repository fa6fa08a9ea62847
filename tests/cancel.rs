//! Every public async function says what happens when its future is dropped.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_public_async_function_says_what_happens_when_it_is_dropped() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let mut functions = 0;
    let mut silent = Vec::new();
    for path in sources(&crates) {
        let text = fs::read_to_string(&path).unwrap();
        let mut says = false;
        for line in text.lines().map(str::trim_start) {
            if line.starts_with("pub async fn") {
                functions += 1;
                if !says {
                    silent.push(format!("{}: {line}", path.display()));
                }
            }
            if line.starts_with("///") {
                says |= line == "/// # Cancel safety";
            } else if !line.starts_with("#[") {
                says = false;
            }
        }
    }
    assert!(functions > 40, "{functions} functions were found");
    assert!(silent.is_empty(), "no `# Cancel safety`:\n{}", silent.join("\n"));
}

/// Those of our crates, without what is only for tests.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !["tests", "testing", "target", "benches", "examples"].contains(&name.as_str()) {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
