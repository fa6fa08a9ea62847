//! Several servers over one etcd.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use netloft_registry::testing::{Churn, churn};
use netloft_registry::{
    Applied, BoxFuture, Command, EXPIRY_DELAY_MAX, Error, Found, Services, Snapshot, Store, StoreOptions,
    Usage, Watch,
};
use netloft_tests::etcd::Cluster;
use netloft_types::{Instance, InstanceId, Query, ReadMode, Revision, SessionId, Update};
use tokio::time::{Instant, sleep, timeout};

use crate::world::{LEASE_TTL, Node, Server, block_on, new_prefix, open};

const TTL: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(20);

/// Servers behind one handle: each call goes to the next.
struct Several {
    stores: Vec<Arc<dyn Store>>,
    calls: AtomicUsize,
}

impl Several {
    fn next(&self) -> &dyn Store {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        &*self.stores[call % self.stores.len()]
    }
}

impl Store for Several {
    fn apply(&self, command: Command) -> BoxFuture<'_, Result<Applied, Error>> {
        self.next().apply(command)
    }

    fn get<'a>(&'a self, id: &'a InstanceId, mode: ReadMode) -> BoxFuture<'a, Result<Found, Error>> {
        self.next().get(id, mode)
    }

    fn list<'a>(&'a self, query: &'a Query, mode: ReadMode) -> BoxFuture<'a, Result<Snapshot, Error>> {
        self.next().list(query, mode)
    }

    fn services(&self, mode: ReadMode) -> BoxFuture<'_, Result<Services, Error>> {
        self.next().services(mode)
    }

    fn watch(&self, query: Query, from: Option<Revision>) -> Result<Watch, Error> {
        self.next().watch(query, from)
    }

    fn usage(&self) -> Usage {
        self.next().usage()
    }
}

/// Two servers of a registry of their own.
async fn pair() -> [Arc<dyn Store>; 2] {
    let prefix = new_prefix();
    let mut stores = Vec::new();
    for _ in 0..2 {
        let store = open(&Node::endpoints(), &prefix, StoreOptions::default()).await;
        stores.push(Arc::new(store) as Arc<dyn Store>);
    }
    stores.try_into().unwrap_or_else(|_| unreachable!("there are two"))
}

pub(crate) fn every_promise_holds_whichever_server_is_asked() {
    let _node = Node::start();
    block_on(async {
        for seed in 0..3 {
            let prefix = new_prefix();
            let mut stores: Vec<Arc<dyn Store>> = Vec::new();
            for _ in 0..3 {
                stores.push(Arc::new(open(&Node::endpoints(), &prefix, StoreOptions::default()).await));
            }
            let several = Several { stores, calls: AtomicUsize::new(0) };
            let load = Churn { seed, writers: 4, readers: 12, commands: 150 };
            let report = churn(Arc::new(several), load).await;
            assert!(report.revisions > 200 && report.resumed > 0, "seed {seed}: {report:?}");
        }
    });
}

pub(crate) fn of_two_who_race_for_an_id_one_gets_it() {
    let _node = Node::start();
    block_on(async {
        let stores = pair().await;
        let sessions = [1, 2].map(SessionId::from_number);
        for (store, session) in stores.iter().zip(sessions) {
            store.apply(Command::OpenSession { session, ttl: None }).await.unwrap();
        }
        let mut wins = [0; 2];
        for round in 0..50 {
            let id = format!("i{round}");
            let register = |at: usize| {
                let (session, instance) = (sessions[at], instance(&id));
                stores[at].apply(Command::Register { session, instance })
            };
            let (first, second) = tokio::join!(register(0), register(1));
            let held = Error::InstanceHeld { id: id.parse().unwrap() };
            match (first, second) {
                (Ok(_), Err(error)) if error == held => wins[0] += 1,
                (Err(error), Ok(_)) if error == held => wins[1] += 1,
                other => panic!("round {round}: {other:?}"),
            }
        }
        let all = stores[0].list(&Query::everything(), ReadMode::Linearizable).await.unwrap();
        assert_eq!((all.instances.len(), wins[0] + wins[1]), (50, 50));
    });
}

pub(crate) fn of_two_amendments_of_what_both_saw_one_is_made() {
    let _node = Node::start();
    block_on(async {
        let stores = pair().await;
        let session = SessionId::from_number(1);
        stores[0].apply(Command::OpenSession { session, ttl: None }).await.unwrap();
        stores[0].apply(Command::Register { session, instance: instance("a") }).await.unwrap();
        let id = "a".parse().unwrap();
        let mut wins = [0; 2];
        for round in 0..50 {
            let seen = stores[1].get(&id, ReadMode::Linearizable).await.unwrap().instance.unwrap();
            let amend = |at: usize| {
                let reason = format!("{round} {at}").parse().unwrap();
                let becomes = Some(Arc::new(seen.maintained(Some(reason))));
                stores[at].apply(Command::Amend { seen: Arc::clone(&seen), becomes })
            };
            let (first, second) = tokio::join!(amend(0), amend(1));
            let late = Error::InstanceChanged { id: "a".parse().unwrap() };
            match (first, second) {
                (Ok(_), Err(error)) if error == late => wins[0] += 1,
                (Err(error), Ok(_)) if error == late => wins[1] += 1,
                other => panic!("round {round}: {other:?}"),
            }
        }
        assert_eq!(wins[0] + wins[1], 50);
    });
}

pub(crate) fn a_session_lives_where_it_is_renewed_and_ends_everywhere() {
    let _node = Node::start();
    block_on(async {
        let [here, there] = pair().await;
        let session = SessionId::from_number(1);
        here.apply(Command::OpenSession { session, ttl: Some(TTL) }).await.unwrap();
        here.apply(Command::Register { session, instance: instance("a") }).await.unwrap();
        let mut watch = here.watch(Query::everything(), None).unwrap();
        watch.next().await.unwrap();
        for _ in 0..8 {
            sleep(TTL / 4).await;
            let renewed = there.apply(Command::RenewSession { session }).await.unwrap();
            assert_eq!(renewed.ttl, Some(TTL));
        }
        let last = Instant::now();
        let gone = timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
        assert!(matches!(&gone[..], [Update::Delete { .. }]), "{gone:?}");
        let took = last.elapsed();
        // It changed its server, of which the first may have confirmed it a little later.
        let slack = Duration::from_secs(3);
        assert!(took + TTL / 20 >= TTL && took <= TTL + slack + EXPIRY_DELAY_MAX, "it ended after {took:?}");
        for store in [&here, &there] {
            let renewed = store.apply(Command::RenewSession { session }).await;
            assert_eq!(renewed, Err(Error::SessionNotFound));
        }
    });
}

pub(crate) fn a_server_that_does_not_hear_ends_no_session_that_another_took_over() {
    let mut cluster = Cluster::start(1);
    let [deaf, other] = [(); 2].map(|()| Server::join(&mut cluster, StoreOptions::default()));
    block_on(async {
        let (session, ttl) = (SessionId::from_number(1), Some(Duration::from_secs(1)));
        let renew = async || other.store.apply(Command::RenewSession { session }).await;
        deaf.store.apply(Command::OpenSession { session, ttl }).await.unwrap();
        other.store.list(&Query::everything(), ReadMode::Linearizable).await.unwrap();
        deaf.deafen();
        let deafened = Instant::now();
        // The deaf one takes it for overdue within its lease, and says so.
        while deafened.elapsed() < LEASE_TTL + TTL {
            renew().await.expect("the session lives at the other server");
            sleep(Duration::from_millis(200)).await;
        }
        other.store.apply(Command::CloseSession { session }).await.unwrap();
    });
}

pub(crate) fn the_sessions_of_a_server_that_leaves_live_on_at_another() {
    let _node = Node::start();
    block_on(async {
        let [leaving, staying] = pair().await;
        let [held, silent, mortal] = [1, 2, 3].map(SessionId::from_number);
        for (session, ttl) in [(held, Some(TTL)), (silent, Some(TTL)), (mortal, None)] {
            leaving.apply(Command::OpenSession { session, ttl }).await.unwrap();
            let id = format!("i{}", session.number());
            leaving.apply(Command::Register { session, instance: instance(&id) }).await.unwrap();
        }
        let mut watch = staying.watch(Query::everything(), None).unwrap();
        staying.list(&Query::everything(), ReadMode::Linearizable).await.unwrap();
        assert!(matches!(&watch.next().await.unwrap()[..], [Update::Reset { all, .. }] if all.len() == 3));
        let left = Instant::now();
        drop(leaving);
        let renewing = async {
            loop {
                staying.apply(Command::RenewSession { session: held }).await.unwrap();
                sleep(TTL / 5).await;
            }
        };
        let seen = async {
            let gone = timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
            assert!(matches!(&gone[..], [Update::Delete { id, .. }] if id.as_str() == "i3"), "{gone:?}");
            assert!(left.elapsed() < TTL, "what lives with its server goes with it");
            let gone = timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
            assert!(matches!(&gone[..], [Update::Delete { id, .. }] if id.as_str() == "i2"), "{gone:?}");
            let took = left.elapsed();
            // Not a lease later: it took its leave.
            assert!(took >= TTL && took <= TTL + EXPIRY_DELAY_MAX, "it ended after {took:?}");
            sleep(TTL).await;
        };
        tokio::select! {
            () = seen => {}
            () = renewing => {}
        }
        let left = staying.list(&Query::everything(), ReadMode::Linearizable).await.unwrap();
        assert_eq!(left.instances.len(), 1);
    });
}

pub(crate) fn a_watch_goes_on_at_another_server_that_knows_more_or_less() {
    let _node = Node::start();
    block_on(async {
        let [here, there] = pair().await;
        let session = SessionId::from_number(1);
        here.apply(Command::OpenSession { session, ttl: None }).await.unwrap();
        for round in 0..100 {
            let at =
                here.apply(Command::Register { session, instance: instance(&format!("i{round}")) }).await;
            let at = at.unwrap().at;
            // At once, when the other may not have heard of it.
            let mut watch = there.watch(Query::everything(), Some(at)).unwrap();
            let next =
                here.apply(Command::Register { session, instance: instance(&format!("j{round}")) }).await;
            let told = timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
            assert!(told.iter().all(|update| update.at() >= at), "round {round}: after {at} {told:?}");
            let knows = match &told[..] {
                [Update::Reset { all, .. }] => all.iter().any(|it| it.id.as_str() == format!("i{round}")),
                [Update::Put { at, .. }] => *at == next.unwrap().at,
                _ => false,
            };
            assert!(knows, "round {round}: {told:?}");
        }
    });
}

pub(crate) fn a_server_that_joins_knows_what_was_before() {
    let _node = Node::start();
    block_on(async {
        let prefix = new_prefix();
        let here = open(&Node::endpoints(), &prefix, StoreOptions::default()).await;
        let session = SessionId::from_number(1);
        here.apply(Command::OpenSession { session, ttl: None }).await.unwrap();
        let mut made = Vec::new();
        for id in ["a", "b", "c"] {
            made.push(here.apply(Command::Register { session, instance: instance(id) }).await.unwrap().at);
        }
        let there = open(&Node::endpoints(), &prefix, StoreOptions::default()).await;
        let mut watch = there.watch(Query::everything(), Some(made[0])).unwrap();
        let told = timeout(PATIENCE, watch.next()).await.unwrap().unwrap();
        let revisions: Vec<_> = told.iter().map(Update::at).collect();
        assert!(revisions == made[1..] && told.iter().all(|it| matches!(it, Update::Put { .. })), "{told:?}");
    });
}

fn instance(id: &str) -> Instance {
    let (address, port) = ("10.0.0.2".parse().unwrap(), "80".parse().unwrap());
    Instance::new(id.parse().unwrap(), "api".parse().unwrap(), address, port)
}
