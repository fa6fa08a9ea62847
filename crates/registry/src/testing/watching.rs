//! Checks of watches, one by one; all at once is the work of [`churn`](super::churn).

use std::collections::BTreeSet;

use netloft_types::{Health, Lifecycle, Patch, Query, Revision, Update};

use crate::{Closed, FeedOptions, StoreOptions};

use super::fixture::{Subject, brief, instance, next, next_reset, of, try_next};
use super::{Make, checks};

checks![
    a_watch_begins_with_what_is_there_and_goes_on,
    a_filter_is_exact,
    a_move_between_services_is_seen_from_both,
    the_end_of_a_session_is_one_batch,
    a_watch_resumes_where_another_stopped,
    a_revision_of_another_history_is_a_reset,
    a_reader_that_fell_behind_gets_a_reset,
    a_quiet_service_misses_nothing_however_far_history_turns,
    a_service_of_which_nothing_is_left_is_not_taken_for_one_at_rest,
    a_quiet_watch_tells_progress_and_can_be_resumed_from_it,
    an_abandoned_wait_loses_nothing,
    watches_are_bounded_and_give_their_place_back,
    a_watch_ends_with_its_store,
];

async fn a_watch_begins_with_what_is_there_and_goes_on(make: Make) {
    let subject = Subject::new(&make).await;
    let session = subject.session(1).await;
    let mut empty = subject.watch(of("api"), None);
    assert_eq!(next_reset(&mut empty).await.1, [""; 0]);

    let at = subject.register(session, instance("b", "api")).await;
    subject.register(session, instance("x", "web")).await;
    let last = subject.register(session, instance("a", "api")).await;
    let mut watch = subject.watch(of("api"), None);
    assert_eq!(next_reset(&mut watch).await, (last, vec!["a".to_owned(), "b".to_owned()]));

    let batch = next(&mut empty).await;
    assert_eq!(brief(&batch), ["+b", "+a"]);
    assert_eq!(batch.iter().map(Update::at).collect::<Vec<_>>(), [at, last]);

    let gone = subject.deregister(session, "b").await.expect("it is registered").at;
    for watch in [&mut watch, &mut empty] {
        let id = "b".parse().expect("an id");
        assert_eq!(next(watch).await, [Update::Delete { at: gone, id }]);
    }
}

async fn a_filter_is_exact(make: Make) {
    let subject = Subject::new(&make).await;
    let session = subject.session(1).await;
    let blue = Query { tags: BTreeSet::from(["blue".parse().expect("a tag")]), ..of("api") };
    let mut watch = subject.watch(blue.clone(), None);
    next_reset(&mut watch).await;

    let tagged = Patch { tags: Some(blue.tags.try_into().expect("few tags")), ..Patch::default() };
    let health = |health| Patch { health: Some(health), ..Patch::default() };
    let ready = Patch { lifecycle: Some(Lifecycle::Ready), ..Patch::default() };
    subject.register(session, instance("plain", "api")).await;
    subject.register(session, instance("a", "api")).await;
    let steps = [
        (tagged, Some("+a")),
        (health(Health::Warning), Some("+a")),
        (health(Health::Critical), Some("-a")),
        (Patch::drain(), None),
        (health(Health::Passing), None),
        (ready, Some("+a")),
        (Patch::drain(), Some("-a")),
    ];
    for (patch, expected) in steps {
        let at = subject.update(session, "a", patch).await.expect("it is registered").at;
        if let Some(expected) = expected {
            let batch = next(&mut watch).await;
            assert_eq!(brief(&batch), [expected]);
            assert_eq!(batch[0].at(), at, "hidden changes are passed over in silence");
        }
    }
}

async fn a_move_between_services_is_seen_from_both(make: Make) {
    let subject = Subject::new(&make).await;
    let session = subject.session(1).await;
    subject.register(session, instance("a", "api")).await;
    let mut watches = [of("api"), of("web"), Query::everything()].map(|query| subject.watch(query, None));
    for watch in &mut watches {
        next_reset(watch).await;
    }

    subject.register(session, instance("a", "web")).await;
    for (watch, expected) in watches.iter_mut().zip(["-a", "+a", "+a"]) {
        assert_eq!(brief(&next(watch).await), [expected]);
    }
}

async fn the_end_of_a_session_is_one_batch(make: Make) {
    let subject = Subject::new(&make).await;
    let session = subject.session(1).await;
    // More than any sensible batch holds, so that only atomicity keeps them together.
    let ids: Vec<String> = (0..3_000).map(|number| format!("a{number:04}")).collect();
    let mut watch = subject.watch(of("api"), None);
    next_reset(&mut watch).await;
    for id in &ids {
        subject.register(session, instance(id, "api")).await;
    }
    let at = subject.close(session).await.expect("it is open").at;

    let last = loop {
        let batch = next(&mut watch).await;
        if batch.last().is_some_and(|update| update.at() == at) {
            break batch;
        }
    };
    let deletes = last.iter().filter(|update| matches!(update, Update::Delete { .. }));
    assert_eq!(deletes.filter(|update| update.at() == at).count(), ids.len());
}

async fn a_watch_resumes_where_another_stopped(make: Make) {
    let subject = Subject::new(&make).await;
    let session = subject.session(1).await;
    let mut first = subject.watch(of("api"), None);
    let (start, _) = next_reset(&mut first).await;
    drop(first);
    let at = subject.register(session, instance("a", "api")).await;
    subject.register(session, instance("b", "api")).await;

    let mut from_start = subject.watch(of("api"), Some(start));
    assert_eq!(brief(&next(&mut from_start).await), ["+a", "+b"]);
    let mut from_between = subject.watch(of("api"), Some(at));
    assert_eq!(brief(&next(&mut from_between).await), ["+b"]);

    let (now, _) = subject.list(&of("api")).await;
    let mut from_now = subject.watch(of("api"), Some(now));
    subject.register(session, instance("c", "api")).await;
    assert_eq!(brief(&next(&mut from_now).await), ["+c"]);
}

async fn a_revision_of_another_history_is_a_reset(make: Make) {
    let subject = Subject::with_history(&make, 4).await;
    let session = subject.session(1).await;
    let old = subject.register(session, instance("a0", "api")).await;
    for number in 1..10 {
        subject.register(session, instance(&format!("a{number}"), "api")).await;
    }
    let (_, all) = subject.list(&of("api")).await;

    let mut too_old = subject.watch(of("api"), Some(old));
    assert_eq!(next_reset(&mut too_old).await.1, all);
    for ahead in [1, 1_000] {
        let (now, _) = subject.list(&of("api")).await;
        let unknown = Revision::new(now.number() + ahead);
        let mut watch = subject.watch(of("api"), Some(unknown));
        // Even if the store gets there before the watch is read.
        subject.register(session, instance("b", "web")).await;
        assert_eq!(next_reset(&mut watch).await.1, all, "{ahead} ahead");
        subject.deregister(session, "b").await.expect("it is registered");
    }
}

async fn a_reader_that_fell_behind_gets_a_reset(make: Make) {
    let subject = Subject::with_history(&make, 4).await;
    let session = subject.session(1).await;
    let mut watch = subject.watch(of("api"), None);
    next_reset(&mut watch).await;

    let mut last = Revision::ZERO;
    for number in 0..10 {
        last = subject.register(session, instance(&format!("a{number}"), "api")).await;
    }
    let (at, ids) = next_reset(&mut watch).await;
    assert_eq!((at, ids.len()), (last, 10));
    subject.deregister(session, "a3").await.expect("it is registered");
    assert_eq!(brief(&next(&mut watch).await), ["-a3"]);
}

async fn a_quiet_service_misses_nothing_however_far_history_turns(make: Make) {
    let subject = Subject::with_history(&make, 4).await;
    let session = subject.session(1).await;
    subject.register(session, instance("a", "quiet")).await;
    let mut watch = subject.watch(of("quiet"), None);
    next_reset(&mut watch).await;

    for number in 0..10 {
        subject.register(session, instance(&format!("b{number}"), "busy")).await;
    }
    subject.deregister(session, "a").await.expect("it is registered");
    assert_eq!(brief(&next(&mut watch).await), ["-a"]);
}

async fn a_service_of_which_nothing_is_left_is_not_taken_for_one_at_rest(make: Make) {
    let subject = Subject::with_history(&make, 4).await;
    let session = subject.session(1).await;
    let known = subject.register(session, instance("a", "gone")).await;
    subject.deregister(session, "a").await.expect("it is registered");
    for number in 0..10 {
        subject.register(session, instance(&format!("b{number}"), "busy")).await;
    }
    // By now nobody watches it, it has no instance, and no change of it is remembered.
    let mut resumed = subject.watch(of("gone"), Some(known));
    assert_eq!(next_reset(&mut resumed).await.1, [""; 0]);
}

async fn a_quiet_watch_tells_progress_and_can_be_resumed_from_it(make: Make) {
    let subject = Subject::with_history(&make, 64).await;
    let session = subject.session(1).await;
    subject.register(session, instance("a", "quiet")).await;
    let mut watch = subject.watch(of("quiet"), None);
    let (mut reached, _) = next_reset(&mut watch).await;

    for round in 0..4 {
        let busy = async {
            for number in 0..32 {
                subject.register(session, instance(&format!("b{round}-{number}"), "busy")).await;
            }
        };
        // The watch is waiting all the while: it must be woken, not only answer when asked.
        let (batch, ()) = tokio::join!(next(&mut watch), busy);
        assert!(matches!(batch[..], [Update::Progress { at }] if at > reached), "{batch:?}");
        reached = batch[0].at();
    }
    drop(watch);
    subject.deregister(session, "a").await.expect("it is registered");
    let mut resumed = subject.watch(of("quiet"), Some(reached));
    assert_eq!(brief(&next(&mut resumed).await), ["-a"]);
}

async fn an_abandoned_wait_loses_nothing(make: Make) {
    let subject = Subject::new(&make).await;
    let session = subject.session(1).await;
    let mut watch = subject.watch(of("api"), None);
    next_reset(&mut watch).await;

    for number in 0..10 {
        tokio::select! {
            biased;
            batch = watch.next() => panic!("nothing happened, and yet {batch:?} came"),
            () = std::future::ready(()) => {}
        }
        let id = format!("a{number}");
        subject.register(session, instance(&id, "api")).await;
        assert_eq!(brief(&next(&mut watch).await), [format!("+{id}")]);
    }
}

async fn watches_are_bounded_and_give_their_place_back(make: Make) {
    let feed = FeedOptions { watchers_max: 2, ..FeedOptions::default() };
    let options = StoreOptions { feed, ..StoreOptions::default() };
    let subject = Subject::with(&make, options).await;
    let first = subject.watch(of("api"), None);
    let _second = subject.watch(Query::everything(), None);

    let error = subject.0.watch(of("api"), None).expect_err("there are two already");
    assert!(error.is_exhausted() && error.to_string().contains("watchers_max"), "{error}");
    drop(first);
    subject.watch(of("web"), None);
}

async fn a_watch_ends_with_its_store(make: Make) {
    let subject = Subject::new(&make).await;
    let session = subject.session(1).await;
    let mut waiting = subject.watch(of("api"), None);
    next_reset(&mut waiting).await;
    let waiting = tokio::spawn(async move { try_next(&mut waiting).await });
    let mut behind = subject.watch(of("web"), None);
    next_reset(&mut behind).await;
    tokio::task::yield_now().await;
    subject.register(session, instance("a", "web")).await;
    drop(subject);

    assert_eq!(waiting.await.expect("it does not panic"), Err(Closed));
    assert_eq!(brief(&next(&mut behind).await), ["+a"], "what was published is delivered");
    assert_eq!(try_next(&mut behind).await, Err(Closed));
}
