//! Everything together, and how it is asked for.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use netloft_checker::Checker;
use netloft_registry::embedded::Condition;
use netloft_registry::{ServiceSummary, Services, Store, Usage};
use netloft_types::ReadMode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::CallLayer;
use crate::calls::Calls;
use crate::loads::{LoadCounts, Loads};
use crate::process::Process;
use crate::store::ObservedStore;

/// The media type of what [`Metrics::text`] answers.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of a registry. A cheap handle, to be cloned.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    store: Arc<dyn Store>,
    calls: Arc<Calls>,
    process: Process,
    contents: Contents,
    checks: Option<(Checker, Checks)>,
    condition: Option<(watch::Receiver<Condition>, Gauge)>,
    loads: Option<Loads>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Health {
    health: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Limit {
    limit: &'static str,
}

/// What is registered.
#[derive(Debug, Default)]
struct Contents {
    revision: Gauge,
    age: Gauge<f64, AtomicU64>,
    services: Gauge,
    usable: Gauge,
    instances: Family<Health, Gauge>,
    sessions: Gauge,
    watchers: Gauge,
    limits: Family<Limit, Gauge>,
}

/// How checking goes.
#[derive(Debug, Default)]
struct Checks {
    run: Gauge,
    under_way: Gauge,
    waiting: Gauge,
    doubt: Gauge,
    results: Counter,
    discarded: Counter,
}

/// Metrics under construction.
#[expect(missing_debug_implementations, reason = "what it is made of has none")]
pub struct MetricsBuilder {
    registry: Registry,
    store: Arc<dyn Store>,
    checks: Option<(Checker, Checks)>,
    condition: Option<(watch::Receiver<Condition>, Gauge)>,
    loads: Option<Loads>,
}

impl MetricsBuilder {
    /// The store whose commands are counted: to be used in place of the one that was given.
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// Tells how the checks go.
    #[must_use]
    pub fn checks(mut self, checker: Checker) -> Self {
        self.checks = Some((checker, Checks::register(&mut self.registry)));
        self
    }

    /// Tells whether the store takes changes; without this, it always does.
    #[must_use]
    pub fn condition(mut self, condition: watch::Receiver<Condition>) -> Self {
        let gauge = Gauge::default();
        let help = "Whether the store takes changes";
        self.registry.register("netloft_registry_writable", help, gauge.clone());
        self.condition = Some((condition, gauge));
        self
    }

    /// Tells what load reports add up to, by asking whoever takes them.
    #[must_use]
    pub fn loads(mut self, look: impl Fn() -> LoadCounts + Send + Sync + 'static) -> Self {
        self.loads = Some(Loads::register(&mut self.registry, Box::new(look)));
        self
    }

    /// The metrics.
    pub fn build(mut self) -> Metrics {
        let registry = &mut self.registry;
        let process = Process::register(registry);
        let calls = Calls::register(registry.sub_registry_with_prefix("netloft"));
        let contents = Contents::register(registry);
        let Self { registry, store, checks, condition, loads } = self;
        Metrics(Arc::new(Inner { registry, store, calls, process, contents, checks, condition, loads }))
    }
}

impl Metrics {
    /// Begins the metrics of a store, served by a program of this version.
    pub fn of(store: Arc<dyn Store>, version: &str) -> MetricsBuilder {
        let mut registry = Registry::default();
        let build = Info::new(vec![("version", version.to_owned())]);
        registry.register("netloft_build", "The program that answers", build);
        let store = ObservedStore::of(store, registry.sub_registry_with_prefix("netloft"));
        MetricsBuilder { registry, store: Arc::new(store), checks: None, condition: None, loads: None }
    }

    /// Counts the calls of the services it is put around.
    pub fn calls(&self) -> CallLayer {
        CallLayer(Arc::clone(&self.0.calls))
    }

    /// Everything, in the text format of `OpenMetrics`. What the store does not answer stays as it was.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    #[expect(clippy::missing_panics_doc, reason = "a string takes everything")]
    pub async fn text(&self) -> String {
        let Inner { registry, store, process, contents, checks, condition, loads, .. } = &*self.0;
        if let Ok(services) = store.services(ReadMode::Stale).await {
            contents.refresh(&services);
        }
        contents.compare(&store.usage());
        if let Some((checker, checks)) = checks {
            checks.refresh(checker);
        }
        if let Some((condition, writable)) = condition {
            writable.set(i64::from(*condition.borrow() == Condition::Writing));
        }
        if let Some(loads) = loads {
            loads.refresh();
        }
        process.refresh();
        let mut text = String::new();
        encode(&mut text, registry).expect("a string takes everything");
        text
    }

    /// Whether the store takes changes.
    pub fn is_ready(&self) -> bool {
        self.0.condition.as_ref().is_none_or(|(condition, _)| *condition.borrow() == Condition::Writing)
    }

    /// Answers `/metrics`, `/healthz` and `/readyz`.
    pub fn router(&self) -> Router {
        let (text, ready) = (self.clone(), self.clone());
        Router::new()
            .route("/metrics", get(async move || ([(CONTENT_TYPE, OPENMETRICS)], text.text().await)))
            .route("/healthz", get(async || "ok\n"))
            .route(
                "/readyz",
                get(async move || {
                    if ready.is_ready() {
                        (StatusCode::OK, "ok\n")
                    } else {
                        (StatusCode::SERVICE_UNAVAILABLE, "the store takes no changes\n")
                    }
                }),
            )
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Contents {
    fn register(registry: &mut Registry) -> Self {
        let contents = Self::default();
        let registry = registry.sub_registry_with_prefix("netloft_registry");
        registry.register("revision", "The revision of the last change", contents.revision.clone());
        let age = "Seconds since this was surely everything; 0 for a store that nobody else writes";
        registry.register("age_seconds", age, contents.age.clone());
        registry.register("services", "Services with an instance", contents.services.clone());
        registry.register("instances", "Instances by health", contents.instances.clone());
        let usable = "Instances that an ordinary lookup finds";
        registry.register("usable_instances", usable, contents.usable.clone());
        registry.register("sessions", "Open sessions", contents.sessions.clone());
        registry.register("watchers", "Watches", contents.watchers.clone());
        registry.register("limit", "How many there may be", contents.limits.clone());
        contents
    }

    fn refresh(&self, services: &Services) {
        let sum = |count: fn(&ServiceSummary) -> usize| number(services.all.iter().map(count).sum());
        self.revision.set(i64::try_from(services.at.number()).unwrap_or(i64::MAX));
        self.age.set(services.age.as_secs_f64());
        self.services.set(number(services.all.len()));
        self.usable.set(sum(|one| one.usable));
        let of = |health| self.instances.get_or_create_owned(&Health { health });
        of("passing").set(sum(|one| one.passing));
        of("warning").set(sum(|one| one.instances - one.passing - one.critical));
        of("critical").set(sum(|one| one.critical));
    }

    fn compare(&self, usage: &Usage) {
        self.sessions.set(number(usage.sessions));
        self.watchers.set(number(usage.watchers));
        let limits = &usage.limits;
        for (limit, max) in [
            ("sessions", limits.sessions_max),
            ("instances", limits.instances_max),
            ("instances_per_session", limits.instances_per_session_max),
            ("watchers", usage.watchers_max),
        ] {
            self.limits.get_or_create_owned(&Limit { limit }).set(number(max));
        }
    }
}

impl Checks {
    fn register(registry: &mut Registry) -> Self {
        let all = Self::default();
        let registry = registry.sub_registry_with_prefix("netloft");
        registry.register("checks", "Checks that are run", all.run.clone());
        registry.register("check_probes_under_way", "Probes under way", all.under_way.clone());
        registry.register("check_probes_waiting", "Probes that are due and wait", all.waiting.clone());
        registry.register("check_results", "Results of checks", all.results.clone());
        let discarded = "Failures not believed, because the registry itself was not there";
        registry.register("check_results_discarded", discarded, all.discarded.clone());
        let doubt = "How much the registry doubts what it observes, from 0 to 8";
        registry.register("check_doubt", doubt, all.doubt.clone());
        all
    }

    fn refresh(&self, checker: &Checker) {
        let stats = checker.stats();
        self.run.set(number(stats.checks));
        self.under_way.set(number(stats.under_way));
        self.waiting.set(number(stats.waiting));
        self.doubt.set(stats.doubt.into());
        self.results.inner().store(stats.results, Ordering::Relaxed);
        self.discarded.inner().store(stats.discarded, Ordering::Relaxed);
    }
}

pub(crate) fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
