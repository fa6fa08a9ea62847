//! Futures that are dropped on the way.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use super::*;
use crate::testing::FakeKernel;

#[tokio::test]
async fn an_endpoint_that_nobody_took_is_detached() {
    let kernel = FakeKernel::new().unwrap();
    let host = start(&kernel).await;
    let (open, gate) = mpsc::channel::<()>();
    let mut hold = pin!(busy_until(&host, gate));
    assert!(poll_once(hold.as_mut()).await.is_pending());
    let mut attach = Box::pin(host.attach(api()));
    assert!(poll_once(attach.as_mut()).await.is_pending());
    drop(open);
    assert_eq!(host.endpoints().await.unwrap().len(), 1, "the answer is there, but not taken");
    drop(attach);
    assert_eq!(host.endpoints().await.unwrap(), []);
    assert!(!kernel.has_sandbox("api"));
}

#[tokio::test]
async fn an_attach_dropped_in_the_queue_is_not_carried_out() {
    let kernel = FakeKernel::new().unwrap();
    let host = start(&kernel).await;
    let calls = kernel.calls();
    let (open, gate) = mpsc::channel::<()>();
    let mut hold = pin!(busy_until(&host, gate));
    assert!(poll_once(hold.as_mut()).await.is_pending());
    let mut attach = Box::pin(host.attach(api()));
    assert!(poll_once(attach.as_mut()).await.is_pending());
    drop(attach);
    drop(open);
    assert_eq!(host.endpoints().await.unwrap(), []);
    assert_eq!(kernel.calls(), calls);
}

#[tokio::test]
async fn changes_that_nobody_waits_for_keep_their_room_until_they_are_done() {
    let host = start(&FakeKernel::new().unwrap()).await;
    let (open, gate) = mpsc::channel::<()>();
    let mut hold = pin!(busy_until(&host, gate));
    assert!(poll_once(hold.as_mut()).await.is_pending());
    let detach = |number| host.detach(EndpointId::from_number(number));
    for number in 0..3 {
        assert!(poll_once(pin!(detach(number))).await.is_pending());
        assert!(poll_once(pin!(host.attach(api()))).await.is_pending());
    }
    // What the host does by itself may take room, too.
    assert!(host.room.available_permits() <= QUEUE_LEN - 7);
    drop(open);
    hold.await.unwrap();
    // Answered after everything that was asked for before it.
    host.networks().await.unwrap();
    assert!(host.room.available_permits() >= QUEUE_LEN - 1);
}

/// A call that keeps the thread until the gate is opened.
async fn busy_until(host: &Host, gate: mpsc::Receiver<()>) -> Result<(), Error> {
    let wait = move |_: &mut State| {
        let _ = gate.recv();
        Ok(())
    };
    host.call(Unheard::Run, wait).await
}

async fn start(kernel: &FakeKernel) -> Host {
    let host = Host::open_over(Box::new(kernel.clone()), HostOptions::default()).unwrap();
    host.create_network(NetworkSpec::new("blue".parse().unwrap())).await.unwrap();
    host
}

fn api() -> AttachSpec {
    AttachSpec::new("blue".parse().unwrap(), "api".parse().unwrap())
}

async fn poll_once<T>(mut future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}
