//! The journal as a file, over the fake kernel.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use netloft_network::testing::FakeKernel;
use netloft_network::{Error, Host, HostOptions, JournalError};
use netloft_types::NetworkSpec;
use redb::{Database, ReadableDatabase as _, TableDefinition};

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

#[tokio::test]
async fn a_file_of_a_newer_layout_is_refused_and_stays_so() {
    let directory = tempfile::tempdir().unwrap();
    let kernel = FakeKernel::new().unwrap();
    let host = open(&kernel, directory.path()).unwrap();
    host.create_network(NetworkSpec::new("blue".parse().unwrap())).await.unwrap();
    host.leave().await.unwrap();
    let path = directory.path().join("network.redb");
    set_version(&path, 2);

    for _ in 0..2 {
        let refused = open(&kernel, directory.path()).unwrap_err();
        let Error::Journal(JournalError::Version { path: told, found: 2 }) = &refused else {
            panic!("{refused:?}")
        };
        assert_eq!(*told, path);
        assert!(kernel.has_link("nl-blue"), "nothing is taken away");
    }
    set_version(&path, 1);
    let host = open(&kernel, directory.path()).unwrap();
    assert_eq!(host.networks().await.unwrap().len(), 1);
    host.close().await.unwrap();
}

#[tokio::test]
async fn a_journal_that_somebody_has_open_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let kernel = FakeKernel::new().unwrap();
    let host = open(&kernel, directory.path()).unwrap();
    let refused = open(&kernel, directory.path()).unwrap_err();
    assert!(matches!(&refused, Error::Journal(JournalError::Unusable { .. })), "{refused:?}");
    host.leave().await.unwrap();
    open(&kernel, directory.path()).unwrap();
}

fn open(kernel: &FakeKernel, directory: &Path) -> Result<Host, Error> {
    let options = HostOptions { state_dir: Some(directory.to_owned()), ..HostOptions::default() };
    Host::open_over(Box::new(kernel.clone()), options)
}

fn set_version(path: &Path, version: u64) {
    let database = Database::open(path).unwrap();
    assert_ne!(
        database.begin_read().unwrap().open_table(META).unwrap().get("version").unwrap().unwrap().value(),
        version
    );
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("version", version).unwrap();
    transaction.commit().unwrap();
}
