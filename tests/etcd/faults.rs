//! What breaks, and what holds all the same.

use std::sync::Arc;
use std::time::Duration;

use netloft_registry::embedded::Condition;
use netloft_registry::{Command, EXPIRY_DELAY_MAX, Error, Store, StoreOptions};
use netloft_tests::etcd::{Cluster, Direction};
use netloft_tests::running::until as until_true;
use netloft_types::{Instance, Query, ReadMode, SessionId, Update};
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep, timeout};

use crate::load::{Report, under_load};
use crate::lossy::Lossy;
use crate::world::{GRACE, LEASE_TTL, Node, Server, block_on, new_prefix, open};

const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster of three with an observer and two servers.
fn three() -> (Cluster, Server, [Server; 2]) {
    let mut cluster = Cluster::start(3);
    let observer = Server::join(&mut cluster, StoreOptions::default());
    let servers = [(); 2].map(|()| Server::join(&mut cluster, StoreOptions::default()));
    (cluster, observer, servers)
}

fn stores(servers: &[Server]) -> Vec<Arc<dyn Store>> {
    servers.iter().map(|server| Arc::clone(&server.store) as Arc<dyn Store>).collect()
}

/// Runs a load while something happens.
fn load(observer: &Server, servers: &[Server], trouble: impl Future<Output = ()>) -> Report {
    let report = block_on(under_load(Arc::clone(&observer.store) as _, &stores(servers), trouble));
    assert!(report.confirmed > 100 && report.reads > 30, "{report:?}");
    assert!(report.revisions >= report.confirmed, "{report:?}");
    report
}

/// Lets the load run.
async fn a_while() {
    sleep(Duration::from_secs(2)).await;
}

pub(crate) fn a_killed_leader_costs_an_election_and_nothing_else() {
    let (mut cluster, observer, servers) = three();
    load(&observer, &servers, async {
        a_while().await;
        let leader = cluster.leader();
        cluster.kill(leader);
        sleep(Duration::from_secs(4)).await;
        cluster.restart(leader);
        a_while().await;
    });
}

pub(crate) fn a_leader_that_stands_still_is_left_for_another() {
    let (cluster, observer, servers) = three();
    load(&observer, &servers, async {
        a_while().await;
        // The first is the one that all servers ask until they have a reason not to.
        for index in [cluster.leader(), 0] {
            cluster.signal(index, Signal::SIGSTOP);
            until_answering(&servers).await;
            cluster.signal(index, Signal::SIGCONT);
            cluster.until_led();
        }
        a_while().await;
    });
}

pub(crate) fn a_member_cut_off_from_the_others_is_left_for_another() {
    let (cluster, observer, servers) = three();
    load(&observer, &servers, async {
        // Each in turn, so that it is once the leader and once the one that is asked.
        for index in 0..3 {
            sleep(Duration::from_secs(1)).await;
            cluster.unplug(index);
            sleep(Duration::from_secs(2)).await;
            until_answering(&servers).await;
            cluster.plug(index);
        }
        a_while().await;
    });
}

pub(crate) fn a_cable_that_comes_and_goes_loses_nothing() {
    let (_cluster, observer, servers) = three();
    let report = load(&observer, &servers, async {
        for round in 0..12_u64 {
            servers[0].unplug();
            sleep(Duration::from_millis(100 + 150 * (round % 5))).await;
            servers[0].plug();
            sleep(Duration::from_millis(500)).await;
        }
        a_while().await;
    });
    assert_eq!(report.resets, 4, "{report:?}");
}

pub(crate) fn a_server_cut_off_serves_what_it_knew_and_ends_nothing() {
    let (_cluster, observer, servers) = three();
    let [cut, other] = &servers;
    let [held, lost, long] = [100, 101, 102].map(SessionId::from_number);
    let ttl = Some(Duration::from_secs(2));
    load(&observer, &servers, async {
        for (session, id) in [(held, "held"), (lost, "lost")] {
            cut.store.apply(Command::OpenSession { session, ttl }).await.unwrap();
            cut.store.apply(Command::Register { session, instance: instance(id) }).await.unwrap();
        }
        let ages = Some(Duration::from_mins(1));
        cut.store.apply(Command::OpenSession { session: long, ttl: ages }).await.unwrap();
        observer.store.list(&Query::everything(), ReadMode::Linearizable).await.unwrap();
        let mut watch = observer.store.watch(Query::service("kept".parse().unwrap()), None).unwrap();
        assert!(matches!(&watch.next().await.unwrap()[..], [Update::Reset { all, .. }] if all.len() == 2));
        cut.unplug();
        let unplugged = Instant::now();
        // The client of the one session finds another server, that of the other has died.
        let renewing = async {
            loop {
                sleep(Duration::from_millis(400)).await;
                let renewed = other.store.apply(Command::RenewSession { session: held }).await;
                renewed.expect("the session lives at the other server");
            }
        };
        let seen = async {
            let gone = watch.next().await.unwrap();
            assert!(matches!(&gone[0], Update::Delete { id, .. } if id.as_str() == "lost"), "{gone:?}");
            let (shortest, longest) = (Duration::from_secs(2), LEASE_TTL + Duration::from_secs(2) + GRACE);
            let took = unplugged.elapsed();
            assert!(took >= shortest, "it ended after {took:?}");
            // Etcd looks for leases that ran out twice a second.
            assert!(took <= longest + EXPIRY_DELAY_MAX * 2, "it ended after {took:?}");
            let everything = Query::everything();
            let stale = cut.store.list(&everything, ReadMode::Stale).await.unwrap();
            assert!(stale.age + Duration::from_secs(2) >= took, "{:?} after {took:?}", stale.age);
            assert!(stale.instances.iter().any(|instance| instance.id.as_str() == "lost"));
            let refused = cut.store.list(&everything, ReadMode::Linearizable).await.unwrap_err();
            assert!(matches!(refused, Error::Away { .. }), "{refused}");
            // It does not know of the one, and the other is still its own.
            for session in [held, long] {
                let refused = cut.store.apply(Command::RenewSession { session }).await.unwrap_err();
                assert!(matches!(refused, Error::Away { .. }), "{refused}");
            }
            // A watch that comes from a server that knew more must not be told anything older.
            let mut moved = cut.store.watch(everything, Some(gone[0].at())).unwrap();
            let told = timeout(Duration::from_secs(1), moved.next()).await;
            assert!(told.is_err(), "{told:?}");
            assert_eq!(*cut.store.condition().borrow(), Condition::Away);
            cut.plug();
            let told = timeout(PATIENCE, moved.next()).await.unwrap().unwrap();
            assert!(matches!(&told[0], Update::Reset { at, .. } if *at >= gone[0].at()), "{told:?}");
            until(&cut.store, Condition::Writing).await;
            cut.store.apply(Command::RenewSession { session: long }).await.expect("it is still there");
        };
        tokio::select! {
            () = seen => {}
            () = renewing => {}
        }
        // Its own count of the session it lost, and of that it has to find again, ended nothing.
        let renewed = cut.store.apply(Command::RenewSession { session: held }).await;
        renewed.expect("the session lives");
        let gone = cut.store.apply(Command::RenewSession { session: lost }).await;
        assert_eq!(gone, Err(Error::SessionNotFound));
        other.store.apply(Command::CloseSession { session: held }).await.unwrap();
    });
}

pub(crate) fn ten_seconds_without_etcd_end_no_session_whose_client_comes_back() {
    let (mut cluster, observer, servers) = three();
    let session = SessionId::from_number(100);
    let ttl = Some(Duration::from_secs(2));
    block_on(async {
        let [here, there] = [&servers[0].store, &servers[1].store];
        here.apply(Command::OpenSession { session, ttl }).await.unwrap();
        here.apply(Command::Register { session, instance: instance("a") }).await.unwrap();
        there.list(&Query::everything(), ReadMode::Linearizable).await.unwrap();
        let mut watch = there.watch(Query::everything(), None).unwrap();
        watch.next().await.unwrap();
        (0..3).for_each(|index| cluster.kill(index));
        until(there, Condition::Away).await;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            // Confirmed while the lease surely holds, and refused from then on.
            let _ = here.apply(Command::RenewSession { session }).await;
            let refused =
                here.apply(Command::Register { session, instance: instance("b") }).await.unwrap_err();
            assert!(matches!(refused, Error::Away { .. }), "{refused}");
            let found = there.get(&"a".parse().unwrap(), ReadMode::Stale).await.unwrap();
            assert!(found.instance.is_some() && found.age >= begun.elapsed() / 2, "{found:?}");
        }
        (0..3).for_each(|index| cluster.restart(index));
        until(here, Condition::Writing).await;
        until(there, Condition::Writing).await;
        // The client comes back, as late as the grace allows and not at once.
        sleep(Duration::from_secs(1)).await;
        let renewing = async {
            loop {
                here.apply(Command::RenewSession { session }).await.expect("the session lives");
                sleep(Duration::from_millis(300)).await;
            }
        };
        let quiet = timeout(Duration::from_secs(6), watch.next());
        tokio::select! {
            told = quiet => assert!(told.is_err(), "{told:?}"),
            () = renewing => {}
        }
        here.apply(Command::CloseSession { session }).await.unwrap();
        assert!(matches!(&watch.next().await.unwrap()[..], [Update::Delete { .. }]));
    });
    load(&observer, &servers, a_while());
}

pub(crate) fn all_of_etcd_down_under_load_loses_nothing_that_was_confirmed() {
    let (mut cluster, observer, servers) = three();
    let report = load(&observer, &servers, async {
        a_while().await;
        (0..3).for_each(|index| cluster.kill(index));
        sleep(Duration::from_secs(6)).await;
        (0..3).for_each(|index| cluster.restart(index));
        until(&servers[0].store, Condition::Writing).await;
        a_while().await;
    });
    assert!(report.refused + report.unknown > 0, "{report:?}");
}

pub(crate) fn an_answer_that_is_lost_on_its_way_is_found_out() {
    let _node = Node::start();
    let etcd = "127.0.0.1:2379".parse().unwrap();
    let wires = [(); 2].map(|()| Lossy::start(etcd));
    let lossy: Vec<_> = wires.iter().map(|wire| format!("http://{}", wire.address)).collect();
    let report = block_on(async {
        let prefix = new_prefix();
        let observer = Arc::new(open(&Node::endpoints(), &prefix, StoreOptions::default()).await);
        let mut servers: Vec<Arc<dyn Store>> = Vec::new();
        for _ in 0..2 {
            servers.push(Arc::new(open(&lossy, &prefix, StoreOptions::default()).await));
        }
        under_load(observer, &servers, sleep(Duration::from_secs(10))).await
    });
    assert!(wires.iter().all(|wire| wire.connections() > 20), "{report:?}");
    assert!(report.confirmed > 100 && report.refused + report.unknown == 0, "{report:?}");
}

pub(crate) fn what_was_compacted_meanwhile_is_a_reset() {
    let mut cluster = Cluster::start(1);
    let observer = Server::join(&mut cluster, StoreOptions::default());
    let servers = [(); 2].map(|()| Server::join(&mut cluster, StoreOptions::default()));
    let report = load(&observer, &servers, async {
        a_while().await;
        servers[0].unplug();
        sleep(Duration::from_secs(2)).await;
        let revision = cluster.revision();
        // Those who are there have long read that.
        sleep(Duration::from_secs(2)).await;
        cluster.compact(&revision);
        servers[0].plug();
        until(&servers[0].store, Condition::Writing).await;
        a_while().await;
    });
    // Four watches, of which the two at the server that was away began again.
    assert_eq!(report.resets, 6, "{report:?}");
}

pub(crate) fn what_ended_leaves_nothing_in_etcd() {
    let mut cluster = Cluster::start(1);
    let servers = [(); 2].map(|()| Server::join(&mut cluster, StoreOptions::default()));
    let [here, there] = servers;
    block_on(async {
        let [all, one] = [1, 2].map(SessionId::from_number);
        for session in [all, one] {
            here.store.apply(Command::OpenSession { session, ttl: None }).await.unwrap();
            for number in 0..100 {
                let instance = instance(&format!("i{}-{number}", session.number()));
                here.store.apply(Command::Register { session, instance }).await.unwrap();
            }
        }
        // Two keys of the registry, two of each server, two of each instance, and the sessions.
        assert_eq!(cluster.count_keys("/netloft/", "/netloft0"), 2 + 4 + 400 + 2);
        here.store.apply(Command::CloseSession { session: all }).await.unwrap();
        assert_eq!(cluster.count_keys("/netloft/s/", "/netloft/s0"), 101);
    });
    drop(here);
    until_true("everything is swept up", || cluster.count_keys("/netloft/", "/netloft0") == 4);
    drop(there);
}

pub(crate) fn what_somebody_deletes_by_hand_is_noticed_and_told() {
    let mut cluster = Cluster::start(1);
    let servers = [(); 2].map(|()| Server::join(&mut cluster, StoreOptions::default()));
    let [here, there] = [&servers[0].store, &servers[1].store];
    block_on(async {
        let session = SessionId::from_number(1);
        here.apply(Command::OpenSession { session, ttl: None }).await.unwrap();
        here.apply(Command::Register { session, instance: instance("a") }).await.unwrap();
        let at = here.apply(Command::Register { session, instance: instance("b") }).await.unwrap().at;
        let mut watches = Vec::new();
        for store in [here, there] {
            store.list(&Query::everything(), ReadMode::Linearizable).await.unwrap();
            watches.push(store.watch(Query::everything(), Some(at)).unwrap());
        }
        let of_session = format!("/netloft/s/{session}/i/");
        // One instance, then all there is.
        for (first, behind, left) in
            [(format!("{of_session}a"), format!("{of_session}b"), 1), ("/".into(), "0".into(), 0)]
        {
            cluster.delete_keys(&first, &behind);
            for watch in &mut watches {
                let told = timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
                let is_so =
                    matches!(&told[..], [Update::Reset { at: now, all }] if all.len() == left && *now > at);
                assert!(is_so, "{told:?}");
            }
        }
        let heir = SessionId::from_number(2);
        let opened =
            async { while here.apply(Command::OpenSession { session: heir, ttl: None }).await.is_err() {} };
        timeout(PATIENCE, opened).await.unwrap();
        here.apply(Command::Register { session: heir, instance: instance("a") }).await.unwrap();
        assert_eq!(
            there.list(&Query::everything(), ReadMode::Linearizable).await.unwrap().instances.len(),
            1
        );
    });
}

pub(crate) fn an_old_copy_of_etcd_is_not_taken_for_the_history_that_was_followed() {
    let mut cluster = Cluster::start(1);
    let servers = [(); 2].map(|()| Server::join(&mut cluster, StoreOptions::default()));
    let [here, there] = [&servers[0].store, &servers[1].store];
    let session = SessionId::from_number(1);
    block_on(async {
        here.apply(Command::OpenSession { session, ttl: Some(Duration::from_mins(5)) }).await.unwrap();
        here.apply(Command::Register { session, instance: instance("old") }).await.unwrap();
        restart_with(&mut cluster, Direction::Away);
        let mut last =
            here.apply(Command::Register { session, instance: instance("lost") }).await.unwrap().at;
        for number in 0..20 {
            last = here
                .apply(Command::Register { session, instance: instance(&format!("i{number}")) })
                .await
                .unwrap()
                .at;
        }
        there.list(&Query::everything(), ReadMode::Linearizable).await.unwrap();
        let mut watches = [here, there].map(|store| store.watch(Query::everything(), Some(last)).unwrap());
        restart_with(&mut cluster, Direction::Back);
        for watch in &mut watches {
            let told = timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
            let is_old = |all: &[Arc<Instance>]| all.len() == 1 && all[0].id.as_str() == "old";
            assert!(
                matches!(&told[..], [Update::Reset { at, all }] if *at > last && is_old(all)),
                "{told:?}"
            );
        }
        until(here, Condition::Writing).await;
        let found = here.list(&Query::everything(), ReadMode::Linearizable).await.unwrap();
        assert_eq!(found.instances.len(), 1);
        let at = here.apply(Command::Register { session, instance: instance("new") }).await.unwrap().at;
        assert!(at > last);
        assert_eq!(there.list(&Query::everything(), ReadMode::Linearizable).await.unwrap().at, at);
    });
}

fn restart_with(cluster: &mut Cluster, direction: Direction) {
    cluster.kill(0);
    cluster.copy(0, direction);
    cluster.restart(0);
    cluster.until_led();
}

/// Waits until all servers know what all others did.
async fn until_answering(servers: &[Server]) {
    for server in servers {
        let answered =
            async { while server.store.list(&Query::everything(), ReadMode::Linearizable).await.is_err() {} };
        timeout(PATIENCE, answered).await.expect("it answers in time");
    }
}

async fn until(store: &netloft_registry_etcd::EtcdStore, condition: Condition) {
    let mut now = store.condition();
    let reached = now.wait_for(|now| *now == condition);
    timeout(PATIENCE, reached).await.expect("it gets there in time").unwrap();
}

fn instance(id: &str) -> Instance {
    let (address, port) = ("10.0.0.2".parse().unwrap(), "80".parse().unwrap());
    Instance::new(id.parse().unwrap(), "kept".parse().unwrap(), address, port)
}
