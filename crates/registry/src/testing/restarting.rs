//! Checks of what outlives a process.

use std::sync::Arc;
use std::time::Duration;

use netloft_types::{Health, InstanceId, Patch, Query, ReadMode, Revision, Update};
use tokio::time::{Instant, sleep};

use crate::{Command, Error, Limits, StoreOptions};

use super::fixture::{Known, Subject, brief, instance, instance_id, next, next_reset, of};
use super::{Make, checks};

checks![
    what_was_answered_is_there_after_a_restart,
    a_session_without_a_time_to_live_ends_with_the_process,
    a_session_with_a_time_to_live_goes_on_with_all_of_it,
    a_session_nobody_renews_after_a_restart_ends,
    revisions_go_on_over_restarts,
    a_watch_goes_on_over_a_restart,
    a_watch_too_old_for_the_history_begins_with_a_reset_after_a_restart,
    lower_limits_lose_nothing_over_a_restart,
];

const TTL: Duration = Duration::from_mins(10);
/// The most that a store may add to a time to live after a restart.
const GRACE_MAX: Duration = Duration::from_secs(10);

async fn what_was_answered_is_there_after_a_restart(make: Make) {
    let mut before = Vec::new();
    for round in 0_u32..3 {
        let subject = Subject::new(&make).await;
        let everything =
            subject.0.list(&Query::everything(), ReadMode::Linearizable).await.expect("a list is answered");
        assert_eq!(everything.instances.to_vec(), before, "round {round}");

        let session = subject.open(u128::from(round), Some(TTL)).await.expect("it is new");
        let [gone, changed, kept] = ["gone", "changed", "kept"].map(|word| format!("{word}-{round}"));
        for id in [&gone, &changed, &kept] {
            subject.register(session, instance(id, "api")).await;
        }
        let critical = Patch { health: Some(Health::Critical), ..Patch::default() };
        subject.update(session, &changed, critical).await.expect("it is registered");
        let seen = subject
            .0
            .get(&instance_id(&kept), ReadMode::Linearizable)
            .await
            .expect("it is answered")
            .instance
            .expect("it is registered");
        let becomes = Some(Arc::new(seen.maintained(Some("new disk".parse().expect("it is a reason")))));
        subject.0.apply(Command::Amend { seen, becomes }).await.expect("it is as it was seen");
        subject.deregister(session, &gone).await.expect("it is registered");
        let closed = subject.open(100, Some(TTL)).await.expect("it is new");
        subject.register(closed, instance("of-the-closed", "api")).await;
        subject.close(closed).await.expect("it is open");
        let everything =
            subject.0.list(&Query::everything(), ReadMode::Linearizable).await.expect("a list is answered");
        before = everything.instances.to_vec();
        assert_eq!(before.len(), 2 * (usize::try_from(round).expect("it is small") + 1));
    }
}

async fn a_session_without_a_time_to_live_ends_with_the_process(make: Make) {
    let subject = Subject::new(&make).await;
    let mortal = subject.session(1).await;
    let lasting = subject.open(2, Some(TTL)).await.expect("it is new");
    subject.register(mortal, instance("a", "api")).await;
    subject.register(lasting, instance("b", "api")).await;
    drop(subject);

    let subject = Subject::new(&make).await;
    assert_eq!(subject.list(&of("api")).await.1, ["b"]);
    assert_eq!(subject.renew(mortal).await, Err(Error::SessionNotFound));
    // And its id, and the id of its instance, are free.
    let heir = subject.session(1).await;
    subject.register(heir, instance("a", "api")).await;
}

async fn a_session_with_a_time_to_live_goes_on_with_all_of_it(make: Make) {
    const TTL: Duration = Duration::from_secs(2);
    let subject = Subject::new(&make).await;
    let session = subject.open(1, Some(TTL)).await.expect("it is new");
    subject.register(session, instance("a", "api")).await;
    sleep(TTL / 2).await;
    drop(subject);

    let subject = Subject::new(&make).await;
    // By now it would have ended without the restart.
    sleep(TTL * 3 / 4).await;
    let renewed = subject.renew(session).await.expect("it lives");
    assert_eq!(renewed.ttl, Some(TTL));
    let other = subject.open(2, Some(TTL)).await.expect("it is new");
    let held = Error::InstanceHeld { id: instance_id("a") };
    assert_eq!(subject.try_register(other, instance("a", "api")).await, Err(held));
    subject.update(session, "a", Patch::drain()).await.expect("it still belongs to its session");
}

async fn a_session_nobody_renews_after_a_restart_ends(make: Make) {
    const TTL: Duration = Duration::from_secs(1);
    let subject = Subject::new(&make).await;
    let session = subject.open(1, Some(TTL)).await.expect("it is new");
    let at = subject.register(session, instance("a", "api")).await;
    drop(subject);

    let before_opening = Instant::now();
    let subject = Subject::new(&make).await;
    let opened = Instant::now();
    let mut watch = subject.watch(of("api"), Some(at));
    assert_eq!(brief(&next(&mut watch).await), ["-a"]);
    assert!(before_opening.elapsed() >= TTL, "it ended early");
    assert!(opened.elapsed() <= TTL + GRACE_MAX + crate::EXPIRY_DELAY_MAX, "it ended late");
    assert_eq!(subject.renew(session).await, Err(Error::SessionNotFound));
}

async fn revisions_go_on_over_restarts(make: Make) {
    let mut last = Revision::ZERO;
    for round in 0..4 {
        let subject = Subject::new(&make).await;
        assert!(subject.list(&Query::everything()).await.0 >= last, "round {round}");
        let session = subject.open(round, Some(TTL)).await.expect("it is new");
        let at = subject.register(session, instance(&format!("i{round}"), "api")).await;
        assert!(at > last, "revision {at} came after {last}");
        last = at;
    }
}

async fn a_watch_goes_on_over_a_restart(make: Make) {
    let subject = Subject::new(&make).await;
    let mortal = subject.session(1).await;
    let lasting = subject.open(2, Some(TTL)).await.expect("it is new");
    subject.register(mortal, instance("a", "api")).await;
    let mut watch = subject.watch(Query::everything(), None);
    let mut known = Known::default();
    known.take_in(&next(&mut watch).await);
    let mut told = subject.register(lasting, instance("b", "api")).await;
    known.take_in(&next(&mut watch).await);
    // What comes from here on, the watch is not told before the end of the process.
    subject.register(lasting, instance("c", "web")).await;
    subject.deregister(lasting, "b").await.expect("it is registered");
    drop((subject, watch));

    let subject = Subject::new(&make).await;
    let last = subject.register(lasting, instance("d", "web")).await;
    let mut watch = subject.watch(Query::everything(), Some(told));
    while told < last {
        let batch = next(&mut watch).await;
        told = batch.last().map_or(told, Update::at);
        known.take_in(&batch);
    }
    assert_eq!(known.0.keys().map(InstanceId::as_str).collect::<Vec<_>>(), ["c", "d"]);
    assert_eq!(subject.list(&Query::everything()).await.1, ["c", "d"]);
}

async fn a_watch_too_old_for_the_history_begins_with_a_reset_after_a_restart(make: Make) {
    let subject = Subject::with_history(&make, 4).await;
    let session = subject.open(1, Some(TTL)).await.expect("it is new");
    let first = subject.register(session, instance("a", "api")).await;
    for number in 0..8 {
        subject.register(session, instance(&format!("x{number}"), "web")).await;
    }
    let last = subject.deregister(session, "a").await.expect("it is registered").at;
    drop(subject);

    let subject = Subject::with_history(&make, 4).await;
    let mut watch = subject.watch(of("api"), Some(first));
    assert_eq!(next_reset(&mut watch).await, (last, vec![]));
}

async fn lower_limits_lose_nothing_over_a_restart(make: Make) {
    let subject = Subject::new(&make).await;
    let ids = ["a", "b", "c"];
    for (number, id) in (0..).zip(ids) {
        let session = subject.open(number, Some(TTL)).await.expect("it is new");
        subject.register(session, instance(id, "api")).await;
    }
    drop(subject);

    let limits = Limits { sessions_max: 1, instances_max: 1, instances_per_session_max: 1 };
    let subject = Subject::with(&make, StoreOptions { limits, ..StoreOptions::default() }).await;
    assert_eq!(subject.list(&of("api")).await.1, ids);
    let refused = subject.open(9, Some(TTL)).await.expect_err("there are enough");
    assert!(refused.is_exhausted(), "{refused}");
}
