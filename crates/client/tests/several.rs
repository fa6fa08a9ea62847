//! One registry of two servers, of which one goes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use netloft_client::{Client, ClientOptions, Error, RegisterOptions};
use netloft_types::{Query, Update};
use support::{Registry, api, empty_store, id, instance, short};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(20);
/// Within which everything goes on elsewhere.
const SOON: Duration = Duration::from_secs(2);

/// Two servers of the same store, and a client of both.
async fn pair() -> (Registry, Registry, Client) {
    let store = empty_store();
    let address = "127.0.0.1:0".parse().unwrap();
    let first = Registry::serve(address, Arc::clone(&store)).await;
    let second = Registry::serve(address, store).await;
    let targets = format!("{},{}", first.target, second.target);
    (first, second, Client::connect(targets.parse().unwrap()))
}

#[tokio::test]
async fn when_the_server_in_use_is_killed_everything_goes_on_at_the_other() {
    let (first, second, client) = pair().await;
    let registration = client.register(instance("a"), short()).await.unwrap();
    let mut discovery = client.discover(api());
    discovery.changed().await;
    let mut watch = client.watch(&Query::everything(), None).await.unwrap();
    let at = watch.next().await.unwrap().last().map(Update::at);
    assert_eq!(client.target().to_string(), first.target);
    let mut observer = second.client().watch(&Query::everything(), at).await.unwrap();

    let began = Instant::now();
    first.kill().await;
    let found = client.resolve(&api()).await.unwrap();
    assert!(began.elapsed() < SOON && found.instances.len() == 1, "{:?}", began.elapsed());
    assert_eq!(client.target().to_string(), second.target);
    assert!(watch.next().await.is_err(), "a watch says where it ends");
    let mut watch = client.watch(&Query::everything(), at).await.unwrap();

    // Longer than the session lives without renewals.
    sleep(short().ttl * 2).await;
    let other = second.client().register(instance("b"), RegisterOptions::default()).await.unwrap();
    for watch in [&mut watch, &mut observer] {
        let batch = timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
        let is_put =
            |update: &Update| matches!(update, Update::Put { instance, .. } if instance.id == id("b"));
        assert!(batch.iter().all(is_put), "nothing was registered again, and nothing told again: {batch:?}");
    }
    let both = timeout(PATIENCE, async { while discovery.changed().await.instances().len() < 2 {} }).await;
    assert!(both.is_ok() && !discovery.is_stale());
    other.close().await.unwrap();
    registration.close().await.unwrap();
    assert!(client.resolve(&api()).await.unwrap().instances.is_empty());
}

#[tokio::test]
async fn a_server_that_shuts_down_in_order_is_left_and_one_that_is_not_there_is_passed_over() {
    let (first, second, client) = pair().await;
    let registration = client.register(instance("a"), short()).await.unwrap();
    let (address, store) = first.stop().await;
    assert_eq!(client.resolve(&api()).await.unwrap().instances.len(), 1);
    // It comes back, the other goes, and so the turn comes round.
    let first = Registry::serve(address, store).await;
    second.kill().await;
    let began = Instant::now();
    assert_eq!(client.resolve(&api()).await.unwrap().instances.len(), 1);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    sleep(short().ttl * 2).await;
    assert_eq!(client.resolve(&api()).await.unwrap().instances.len(), 1, "its session lives on");
    let targets = format!("http://127.0.0.1:1,{}", first.target);
    let newcomer = Client::connect(targets.parse().unwrap());
    assert_eq!(newcomer.get(&id("a")).await.unwrap().id, id("a"), "the first call finds who is there");
    registration.close().await.unwrap();
}

#[tokio::test]
async fn a_server_that_does_not_answer_costs_one_call() {
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_first, second, _) = pair().await;
    let targets = format!("http://{},{}", hanging.local_addr().unwrap(), second.target);
    let options = ClientOptions { call_timeout: Duration::from_millis(300), ..ClientOptions::default() };
    let client = Client::connect_with(&targets.parse().unwrap(), &options);
    let late = client.get(&id("a")).await.unwrap_err();
    assert!(matches!(late, Error::TimedOut { .. }), "{late:?}");
    assert!(client.get(&id("a")).await.unwrap_err().is_not_found(), "the other answers");
}

#[tokio::test]
async fn when_none_is_there_it_says_so_in_time_and_finds_the_first_that_is_back() {
    let (first, second, client) = pair().await;
    let mut discovery = client.discover(api());
    discovery.changed().await;
    let (address, store) = first.kill().await;
    second.kill().await;
    let began = Instant::now();
    let error = client.resolve(&api()).await.unwrap_err();
    assert!(error.is_unavailable() && began.elapsed() < SOON, "{error:?} after {:?}", began.elapsed());
    let back = Registry::serve(address, store).await;
    let found = async {
        while discovery.is_stale() || client.resolve(&api()).await.is_err() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, found).await.unwrap();
    back.stop().await;
}
