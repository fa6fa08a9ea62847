//! What it costs that one comes or goes: all that is done from the update of the watch to the picker that is picked from.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_core::Stream;
use netloft_balance::{Builtin, Composed, Composer, Composition, Picker, Roster, Snapshot, Strategy as _};
use netloft_types::{Revision, Update};
use pingora_load_balancing::discovery::ServiceDiscovery;
use pingora_load_balancing::selection::{self, BackendIter, BackendSelection};
use pingora_load_balancing::{Backend, Backends, LoadBalancer};
use tower::Service;
use tower::balance::p2c::Balance;
use tower::load::{CompleteOnResponse, PendingRequests};
use volo::discovery::{Change as VoloChange, Discover, WeightedStaticDiscover};
use volo::loadbalance::LoadBalance;
use volo::loadbalance::consistent_hash::{ConsistentHashBalance, ConsistentHashOption};
use volo::loadbalance::random::WeightedRandomBalance;

use crate::digits;
use crate::ours::{instance, roster};
use crate::rivals::{Echo, backends, finish, volo_instances};

const COUNTS: [u32; 3] = [100, 1_000, 10_000];

/// Lets one come or go.
type Step = Box<dyn FnMut()>;

pub fn print(rounds: usize) {
    println!(
        "\none comes or goes: us, the dearer of both, in the fastest round\n\n| | 100 | 1000 | 10000 |\n|---|---|---|---|"
    );
    let mut columns: Vec<Vec<(String, f64)>> = Vec::new();
    for count in COUNTS {
        let mut all = contenders(count);
        let mut samples = vec![Vec::new(); all.len()];
        let begun = Instant::now();
        for round in 0..rounds {
            // Some take a second for it: a few of those will do.
            if round > 4 && begun.elapsed() > Duration::from_secs(30) {
                break;
            }
            for ((_, step), samples) in all.iter_mut().zip(&mut samples) {
                // The first is for the caches, in which the others have left nothing. Then one comes and one goes.
                step();
                let mut timed = || {
                    let begun = Instant::now();
                    step();
                    begun.elapsed().as_nanos() as f64 / 1_000.0
                };
                samples.push(timed().max(timed()));
            }
        }
        let least = |samples: &mut Vec<f64>| samples.iter().copied().fold(f64::INFINITY, f64::min);
        columns.push(all.into_iter().map(|(who, _)| who).zip(samples.iter_mut().map(least)).collect());
    }
    for (index, (who, _)) in columns[0].iter().enumerate() {
        let cells: Vec<String> = columns.iter().map(|column| digits(column[index].1)).collect();
        println!("| {who} | {} |", cells.join(" | "));
    }
    let outside_maglev =
        columns[2].iter().filter(|(who, _)| who.starts_with("netloft") && !who.ends_with("maglev"));
    let worst = outside_maglev.map(|(_, cost)| *cost).fold(0.0, f64::max);
    let is_met = if worst <= 200.0 { "met" } else { "MISSED" };
    println!("\n200 us at 10,000 outside Maglev: {is_met}, {} at worst", digits(worst));
}

fn contenders(count: u32) -> Vec<(String, Step)> {
    let ours = Builtin::ALL.map(|strategy| (format!("netloft, {strategy}"), ours(strategy, count)));
    let mut all: Vec<(String, Step)> = ours.into();
    let mut add = |who: &str, step| all.push((who.to_owned(), step));
    add("pingora, round robin", pingora::<selection::RoundRobin>(count));
    add("pingora, ketama", pingora::<selection::Consistent>(count));
    let discover = WeightedStaticDiscover::new(volo_instances(count, true));
    add("volo, weighted random", volo(WeightedRandomBalance::with_discover(&discover), discover, count));
    let discover = WeightedStaticDiscover::new(volo_instances(count, false));
    let ring = ConsistentHashBalance::new(ConsistentHashOption::default());
    add("volo, ring hash", volo(ring, discover, count));
    add("tower, pending requests", tower(count));
    all
}

/// All that the client does, with its default composition, to the end of the plan of before.
fn ours(strategy: Builtin, count: u32) -> Step {
    let mut roster = roster(count, false);
    let mut composer = Composer::new(Composition::default());
    let mut now = Duration::from_secs(100);
    let composed = composer.compose(&roster, now);
    let picker: Arc<dyn Picker> = strategy.picker(composed.roster.clone()).into();
    let mut plan: (Composed, Arc<dyn Picker>) = (composed, picker);
    let mut number = 0;
    Box::new(move || {
        now += Duration::from_millis(10);
        let snapshot: Snapshot = roster.snapshot().apply(&[update(number, count)]);
        number += 1;
        roster = Roster::follow(&roster, snapshot, now);
        let composed = composer.compose(&roster, now);
        let picker = strategy.follow(&*plan.1, composed.roster.clone()).into();
        plan = (composed, picker);
    })
}

/// By turns one comes, anywhere in the order, and the same one goes.
fn update(number: u32, count: u32) -> Update {
    let at = Revision::new(number.into());
    let instance = instance(2 * (number / 2 * 331 % count) + 1, 1);
    if number % 2 == 0 {
        Update::Put { at, instance }
    } else {
        Update::Delete { at, id: instance.id.clone() }
    }
}

/// A set that others change.
#[derive(Clone)]
struct Set(Arc<Mutex<BTreeSet<Backend>>>);

#[async_trait]
impl ServiceDiscovery for Set {
    async fn discover(&self) -> pingora_error::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        Ok((self.0.lock().unwrap_or_else(PoisonError::into_inner).clone(), HashMap::new()))
    }
}

fn pingora<S>(count: u32) -> Step
where
    S: BackendSelection + Send + Sync + 'static,
    S::Iter: BackendIter,
{
    let set = Set(Arc::new(Mutex::new(backends(count, false))));
    let balancer = LoadBalancer::<S>::from_backends(Backends::new(Box::new(set.clone())));
    finish(balancer.update()).expect("it answers");
    let other = Backend::new("11.0.0.1:80").expect("a legal address");
    Box::new(move || {
        {
            let mut set = set.0.lock().unwrap_or_else(PoisonError::into_inner);
            if !set.remove(&other) {
                set.insert(other.clone());
            }
        }
        finish(balancer.update()).expect("it answers");
    })
}

fn volo<D>(balance: impl LoadBalance<D>, discover: D, count: u32) -> Step
where
    D: Discover<Key = ()>,
{
    let endpoint = volo::context::Endpoint::new("api".into());
    let mut all = volo_instances(count + 1, false);
    let mut is_there = false;
    // Who has not been picked from does not rebuild.
    metainfo::METAINFO.sync_scope(Default::default(), || {
        metainfo::METAINFO.with(|info| info.borrow_mut().insert(volo::loadbalance::RequestHash(1)));
        finish(balance.get_picker(&endpoint, &discover)).is_ok().then_some(()).expect("it has instances");
    });
    let other = all.remove(count as usize);
    Box::new(move || {
        is_there = !is_there;
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        if is_there {
            all.push(Arc::clone(&other));
            added.push(Arc::clone(&other));
        } else {
            removed.extend(all.pop());
        }
        let updated = Vec::new();
        balance.rebalance(VoloChange { key: (), all: all.clone(), added, updated, removed });
    })
}

/// Changes that are to come.
#[derive(Clone)]
struct Changes(Arc<Mutex<VecDeque<tower::discover::Change<u32, Measured>>>>);

type Measured = PendingRequests<Echo>;

impl Stream for Changes {
    type Item = Result<tower::discover::Change<u32, Measured>, Infallible>;

    fn poll_next(self: Pin<&mut Self>, _context: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front() {
            Some(change) => Poll::Ready(Some(Ok(change))),
            None => Poll::Pending,
        }
    }
}

fn tower(count: u32) -> Step {
    let measured = || PendingRequests::new(Echo, CompleteOnResponse::default());
    let changes = (0..count).map(|number| tower::discover::Change::Insert(number, measured()));
    let changes = Changes(Arc::new(Mutex::new(changes.collect())));
    let mut balance = Balance::new(changes.clone());
    let mut is_there = false;
    let mut poll = move || {
        let mut context = TaskContext::from_waker(Waker::noop());
        while Service::<()>::poll_ready(&mut balance, &mut context).is_pending() {}
    };
    poll();
    Box::new(move || {
        is_there = !is_there;
        let change = if is_there {
            tower::discover::Change::Insert(count, measured())
        } else {
            tower::discover::Change::Remove(count)
        };
        changes.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(change);
        poll();
    })
}
