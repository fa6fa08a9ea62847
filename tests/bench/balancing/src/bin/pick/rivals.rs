//! The others, each as its users call it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt::Debug;
use std::future::{Future, Ready, ready};
use std::hint::black_box;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use loadwise::{LoadMetric, SelectionContext, Strategy as Loadwise};
use metainfo::{METAINFO, MetaInfo};
use pingora_load_balancing::selection::{BackendIter, BackendSelection};
use pingora_load_balancing::{Backend, Backends, LoadBalancer, discovery};
use tower::Service;
use tower::balance::p2c::Balance;
use tower::discover::ServiceList;
use tower::load::{CompleteOnResponse, Load, PeakEwma, PendingRequests};
use volo::context::Endpoint;
use volo::discovery::{Discover, Instance, WeightedStaticDiscover};
use volo::loadbalance::consistent_hash::{ConsistentHashBalance, ConsistentHashOption};
use volo::loadbalance::random::WeightedRandomBalance;
use volo::loadbalance::{LoadBalance, RequestHash};

use crate::measure::Work;
use crate::ours::{address, key};

/// The weight of each.
pub fn weight(number: u32, is_weighted: bool) -> u32 {
    if is_weighted { number % 7 + 1 } else { 1 }
}

pub fn backends(count: u32, is_weighted: bool) -> BTreeSet<Backend> {
    let backend = |number| {
        let weight = weight(number, is_weighted) as usize;
        Backend::new_with_weight(&format!("{}:80", address(2 * number)), weight).expect("a legal address")
    };
    (0..count).map(backend).collect()
}

/// A load balancer of pingora, as its users call it.
pub fn pingora<S>(count: u32, is_weighted: bool) -> Work
where
    S: BackendSelection + Send + Sync + 'static,
    S::Iter: BackendIter,
{
    let backends = Backends::new(discovery::Static::new(backends(count, is_weighted)));
    let balancer = LoadBalancer::<S>::from_backends(backends);
    finish(balancer.update()).expect("a fixed set");
    Box::new(move |times, thread| {
        for step in 0..times {
            let key = key(step, thread).hash().to_le_bytes();
            black_box(balancer.select(&key, 256));
        }
    })
}

/// What is under it, without snapshot and health: an iterator of which the first is taken.
pub fn pingora_iterator<S>(count: u32, is_weighted: bool) -> Work
where
    S: BackendSelection + Send + Sync + 'static,
    S::Iter: BackendIter,
{
    let selection = Arc::new(S::build(&backends(count, is_weighted)));
    Box::new(move |times, thread| {
        for step in 0..times {
            let key = key(step, thread).hash().to_le_bytes();
            black_box(selection.iter(&key).next());
        }
    })
}

pub fn volo_instances(count: u32, is_weighted: bool) -> Vec<Arc<Instance>> {
    let instance = |number: u32| Instance {
        address: std::net::SocketAddr::from((address(2 * number), 80)).into(),
        weight: weight(number, is_weighted),
        tags: Default::default(),
    };
    (0..count).map(|number| Arc::new(instance(number))).collect()
}

fn volo_discover(count: u32, is_weighted: bool) -> WeightedStaticDiscover {
    WeightedStaticDiscover::new(volo_instances(count, is_weighted))
}

pub fn volo_random(count: u32, is_weighted: bool) -> Work {
    let discover = volo_discover(count, is_weighted);
    volo(WeightedRandomBalance::with_discover(&discover), discover)
}

pub fn volo_ring(count: u32) -> Work {
    volo(ConsistentHashBalance::new(ConsistentHashOption::default()), volo_discover(count, false))
}

fn volo<D: Discover>(balance: impl LoadBalance<D>, discover: D) -> Work {
    let endpoint = Endpoint::new("api".into());
    Box::new(move |times, thread| {
        METAINFO.sync_scope(RefCell::new(MetaInfo::new()), || {
            for step in 0..times {
                METAINFO.with(|info| info.borrow_mut().insert(RequestHash(key(step, thread).hash())));
                let picker = finish(balance.get_picker(&endpoint, &discover));
                black_box(picker.ok().and_then(|mut picker| picker.next()));
            }
        });
    })
}

/// A node with the load of one call.
pub struct Node;

impl LoadMetric for Node {
    fn load_score(&self) -> f64 {
        1.0
    }
}

/// A strategy of loadwise, which is given a slice.
pub fn loadwise(strategy: impl Loadwise<Node> + 'static, count: u32) -> Work {
    let nodes: Vec<Node> = (0..count).map(|_| Node).collect();
    Box::new(move |times, _| {
        let context = SelectionContext::default();
        for _ in 0..times {
            black_box(strategy.select(&nodes, &context));
        }
    })
}

/// A service that answers at once.
#[derive(Debug)]
pub struct Echo;

impl Service<()> for Echo {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, _context: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(()))
    }
}

pub fn tower_peak_ewma(count: u32) -> Work {
    tower(count, || PeakEwma::new(Echo, Duration::from_millis(30), 10e9, CompleteOnResponse::default()))
}

pub fn tower_pending(count: u32) -> Work {
    tower(count, || PendingRequests::new(Echo, CompleteOnResponse::default()))
}

/// A balance of tower, which is one caller's at a time, so that many have to take turns.
fn tower<S>(count: u32, measured: impl Fn() -> S) -> Work
where
    S: Service<(), Error = Infallible> + Load + Send + 'static,
    S::Metric: Debug,
    S::Future: Send,
{
    let all: Vec<S> = (0..count).map(|_| measured()).collect();
    let balance = Mutex::new(Balance::new(ServiceList::new::<()>(all)));
    Box::new(move |times, _| {
        let mut context = TaskContext::from_waker(Waker::noop());
        for _ in 0..times {
            let answer = {
                let mut balance = balance.lock().unwrap_or_else(PoisonError::into_inner);
                while balance.poll_ready(&mut context).is_pending() {}
                balance.call(())
            };
            black_box(pin!(answer).poll(&mut context).is_ready());
        }
    })
}

/// What a future that never waits answers.
pub fn finish<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())) {
            return done;
        }
    }
}
