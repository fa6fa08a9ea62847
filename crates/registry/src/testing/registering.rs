//! Checks of sessions, registrations and lookups.

use std::sync::Arc;
use std::time::Duration;

use netloft_types::limits::{SESSION_TTL_MAX, SESSION_TTL_MIN};
use netloft_types::{Check, Health, Instance, Lifecycle, Patch, Query, ReadMode};

use crate::{Applied, Command, Error, Found, Limits, StoreOptions};

use super::fixture::{Subject, instance, instance_id, of};
use super::{Make, checks};

checks![
    a_session_must_be_open_to_be_used,
    a_session_opens_once_and_repeats_safely,
    a_time_to_live_has_bounds,
    a_registration_is_visible_once_answered,
    what_changes_nothing_makes_no_revision,
    an_instance_belongs_to_its_session,
    a_patch_changes_what_it_names,
    a_draining_instance_leaves_the_lookups,
    checks_say_how_their_instance_is_and_its_owner_does_not,
    an_amendment_is_made_only_to_what_was_seen,
    what_is_absent_is_not_found,
    a_closed_session_takes_its_instances_along,
    services_are_summed_up,
    limits_are_kept_and_named,
];

async fn a_session_must_be_open_to_be_used(make: Make) {
    let subject = Subject::new(&make).await;
    let session = subject.session(1).await;
    subject.close(session).await.expect("it is open");

    let refused = [
        subject.renew(session).await,
        subject.close(session).await,
        subject.try_register(session, instance("a", "api")).await,
        subject.update(session, "a", Patch::drain()).await,
        subject.deregister(session, "a").await,
    ];
    for answer in refused {
        assert_eq!(answer, Err(Error::SessionNotFound));
    }
}

async fn a_session_opens_once_and_repeats_safely(make: Make) {
    let subject = Subject::new(&make).await;
    let ttl = Some(Duration::from_mins(1));
    let session = subject.open(1, ttl).await.expect("it is new");
    subject.register(session, instance("a", "api")).await;

    assert_eq!(subject.open(1, ttl).await, Ok(session));
    let error = subject.open(1, None).await.expect_err("another time to live");
    assert!(error.is_conflict(), "{error}");
    assert_eq!(subject.list(&of("api")).await.1, ["a"]);
}

async fn a_time_to_live_has_bounds(make: Make) {
    let subject = Subject::new(&make).await;
    for ttl in [Duration::ZERO, Duration::from_millis(999), SESSION_TTL_MAX.saturating_add(SESSION_TTL_MIN)] {
        let error = subject.open(1, Some(ttl)).await.expect_err("it is out of bounds");
        assert!(error.is_invalid(), "{error}");
    }
    for (number, ttl) in [(1, SESSION_TTL_MIN), (2, SESSION_TTL_MAX)] {
        subject.open(number, Some(ttl)).await.expect("it is in bounds");
    }
}

async fn a_registration_is_visible_once_answered(make: Make) {
    let subject = Subject::new(&make).await;
    let session = subject.session(1).await;
    let registered = instance("a", "api");
    let at = subject.register(session, registered.clone()).await;

    let snapshot = subject.0.list(&of("api"), ReadMode::Linearizable).await.expect("a list is answered");
    assert_eq!(snapshot.at, at);
    assert_eq!(snapshot.instances.iter().map(AsRef::as_ref).collect::<Vec<_>>(), [&registered]);
    let found = subject.0.get(&instance_id("a"), ReadMode::Linearizable).await.expect("a read is answered");
    assert_eq!((found.at, found.instance.as_deref()), (at, Some(&registered)));
    assert_eq!(subject.list(&of("web")).await, (at, vec![]));
    assert_eq!(
        subject.0.get(&instance_id("b"), ReadMode::Linearizable).await,
        Ok(Found { at, instance: None, age: Duration::ZERO })
    );

    let moved = subject.register(session, instance("a", "web")).await;
    assert!(moved > at);
    assert_eq!(subject.list(&of("api")).await, (moved, vec![]));
    assert_eq!(subject.list(&of("web")).await, (moved, vec!["a".to_owned()]));
    let (_, everything) = subject.list(&Query::everything()).await;
    assert_eq!(everything, ["a"]);
}

async fn what_changes_nothing_makes_no_revision(make: Make) {
    let subject = Subject::new(&make).await;
    let session = subject.session(1).await;
    let at = subject.register(session, instance("a", "api")).await;

    assert_eq!(subject.register(session, instance("a", "api")).await, at);
    let same = Patch { health: Some(Health::Passing), ..Patch::default() };
    for patch in [Patch::default(), same] {
        let applied = subject.update(session, "a", patch).await.expect("it is registered");
        assert_eq!(applied.at, at);
    }
    let renewed = subject.renew(session).await.expect("it is open");
    assert_eq!(renewed, Applied { at, ttl: None });
    let other = subject.session(2).await;
    assert_eq!(subject.close(other).await.expect("it is open").at, at);
    assert_eq!(subject.list(&of("api")).await.0, at);
}

async fn an_instance_belongs_to_its_session(make: Make) {
    let subject = Subject::new(&make).await;
    let owner = subject.session(1).await;
    let other = subject.session(2).await;
    let at = subject.register(owner, instance("a", "api")).await;

    let refused = [
        subject.try_register(other, instance("a", "api")).await,
        subject.update(other, "a", Patch::drain()).await,
        subject.deregister(other, "a").await,
    ];
    for answer in refused {
        assert_eq!(answer, Err(Error::InstanceHeld { id: instance_id("a") }));
    }
    subject.close(other).await.expect("it is open");
    assert_eq!(subject.list(&of("api")).await, (at, vec!["a".to_owned()]));

    subject.close(owner).await.expect("it is open");
    let heir = subject.session(3).await;
    subject.register(heir, instance("a", "api")).await;
}

async fn a_patch_changes_what_it_names(make: Make) {
    let subject = Subject::new(&make).await;
    let session = subject.session(1).await;
    let before = instance("a", "api");
    subject.register(session, before.clone()).await;

    let weight = "7".parse().expect("a weight");
    let patch = Patch { weight: Some(weight), health: Some(Health::Warning), ..Patch::default() };
    subject.update(session, "a", patch).await.expect("it is registered");

    let found = subject.0.get(&instance_id("a"), ReadMode::Linearizable).await.expect("a read is answered");
    let mut after = before;
    after.weight = weight;
    after.health = Health::Warning;
    assert_eq!(found.instance.as_deref(), Some(&after));
}

async fn a_draining_instance_leaves_the_lookups(make: Make) {
    let subject = Subject::new(&make).await;
    let session = subject.session(1).await;
    subject.register(session, instance("a", "api")).await;
    subject.register(session, instance("b", "api")).await;

    subject.update(session, "a", Patch::drain()).await.expect("it is registered");
    assert_eq!(subject.list(&of("api")).await.1, ["b"]);
    assert_eq!(subject.list(&Query::everything()).await.1, ["a", "b"]);
}

async fn checks_say_how_their_instance_is_and_its_owner_does_not(make: Make) {
    let subject = Subject::new(&make).await;
    let session = subject.session(1).await;
    let mut checked = instance("a", "api");
    checked.checks = Check::tcp().into();
    checked.lifecycle = Lifecycle::Starting;
    subject.register(session, checked.clone()).await;
    assert_eq!(subject.list(&of("api")).await.1, [""; 0]);
    let boast = Patch { health: Some(Health::Passing), ..Patch::default() };
    let error = subject.update(session, "a", boast).await.expect_err("it is for the checks to say");
    assert!(error.is_invalid(), "{error}");

    let seen = subject.get("a").await.expect("it is registered");
    let becomes = Some(seen.judged(Health::Warning, true).maintained("new disk".parse().ok()).into());
    let amended = subject.0.apply(Command::Amend { seen, becomes: becomes.clone() }).await;
    assert_eq!(subject.list(&Query::everything()).await.0, amended.expect("it is as it was seen").at);
    // As a client does that lost the answer.
    subject.register(session, checked).await;
    assert_eq!(subject.get("a").await, becomes);
    assert_eq!(subject.list(&of("api")).await.1, [""; 0], "it is in maintenance");
}

async fn an_amendment_is_made_only_to_what_was_seen(make: Make) {
    let subject = Subject::new(&make).await;
    let session = subject.session(1).await;
    subject.register(session, instance("a", "api")).await;
    let seen = subject.get("a").await.expect("it is registered");
    let at = subject.update(session, "a", Patch::drain()).await.expect("it is registered").at;

    let amend = |seen: &Arc<Instance>, becomes: Option<Instance>| {
        subject.0.apply(Command::Amend { seen: Arc::clone(seen), becomes: becomes.map(Arc::new) })
    };
    let changed = Err(Error::InstanceChanged { id: instance_id("a") });
    assert_eq!(amend(&seen, None).await, changed);
    assert_eq!(amend(&seen, Some(instance("a", "web"))).await, changed);
    assert_eq!(subject.list(&Query::everything()).await, (at, vec!["a".to_owned()]));

    let seen = subject.get("a").await.expect("it is registered");
    let error = amend(&seen, Some(instance("b", "api"))).await.expect_err("an id stays as it is");
    assert!(error.is_invalid(), "{error}");
    let removed = amend(&seen, None).await.expect("it is as it was seen");
    assert_eq!(subject.list(&Query::everything()).await, (removed.at, Vec::new()));
    assert_eq!(amend(&seen, None).await, Err(Error::InstanceNotFound { id: instance_id("a") }));
    // Its session is there, and has nothing left.
    assert_eq!(subject.close(session).await.expect("it is open").at, removed.at);
}

async fn what_is_absent_is_not_found(make: Make) {
    let subject = Subject::new(&make).await;
    let session = subject.session(1).await;
    subject.register(session, instance("a", "api")).await;
    subject.deregister(session, "a").await.expect("it is registered");

    let refused =
        [subject.deregister(session, "a").await, subject.update(session, "a", Patch::drain()).await];
    for answer in refused {
        assert_eq!(answer, Err(Error::InstanceNotFound { id: instance_id("a") }));
    }
    assert_eq!(subject.list(&Query::everything()).await.1, [""; 0]);
}

async fn a_closed_session_takes_its_instances_along(make: Make) {
    let subject = Subject::new(&make).await;
    let (first, second) = (subject.session(1).await, subject.session(2).await);
    subject.register(first, instance("a", "api")).await;
    subject.register(second, instance("b", "api")).await;
    let before = subject.register(first, instance("c", "web")).await;

    let at = subject.close(first).await.expect("it is open").at;
    assert_eq!(at, before.next(), "all of a session goes in one revision");
    assert_eq!(subject.list(&Query::everything()).await, (at, vec!["b".to_owned()]));
}

async fn services_are_summed_up(make: Make) {
    let subject = Subject::new(&make).await;
    let session = subject.session(1).await;
    for (id, of, health) in [
        ("a", "api", Health::Passing),
        ("b", "api", Health::Warning),
        ("c", "api", Health::Critical),
        ("d", "web", Health::Passing),
        ("e", "gone", Health::Passing),
    ] {
        let mut instance = instance(id, of);
        instance.health = health;
        subject.register(session, instance).await;
    }
    subject.update(session, "d", Patch::drain()).await.expect("it is registered");
    let at = subject.deregister(session, "e").await.expect("it is registered").at;

    let services = subject.0.services(ReadMode::Linearizable).await.expect("a read is answered");
    assert_eq!(services.at, at);
    let counts = services.all.iter().map(|service| {
        let counts = [service.instances, service.passing, service.critical, service.usable];
        (service.name.as_str(), counts)
    });
    assert_eq!(counts.collect::<Vec<_>>(), [("api", [3, 1, 1, 2]), ("web", [1, 1, 0, 0])]);
}

async fn limits_are_kept_and_named(make: Make) {
    let limits = Limits { sessions_max: 2, instances_max: 3, instances_per_session_max: 2 };
    let options = StoreOptions { limits, ..StoreOptions::default() };
    let subject = Subject::with(&make, options).await;
    let exhausted = |limit, max| Error::Exhausted { limit, max };

    let (first, second) = (subject.session(1).await, subject.session(2).await);
    assert_eq!(subject.open(3, None).await, Err(exhausted("sessions_max", 2)));
    subject.register(first, instance("a", "api")).await;
    subject.register(first, instance("b", "api")).await;
    let third = instance("c", "api");
    let answer = subject.try_register(first, third.clone()).await;
    assert_eq!(answer, Err(exhausted("instances_per_session_max", 2)));
    subject.register(second, third).await;
    let answer = subject.try_register(second, instance("d", "api")).await;
    assert_eq!(answer, Err(exhausted("instances_max", 3)));

    // What is registered can still be changed, and what goes makes room.
    subject.register(first, instance("a", "web")).await;
    subject.close(first).await.expect("it is open");
    let heir = subject.session(3).await;
    subject.register(heir, instance("d", "api")).await;
}
