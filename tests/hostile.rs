//! What reads bytes from outside returns, whatever they are: the functions of the fuzzers, with their seeds and with what
//! is made at random from these.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use netloft_tests::programs::source_dir;
use proptest::prelude::*;

#[path = "../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "elsewhere it is a crate of its own")]
mod fuzz;

/// Every seed of a fuzzer: bytes that mean something.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let directory = source_dir().join("fuzz/seeds").join(target);
    let mut seeds: Vec<_> = files(&directory).into_iter().map(|path| fs::read(path).unwrap()).collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "there are no seeds in {}", directory.display());
    seeds
}

fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Seeds with some bytes replaced, inserted and cut off.
fn spoiled(target: &str) -> impl Strategy<Value = Vec<u8>> {
    let cut = (any::<prop::sample::Index>(), 0..4_usize, prop::collection::vec(any::<u8>(), 0..4));
    (prop::sample::select(seeds(target)), prop::collection::vec(cut, 0..4)).prop_map(|(mut bytes, cuts)| {
        for (at, len, inserted) in cuts {
            let at = at.index(bytes.len() + 1);
            let end = bytes.len().min(at + len);
            bytes.splice(at..end, inserted);
        }
        bytes
    })
}

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, cases: 4_000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_text_makes_reading_panic(bytes in spoiled("text"), noise in prop::collection::vec(any::<u8>(), 0..64)) {
        fuzz::text(&bytes);
        fuzz::text(&noise);
    }

    #[test]
    fn no_message_makes_reading_panic(bytes in spoiled("wire"), noise in prop::collection::vec(any::<u8>(), 0..64)) {
        fuzz::wire(&bytes);
        fuzz::wire(&noise);
    }

    #[test]
    fn no_file_makes_reading_panic(bytes in spoiled("disk"), noise in prop::collection::vec(any::<u8>(), 0..64)) {
        fuzz::disk(&bytes);
        fuzz::disk(&noise);
    }

    #[test]
    fn no_attribute_makes_reading_panic(bytes in spoiled("attributes"), noise in prop::collection::vec(any::<u8>(), 0..64)) {
        fuzz::attributes(&bytes);
        fuzz::attributes(&noise);
    }
}

#[test]
fn every_seed_means_something_to_its_reader() {
    for target in ["text", "wire", "disk", "attributes"] {
        for seed in seeds(target) {
            match target {
                "text" => fuzz::text(&seed),
                "wire" => fuzz::wire(&seed),
                "disk" => fuzz::disk(&seed),
                _ => fuzz::attributes(&seed),
            }
        }
    }
}
