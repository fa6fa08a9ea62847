//! The handle, over the fake kernel.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use netloft_network::testing::{FakeKernel, Fault};
use netloft_network::{Error, Host, HostOptions};
use netloft_types::{AttachSpec, NetworkSpec};
use tokio::time::timeout;

#[tokio::test]
async fn an_attach_that_is_dropped_before_it_is_polled_does_nothing() {
    let (kernel, host) = start().await;
    let calls = kernel.calls();
    drop(host.attach(attach("api")));
    assert_eq!(host.endpoints().await.unwrap(), []);
    assert_eq!(kernel.calls(), calls);
}

#[tokio::test]
async fn an_attach_that_is_dropped_at_any_moment_leaves_nothing() {
    let (kernel, host) = start().await;
    for round in 0..500 {
        let mut future = Box::pin(host.attach(attach(&format!("s{round}"))));
        if let Poll::Ready(taken) = poll_once(future.as_mut()).await {
            host.detach(taken.unwrap().endpoint.id).await.unwrap();
        }
        for _ in 0..round % 50 {
            std::hint::spin_loop();
        }
        drop(future);
    }
    // One call is answered after all that was asked for, the other after all that was then discarded.
    host.networks().await.unwrap();
    assert_eq!(host.endpoints().await.unwrap(), []);
    host.close().await.unwrap();
    assert!(kernel.is_empty());
}

#[tokio::test]
async fn more_calls_than_the_queue_holds_are_all_answered() {
    let (_kernel, host) = start().await;
    let calls: Vec<_> = (0..2_000)
        .map(|_| {
            let host = host.clone();
            tokio::spawn(async move { host.networks().await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_closed_host_refuses_every_call() {
    let (kernel, host) = start().await;
    let id = host.attach(attach("api")).await.unwrap().endpoint.id;
    host.close().await.unwrap();
    assert!(kernel.is_empty());
    assert!(matches!(host.attach(attach("api")).await, Err(Error::Closed)));
    assert!(matches!(host.detach(id).await, Err(Error::Closed)));
    assert!(matches!(host.close().await, Err(Error::Closed)));
}

#[tokio::test]
async fn when_the_last_handle_is_dropped_everything_is_taken_away() {
    let (kernel, host) = start().await;
    let other = host.clone();
    host.attach(attach("api")).await.unwrap();
    drop(host);
    assert_eq!(other.endpoints().await.unwrap().len(), 1);
    drop(other);
    let gone = async {
        while !kernel.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), gone).await.unwrap();
}

#[tokio::test]
async fn a_link_that_was_cut_is_deleted_without_being_asked() {
    let (kernel, host) = start().await;
    let endpoint = host.attach(attach("api")).await.unwrap().endpoint;
    host.detach(endpoint.id).await.unwrap();
    assert!(!kernel.has_link(endpoint.host_link.unwrap().as_str()));
}

#[tokio::test]
async fn an_endpoint_that_is_not_the_way_out_has_a_way_back_until_it_is_detached() {
    let (kernel, host) = start().await;
    let green = NetworkSpec { ipv6: true, ..NetworkSpec::new("green".parse().unwrap()) };
    host.create_network(green).await.unwrap();
    let db = NetworkSpec { internal: true, ..NetworkSpec::new("db".parse().unwrap()) };
    host.create_network(db).await.unwrap();
    let on = |network: &str| AttachSpec { network: network.parse().unwrap(), ..attach("api") };
    host.attach(on("blue")).await.unwrap();
    host.attach(on("db")).await.unwrap();
    assert_eq!(
        kernel.ways_back("api"),
        BTreeSet::new(),
        "the way out needs none, and from db nothing leaves"
    );
    let green = host.attach(on("green")).await.unwrap().endpoint;
    let addresses: BTreeSet<_> = green.addresses.iter().map(|held| held.address()).collect();
    assert_eq!((addresses.len(), kernel.ways_back("api")), (2, addresses));
    host.detach(green.id).await.unwrap();
    assert_eq!(kernel.ways_back("api"), BTreeSet::new());
    assert!(kernel.has_sandbox("api"));
}

#[tokio::test]
async fn of_a_way_back_nothing_is_left_after_a_failure_at_any_step() {
    let (kernel, host) = start().await;
    host.create_network(NetworkSpec::new("green".parse().unwrap())).await.unwrap();
    host.attach(attach("api")).await.unwrap();
    // Three steps of an endpoint, its way back, and finding the sandbox.
    for step in 0..5 {
        for fault in [Fault::Before, Fault::After] {
            kernel.fail(fault(kernel.calls() + step));
            let green = AttachSpec { network: "green".parse().unwrap(), ..attach("api") };
            assert!(host.attach(green).await.is_err(), "{step}");
            assert_eq!(kernel.ways_back("api"), BTreeSet::new(), "{step}");
        }
    }
    host.close().await.unwrap();
    assert!(kernel.is_empty());
}

#[test]
fn default_pools_from_which_no_subnet_can_be_carved_are_refused() {
    for bad in ["10.89.0.0/25", "fd00::/16", "127.0.0.0/8"] {
        let kernel = Box::new(FakeKernel::new().unwrap());
        let options = HostOptions { default_pools: vec![bad.parse().unwrap()], ..HostOptions::default() };
        let refused = Host::open_over(kernel, options);
        assert!(matches!(refused, Err(Error::DefaultPool(_))), "{bad}");
    }
}

async fn start() -> (FakeKernel, Host) {
    let kernel = FakeKernel::new().unwrap();
    let host = Host::open_over(Box::new(kernel.clone()), HostOptions::default()).unwrap();
    let blue = NetworkSpec::new("blue".parse().unwrap());
    host.create_network(blue).await.unwrap();
    (kernel, host)
}

fn attach(sandbox: &str) -> AttachSpec {
    AttachSpec::new("blue".parse().unwrap(), sandbox.parse().unwrap())
}

async fn poll_once<T>(mut future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}
