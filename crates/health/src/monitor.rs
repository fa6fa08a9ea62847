//! The observer of a whole registry, without its eyes and hands.

mod action;
mod agenda;
mod amend;
mod arrival;
mod lanes;
mod loss;
mod ward;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use netloft_types::{CheckKind, CheckName, CheckReport, Instance, InstanceId, ServiceName, Update};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

pub use self::action::{Action, HeartbeatError, Probe, Stats};
use self::agenda::{Agenda, Item, What};
pub use self::amend::{Amendment, Cause, Setback};
use self::lanes::Lanes;
pub use self::loss::PanicOptions;
use self::ward::Ward;
use crate::{AwakeClock, Awareness, BEAT, Observation, Outcome, Refusal, Targets};

/// What can be chosen about a monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitorOptions {
    /// Probes under way at a time. The default of 256 is what 10,000 checks of 10 seconds need when each takes a
    /// quarter of a second.
    pub probes_max: usize,
    /// Probes of one address under way at a time. The default is 4: a host of many instances is not stormed.
    pub probes_per_address_max: usize,
    /// What may be probed.
    pub targets: Targets,
    /// When too much fails at once to be believed.
    pub panic: PanicOptions,
}

impl Default for MonitorOptions {
    fn default() -> Self {
        Self {
            probes_max: 256,
            probes_per_address_max: 4,
            targets: Targets::default(),
            panic: PanicOptions::default(),
        }
    }
}

/// Looks after the instances of a registry that have checks, or a drain window.
///
/// It is driven by its caller: [`apply`](Self::apply) what a watch of everything says, [`poll`](Self::poll) until there
/// is nothing to do, and come back at [`next_due`](Self::next_due), or when there is news. All times are counted from one
/// origin.
#[derive(Debug)]
pub struct Monitor {
    options: MonitorOptions,
    own: BTreeSet<IpAddr>,
    rng: SmallRng,
    clock: AwakeClock,
    awareness: Awareness,
    /// The real time at which it asked to be called at the latest, once there was nothing to do.
    alarm: Option<Duration>,
    /// The real time at which it last noticed that it had not been there.
    awoke: Option<Duration>,
    wards: BTreeMap<InstanceId, Ward>,
    /// Those of each service that have checks.
    services: BTreeMap<ServiceName, loss::Siblings>,
    agenda: Agenda,
    lanes: Lanes,
    /// Wards that something happened to.
    unsettled: BTreeSet<InstanceId>,
    ready: VecDeque<Action>,
    generation: u64,
    stats: Stats,
}

/// Within which the first probe of a new instance is made: at once, but not all of a thousand in one instant.
const FIRST_WITHIN: Duration = Duration::from_millis(10);
/// The first pause between the probes of an instance that is starting; each is twice the one before.
const STARTING_PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest, unless the interval is shorter.
const STARTING_PAUSE_MAX: Duration = Duration::from_millis(500);
/// How much longer than its limit a probe may take to tell that it failed. One that takes longer says more about the
/// observer.
const OVERSLEEP_MAX: Duration = Duration::from_millis(500);

impl Monitor {
    /// Makes a monitor of nothing at the time `now`, with all its chance drawn from `seed`.
    pub fn new(options: MonitorOptions, now: Duration, seed: u64) -> Self {
        Self {
            lanes: Lanes::new(options.probes_max, options.probes_per_address_max),
            options,
            own: BTreeSet::new(),
            rng: SmallRng::seed_from_u64(seed),
            clock: AwakeClock::new(now),
            awareness: Awareness::default(),
            alarm: None,
            awoke: None,
            wards: BTreeMap::new(),
            services: BTreeMap::new(),
            agenda: Agenda::default(),
            unsettled: BTreeSet::new(),
            ready: VecDeque::new(),
            generation: 0,
            stats: Stats::default(),
        }
    }

    /// Tells it the addresses of its own host, which it does not probe.
    pub fn own_addresses(&mut self, own: BTreeSet<IpAddr>) {
        self.own = own;
    }

    /// Whether every place that the checks of `instance` look at may be probed.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn admit(&self, instance: &Instance) -> Result<(), Refusal> {
        let probes = instance.checks.iter().any(|check| check.kind != CheckKind::Ttl);
        if probes { self.options.targets.admit(instance.address, &self.own) } else { Ok(()) }
    }

    /// Takes in a batch of a watch of everything.
    pub fn apply(&mut self, now: Duration, batch: &[Update]) {
        self.tick(now);
        for update in batch {
            match update {
                Update::Reset { all, .. } => self.reset(all),
                Update::Put { instance, .. } => self.put(instance, FIRST_WITHIN),
                Update::Delete { id, .. } => self.forget(id),
                Update::Progress { .. } => {}
            }
        }
    }

    /// The next thing to be done now; `None` if there is nothing before [`next_due`](Self::next_due).
    pub fn poll(&mut self, now: Duration) -> Option<Action> {
        self.tick(now);
        loop {
            if let Some(action) = self.ready.pop_front() {
                return Some(action);
            }
            if let Some(id) = self.unsettled.pop_first() {
                self.settle(&id);
            } else if let Some(item) = self.lanes.next() {
                self.begin(now, item);
            } else {
                let Some(item) = self.agenda.pop_due(self.clock.awake()) else {
                    self.set_alarm(now);
                    return None;
                };
                self.due(item);
            }
        }
    }

    /// When to poll at the latest, in real time; at once if something happened since the last poll. As long as there is
    /// anybody to look after, that is never later than a [`BEAT`] from the last poll, so that it notices when it was not
    /// there; with nobody, there is no need to poll.
    pub fn next_due(&self) -> Option<Duration> {
        let is_settled = self.unsettled.is_empty() && self.ready.is_empty();
        if self.wards.is_empty() && is_settled {
            return None;
        }
        Some(self.alarm.filter(|_| is_settled).unwrap_or_default())
    }

    /// Tells how a probe went. One that is not known any more counts for nothing.
    pub fn finished(&mut self, now: Duration, ticket: u64, observation: Observation) {
        self.tick(now);
        let Some(flight) = self.lanes.land(ticket) else { return };
        self.stats.results += 1;
        let has_failed = observation.outcome == Outcome::Fail;
        let was_absent = self.awoke.is_some_and(|awoke| awoke > flight.began);
        let overslept = now.saturating_sub(flight.began) > flight.limit + OVERSLEEP_MAX;
        let Item { instance, generation, what: What::Check(index) } = flight.item.clone() else { return };
        let awake = self.clock.awake();
        let Some(ward) = self.wards.get_mut(&instance).filter(|ward| ward.generation == generation) else {
            return;
        };
        let pause = if has_failed && (was_absent || overslept) {
            self.stats.discarded += 1;
            FIRST_WITHIN
        } else {
            if ward.record(index, awake, observation) {
                self.unsettled.insert(instance);
            }
            let took = awake.saturating_sub(flight.began_awake);
            ward.pause(index, &mut self.rng).saturating_sub(took)
        };
        self.schedule(awake + pause, flight.item);
    }

    /// Takes in a sign of life of `instance`, as it is registered, for the ttl check of a name, or for all of them.
    /// Answers for how long it counts.
    ///
    /// # Errors
    ///
    /// If there is no such check.
    pub fn heartbeat(
        &mut self,
        now: Duration,
        instance: &Arc<Instance>,
        name: Option<&CheckName>,
        observation: &Observation,
    ) -> Result<Duration, HeartbeatError> {
        self.tick(now);
        let id = &instance.id;
        // Whoever has just registered it may be faster than the watch.
        if self.wards.get(id).is_none_or(|ward| !ward.instance.is_checked_like(instance)) {
            self.put(instance, FIRST_WITHIN);
        }
        let no_such_check = || HeartbeatError::NoSuchCheck { instance: id.clone() };
        let awake = self.clock.awake();
        let ward = self.wards.get_mut(id).ok_or_else(no_such_check)?;
        let (counts_for, is_news) = ward.heartbeat(name, awake, observation).ok_or_else(no_such_check)?;
        if is_news {
            self.unsettled.insert(id.clone());
        }
        Ok(counts_for)
    }

    /// How the checks of an instance stand, in their order.
    pub fn reports(&self, id: &InstanceId) -> Vec<CheckReport> {
        self.wards.get(id).map(|ward| ward.reports(self.clock.awake())).unwrap_or_default()
    }

    /// How many instances of a service stay what they were because too much of it fails at once.
    pub fn held(&self, service: &ServiceName) -> usize {
        let siblings = self.services.get(service).into_iter().flat_map(loss::Siblings::iter);
        siblings.filter(|id| self.wards.get(*id).is_some_and(Ward::is_held)).count()
    }

    /// How much there is to do, and how well it goes.
    pub fn stats(&self) -> Stats {
        Stats {
            instances: self.wards.len(),
            checks: self.wards.values().map(|ward| ward.instance.checks.iter().len()).sum(),
            under_way: self.lanes.under_way(),
            waiting: self.lanes.waiting(),
            doubt: self.awareness.score(),
            ..self.stats
        }
    }

    /// Takes note of the time, of being late, and of not having been there.
    fn tick(&mut self, now: Duration) {
        if let Some(alarm) = self.alarm.take_if(|alarm| *alarm <= now)
            && !self.wards.is_empty()
        {
            self.awareness.rang(now.saturating_sub(alarm));
        }
        if self.wards.is_empty() {
            self.clock.resume(now);
        }
        let gaps = self.clock.gaps();
        self.clock.tick(now);
        if self.clock.gaps() > gaps {
            self.awoke = Some(now);
            self.awareness.slept();
        }
    }

    /// Sets the alarm for what is due next.
    fn set_alarm(&mut self, now: Duration) {
        let due = self.agenda.next_due().map(|due| self.clock.real_time_of(due));
        self.alarm = Some(due.map_or(now + BEAT, |due| due.min(now + BEAT)));
    }

    /// Looks after `instance` from now on, as it is now. If its checks are new, the first probe of each is made
    /// `within` that time.
    fn put(&mut self, instance: &Arc<Instance>, within: Duration) {
        let id = &instance.id;
        if instance.checks.is_empty() && instance.drain_window.is_none() {
            return self.forget(id);
        }
        let awake = self.clock.awake();
        let known = self.wards.get_mut(id).filter(|ward| {
            ward.instance.is_checked_like(instance) && ward.instance.service == instance.service
        });
        if let Some(ward) = known {
            ward.is_now(instance, awake);
        } else {
            self.forget(id);
            self.generation += 1;
            self.wards.insert(id.clone(), Ward::new(instance, self.generation, awake));
            self.begin_checks(instance, within);
        }
        self.unsettled.insert(id.clone());
    }

    fn begin_checks(&mut self, instance: &Arc<Instance>, within: Duration) {
        let awake = self.clock.awake();
        if !instance.checks.is_empty() {
            self.services.entry(instance.service.clone()).or_default().insert(&instance.id);
        }
        for (index, check) in instance.checks.iter().enumerate() {
            let first = match check.kind {
                CheckKind::Ttl => check.interval.length(),
                _ => within.min(check.interval.length()).mul_f64(self.rng.random_range(0.0..1.0)),
            };
            let what = What::Check(index);
            self.schedule(
                awake + first,
                Item { instance: instance.id.clone(), generation: self.generation, what },
            );
        }
    }

    fn forget(&mut self, id: &InstanceId) {
        let Some(ward) = self.wards.remove(id) else { return };
        self.unsettled.remove(id);
        let is_true = |item: &Item| {
            self.wards.get(&item.instance).is_some_and(|ward| ward.generation == item.generation)
        };
        self.agenda.outdate(ward.instance.checks.as_slice().len(), is_true);
        let service = &ward.instance.service;
        if let Some(siblings) = self.services.get_mut(service) {
            siblings.remove(id);
            if siblings.is_empty() {
                self.services.remove(service);
            } else {
                self.look_again_at(&service.clone());
            }
        }
    }

    fn schedule(&mut self, at: Duration, item: Item) {
        self.alarm = None;
        self.agenda.push(at, item);
    }

    /// Does what is due of a ward that is still the same.
    fn due(&mut self, item: Item) {
        let awake = self.clock.awake();
        let Some(ward) = self.wards.get_mut(&item.instance) else { return };
        if ward.generation != item.generation {
            return;
        }
        let What::Check(index) = item.what else {
            self.unsettled.insert(item.instance);
            return;
        };
        match ward.told_until(index) {
            None => self.lanes.queue(ward.instance.address, item),
            Some(until) if until > awake => self.schedule(until, item),
            Some(_) => {
                let interval = ward.miss_heartbeat(index, awake);
                self.unsettled.insert(item.instance.clone());
                self.schedule(awake + interval, item);
            }
        }
    }

    /// Begins a probe for which there is room, if it is still wanted.
    fn begin(&mut self, now: Duration, item: Item) {
        let What::Check(index) = item.what else { return };
        let ward = self.wards.get(&item.instance).filter(|ward| ward.generation == item.generation);
        let Some(ward) = ward else { return };
        let instance = Arc::clone(&ward.instance);
        let Some(check) = instance.checks.as_slice().get(index) else { return };
        let port = check.kind.port().unwrap_or(instance.port);
        let limit = self.awareness.stretched(check.time_limit());
        let awake = self.clock.awake();
        let ticket = self.lanes.take_off(instance.address, now, awake, limit, item);
        if let Err(refusal) = self.options.targets.admit(instance.address, &self.own) {
            let refused = Observation::fail(&format!("{} {refusal}", instance.address));
            return self.finished(now, ticket, refused);
        }
        self.ready.push_back(Action::Probe(Probe {
            ticket,
            instance: instance.id.clone(),
            target: SocketAddr::new(instance.address, port.number()),
            time_limit: limit,
            checks: instance.checks.clone(),
            index,
        }));
    }
}
