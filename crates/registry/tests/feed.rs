//! The published side of a store by itself: whom it wakes, and what it keeps.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use netloft_registry::{Change, Delta, Feed, FeedOptions, Watch};
use netloft_types::{Instance, Query, Revision, Update};

#[test]
fn a_change_wakes_only_those_who_watch_its_service() {
    let feed = Feed::new(Revision::ZERO, &FeedOptions::default());
    let mut watches: Vec<Watch> = (0..1_000).map(|number| watch(&feed, &service(number))).collect();
    let mut everything = feed.watch(Query::everything(), None).unwrap();
    for watch in watches.iter_mut().chain([&mut everything]) {
        assert!(matches!(read(watch), Some(batch) if matches!(batch[..], [Update::Reset { .. }])));
    }

    let mine = Arc::new(Wakes::default());
    let others = Arc::new(Wakes::default());
    let all = Arc::new(Wakes::default());
    let mut waits: Vec<_> = watches.iter_mut().map(|watch| Box::pin(watch.next())).collect();
    for (number, wait) in waits.iter_mut().enumerate() {
        let waker = Waker::from(Arc::clone(if number == 7 { &mine } else { &others }));
        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    let mut wait = pin!(everything.next());
    let waker = Waker::from(Arc::clone(&all));
    assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());

    feed.publish(put(1, "a", &service(7)));
    assert_eq!([mine.count(), others.count(), all.count()], [1, 0, 1]);
}

#[test]
fn a_lookup_that_hides_nothing_shares_one_list() {
    let feed = Feed::new(Revision::ZERO, &FeedOptions::default());
    feed.publish(put(1, "a", "api"));
    feed.publish(put(2, "b", "api"));
    let query = Query::service("api".parse().unwrap());
    let (first, second) = (feed.list(&query), feed.list(&query));
    assert!(first.instances.as_ptr() == second.instances.as_ptr());
    feed.publish(put(3, "c", "api"));
    assert_eq!((first.instances.len(), feed.list(&query).instances.len()), (2, 3));
}

#[test]
fn a_history_forgets_instances_that_have_gone() {
    let feed = Feed::new(Revision::ZERO, &FeedOptions { history_len_max: 4, ..FeedOptions::default() });
    let change = put(1, "a", "api");
    let gone = Arc::downgrade(change.deltas[0].after.as_ref().unwrap());
    let before = gone.upgrade();
    feed.publish(change);
    feed.publish(Change { at: Revision::new(2), deltas: vec![Delta { before, after: None }] });
    assert!(gone.upgrade().is_some(), "a watch may still be told");
    for number in 3..7 {
        feed.publish(put(number, &format!("b{number}"), "web"));
    }
    assert!(gone.upgrade().is_none());
}

#[test]
#[should_panic(expected = "change 1 published after 1")]
fn a_feed_refuses_changes_out_of_order() {
    let feed = Feed::new(Revision::ZERO, &FeedOptions::default());
    feed.publish(put(1, "a", "api"));
    feed.publish(put(1, "b", "api"));
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn service(number: u64) -> String {
    format!("s{number}")
}

fn watch(feed: &Feed, service: &str) -> Watch {
    let query = Query::service(service.parse().expect("a service name"));
    feed.watch(query, None).expect("there are few watches")
}

/// What is there to read now.
fn read(watch: &mut Watch) -> Option<Vec<Update>> {
    match pin!(watch.next()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(batch) => Some(batch.expect("the feed is open")),
        Poll::Pending => None,
    }
}

fn put(at: u64, id: &str, service: &str) -> Change {
    let instance = Instance::new(
        id.parse().expect("an id"),
        service.parse().expect("a service name"),
        "10.0.0.2".parse().expect("an address"),
        "80".parse().expect("a port"),
    );
    let deltas = vec![Delta { before: None, after: Some(Arc::new(instance)) }];
    Change { at: Revision::new(at), deltas }
}
