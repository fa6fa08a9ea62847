//! The contract of a store.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use netloft_types::{Instance, InstanceId, Instances, Query, ReadMode, Revision, ServiceName};

use crate::{Charge, Command, Error, FeedOptions, Limits, Watch};

/// A boxed future, so that `Arc<dyn Store>` can be held.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How late a session may expire: at most this long after its time to live has passed without a renewal,
/// on a machine that gives the store processor time. It never expires early.
pub const EXPIRY_DELAY_MAX: Duration = Duration::from_secs(1);

/// Keeps registrations and orders changes by revision. Every front consumes one.
///
/// **Writes** are linearizable in every store: each takes effect at one moment between its call and its
/// answer, and the store's revision orders those moments.
///
/// **Reads** have a [`ReadMode`]. Whatever it is, a read sees one moment of the store's history, which its revision
/// tells, and never an older one than the read before it through the same store.
///
/// **Watches** keep seven promises in every store: ordered, unique, atomic, reliable, resumable, progress
/// never ahead, filter exact. [`Watch`] spells them out, and [`testing`](crate::testing) checks them.
///
/// A session ends no earlier than its time to live after its last renewal, and no later than
/// [`EXPIRY_DELAY_MAX`] after that. Time in which the store itself stood still, stopped or suspended, does not
/// count: it could not have heard a renewal ([`AwakeClock`](netloft_health::AwakeClock)). A store that outlives its
/// process counts its opening as a renewal, and may add a grace to it.
pub trait Store: Send + Sync + 'static {
    /// Carries out a command.
    ///
    /// # Errors
    ///
    /// Refuses what [`Error`] lists; a refused command changed nothing.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the command was carried out as a whole or not at all. It can be repeated.
    fn apply(&self, command: Command) -> BoxFuture<'_, Result<Applied, Error>>;

    /// Finds one instance, if it is there, as of one revision. Nothing is lost if the future is dropped, here and in
    /// the other reads.
    fn get<'a>(&'a self, id: &'a InstanceId, mode: ReadMode) -> BoxFuture<'a, Result<Found, Error>>;

    /// Lists the instances that `query` selects, all as of one revision.
    fn list<'a>(&'a self, query: &'a Query, mode: ReadMode) -> BoxFuture<'a, Result<Snapshot, Error>>;

    /// Lists the services that have an instance, all as of one revision.
    fn services(&self, mode: ReadMode) -> BoxFuture<'_, Result<Services, Error>>;

    /// Watches what `query` selects: from now on, or from where another watch of the same query got to.
    ///
    /// # Errors
    ///
    /// [`Error::Exhausted`] if there are too many watches.
    fn watch(&self, query: Query, from: Option<Revision>) -> Result<Watch, Error>;

    /// How much of what may be there is there.
    fn usage(&self) -> Usage;

    /// Which instances are looked after here: all, unless several servers share the store.
    fn charge(&self) -> Charge {
        Charge::everything()
    }
}

/// What a store holds, beside its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Open sessions.
    pub sessions: usize,
    /// Registered instances.
    pub instances: usize,
    /// Watches.
    pub watchers: usize,
    /// How many sessions and instances there may be.
    pub limits: Limits,
    /// How many watches.
    pub watchers_max: usize,
}

/// The answer to a command that was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The time to live of the session concerned, counted from this command if it opened or renewed the session;
    /// `None` for a session that lives as long as the store, and after closing one.
    pub ttl: Option<Duration>,
    /// The revision that the command made; or, if it changed no instance, the store's revision at that
    /// moment. Whoever has seen this revision has seen the effect.
    pub at: Revision,
}

/// One instance, or that there is none, as of one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The revision.
    pub at: Revision,
    /// The instance, if there is one.
    pub instance: Option<Arc<Instance>>,
    /// How long ago this was surely everything; zero if it is so now.
    pub age: Duration,
}

/// What a query selected, as of one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The revision. A watch of the same query can go on from here.
    pub at: Revision,
    /// The instances, in order of their ids.
    pub instances: Instances,
    /// How long ago this was surely everything; zero if it is so now.
    pub age: Duration,
}

/// The services that have an instance, as of one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Services {
    /// The revision.
    pub at: Revision,
    /// The services, in order of their names.
    pub all: Vec<ServiceSummary>,
    /// How long ago this was surely everything; zero if it is so now.
    pub age: Duration,
}

/// A service at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSummary {
    /// Its name.
    pub name: ServiceName,
    /// How many instances it has.
    pub instances: usize,
    /// How many of them are passing.
    pub passing: usize,
    /// How many of them are critical.
    pub critical: usize,
    /// How many of them may get calls: ready, and passing or warning.
    pub usable: usize,
}

/// The options that every store takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreOptions {
    /// How much may be registered.
    pub limits: Limits,
    /// How much is remembered for watches, and how many there may be.
    pub feed: FeedOptions,
}
