//! Checks of sessions that are not renewed.

use std::time::Duration;

use netloft_types::{Query, Update};
use tokio::time::{Instant, sleep};

use crate::{EXPIRY_DELAY_MAX, Error};

use super::fixture::{Subject, brief, instance, next, next_reset, of};
use super::{Make, checks};

checks![a_silent_session_expires_neither_early_nor_late, a_renewed_session_lives, only_the_silent_expire,];

const TTL: Duration = Duration::from_secs(2);

async fn a_silent_session_expires_neither_early_nor_late(make: Make) {
    let subject = Subject::new(&make).await;
    let mut watch = subject.watch(Query::everything(), None);
    next_reset(&mut watch).await;

    let before_opening = Instant::now();
    let session = subject.open(1, Some(TTL)).await.expect("it is new");
    let opened = Instant::now();
    subject.register(session, instance("a", "api")).await;
    let last = subject.register(session, instance("b", "web")).await;
    while next(&mut watch).await.last().map(Update::at) < Some(last) {}

    let gone = next(&mut watch).await;
    let (shortest, longest) = (opened.elapsed(), before_opening.elapsed());
    assert_eq!(brief(&gone), ["-a", "-b"]);
    assert!(gone.iter().all(|update| update.at() == last.next()), "{gone:?}");
    assert!(longest >= TTL, "expired after {longest:?}, before its time to live of {TTL:?}");
    assert!(shortest <= TTL + EXPIRY_DELAY_MAX, "expired only after {shortest:?}");
    assert_eq!(subject.renew(session).await, Err(Error::SessionNotFound));
}

async fn a_renewed_session_lives(make: Make) {
    let subject = Subject::new(&make).await;
    let session = subject.open(1, Some(TTL)).await.expect("it is new");
    let at = subject.register(session, instance("a", "api")).await;

    // A quarter of the time to live, so that a busy machine has room to be late.
    for _ in 0..8 {
        sleep(TTL / 4).await;
        let renewed = subject.renew(session).await.expect("it was renewed in time");
        assert_eq!(renewed.ttl, Some(TTL));
    }
    assert_eq!(subject.list(&of("api")).await, (at, vec!["a".to_owned()]));
}

async fn only_the_silent_expire(make: Make) {
    let subject = Subject::new(&make).await;
    // The nearest deadline is neither the first nor the last to be set, and a store asleep until an earlier
    // one must take note of it.
    let mut sessions = Vec::new();
    for (number, id, ttl) in
        [(1, "late", Some(2 * TTL)), (2, "soon", Some(TTL)), (3, "far", Some(100 * TTL)), (4, "never", None)]
    {
        sleep(TTL / 20).await;
        sessions.push((subject.open(number, ttl).await.expect("it is new"), id));
    }
    for (session, id) in sessions {
        subject.register(session, instance(id, "api")).await;
    }

    let mut watch = subject.watch(Query::everything(), None);
    next_reset(&mut watch).await;
    assert_eq!(brief(&next(&mut watch).await), ["-soon"]);
    assert_eq!(brief(&next(&mut watch).await), ["-late"]);
    assert_eq!(subject.list(&of("api")).await.1, ["far", "never"]);
}
