//! The hands of a monitor, and its clock.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use netloft_health::{
    Action, Amendment, Cause, HeartbeatError, Monitor, MonitorOptions, Observation, Probe, Refusal, Setback,
    Stats,
};
use netloft_registry::{Charge, Closed, Command, Error, Handover, Store, Watch};
use netloft_types::{
    CheckName, CheckReport, Instance, InstanceId, Instances, Query, ReadMode, ServiceName, Update,
};
use tokio::sync::Notify;
use tokio::task::{self, JoinError, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use crate::{addresses, probe};

/// How often the addresses of this host are read again.
const ADDRESSES_INTERVAL: Duration = Duration::from_secs(10);
/// How long to wait before a store is asked again for a watch that it has no room for.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

/// Runs the checks of a store's instances for as long as it, or a clone of it, lives.
#[derive(Debug, Clone)]
pub struct Checker {
    shared: Arc<Shared>,
    // Dropped with the last clone.
    _task: Arc<Task>,
}

#[derive(Debug)]
struct Shared {
    /// Held for decisions only, never across an await.
    monitor: Mutex<Monitor>,
    /// The time that the monitor calls zero.
    origin: Instant,
    /// Told when there may be something to do.
    news: Notify,
}

#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Checker {
    /// Starts to look after the instances of `store` that are in its [charge](Store::charge). It ends with the store.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O and time enabled.
    pub fn start(store: Arc<dyn Store>, options: MonitorOptions) -> Self {
        let mut monitor = Monitor::new(options, Duration::ZERO, rand::random());
        monitor.own_addresses(addresses::of_this_host());
        let shared =
            Arc::new(Shared { monitor: Mutex::new(monitor), origin: Instant::now(), news: Notify::new() });
        let hands = Hands {
            shared: Arc::clone(&shared),
            charge: store.charge(),
            store,
            work: JoinSet::new(),
            tickets: HashMap::new(),
        };
        let task = tokio::spawn(async move {
            let Err(closed) = hands.run().await;
            debug!(%closed, "health checks end");
        });
        Self { shared, _task: Arc::new(Task(task)) }
    }

    /// Whether the places that the checks of `instance` look at may be probed; others are never connected to.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn admit(&self, instance: &Instance) -> Result<(), Refusal> {
        self.shared.monitor().admit(instance)
    }

    /// Takes in a sign of life of `instance`, as it is registered, for the ttl check of a name, or for all of them.
    /// Answers for how long it counts.
    ///
    /// # Errors
    ///
    /// If there is no such check.
    pub fn heartbeat(
        &self,
        instance: &Arc<Instance>,
        check: Option<&CheckName>,
        observation: &Observation,
    ) -> Result<Duration, HeartbeatError> {
        let now = self.shared.now();
        let counts_for = self.shared.monitor().heartbeat(now, instance, check, observation)?;
        self.shared.news.notify_one();
        Ok(counts_for)
    }

    /// How the checks of an instance stand, in their order.
    pub fn reports(&self, id: &InstanceId) -> Vec<CheckReport> {
        self.shared.monitor().reports(id)
    }

    /// How many instances of a service stay what they were because too much of it fails at once.
    pub fn held(&self, service: &ServiceName) -> usize {
        self.shared.monitor().held(service)
    }

    /// How much there is to do, and how well it goes.
    pub fn stats(&self) -> Stats {
        self.shared.monitor().stats()
    }
}

impl Shared {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    async fn sleep_until(&self, due: Option<Duration>) {
        match due {
            Some(due) => sleep_until(self.origin + due).await,
            None => std::future::pending().await,
        }
    }

    fn monitor(&self) -> MutexGuard<'_, Monitor> {
        // A monitor that a panic left half changed still knows more than none; whatever it gets wrong, the store
        // amends only what is still as it was seen.
        self.monitor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that owns everything under way.
struct Hands {
    shared: Arc<Shared>,
    store: Arc<dyn Store>,
    charge: Charge,
    /// Bounded by the monitor: so many probes, and one amendment for each instance.
    work: JoinSet<Done>,
    /// The tickets of the probes among it, for those that break off.
    tickets: HashMap<task::Id, u64>,
}

/// Work that is done.
enum Done {
    Probed(Observation),
    Amended { id: InstanceId, outcome: Result<(), Error> },
    Addresses(BTreeSet<IpAddr>),
}

impl Hands {
    async fn run(mut self) -> Result<Infallible, Closed> {
        let mut handovers = self.charge.handovers();
        let mut watch = self.watch().await;
        let mut addresses_due = Instant::now() + ADDRESSES_INTERVAL;
        loop {
            let due = self.act();
            tokio::select! {
                batch = watch.next() => {
                    let batch = self.charge.narrow(batch?);
                    let now = self.shared.now();
                    self.shared.monitor().apply(now, &batch);
                }
                handover = handovers.next() => self.hand_over(handover).await,
                Some(done) = self.work.join_next_with_id() => self.take_in(done),
                () = self.shared.sleep_until(due) => {}
                () = self.shared.news.notified() => {}
                () = sleep_until(addresses_due) => {
                    addresses_due = Instant::now() + ADDRESSES_INTERVAL;
                    self.work.spawn_blocking(|| Done::Addresses(addresses::of_this_host()));
                }
            }
        }
    }

    /// A watch of everything. There is no last attempt: without it nothing is looked after.
    async fn watch(&self) -> Watch {
        loop {
            match self.store.watch(Query::everything(), None) {
                Ok(watch) => return watch,
                Err(error) => warn!(%error, "health checks wait for a watch of the store"),
            }
            sleep(WATCH_PAUSE).await;
        }
    }

    /// Takes over what has come into the charge, and lets go of what has left it.
    async fn hand_over(&self, handover: Handover) {
        match handover {
            Handover::Of(ids) => {
                for id in ids.iter() {
                    self.look_again_at(id).await;
                }
            }
            Handover::Anew => {
                let Ok(all) = self.store.list(&Query::everything(), ReadMode::Stale).await else { return };
                let (at, now) = (all.at, self.shared.now());
                let nothing = Update::Reset { at, all: Instances::default() };
                let mine = self.charge.narrow(vec![Update::Reset { at, all: all.instances }]);
                let mut monitor = self.shared.monitor();
                monitor.apply(now, &[nothing]);
                monitor.apply(now, &mine);
            }
        }
    }

    async fn look_again_at(&self, id: &InstanceId) {
        // What is not there, or cannot be read, the watch tells.
        let Ok(found) = self.store.get(id, ReadMode::Stale).await else { return };
        let now = self.shared.now();
        let mut monitor = self.shared.monitor();
        match found.instance {
            Some(instance) if self.charge.has(id) => monitor.take_over(now, &instance),
            _ => monitor.apply(now, &[Update::Delete { at: found.at, id: id.clone() }]),
        }
    }

    /// Begins whatever is to be done now, and answers when to come back even if nothing happens.
    fn act(&mut self) -> Option<Duration> {
        loop {
            let now = self.shared.now();
            let action = self.shared.monitor().poll(now);
            match action {
                Some(Action::Probe(probe)) => self.begin(probe),
                Some(Action::Amend(amendment)) => self.amend(amendment),
                Some(Action::Panic { service }) => {
                    warn!(%service, "too much fails at once to be believed: the instances stay as they were");
                }
                Some(Action::Calm { service }) => info!(%service, "health checks are believed again"),
                Some(_) => {}
                None => return self.shared.monitor().next_due(),
            }
        }
    }

    fn begin(&mut self, one: Probe) {
        let ticket = one.ticket;
        let task = self
            .work
            .spawn(async move { Done::Probed(probe(one.target, one.check(), one.time_limit).await) });
        self.tickets.insert(task.id(), ticket);
    }

    fn amend(&mut self, amendment: Amendment) {
        if !self.charge.has(&amendment.seen.id) {
            let now = self.shared.now();
            return self.shared.monitor().set_back(now, &amendment.seen.id, Setback::Gone);
        }
        tell(&amendment);
        let Amendment { seen, becomes, .. } = amendment;
        let store = Arc::clone(&self.store);
        self.work.spawn(async move {
            let id = seen.id.clone();
            let outcome = store.apply(Command::Amend { seen, becomes }).await.map(drop);
            Done::Amended { id, outcome }
        });
    }

    fn take_in(&mut self, done: Result<(task::Id, Done), JoinError>) {
        let now = self.shared.now();
        let (id, done) = match done {
            Ok((id, done)) => (id, Some(done)),
            Err(error) => {
                warn!(%error, "a task of the health checks broke off");
                (error.id(), None)
            }
        };
        let ticket = self.tickets.remove(&id);
        let mut monitor = self.shared.monitor();
        match (ticket, done) {
            (Some(ticket), Some(Done::Probed(observation))) => monitor.finished(now, ticket, observation),
            (Some(ticket), _) => monitor.finished(now, ticket, Observation::fail("the check broke off")),
            (None, Some(Done::Amended { id, outcome: Err(error) })) => {
                debug!(instance = %id, %error, "not amended");
                monitor.set_back(now, &id, setback(&error));
            }
            (None, Some(Done::Addresses(own))) => monitor.own_addresses(own),
            (None, _) => {}
        }
    }
}

fn setback(error: &Error) -> Setback {
    match error {
        Error::InstanceChanged { .. } => Setback::Changed,
        error if error.is_not_found() => Setback::Gone,
        _ => Setback::Unavailable,
    }
}

fn tell(amendment: &Amendment) {
    let Instance { id, service, .. } = &*amendment.seen;
    match &amendment.cause {
        Cause::Started => info!(instance = %id, %service, "its checks passed: it is ready"),
        Cause::Failed { check, output } => {
            info!(instance = %id, %service, %check, %output, "a check fails: it is critical");
        }
        Cause::Works => info!(instance = %id, %service, "its checks pass"),
        Cause::Held => info!(instance = %id, %service, "it stays as it was, because too much fails at once"),
        Cause::CriticalForTooLong { check } => {
            info!(instance = %id, %service, %check, "critical for too long: it is removed");
        }
        Cause::Drained => info!(instance = %id, %service, "its drain window is over: it is removed"),
        _ => {}
    }
}
