//! What an operator is told: metrics over HTTP, and the service manager.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use netloft_client::{Client, RegisterOptions};
use netloft_proto::registry::v1 as wire;
use netloft_proto::registry::v1::registry_client::RegistryClient;
use netloft_types::{Health, Instance, Query};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::task::spawn_blocking;
use tonic::{Code, Request};

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
    let _watch = client.watch(&Query::everything(), None).await.unwrap();
    assert!(client.examine(&"nobody".parse().unwrap()).await.is_err());
    let seen = wire::Seen { instance_id: "a".to_owned(), successes: 1, ..wire::Seen::default() };
    let report = wire::ReportLoadRequest { reporter: 7, service: "api".to_owned(), seen: vec![seen] };
    let mut raw = RegistryClient::connect(target.clone()).await.unwrap();
    raw.report_load(report).await.unwrap();

    let (head, text) = get(&address, "/metrics");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.to_lowercase().contains("content-type: application/openmetrics-text"), "{head}");
    assert!(text.ends_with("# EOF\n"));
    assert_eq!(value(&text, "netloft_registry_services "), "1");
    assert_eq!(value(&text, "netloft_registry_usable_instances "), "1");
    assert_eq!(value(&text, "netloft_registry_instances{health=\"critical\"} "), "1");
    // Whoever runs the checks watches, too.
    let (sessions, watchers) = ("netloft_registry_sessions ", "netloft_registry_watchers ");
    assert_eq!((value(&text, sessions), value(&text, watchers)), ("1", "2"));
    assert_eq!(value(&text, "netloft_registry_limit{limit=\"sessions\"} "), "65536");
    assert_eq!(value(&text, "netloft_load_reports_total "), "1");
    assert_eq!(value(&text, "netloft_load_reporters "), "1");
    assert_eq!(value(&text, "netloft_load_advised_instances "), "0");
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

#[tokio::test]
async fn the_log_tells_of_each_call_at_debug_which_trace_it_belongs_to() {
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    for (level, is_told) in [("debug", true), ("info", false)] {
        let log = ["--listen", "127.0.0.1:0", "--unix", "none", "--log", level, "--log-format", "json"];
        let mut server = Server::start(&log, &[MEMORY]);
        let target = format!("http://{}", server.next_address());
        let mut client = RegistryClient::connect(target).await.unwrap();
        let mut request =
            Request::new(wire::GetRequest { instance_id: "nobody".into(), ..Default::default() });
        let header = format!("00-{trace}-00f067aa0ba902b7-01");
        request.metadata_mut().insert("traceparent", header.parse().unwrap());
        assert_eq!(client.get(request).await.unwrap_err().code(), Code::NotFound);
        drop(client);
        // Elsewhere, so that the connection can be closed meanwhile.
        let (_, log) = spawn_blocking(move || server.stop(Signal::SIGTERM)).await.unwrap();
        let lines: Vec<serde_json::Value> =
            log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let answered: Vec<_> = lines.iter().filter(|line| line["message"] == "answered").collect();
        assert_eq!(answered.len(), usize::from(is_told), "{log}");
        for line in answered {
            let span = &line["span"];
            assert_eq!((&line["code"], &span["trace"]), (&"5".into(), &trace.into()), "{line}");
            assert_eq!(span["method"], "netloft.registry.v1.Registry/Get");
            assert!(span["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
        }
        assert!(lines.iter().all(|line| line["level"] != "DEBUG" || is_told), "{log}");
    }
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
