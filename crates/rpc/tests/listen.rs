//! A unix socket is private, replaces only the dead, and leaves nothing behind; a server ends in bounded time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use netloft_registry::{MemoryStore, StoreOptions};
use netloft_rpc::{Error, Listener, Server, ServerOptions, SocketAccess, serve};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

#[tokio::test]
async fn a_socket_is_private_and_gone_with_its_listener() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made/for/it/registry.sock");
    for (access, mode) in [(SocketAccess::Owner, 0o600), (SocketAccess::Group, 0o660)] {
        let listener = Listener::unix(&path, access).await.unwrap();
        assert_eq!(listener.to_string(), format!("unix://{}", path.display()));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        drop(listener);
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn a_socket_left_behind_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "std leaves the file behind, as a killed server does");
    Listener::unix(&path, SocketAccess::Owner).await.unwrap();
}

#[tokio::test]
async fn a_socket_on_which_somebody_answers_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.sock");
    let _living = UnixListener::bind(&path).unwrap();
    let error = Listener::unix(&path, SocketAccess::Owner).await.unwrap_err();
    assert!(matches!(error, Error::SocketServed { .. }) && error.is_conflict(), "{error:?}");
    assert!(path.exists());
}

#[tokio::test]
async fn a_file_or_a_link_in_the_way_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (file, link) = (directory.path().join("file"), directory.path().join("link"));
    std::fs::write(&file, "precious").unwrap();
    std::os::unix::fs::symlink(directory.path().join("nowhere"), &link).unwrap();
    for path in [&file, &link] {
        let error = Listener::unix(path, SocketAccess::Owner).await.unwrap_err();
        assert!(matches!(error, Error::NotASocket { .. }), "{error:?}");
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    assert!(link.is_symlink());
}

#[tokio::test]
async fn a_listener_that_was_replaced_leaves_its_successor_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.sock");
    let first = Listener::unix(&path, SocketAccess::Owner).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let _second = Listener::unix(&path, SocketAccess::Owner).await.unwrap();
    drop(first);
    assert!(path.exists());
}

#[tokio::test]
async fn an_address_in_use_is_a_conflict_that_names_it() {
    let first = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = first.tcp_address().unwrap();
    let error = Listener::tcp(address).await.unwrap_err();
    assert!(error.is_conflict() && error.to_string().contains(&address.to_string()), "{error:?}");
}

#[tokio::test]
async fn a_connection_that_never_ends_is_cut_when_the_drain_is_over() {
    let drain = Duration::from_millis(300);
    let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.tcp_address().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let store = Arc::new(MemoryStore::start(StoreOptions::default()));
    let options = ServerOptions { drain, ..ServerOptions::default() };
    let serving = tokio::spawn(serve(listener, store, options, async { stopped.await.unwrap_or_default() }));

    let mut mute = TcpStream::connect(address).await.unwrap();
    // Its settings: the server has the connection in hand.
    assert!(mute.read(&mut [0; 64]).await.unwrap() > 0);
    let begun = Instant::now();
    stop.send(()).unwrap();
    let ended = timeout(Duration::from_secs(20), serving).await.unwrap();
    ended.unwrap().unwrap();
    assert!(begun.elapsed() < drain + Duration::from_secs(5), "{:?}", begun.elapsed());
    let rest = mute.read_to_end(&mut Vec::new()).await;
    assert!(rest.is_ok() || rest.unwrap_err().kind() == std::io::ErrorKind::ConnectionReset);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn one_server_listens_in_several_places() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.sock");
    let tcp = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let unix = Listener::unix(&path, SocketAccess::Owner).await.unwrap();
    let targets = [format!("http://{tcp}"), unix.to_string()];
    let store = Arc::new(MemoryStore::start(StoreOptions::default()));
    let server = Server::new(ServerOptions::default()).registry(store);
    let serving = tokio::spawn(server.run(vec![tcp, unix], std::future::pending()));
    for target in targets {
        lists_services(&target).await;
    }
    serving.abort();
    assert!(serving.await.is_err());
    assert!(!Path::new(&path).exists());
}

async fn lists_services(target: &str) {
    use netloft_proto::registry::v1::ListServicesRequest;
    use netloft_proto::registry::v1::registry_client::RegistryClient;
    let mut client = RegistryClient::connect(target.to_owned()).await.unwrap();
    let listed = client.list_services(ListServicesRequest::default()).await.unwrap();
    assert!(listed.into_inner().services.is_empty());
}
