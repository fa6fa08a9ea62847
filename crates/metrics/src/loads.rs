//! Load reports: how many, from how many clients, and what is advised.

use std::fmt;
use std::sync::atomic::Ordering;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::metrics::number;

/// What load reports add up to, as it is told by who takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoadCounts {
    /// Reports that were taken since the start.
    pub reports: u64,
    /// Clients that are remembered, each counted for each service.
    pub reporters: usize,
    /// Instances that are advised to have less than their weight.
    pub advised: usize,
}

type Look = Box<dyn Fn() -> LoadCounts + Send + Sync>;

/// Whom to ask, and what was told.
pub(crate) struct Loads {
    look: Look,
    reports: Counter,
    reporters: Gauge,
    advised: Gauge,
}

impl Loads {
    pub(crate) fn register(registry: &mut Registry, look: Look) -> Self {
        let loads = Self {
            look,
            reports: Counter::default(),
            reporters: Gauge::default(),
            advised: Gauge::default(),
        };
        let registry = registry.sub_registry_with_prefix("netloft_load");
        registry.register("reports", "Load reports that were taken", loads.reports.clone());
        let reporters = "Clients whose load reports count, each for each service";
        registry.register("reporters", reporters, loads.reporters.clone());
        let advised = "Instances that are advised to have less than their weight";
        registry.register("advised_instances", advised, loads.advised.clone());
        loads
    }

    pub(crate) fn refresh(&self) {
        let LoadCounts { reports, reporters, advised } = (self.look)();
        self.reports.inner().store(reports, Ordering::Relaxed);
        self.reporters.set(number(reporters));
        self.advised.set(number(advised));
    }
}

impl fmt::Debug for Loads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loads").finish_non_exhaustive()
    }
}
