//! What it says, what it serves, how it ends.

use std::path::Path;

use netloft_client::{Client, RegisterOptions};
use netloft_types::Query;
use nix::sys::signal::Signal;

use super::server::{MEMORY, Server, instance, refused};

// Stopping blocks its thread, and the clients must be able to hang up meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn it_says_where_it_listens_serves_there_and_ends_well_when_asked() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("registry.sock");
        let mut server =
            Server::start(&["--listen", "127.0.0.1:0", "--unix", socket.to_str().unwrap()], &[MEMORY]);
        let tcp = server.next_address();
        assert!(tcp.starts_with("127.0.0.1:") && !tcp.ends_with(":0"), "{tcp}");
        assert_eq!(server.next_address(), format!("unix://{}", socket.display()));

        let over_tcp = Client::connect(format!("http://{tcp}").parse().unwrap());
        let over_unix = Client::connect(format!("unix://{}", socket.display()).parse().unwrap());
        let _registration = over_tcp.register(instance("api-1"), RegisterOptions::default()).await.unwrap();
        let found = over_unix.resolve(&Query::service("api".parse().unwrap())).await.unwrap();
        assert_eq!(*found.instances[0], instance("api-1"));

        let (code, log) = server.stop(signal);
        assert_eq!(code, Some(0), "{log}");
        assert!(!socket.exists());
    }
}

#[test]
fn a_flag_counts_more_than_the_environment_and_the_environment_more_than_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("registry.toml");
    let file = "listen = \"127.0.0.3:0\"\nunix = \"none\"";
    std::fs::write(&config, file).unwrap();
    let config = config.to_str().unwrap();
    let environment = ("NETLOFT_REGISTRY_LISTEN", "127.0.0.2:0");
    let cases = [
        (vec!["--config", config], vec![MEMORY], "127.0.0.3:"),
        (vec!["--config", config], vec![MEMORY, environment], "127.0.0.2:"),
        (vec!["--config", config, "--listen", "127.0.0.1:0"], vec![MEMORY, environment], "127.0.0.1:"),
    ];
    for (arguments, environment, expected) in cases {
        let mut server = Server::start(&arguments, &environment);
        let address = server.next_address();
        assert!(address.starts_with(expected), "{address} is not {expected}");
        assert_eq!(server.stop(Signal::SIGTERM).0, Some(0));
    }
}

#[test]
fn what_cannot_be_meant_is_refused_with_code_2_and_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("registry.toml");
    std::fs::write(&config, "lisen = \"127.0.0.1:0\"").unwrap();
    let config = config.to_str().unwrap();
    let cases: [(&[&str], &[&str]); 5] = [
        (&["--config", config], &["unknown field `lisen`", config]),
        (&["--config", "/nowhere/at/all"], &["/nowhere/at/all"]),
        (&["--listen", "0.0.0.0:0"], &["0.0.0.0:0", "--tls-cert"]),
        (&["--listen", "localhost"], &["--listen"]),
        (&["--store", "paper"], &["--store", "memory"]),
    ];
    for (arguments, expected) in cases {
        let output = refused(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        for part in expected {
            assert!(text.contains(part), "{text} lacks {part}");
        }
    }
}

#[test]
fn what_cannot_be_done_fails_with_code_1_and_is_told_once() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let output = refused(&["--listen", "none", "--unix", file.to_str().unwrap(), "--store", "memory"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("registry-server: cannot listen on unix socket"), "{text}");
    assert!(Path::new(&file).is_file());
}
