//! What an operator is told: metrics over HTTP, and the service manager.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use netloft_client::{Client, RegisterOptions};
use netloft_types::{Health, Instance, Query};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::server::{MEMORY, Server, instance};

const METRICS: [&str; 6] = ["--listen", "127.0.0.1:0", "--unix", "none", "--metrics", "127.0.0.1:0"];

/// The status line and the body of an answer.
fn get(address: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn value<'a>(text: &'a str, name: &str) -> &'a str {
    let line =
        text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {text}"));
    line.trim()
}

#[tokio::test]
async fn prometheus_is_told_what_there_is_and_what_happened() {
    let mut server = Server::start(&METRICS, &[MEMORY]);
    let target = format!("http://{}", server.next_address());
    let address = server.next_metrics();
    let client = Client::connect(target.parse().unwrap());
    let sick = Instance { health: Health::Critical, ..instance("b") };
    let mut registrations = Vec::new();
    for one in [instance("a"), sick] {
        registrations.push(client.register(one, RegisterOptions::default()).await.unwrap());
    }
    assert_eq!(client.resolve(&Query::service("api".parse().unwrap())).await.unwrap().instances.len(), 1);
    assert!(client.examine(&"nobody".parse().unwrap()).await.is_err());

    let (head, text) = get(&address, "/metrics");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.to_lowercase().contains("content-type: application/openmetrics-text"), "{head}");
    assert!(text.ends_with("# EOF\n"));
    assert_eq!(value(&text, "netloft_registry_services "), "1");
    assert_eq!(value(&text, "netloft_registry_usable_instances "), "1");
    assert_eq!(value(&text, "netloft_registry_instances{health=\"critical\"} "), "1");
    let registered = "netloft_registry_commands_total{command=\"register\",outcome=\"done\"} ";
    assert_eq!(value(&text, registered), "2");
    let call = |method: &str, code: &str| {
        let labels = format!("method=\"netloft.registry.v1.Registry/{method}\",code=\"{code}\"");
        value(&text, &format!("netloft_grpc_calls_total{{{labels}}} "))
    };
    assert_eq!((call("Register", "OK"), call("Get", "NOT_FOUND")), ("2", "1"));
    assert!(value(&text, "process_resident_memory_bytes ").len() > 6, "less than a megabyte");
    assert!(value(&text, "process_open_fds ").parse::<u32>().unwrap() > 5);
    assert!(text.contains(concat!("netloft_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1")));

    assert!(get(&address, "/healthz").0.starts_with("HTTP/1.1 200"));
    assert!(get(&address, "/readyz").0.starts_with("HTTP/1.1 200"));
    assert!(get(&address, "/").0.starts_with("HTTP/1.1 404"));
    drop(registrations);
    assert_eq!(server.stop(Signal::SIGTERM).0, Some(0));
}

#[test]
fn the_service_manager_is_told_of_the_start_and_of_the_end() {
    let place = TempDir::new().unwrap();
    let path = place.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let told = || {
        let mut bytes = [0; 256];
        let len = manager.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..len].to_vec()).unwrap()
    };
    let mut server = Server::start(&METRICS, &[MEMORY, ("NOTIFY_SOCKET", path.to_str().unwrap())]);
    assert_eq!(told().trim(), "READY=1");
    // It is, when it says so.
    TcpStream::connect(server.next_address()).unwrap();
    assert_eq!(server.stop(Signal::SIGTERM).0, Some(0));
    assert_eq!(told().trim(), "STOPPING=1");
}

#[test]
fn the_unit_is_one_that_systemd_understands() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/netloft-registry.service");
    let text = std::fs::read_to_string(&unit).unwrap();
    // Where the program is not installed, systemd would complain of nothing else.
    let place = TempDir::new().unwrap();
    let copy = place.path().join("netloft-registry.service");
    std::fs::write(
        &copy,
        text.replace("/usr/local/bin/registry-server", env!("CARGO_BIN_EXE_registry-server")),
    )
    .unwrap();
    let verified = Command::new("systemd-analyze").arg("verify").arg(&copy).output();
    let verified =
        verified.expect("systemd-analyze is there: run tests/run, which brings what the tests need");
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}
