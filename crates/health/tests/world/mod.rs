//! A registry and its instances, in a world where time passes only when it is told to.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use netloft_health::{Action, BEAT, Cause, Monitor, MonitorOptions, Observation, Probe, Setback};
use netloft_types::{
    Check, Checks, Health, Instance, InstanceId, Lifecycle, Patch, Query, Revision, ServiceName, Update,
};

/// How an instance answers a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Works,
    Fails,
    /// Every other probe.
    Wavers,
    /// Not at all: the probe fails when its time is up.
    Silent,
}

pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) monitor: Monitor,
    pub(crate) registry: BTreeMap<InstanceId, Arc<Instance>>,
    manners: BTreeMap<InstanceId, Manner>,
    /// How long a probe of an instance that answers takes.
    pub(crate) latency: Duration,
    under_way: Vec<(Duration, Probe, Observation)>,
    pub(crate) probes: u64,
    pub(crate) under_way_max: usize,
    revision: u64,
    /// Everything that was amended, and why.
    pub(crate) amended: Vec<(Duration, InstanceId, Cause)>,
    pub(crate) panics: Vec<(ServiceName, bool)>,
    pub(crate) probed: Vec<(Duration, InstanceId)>,
}

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn id(number: u32) -> InstanceId {
    format!("i{number:05}").parse().unwrap()
}

/// An instance that is starting, at an address of its own.
pub(crate) fn instance(number: u32, checks: &[&str]) -> Instance {
    let address = IpAddr::from(Ipv4Addr::from_bits(0x0a00_0001 + number));
    let checks = checks.iter().map(|text| text.parse::<Check>().unwrap()).collect::<Vec<_>>();
    let checks = Checks::try_from(checks).unwrap();
    let bare = Instance::new(id(number), "api".parse().unwrap(), address, "80".parse().unwrap());
    Instance { lifecycle: Lifecycle::Starting, checks, ..bare }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self::with(MonitorOptions::default(), seed)
    }

    pub(crate) fn with(options: MonitorOptions, seed: u64) -> Self {
        let now = seconds(1_000);
        Self {
            now,
            monitor: Monitor::new(options, now, seed),
            registry: BTreeMap::new(),
            manners: BTreeMap::new(),
            latency: ms(5),
            under_way: Vec::new(),
            probes: 0,
            under_way_max: 0,
            revision: 0,
            amended: Vec::new(),
            panics: Vec::new(),
            probed: Vec::new(),
        }
    }

    /// Registers an instance, as its owner would.
    pub(crate) fn register(&mut self, said: Instance) {
        let instance = said.clone().registered_over(self.registry.get(&said.id).map(AsRef::as_ref));
        self.put(Arc::new(instance));
    }

    pub(crate) fn update(&mut self, number: u32, patch: Patch) {
        let instance = patch.applied_to(&self.registry[&id(number)]);
        self.put(Arc::new(instance));
    }

    pub(crate) fn deregister(&mut self, number: u32) {
        self.registry.remove(&id(number));
        self.tell(|at| Update::Delete { at, id: id(number) });
    }

    pub(crate) fn behaves(&mut self, numbers: impl IntoIterator<Item = u32>, manner: Manner) {
        self.manners.extend(numbers.into_iter().map(|number| (id(number), manner)));
    }

    pub(crate) fn heartbeat(&mut self, number: u32, observation: &Observation) -> Duration {
        let instance = Arc::clone(&self.registry[&id(number)]);
        self.monitor.heartbeat(self.now, &instance, None, observation).unwrap()
    }

    pub(crate) fn get(&self, number: u32) -> &Instance {
        &self.registry[&id(number)]
    }

    pub(crate) fn usable(&self) -> usize {
        let query = Query::service("api".parse().unwrap());
        self.registry.values().filter(|instance| query.matches(instance)).count()
    }

    pub(crate) fn is_critical(&self, number: u32) -> bool {
        self.get(number).health == Health::Critical
    }

    /// Lets time pass, with an observer that is there.
    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            self.act();
            let landing = self.under_way.iter().map(|(at, ..)| *at).min();
            let next = self.monitor.next_due().into_iter().chain(landing).min().unwrap_or(Duration::MAX);
            if next > end {
                self.now = end;
                return;
            }
            self.now = next.max(self.now);
            self.land();
        }
    }

    /// Lets time pass while the observer is stopped. Probes that were under way have failed when it goes on: their time
    /// was up, although they were answered.
    pub(crate) fn stop(&mut self, duration: Duration) {
        self.now += duration;
        for (at, _, observation) in &mut self.under_way {
            if *at <= self.now {
                *observation = Observation::fail("no answer in time");
            }
        }
        self.land();
    }

    fn put(&mut self, instance: Arc<Instance>) {
        self.registry.insert(instance.id.clone(), Arc::clone(&instance));
        self.tell(|at| Update::Put { at, instance });
    }

    fn tell(&mut self, update: impl FnOnce(Revision) -> Update) {
        self.revision += 1;
        let update = update(Revision::new(self.revision));
        self.monitor.apply(self.now, &[update]);
    }

    fn land(&mut self) {
        let now = self.now;
        let landed: Vec<_> = self.under_way.extract_if(.., |(at, ..)| *at <= now).collect();
        for (_, probe, observation) in landed {
            self.monitor.finished(now, probe.ticket, observation);
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.monitor.poll(self.now) {
            match action {
                Action::Probe(probe) => self.begin(probe),
                Action::Amend(amendment) => {
                    let id = amendment.seen.id.clone();
                    if self.registry.get(&id) != Some(&amendment.seen) {
                        let setback =
                            if self.registry.contains_key(&id) { Setback::Changed } else { Setback::Gone };
                        self.monitor.set_back(self.now, &id, setback);
                        continue;
                    }
                    self.amended.push((self.now, id.clone(), amendment.cause));
                    if let Some(instance) = amendment.becomes {
                        self.put(instance);
                    } else {
                        self.registry.remove(&id);
                        self.tell(|at| Update::Delete { at, id });
                    }
                }
                Action::Panic { service } => self.panics.push((service, true)),
                Action::Calm { service } => self.panics.push((service, false)),
                other => panic!("{other:?}"),
            }
        }
        assert!(self.monitor.next_due().is_none_or(|due| due <= self.now + BEAT));
    }

    fn begin(&mut self, probe: Probe) {
        self.probes += 1;
        self.probed.push((self.now, probe.instance.clone()));
        let manner = self.manners.get(&probe.instance).copied().unwrap_or(Manner::Works);
        let works = match manner {
            Manner::Works => true,
            Manner::Fails | Manner::Silent => false,
            Manner::Wavers => self.probes.is_multiple_of(2),
        };
        let took = if manner == Manner::Silent { probe.time_limit } else { self.latency };
        let observation =
            if works { Observation::pass("it works") } else { Observation::fail("it does not") };
        self.under_way.push((self.now + took, probe, observation));
        self.under_way_max = self.under_way_max.max(self.under_way.len());
    }
}
