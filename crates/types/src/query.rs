//! Which instances a lookup or a watch is about.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::{Health, Instance, ServiceName, ServicePattern, Tag};

/// Selects instances. The same value filters a lookup and a watch, exactly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Only instances of this service; all services if absent.
    pub service: Option<ServiceName>,
    /// Only instances that carry every one of these.
    pub tags: BTreeSet<Tag>,
    /// Only instances that work this well.
    pub health: HealthFilter,
    /// Only instances at this point of their life.
    pub lifecycle: LifecycleFilter,
    /// Only instances of services that one of these means; all services if absent. This is not for who asks to say: a
    /// server sets it to what the one who asks may see, and it is not on the wire.
    pub within: Option<Arc<[ServicePattern]>>,
}

impl Query {
    /// The usable instances of one service: passing or warning, ready, and not kept out for maintenance.
    pub fn service(name: ServiceName) -> Self {
        Self { service: Some(name), ..Self::default() }
    }

    /// Every instance of every service, whatever its health and lifecycle.
    pub fn everything() -> Self {
        Self { health: HealthFilter::Any, lifecycle: LifecycleFilter::Any, ..Self::default() }
    }

    /// Whether `instance` is selected.
    pub fn matches(&self, instance: &Instance) -> bool {
        self.service.as_ref().is_none_or(|service| *service == instance.service)
            && self.health.admits(instance.health)
            && self.lifecycle.admits(instance)
            && self.tags.iter().all(|tag| instance.tags.contains(tag))
            && self
                .within
                .as_ref()
                .is_none_or(|within| within.iter().any(|one| one.matches(&instance.service)))
    }
}

/// How much a read has to know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReadMode {
    /// It sees every write that was answered before it began, by whomever. Where that takes asking others who do not
    /// answer, it fails.
    #[default]
    Linearizable,
    /// It sees what the store knows by itself, and says how old that may be. It never waits and never fails.
    Stale,
}

/// How well an instance must work to be selected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HealthFilter {
    /// Passing only.
    Passing,
    /// Passing or warning: whatever may get calls.
    #[default]
    Usable,
    /// Any health.
    Any,
}

impl HealthFilter {
    fn admits(self, health: Health) -> bool {
        match self {
            Self::Passing => health == Health::Passing,
            Self::Usable => health != Health::Critical,
            Self::Any => true,
        }
    }
}

/// Where in its life an instance must be to be selected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LifecycleFilter {
    /// Ready only, and not kept out for maintenance.
    #[default]
    Ready,
    /// Any point of its life.
    Any,
}

impl LifecycleFilter {
    fn admits(self, instance: &Instance) -> bool {
        match self {
            Self::Ready => instance.wants_calls(),
            Self::Any => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Lifecycle;

    fn instance() -> Instance {
        let mut instance = Instance::new(
            "api-1".parse().unwrap(),
            "api".parse().unwrap(),
            "10.0.0.2".parse().unwrap(),
            "80".parse().unwrap(),
        );
        instance.tags = BTreeSet::from(["blue".parse().unwrap(), "v2".parse().unwrap()]).try_into().unwrap();
        instance
    }

    #[test]
    fn the_default_selects_only_what_may_get_calls() {
        let query = Query::service("api".parse().unwrap());
        let with = |health, lifecycle| query.matches(&Instance { health, lifecycle, ..instance() });
        assert!(with(Health::Passing, Lifecycle::Ready));
        assert!(with(Health::Warning, Lifecycle::Ready));
        assert!(!with(Health::Critical, Lifecycle::Ready));
        assert!(!with(Health::Passing, Lifecycle::Starting));
        assert!(!with(Health::Passing, Lifecycle::Draining));
        let kept_out = Instance { maintenance: Some("new disk".parse().unwrap()), ..instance() };
        assert!(!query.matches(&kept_out));
        assert!(Query::everything().matches(&kept_out));
    }

    #[test]
    fn what_is_not_within_is_not_selected_however_it_is_asked_for() {
        let within = |patterns: &[&str]| {
            let within: Arc<[_]> = patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
            [Query::everything(), Query::service("api".parse().unwrap())]
                .map(|query| Query { within: Some(Arc::clone(&within)), ..query }.matches(&instance()))
        };
        assert_eq!(within(&["web", "a*"]), [true, true]);
        assert_eq!(within(&["web"]), [false, false]);
        assert_eq!(within(&[]), [false, false]);
    }

    #[test]
    fn every_tag_must_be_there() {
        let tagged = |tags: &[&str]| Query {
            tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
            ..Query::everything()
        };
        assert!(tagged(&[]).matches(&instance()));
        assert!(tagged(&["blue", "v2"]).matches(&instance()));
        assert!(!tagged(&["blue", "v3"]).matches(&instance()));
    }
}
