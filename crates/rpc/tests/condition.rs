//! Whoever asks for the health learns whether the store takes changes.

use std::sync::Arc;
use std::time::Duration;

use netloft_registry::embedded::{Condition, DiskFault};
use netloft_registry::{MemoryStore, StoreOptions};
use netloft_rpc::{CHANGES, Listener, Server, ServerOptions};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

#[tokio::test]
async fn a_store_that_takes_no_changes_is_called_so_and_still_serves() {
    let (condition, conditions) = watch::channel(Condition::Writing);
    let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let channel = Endpoint::from_shared(format!("http://{listener}")).unwrap().connect_lazy();
    let store = Arc::new(MemoryStore::start(StoreOptions::default()));
    let server = Server::new(ServerOptions::default()).registry(store).condition(conditions);
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async { stopped.await.unwrap() };
    let running = tokio::spawn(server.run(vec![listener], shutdown));

    let mut health = HealthClient::new(channel);
    let registry = HealthCheckRequest { service: "netloft.registry.v1.Registry".into() };
    let changes = HealthCheckRequest { service: CHANGES.into() };
    // It is known from the first moment on that anybody can connect.
    let mut told = health.watch(changes).await.unwrap().into_inner();
    let fault = DiskFault::new("sync the log", &std::io::Error::from_raw_os_error(5));
    let conditions = [
        (Condition::Writing, ServingStatus::Serving),
        (Condition::Full, ServingStatus::NotServing),
        (Condition::Writing, ServingStatus::Serving),
        (Condition::Failed(fault), ServingStatus::NotServing),
    ];
    for (now, expected) in conditions {
        condition.send_replace(now);
        let next = timeout(Duration::from_secs(20), async {
            // What it was before may be told first.
            while told.message().await.unwrap().unwrap().status() != expected {}
        });
        next.await.unwrap();
        let serving = health.check(registry.clone()).await.unwrap().into_inner();
        assert_eq!(serving.status(), ServingStatus::Serving);
    }
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}
