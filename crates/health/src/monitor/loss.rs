//! Too much at once.
//!
//! When most of a service seems to fail within a minute, it is more likely that the observer has lost its way there than
//! that all of them died, and emptying the service helps nobody. So what was there before stays, and is said to stay.
//! Instances that fail one after another are believed, however few are left; and so, after a while, is the loss of all.

use std::collections::BTreeSet;
use std::time::Duration;

use netloft_types::{Health, InstanceId, ServiceName};

use super::agenda::{Item, What};
use super::ward::Fall;
use super::{Action, Monitor};

/// When too much of a service fails at once to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PanicOptions {
    /// The percentage of the instances of a service that must stay usable. If what failed within the window leaves
    /// fewer, it is not believed. The default is 50; 0 believes everything.
    pub usable_percent_min: u8,
    /// Services of fewer instances are believed to have lost them. The default is 5.
    pub instances_min: usize,
    /// What is within one window is at once. The default of one minute is three failures at 10 seconds, and as much
    /// again.
    pub window: Duration,
    /// After so long it is believed all the same. The default is 10 minutes.
    pub held_max: Duration,
}

impl Default for PanicOptions {
    fn default() -> Self {
        Self {
            usable_percent_min: 50,
            instances_min: 5,
            window: Duration::from_mins(1),
            held_max: Duration::from_mins(10),
        }
    }
}

/// The instances of a service that have checks.
#[derive(Debug, Default)]
pub(super) struct Siblings {
    ids: BTreeSet<InstanceId>,
    /// Those that fell and did not rise again; only then is there anything to decide.
    fallen: BTreeSet<InstanceId>,
    is_panic: bool,
}

impl Siblings {
    pub(super) fn insert(&mut self, id: &InstanceId) {
        self.ids.insert(id.clone());
    }

    pub(super) fn remove(&mut self, id: &InstanceId) {
        self.ids.remove(id);
        self.fallen.remove(id);
    }

    /// Takes note of whether one of them has fallen.
    pub(super) fn note(&mut self, id: &InstanceId, has_fallen: bool) {
        if has_fallen {
            self.fallen.insert(id.clone());
        } else {
            self.fallen.remove(id);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &InstanceId> {
        self.ids.iter()
    }
}

impl Monitor {
    /// Decides again whether too much of a service fails at once; if that changes, all of it is looked at again.
    pub(super) fn look_again_at(&mut self, service: &ServiceName) {
        let has_fallen = self.services.get(service).is_some_and(|siblings| !siblings.fallen.is_empty());
        let is_panic = has_fallen && self.is_too_much(service);
        let Some(siblings) = self.services.get_mut(service).filter(|one| one.is_panic != is_panic) else {
            return;
        };
        siblings.is_panic = is_panic;
        self.unsettled.extend(siblings.ids.iter().cloned());
        let service = service.clone();
        let action = if is_panic { Action::Panic { service } } else { Action::Calm { service } };
        self.ready.push_back(action);
    }

    /// Decides whether an instance stays what it was before it fell; if so, answers what that was.
    pub(super) fn hold(&mut self, id: &InstanceId) -> Option<Health> {
        let awake = self.clock.awake();
        let ward = self.wards.get(id)?;
        let (service, has_fallen) = (ward.instance.service.clone(), ward.fall.is_some());
        self.services.get_mut(&service)?.note(id, has_fallen);
        self.look_again_at(&service);
        let is_panic = self.services.get(&service).is_some_and(|siblings| siblings.is_panic);
        let options = self.options.panic;
        let ward = self.wards.get_mut(id)?;
        let mut fall = ward.fall.filter(|_| is_panic).filter(|fall| is_recent(fall, awake, &options));
        if let Some(fall) = &mut fall {
            fall.held_since.get_or_insert(awake);
            ward.fall = Some(*fall);
        } else if let Some(fall) = &mut ward.fall {
            fall.held_since = None;
        }
        // Nothing else may happen until the window is over, or the patience.
        if let Some(fall) = ward.fall {
            let ends = fall.held_since.map_or(fall.at + options.window, |since| since + options.held_max);
            let item = Item { instance: id.clone(), generation: ward.generation, what: What::Ward };
            if ends > awake {
                self.schedule(ends, item);
            }
        }
        fall.map(|fall| fall.from)
    }

    fn is_too_much(&self, service: &ServiceName) -> bool {
        let options = &self.options.panic;
        let awake = self.clock.awake();
        let siblings = self.services.get(service).into_iter().flat_map(Siblings::iter);
        let (mut wanted, mut failing) = (0_usize, 0_usize);
        for ward in siblings.filter_map(|id| self.wards.get(id)).filter(|ward| ward.instance.wants_calls()) {
            let falls = ward.fall.is_some_and(|fall| is_recent(&fall, awake, options));
            let is_usable = ward.verdict() != Some(Health::Critical);
            failing += usize::from(falls);
            wanted += usize::from(falls || is_usable);
        }
        let usable = wanted - failing;
        wanted >= options.instances_min && usable * 100 < wanted * usize::from(options.usable_percent_min)
    }
}

/// Whether a fall belongs to what happens at once, and is still to be doubted.
fn is_recent(fall: &Fall, awake: Duration, options: &PanicOptions) -> bool {
    match fall.held_since {
        None => awake < fall.at + options.window,
        Some(since) => awake < since + options.held_max,
    }
}
