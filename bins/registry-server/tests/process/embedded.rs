//! The embedded store in a process: what it keeps when the process is killed, and what else can be done with it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use netloft_client::{Client, RegisterOptions};
use netloft_types::{Query, Update};
use nix::sys::signal::Signal;
use tokio::task::JoinSet;

use super::server::{Server, command, instance, refused};

const WRITERS: usize = 16;

/// Starts a server on a directory. Each gets a port of its own, so that no client of one speaks to the next.
fn start(directory: &Path) -> (Server, Client) {
    let mut server = Server::start(
        &["--listen", "127.0.0.1:0", "--unix", "none", "--data-dir", directory.to_str().unwrap()],
        &[],
    );
    let address = server.next_address();
    let client = Client::connect(format!("http://{address}").parse().unwrap());
    (server, client)
}

async fn ids(client: &Client) -> BTreeSet<String> {
    let found = client.resolve(&Query::everything()).await.unwrap();
    found.instances.iter().map(|instance| instance.id.to_string()).collect()
}

// The writers must go on while this thread waits for the process.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_answered_is_in_the_first_answer_after_kill_9() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("registry");
    let answered = Arc::new(Mutex::new(BTreeSet::new()));
    for round in 0..8 {
        let (server, client) = start(&directory);
        // The first answer there is.
        let found = ids(&client).await;
        let promised = answered.lock().unwrap().clone();
        assert!(found.is_superset(&promised), "round {round}: lost {:?}", promised.difference(&found));

        let target = client.target().clone();
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let (client, answered) = (Client::connect(target.clone().into()), Arc::clone(&answered));
            writers.spawn(async move {
                let mut held = Vec::new();
                for number in 0.. {
                    let id = format!("{round}-{writer}-{number}");
                    match client.register(instance(&id), RegisterOptions::default()).await {
                        Ok(registration) => held.push(registration),
                        Err(error) => return assert!(error.is_unavailable(), "{error}"),
                    }
                    answered.lock().unwrap().insert(id);
                }
            });
        }
        let before = promised.len();
        while answered.lock().unwrap().len() < before + 40 * (round + 1) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.kill();
        writers.join_all().await;
    }
    let (server, client) = start(&directory);
    assert!(ids(&client).await.is_superset(&answered.lock().unwrap()));
    assert_eq!(server.stop(Signal::SIGTERM).0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_over_kill_9_without_a_reset() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("registry");
    let (server, client) = start(&directory);
    let _before = client.register(instance("before"), RegisterOptions::default()).await.unwrap();
    let mut watch = client.watch(&Query::everything(), None).await.unwrap();
    let mut told = watch.next().await.unwrap().last().unwrap().at();
    server.kill();

    let (server, client) = start(&directory);
    let _after = client.register(instance("after"), RegisterOptions::default()).await.unwrap();
    let mut watch = client.watch(&Query::everything(), Some(told)).await.unwrap();
    let batch = watch.next().await.unwrap();
    assert!(
        matches!(&batch[..], [Update::Put { instance, .. }] if instance.id.as_str() == "after"),
        "{batch:?}"
    );
    told = batch[0].at();
    assert_eq!(client.resolve(&Query::everything()).await.unwrap().at, told);
    drop(watch);
    assert_eq!(server.stop(Signal::SIGTERM).0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_a_directory_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let (server, client) = start(place.path());
    let output = refused(&["--listen", "127.0.0.1:0", "--data-dir", place.path().to_str().unwrap()]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("is in use by another store"), "{text}");
    assert!(ids(&client).await.is_empty());
    server.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_running_server_can_be_served() {
    let place = tempfile::tempdir().unwrap();
    let [directory, copy, file] = ["registry", "copy", "backup"].map(|name| place.path().join(name));
    let [directory_name, copy_name, file_name] =
        [&directory, &copy, &file].map(|path| path.to_str().unwrap());
    let (server, client) = start(&directory);
    let _kept = client.register(instance("kept"), RegisterOptions::default()).await.unwrap();

    let output = command(&["backup", "--data-dir", directory_name, file_name]).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}");
    assert!(told.contains(file_name) && told.contains("1 instances of 1 sessions"), "{told}");
    // Never over what is there.
    for (arguments, refusal) in [
        (["backup", "--data-dir", directory_name, file_name], "is there already"),
        (["restore", "--data-dir", directory_name, file_name], "is in use by another store"),
    ] {
        let output = refused(&arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(refusal), "{text}");
    }
    let output = command(&["restore", "--data-dir", copy_name, file_name]).output().unwrap();
    assert!(output.status.success());
    server.kill();

    let (server, client) = start(&copy);
    assert_eq!(ids(&client).await, BTreeSet::from(["kept".to_owned()]));
    server.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_told_with_its_place_and_the_way_out() {
    let place = tempfile::tempdir().unwrap();
    let (server, client) = start(place.path());
    let _one = client.register(instance("one"), RegisterOptions::default()).await.unwrap();
    let _two = client.register(instance("two"), RegisterOptions::default()).await.unwrap();
    server.kill();
    let files = std::fs::read_dir(place.path()).unwrap().map(|file| file.unwrap().path());
    let log =
        files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("log-")).max().unwrap();
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[512 + 40] ^= 1;
    std::fs::write(&log, &bytes).unwrap();

    let output = refused(&["--listen", "127.0.0.1:0", "--data-dir", place.path().to_str().unwrap()]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in [log.to_str().unwrap(), "is damaged at byte 512", "restore a backup"] {
        assert!(text.contains(part), "{text} lacks {part}");
    }
    assert_eq!(std::fs::read(&log).unwrap(), bytes, "nothing was changed");
}
